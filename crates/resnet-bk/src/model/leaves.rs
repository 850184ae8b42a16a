//! Tensors of a model's parameters, and their gradients.
//!
//! The quantizers are applied here: weights are rounded when the leaves are made, and gradients
//! pass through the quantizers when they are collected.

use super::cuda;
use super::quantizer_gradient::{ROWS, through_quantizers};
use crate::buffer::Buffer;
use crate::device::Device;
use crate::parameters::{Parameter, Parameters, Quantizer};
use crate::ranks::Ranks;
use crate::tape::{Gradients, Tape, Tensor};
use rayon::prelude::*;
use resnet_bk_runtime::internal::quantization::ScaleMode;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor, TensorId};
use resnet_bk_runtime::internal::tensor_spec::Role;
use std::collections::HashMap;

/// Groups per task.
const GROUPS: usize = 256;

/// Parameters that an operation takes as one concatenated vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packed {
    /// Rows and projections of the embedding table's frequency bins.
    Embedding,
    /// The head's own table.
    Head,
    /// All experts of a block.
    Experts(usize),
}

impl Packed {
    /// The pack that a parameter belongs to, if any.
    pub(crate) fn holding(tensor: ModelTensor) -> Option<Self> {
        match tensor {
            ModelTensor::Embedding | ModelTensor::BinRows(_) | ModelTensor::BinProjection(_) => Some(Self::Embedding),
            ModelTensor::Head => Some(Self::Head),
            ModelTensor::Block(block, BlockTensor::Expert(..)) => Some(Self::Experts(block)),
            _ => None,
        }
    }
}

/// One tensor per parameter or per [`Packed`] vector: tracked for a training step, plain for
/// evaluation.
#[derive(Debug)]
pub struct Leaves {
    tape: Option<Tape>,
    list: Vec<Leaf>,
    single: HashMap<ModelTensor, usize>,
    packed: HashMap<Packed, usize>,
}

#[derive(Debug)]
struct Leaf {
    tensor: Tensor,
    /// Parameters in this tensor, with their lengths.
    parameters: Vec<(TensorId, usize)>,
}

/// Gradients by the identity of their parameter.
pub type ParameterGradients = HashMap<TensorId, Buffer>;

/// Parallel version of [`Parameters::rounded`], on the host.
fn rounded(parameters: &Parameters, parameter: &Parameter) -> Buffer {
    let Some(Quantizer { scheme, scales }) = parameters.quantizer(parameter) else { return parameter.values.clone() };
    let mut values = parameter.values.clone();
    match scheme.mode {
        ScaleMode::AbsMax(group) => {
            let parts = values.par_chunks_mut(GROUPS * group as usize).zip(scales.par_chunks(GROUPS));
            parts.for_each(|(values, scales)| scheme.fake_quantize(values, scales));
        }
        ScaleMode::Learned(columns) => {
            let parts = values.par_chunks_mut(ROWS * columns as usize);
            parts.for_each(|values| scheme.fake_quantize(values, &scales));
        }
    }
    values
}

impl Leaves {
    /// Leaves with gradients, for a training step.
    pub fn tracked(parameters: &Parameters) -> Self {
        Self::new(parameters, Some(Tape::default()))
    }

    /// Leaves without gradients, for evaluation.
    pub fn plain(parameters: &Parameters) -> Self {
        Self::new(parameters, None)
    }

    fn new(parameters: &Parameters, tape: Option<Tape>) -> Self {
        let list: Vec<&Parameter> =
            parameters.iter().filter(|parameter| parameter.spec.role != Role::LogScale).collect();
        let holding = |parameter: &Parameter| Packed::holding(parameter.spec.id.tensor());
        let groups = list.chunk_by(|a, b| holding(a).is_some() && holding(a) == holding(b));
        let groups: Vec<&[&Parameter]> = groups.collect();
        let of_group =
            |group: &&[&Parameter]| joined(group.par_iter().map(|parameter| rounded(parameters, parameter)).collect());
        let values: Vec<Buffer> = match parameters.device() {
            Device::Cpu => groups.par_iter().map(of_group).collect(),
            Device::Cuda(cuda) => cuda::leaf_values(cuda, parameters, &groups),
        };
        let mut leaves = Self { tape, list: Vec::new(), single: HashMap::new(), packed: HashMap::new() };
        for (group, values) in groups.into_iter().zip(values) {
            let spec = &group[0].spec;
            let parameters: Vec<(TensorId, usize)> = group.iter().map(|p| (p.spec.id, p.spec.len())).collect();
            match holding(group[0]) {
                Some(packed) => {
                    leaves.packed.insert(packed, leaves.list.len());
                    let shape = [1, parameters.iter().map(|(_, len)| len).sum()];
                    leaves.push(values, shape, parameters, true);
                }
                None => {
                    leaves.single.insert(spec.id.tensor(), leaves.list.len());
                    leaves.push(values, matrix_shape(&spec.shape), parameters, spec.is_trained());
                }
            }
        }
        leaves
    }

