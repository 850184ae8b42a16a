//! The parameters of a model: arrays in the order of [`Architecture::tensors`].
//!
//! Values, pruning masks, optimizer moments and averages are stored side by side in plain memory.
//! Checkpoints, pruning, the optimizer and the export all use them. A training step makes tensors
//! of the values (see [`crate::model`]).

use crate::buffer::Buffer;
use crate::device::Device;
use crate::mask::Mask;
use crate::random::Random;
use crate::ranks::Ranks;
use half::f16;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::model::{Model, ModelError};
use resnet_bk_runtime::internal::quantization::{ScaleMode, Scheme};
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, MixerMap, ModelTensor, NormPart, TensorId};
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// Adam moments of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean of the gradient.
    pub first: Buffer,
    /// Mean of the squared gradient.
    pub second: Buffer,
    /// Number of steps in these means, `[1]`. A GPU counts them, so it is a buffer; exact up to
    /// 2^24.
    pub steps: Buffer,
}

impl Moments {
    /// Moments of zero before the first step.
    pub fn zeros(len: usize) -> Self {
        Self { first: vec![0.0; len].into(), second: vec![0.0; len].into(), steps: vec![0.0].into() }
    }

    /// Whether there was no step yet.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Number of steps.
    pub fn step_count(&self) -> u64 {
        self.steps.first().map_or(0, |&steps| steps as u64)
    }
}

/// One tensor with its mask, moments and average.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Identity, shape and role.
    pub spec: TensorSpec,
    /// Row-major values.
    pub values: Buffer,
    /// `false` for pruned values, which are held at zero.
    pub mask: Option<Mask>,
    /// Optimizer state; empty before the first step of a stage.
    pub moments: Moments,
    /// Moving average of the values over the stage's last steps; empty while nothing is averaged.
    pub average: Buffer,
}

impl Parameter {
    /// A new parameter without mask, moments or average.
    ///
    /// # Panics
    /// If the number of values does not match the shape.
    pub fn new(spec: TensorSpec, values: impl Into<Buffer>) -> Self {
        let values = values.into();
        assert_eq!(values.len(), spec.len(), "values of {}", spec.id);
        Self { spec, values, mask: None, moments: Moments::default(), average: Buffer::default() }
    }

    /// Sets masked values to zero.
    pub fn apply_mask(&mut self) {
        if let Some(mask) = &self.mask {
            for (value, keep) in self.values.iter_mut().zip(mask) {
                if !keep {
                    *value = 0.0;
                }
            }
        }
    }

    /// Number of pruned values.
    fn masked_count(&self) -> usize {
        self.mask.as_ref().map_or(0, |mask| mask.iter().filter(|keep| !**keep).count())
    }

    /// Removes one of `columns` columns from values, mask and moments.
    fn remove_column(&mut self, column: usize, columns: usize) {
        fn without<T: Copy>(values: &mut Vec<T>, column: usize, columns: usize) {
            let mut index = 0;
            values.retain(|_| {
                index += 1;
                (index - 1) % columns != column
            });
        }
        for buffer in [&mut self.values, &mut self.moments.first, &mut self.moments.second] {
            let mut values = std::mem::take(buffer).into_vec();
            without(&mut values, column, columns);
            *buffer = values.into();
        }
        if let Some(mask) = &mut self.mask {
            without(mask, column, columns);
        }
    }
}

/// The quantizer of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantizer {
    /// Levels and scale mode.
    pub scheme: Scheme,
    /// The scales.
    pub scales: Vec<f16>,
}

/// All parameters of a model.
#[derive(Clone, Debug)]
pub struct Parameters {
    architecture: Architecture,
    list: Vec<Parameter>,
    /// Where the model runs. Parameters are copied there when they are needed.
    device: Device,
    /// With whom it is trained and measured.
    ranks: Ranks,
}

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        (&self.architecture, &self.list) == (&other.architecture, &other.list)
    }
}

