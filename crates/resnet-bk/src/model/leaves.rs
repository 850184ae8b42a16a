//! Tensors of a model's parameters, and their gradients.
//!
//! Weights are rounded by their quantizers on the way in, and gradients pass back through them on
//! the way out.

use super::quantizer_gradient::{ROWS, through_quantizer};
use crate::buffer::Buffer;
use crate::parameters::{Parameter, Parameters, Quantizer};
use crate::tape::{Gradients, Tape, Tensor};
use rayon::prelude::*;
use resnet_bk_runtime::internal::quantization::ScaleMode;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor, TensorId};
use resnet_bk_runtime::internal::tensor_spec::Role;
use std::collections::HashMap;

/// Groups that one task rounds.
const GROUPS: usize = 256;

/// Parameters that reach an operation as one vector, one after another.
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
    /// What a parameter is packed into, if it is.
    fn holding(tensor: ModelTensor) -> Option<Self> {
        match tensor {
            ModelTensor::Embedding | ModelTensor::BinRows(_) | ModelTensor::BinProjection(_) => Some(Self::Embedding),
            ModelTensor::Head => Some(Self::Head),
            ModelTensor::Block(block, BlockTensor::Expert(..)) => Some(Self::Experts(block)),
            _ => None,
        }
    }
}

/// One tensor per parameter, or per [`Packed`] group of them, tracked for a training step or plain
/// for an evaluation.
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
    /// The parameters that it holds, and their sizes.
    parameters: Vec<(TensorId, usize)>,
}

/// Gradients by the identity of their parameter.
pub type ParameterGradients = HashMap<TensorId, Vec<f32>>;

/// What [`Parameters::rounded`] gives, by all threads.
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
    /// Leaves whose gradients can be asked for after a backward pass.
    pub fn tracked(parameters: &Parameters) -> Self {
        Self::new(parameters, Some(Tape::default()))
    }

    /// Plain tensors for evaluation.
    pub fn plain(parameters: &Parameters) -> Self {
        Self::new(parameters, None)
    }

    fn new(parameters: &Parameters, tape: Option<Tape>) -> Self {
        let list: Vec<&Parameter> =
            parameters.iter().filter(|parameter| parameter.spec.role != Role::LogScale).collect();
        let values: Vec<Buffer> = list.par_iter().map(|parameter| rounded(parameters, parameter)).collect();
        let mut leaves = Self { tape, list: Vec::new(), single: HashMap::new(), packed: HashMap::new() };
        let mut values = values.into_iter();
        let holding = |parameter: &Parameter| Packed::holding(parameter.spec.id.tensor());
        for group in list.chunk_by(|a, b| holding(a).is_some() && holding(a) == holding(b)) {
            let spec = &group[0].spec;
            let parameters: Vec<(TensorId, usize)> = group.iter().map(|p| (p.spec.id, p.spec.len())).collect();
            let mut values = values.by_ref().take(group.len());
            match holding(group[0]) {
                Some(packed) => {
                    leaves.packed.insert(packed, leaves.list.len());
                    let shape = [1, parameters.iter().map(|(_, len)| len).sum()];
                    leaves.push(joined(values.collect()), shape, parameters, true);
                }
                None => {
                    leaves.single.insert(spec.id.tensor(), leaves.list.len());
                    let values = values.next().expect("a group is not empty");
                    leaves.push(values, matrix_shape(&spec.shape), parameters, spec.is_trained());
                }
            }
        }
        leaves
    }

    /// Adds a leaf that is not part of the model, such as a projection that only a loss uses.
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
    /// If there is none.
    pub fn tensor(&self, tensor: ModelTensor) -> Tensor {
        self.list[self.single[&tensor]].tensor.clone()
    }

    /// The vector of packed parameters.
    ///
    /// # Panics
    /// If there is none.
    pub fn packed(&self, packed: Packed) -> Tensor {
        self.list[self.packed[&packed]].tensor.clone()
    }

    /// Gradients of `parameters`, of which these leaves were made, and of the auxiliary ones. There
    /// is none where the loss does not depend on a parameter, as on the experts that no token was
    /// routed to. `lambda` is in nats of loss for a coded bit.
    pub fn gradients(&self, parameters: &Parameters, gradients: Gradients, lambda: f32) -> ParameterGradients {
        let mut found = self.of_leaves(gradients);
        for parameter in parameters.iter().filter(|parameter| parameters.has_learned_scales(parameter)) {
            if let Some(gradient) = found.get_mut(&parameter.spec.id)
                && let Some(quantizer) = parameters.quantizer(parameter)
                && let Some(dsteps) = through_quantizer(parameter, &quantizer, gradient, lambda)
            {
                found.insert(parameter.spec.id.log_scales(), dsteps);
            }
        }
        found
    }

    /// Gradients of what the leaves hold.
    fn of_leaves(&self, mut gradients: Gradients) -> ParameterGradients {
        let mut found = HashMap::new();
        for leaf in &self.list {
            let Some(whole) = gradients.take(&leaf.tensor) else { continue };
            if let [(id, _)] = leaf.parameters[..] {
                found.insert(id, whole);
                continue;
            }
            let mut rest = whole.as_slice();
            for &(id, len) in &leaf.parameters {
                let part = rest.split_off(..len).expect("the sizes add up");
                if part.iter().any(|g| *g != 0.0) {
                    found.insert(id, part.to_vec());
                }
            }
        }
        found
    }
}

/// Parts one after another; a single one is not copied.
fn joined(mut parts: Vec<Buffer>) -> Buffer {
    match parts.len() {
        1 => parts.remove(0),
        _ => parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<f32>>().into(),
    }
}

/// Rows and columns of a parameter; a vector is a row.
fn matrix_shape(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [columns] => [1, columns],
        [rows, columns] => [rows, columns],
        _ => unreachable!("the tensor list holds vectors and matrices"),
    }
}