    /// Adds a parameter that is not part of the model, such as a projection used only by a loss.
    pub fn push_auxiliary(&mut self, parameter: &Parameter) {
        let spec = &parameter.spec;
        self.single.insert(spec.id.tensor(), self.list.len());
        self.push(parameter.values.clone(), matrix_shape(&spec.shape), vec![(spec.id, spec.len())], true);
    }

    fn push(&mut self, values: Buffer, shape: [usize; 2], parameters: Vec<(TensorId, usize)>, trained: bool) {
        let tensor = match &self.tape {
            Some(tape) if trained => tape.leaf(values, shape),
            _ => Tensor::constant(values, shape),
        };
        self.list.push(Leaf { tensor, parameters });
    }

    /// The tensor of a parameter that is not packed with others.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn tensor(&self, tensor: ModelTensor) -> Tensor {
        self.list[self.single[&tensor]].tensor.clone()
    }

    /// A vector of packed parameters.
    ///
    /// # Panics
    /// If there is no such vector.
    pub fn packed(&self, packed: Packed) -> Tensor {
        self.list[self.packed[&packed]].tensor.clone()
    }

    /// Replaces loss and gradients by their means over the ranks, in one exchange. Whether a part of a
    /// pack has a gradient, such as an expert, is decided afterwards: then all ranks agree.
    pub fn average(&self, loss: &mut Buffer, gradients: &mut Gradients, ranks: &Ranks) {
        let of_leaves = gradients.of_leaves(self.list.iter().map(|leaf| &leaf.tensor));
        ranks.average(std::iter::once(loss).chain(of_leaves));
    }

    /// Gradients of `parameters`, from which these leaves were made, and of the auxiliary
    /// parameters. A parameter that does not affect the loss has no entry, for example an expert
    /// without tokens. `lambda` is in nats of loss per coded bit.
    pub fn gradients(&self, parameters: &Parameters, gradients: Gradients, lambda: f32) -> ParameterGradients {
        let mut found = self.of_leaves(gradients);
        through_quantizers(parameters, &mut found, lambda);
        found
    }

    /// Gradients of the tensors in the leaves.
    fn of_leaves(&self, mut gradients: Gradients) -> ParameterGradients {
        let mut found = HashMap::new();
        for leaf in &self.list {
            let Some(whole) = gradients.take(&leaf.tensor) else { continue };
            if let [(id, _)] = leaf.parameters[..] {
                found.insert(id, whole);
                continue;
            }
            if let Some(cuda) = whole.cuda() {
                // Whether a part is zero is known on the device only; see the optimizer.
                cuda::split(cuda, &whole, &leaf.parameters, &mut found);
                continue;
            }
            let mut rest = whole.as_slice();
            for &(id, len) in &leaf.parameters {
                let part = rest.split_off(..len).expect("the sizes add up");
                if part.iter().any(|g| *g != 0.0) {
                    found.insert(id, part.to_vec().into());
                }
            }
        }
        found
    }
}

/// Concatenates parts on the host. A single part is not copied.
fn joined(mut parts: Vec<Buffer>) -> Buffer {
    match parts.len() {
        1 => parts.remove(0),
        _ => parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<f32>>().into(),
    }
}

/// Rows and columns of a parameter. A vector is one row.
fn matrix_shape(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [columns] => [1, columns],
        [rows, columns] => [rows, columns],
        _ => unreachable!("the tensor list holds vectors and matrices"),
    }
}