impl Parameters {
    /// Initial parameters. Each tensor has its own random stream.
    pub fn initialize(architecture: Architecture, seed: u64) -> Self {
        let list = architecture
            .tensors()
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                let values = initial_values(&architecture, &spec, &mut Random::keyed(&[seed, index as u64]));
                Parameter::new(spec, values)
            })
            .collect();
        Self { architecture, list, device: Device::Cpu, ranks: Ranks::alone() }
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A copy of weights and average in host memory of its own. It has no moments.
    pub fn copy_to_host(&self) -> Self {
        let copy = |parameter: &Parameter| {
            let Parameter { spec, values, mask, average, .. } = parameter;
            let (mask, average) = (mask.clone(), average.to_vec().into());
            Parameter { mask, average, ..Parameter::new(spec.clone(), values.to_vec()) }
        };
        let (architecture, list) = (self.architecture.clone(), self.list.iter().map(copy).collect());
        Self { architecture, list, device: Device::Cpu, ranks: Ranks::alone() }
    }

    /// Sets where the model runs.
    pub fn set_device(&mut self, device: Device) {
        self.device = device;
    }

    /// The ranks that train and measure the model together. All of them have equal parameters.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Sets the ranks that train and measure the model together. One process alone is the default.
    pub fn set_ranks(&mut self, ranks: Ranks) {
        self.ranks = ranks;
    }

    /// Takes over device and ranks of another model.
    pub fn run_like(&mut self, other: &Self) {
        (self.device, self.ranks) = (other.device.clone(), other.ranks.clone());
    }

    /// Parameters in canonical order, taken from `find`.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if a tensor is missing or has a wrong size.
    pub fn from_found(
        architecture: Architecture,
        mut find: impl FnMut(&TensorSpec) -> Option<Parameter>,
    ) -> Result<Self, ModelError> {
        let list = architecture
            .tensors()
            .into_iter()
            .map(|spec| match find(&spec) {
                Some(parameter) if parameter.values.len() == spec.len() => Ok(Parameter { spec, ..parameter }),
                other => Err(ModelError::Tensor {
                    found: other.map_or(0, |parameter| parameter.values.len()),
                    expected: spec.len(),
                    id: spec.id,
                }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { architecture, list, device: Device::Cpu, ranks: Ranks::alone() })
    }

    /// Architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The parameters, in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// The parameters, in canonical order.
    pub fn as_mut_slice(&mut self) -> &mut [Parameter] {
        &mut self.list
    }

    /// The parameter with this identity.
    pub fn get(&self, id: impl Into<TensorId>) -> Option<&Parameter> {
        let id = id.into();
        self.list.iter().find(|parameter| parameter.spec.id == id)
    }

    /// The parameter with this identity.
    pub fn get_mut(&mut self, id: impl Into<TensorId>) -> Option<&mut Parameter> {
        let id = id.into();
        self.list.iter_mut().find(|parameter| parameter.spec.id == id)
    }

    /// Whether there is an average of the weights.
    pub fn is_averaged(&self) -> bool {
        self.list.iter().any(|parameter| !parameter.average.is_empty())
    }

    /// Begins an average of the trained weights with their present values.
    pub fn begin_average(&mut self) {
        for parameter in self.list.iter_mut().filter(|parameter| parameter.spec.is_trained()) {
            parameter.average = parameter.values.clone();
        }
    }

    /// Drops the average, because the model has changed.
    pub fn drop_average(&mut self) {
        self.list.iter_mut().for_each(|parameter| parameter.average = Buffer::default());
    }

    /// The model with averaged weights, or with its own while nothing is averaged. It has no moments.
    pub fn averaged(&self) -> Self {
        let averaged = |parameter: &Parameter| {
            let Parameter { spec, values, mask, average, .. } = parameter;
            let values = if average.is_empty() { values } else { average };
            Parameter { mask: mask.clone(), ..Parameter::new(spec.clone(), values.clone()) }
        };
        let list = self.list.iter().map(averaged).collect();
        Self { architecture: self.architecture.clone(), list, device: self.device.clone(), ranks: self.ranks.clone() }
    }

    /// Changes the architecture. Tensors in both lists keep their values; new ones are zero. An
    /// average is dropped.
    ///
    /// # Panics
    /// If a tensor in both lists has different sizes.
    pub fn with_architecture(mut self, architecture: Architecture) -> Self {
        self.drop_average();
        let mut old = by_id(self.list);
        let list = architecture
            .tensors()
            .into_iter()
            .map(|spec| match old.remove(&spec.id) {
                Some(parameter) => {
                    assert_eq!(parameter.values.len(), spec.len(), "values of {}", spec.id);
                    Parameter { spec, ..parameter }
                }
                None => {
                    let values = vec![0.0; spec.len()];
                    Parameter::new(spec, values)
                }
            })
            .collect();
        Self { architecture, list, device: self.device, ranks: self.ranks }
    }

    /// Removes an expert: drops its tensors, renumbers later experts, and removes its column of the
    /// router. An average is dropped.
    ///
    /// # Panics
    /// If there is no such expert, or it is the only one of the block.
    pub fn remove_expert(mut self, block: usize, expert: usize) -> Self {
        self.drop_average();
        let mut architecture = self.architecture;
        let experts = architecture.experts[block];
        assert!(expert < experts && experts > 1, "expert {expert} of {experts}");
        architecture.experts[block] -= 1;
        let kept = self.list.into_iter().filter_map(|mut parameter| {
            match parameter.spec.id.tensor() {
                ModelTensor::Block(of, BlockTensor::Expert(index, map, part)) if of == block => {
                    let moved = match index.cmp(&expert) {
                        Ordering::Less => return Some(parameter),
                        Ordering::Equal => return None,
                        Ordering::Greater => ModelTensor::Block(of, BlockTensor::Expert(index - 1, map, part)),
                    };
                    parameter.spec.id = match parameter.spec.id {
                        TensorId::Values(_) => TensorId::Values(moved),
                        TensorId::LogScales(_) => TensorId::LogScales(moved),
                    };
                }
                // The single learned scale of a vector has no column per expert.
                ModelTensor::Block(of, BlockTensor::Router(_))
                    if of == block && parameter.spec.shape.last() == Some(&experts) =>
                {
                    parameter.remove_column(expert, experts);
                }
                _ => {}
            }
            Some(parameter)
        });
        let mut old = by_id(kept);
        let find = |spec: TensorSpec| {
            let parameter = old.remove(&spec.id).expect("removal keeps the other tensors");
            Parameter { spec, ..parameter }
        };
        let list = architecture.tensors().into_iter().map(find).collect();
        Self { architecture, list, device: self.device, ranks: self.ranks }
    }

    /// Values as in the runtime: quantized and dequantized if the parameter has a quantizer.
    pub fn rounded(&self, parameter: &Parameter) -> Vec<f32> {
        let mut values = parameter.values.to_vec();
        if let Some(quantizer) = self.quantizer(parameter) {
            quantizer.scheme.fake_quantize(&mut values, &quantizer.scales);
        }
        values
    }

    /// Whether the parameter has learned scales.
    pub fn has_learned_scales(&self, parameter: &Parameter) -> bool {
        self.architecture.scheme(&parameter.spec).is_some_and(|scheme| matches!(scheme.mode, ScaleMode::Learned(_)))
    }

    /// The quantizer of a parameter with its current scales.
    pub fn quantizer(&self, parameter: &Parameter) -> Option<Quantizer> {
        let scheme = self.architecture.scheme(&parameter.spec)?;
        let log_scales = match scheme.mode {
            ScaleMode::AbsMax(_) => None,
            ScaleMode::Learned(_) => self.get(parameter.spec.id.log_scales()).map(|scales| scales.values.as_slice()),
        };
        Some(Quantizer { scheme, scales: scheme.scales(&parameter.values, log_scales) })
    }

    /// Mean scale of each quantized tensor, by the tensor's name.
    pub fn mean_scales(&self) -> BTreeMap<String, f64> {
        let mean = |scales: &[f16]| scales.iter().map(|scale| scale.to_f64()).sum::<f64>() / scales.len() as f64;
        let quantized =
            |parameter: &Parameter| Some((parameter.spec.id.to_string(), mean(&self.quantizer(parameter)?.scales)));
        self.list.iter().filter_map(quantized).collect()
    }

    /// The runtime's model with these values.
    pub fn to_model(&self) -> Model {
        Model::new(self.architecture.clone(), |id| self.get(id).map(|parameter| self.rounded(parameter)))
            .expect("the parameters follow the architecture's own list")
    }

    /// Share of the elements of all matrices and tables that are pruned.
    pub fn sparsity(&self) -> f64 {
        let matrices = || self.list.iter().filter(|parameter| parameter.spec.role.is_matrix());
        let masked: usize = matrices().map(Parameter::masked_count).sum();
        masked as f64 / matrices().map(|parameter| parameter.spec.len()).sum::<usize>() as f64
    }

    /// Number of trained values that are not pruned.
    pub fn nonzero_count(&self) -> usize {
        self.list.iter().filter(|p| p.spec.is_trained()).map(|p| p.spec.len() - p.masked_count()).sum()
    }
}

fn by_id(list: impl IntoIterator<Item = Parameter>) -> HashMap<TensorId, Parameter> {
    list.into_iter().map(|parameter| (parameter.spec.id, parameter)).collect()
}

/// Standard deviation of position embeddings. With larger ones, the first norm would suppress the
/// tokens.
const POSITION_STD: f32 = 0.02;
/// Standard deviation of a tied embedding table, which is also the head.
pub(crate) const TIED_STD: f32 = 0.05;
/// Scale of the barrier's weights relative to the usual initialization. Larger potentials randomize
/// the phases.
const BARRIER_SCALE: f32 = 0.1;
/// Initial bias of the barrier: `softplus(-4) = 0.018`.
const BARRIER_BIAS: f32 = -4.0;
/// Initial bias of the hopping for the first and the last head: from short to long memory.
const HOPPING_BIAS: [f32; 2] = [-1.0, 3.0];

fn initial_values(architecture: &Architecture, spec: &TensorSpec, random: &mut Random) -> Vec<f32> {
    let len = spec.len();
    let mut normal = |std: f32| (0..len).map(|_| random.normal() * std).collect::<Vec<f32>>();
    match spec.role {
        Role::Embedding if architecture.tied_embeddings => normal(TIED_STD),
        // Projected rows then have the same size as full rows.
        Role::Projection => normal((spec.shape[0] as f32).powf(-0.5)),
        Role::Embedding | Role::Head => normal((architecture.d_model as f32).powf(-0.5)),
        Role::Positions => normal(POSITION_STD),
        Role::HeadBias | Role::ActivationScale | Role::LogScale => vec![0.0; len],
        Role::Expert | Role::Router | Role::Mixer => {
            let scale = if is_barrier(spec) { BARRIER_SCALE } else { 1.0 };
            let bound = scale / (spec.shape[0] as f32).sqrt();
            (0..len).map(|_| (2.0 * random.uniform() - 1.0) * bound).collect()
        }
        Role::Small => initial_small(architecture, spec.id.tensor(), len),
    }
}

fn is_barrier(spec: &TensorSpec) -> bool {
    matches!(spec.id.tensor(), ModelTensor::Block(_, BlockTensor::Mixer(MixerMap::Barrier, _)))
}

fn initial_small(architecture: &Architecture, tensor: ModelTensor, len: usize) -> Vec<f32> {
    match tensor {
        ModelTensor::Norm(NormPart::Gamma) => vec![1.0; len],
        ModelTensor::Block(_, tensor) => match tensor {
            BlockTensor::Norm(NormPart::Gamma) | BlockTensor::ExpertNorm(NormPart::Gamma) => vec![1.0; len],
            BlockTensor::MixerScale | BlockTensor::MixerNorm => vec![1.0; len],
            BlockTensor::LogEta => architecture.resolvent.eta.iter().map(|eta| eta.ln()).collect(),
            BlockTensor::Mixer(MixerMap::Barrier, _) => vec![BARRIER_BIAS; len],
            BlockTensor::Mixer(MixerMap::Hopping, _) => {
                let [first, last] = HOPPING_BIAS;
                (0..len).map(|h| first + (last - first) * h as f32 / (len.max(2) - 1) as f32).collect()
            }
            _ => vec![0.0; len],
        },
        _ => vec![0.0; len],
    }
}
