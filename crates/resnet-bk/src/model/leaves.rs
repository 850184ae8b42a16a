//! Tensors of a model's parameters, and their gradients.
//!
//! Weights are rounded by their quantizers on the way in, and gradients pass back through them on the way out.

use super::quantizers::{ROWS, through_quantizer};
use crate::buffer::Buffer;
use crate::parameters::{Parameter, Parameters, Quantizer};
use crate::tape::{Gradients, Tape, Tensor};
use rayon::prelude::*;
use resnet_bk_runtime::architecture::{Role, log_step_name};
use resnet_bk_runtime::quantization::Steps;
use std::collections::HashMap;

/// Groups that one task rounds.
const GROUPS: usize = 256;

/// One tensor per parameter, tracked for a training step or plain for an evaluation. The parameters of a block's experts are one
/// vector, `blocks.N.moe.experts`, and so are those of a table, `embedding` and `head`.
#[derive(Debug)]
pub struct Leaves {
    tape: Option<Tape>,
    list: Vec<Leaf>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Leaf {
    tensor: Tensor,
    /// Sizes of the parameters that it holds.
    sizes: Vec<usize>,
}

/// The vector that a parameter is part of.
fn bank(name: &str) -> Option<&str> {
    const EXPERTS: &str = ".moe.experts";
    if let Some((table @ ("embedding" | "head"), rest)) = name.split_once('.') {
        return (rest.ends_with("weight") || rest.ends_with("projection")).then_some(table);
    }
    name.find(EXPERTS).map(|place| &name[..place + EXPERTS.len()])
}

/// What [`Parameters::rounded`] gives, by all threads.
fn rounded(parameters: &Parameters, parameter: &Parameter) -> Buffer {
    let Some(Quantizer { scheme, scales }) = parameters.quantizer(parameter) else { return parameter.values.clone() };
    let mut values = parameter.values.clone();
    match scheme.steps {
        Steps::Range(group) => {
            let parts = values.par_chunks_mut(GROUPS * group as usize).zip(scales.par_chunks(GROUPS));
            parts.for_each(|(values, scales)| scheme.fake_quantize(values, scales));
        }
        Steps::Learned(columns) => {
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
        let list: Vec<&Parameter> = parameters.iter().filter(|parameter| parameter.spec.role != Role::Step).collect();
        let values: Vec<Buffer> = list.par_iter().map(|parameter| rounded(parameters, parameter)).collect();
        let mut leaves = Self { list: Vec::new(), index: HashMap::new(), tape };
        let mut values = values.into_iter();
        for group in list.chunk_by(|a, b| bank(&a.spec.name).is_some_and(|name| bank(&b.spec.name) == Some(name))) {
            let spec = &group[0].spec;
            let sizes: Vec<usize> = group.iter().map(|parameter| parameter.spec.len()).collect();
            let mut values = values.by_ref().take(group.len());
            match bank(&spec.name) {
                Some(name) => {
                    leaves.push(name, joined(values.collect()), [1, sizes.iter().sum()], sizes, true);
                }
                None => {
                    let values = values.next().expect("a group is not empty");
                    leaves.push(&spec.name, values, matrix_shape(&spec.shape), sizes, spec.is_trained());
                }
            }
        }
        leaves
    }

    /// Adds a leaf that is not part of the model, such as a projection that only a loss uses.
    pub fn push_auxiliary(&mut self, parameter: &Parameter) {
        let spec = &parameter.spec;
        self.push(&spec.name, parameter.values.clone(), matrix_shape(&spec.shape), vec![spec.len()], true);
    }

    fn push(&mut self, name: &str, values: Buffer, shape: [usize; 2], sizes: Vec<usize>, trained: bool) {
        let tensor = match &self.tape {
            Some(tape) if trained => tape.leaf(values, shape),
            _ => Tensor::constant(values, shape),
        };
        self.index.insert(name.to_owned(), self.list.len());
        self.list.push(Leaf { tensor, sizes });
    }

    /// The tensor of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn tensor(&self, name: &str) -> Tensor {
        self.list[self.index[name]].tensor.clone()
    }

    /// Gradients in the order of the parameters, of which these leaves were made, then of the auxiliary ones; `None` where the loss
    /// does not depend on one, as on the experts that no token was routed to. `bit_price` is in nats of loss for a coded bit.
    pub fn gradients(&self, parameters: &Parameters, gradients: Gradients, bit_price: f32) -> Vec<Option<Vec<f32>>> {
        let mut found = self.of_leaves(gradients);
        let mut steps = HashMap::new();
        for (parameter, gradient) in parameters.iter().zip(&mut found) {
            if parameters.has_trained_steps(parameter)
                && let (Some(gradient), Some(quantizer)) = (gradient, parameters.quantizer(parameter))
                && let Some(dsteps) = through_quantizer(parameter, &quantizer, gradient, bit_price)
            {
                steps.insert(log_step_name(&parameter.spec.name), dsteps);
            }
        }
        let is_step = |parameter: &&Parameter| parameter.spec.role == Role::Step;
        let count = parameters.iter().filter(|parameter| !is_step(parameter)).count();
        let auxiliary = found.split_off(count);
        found.extend(parameters.iter().filter(is_step).map(|parameter| steps.remove(&parameter.spec.name)));
        found.extend(auxiliary);
        found
    }

    /// Gradients of what the leaves hold.
    fn of_leaves(&self, mut gradients: Gradients) -> Vec<Option<Vec<f32>>> {
        let mut found = Vec::new();
        for leaf in &self.list {
            let whole = gradients.take(&leaf.tensor);
            match (whole, leaf.sizes.as_slice()) {
                (whole, [_]) => found.push(whole),
                (None, sizes) => found.extend(sizes.iter().map(|_| None)),
                (Some(whole), sizes) => {
                    let mut rest = whole.as_slice();
                    for &size in sizes {
                        let part = rest.split_off(..size).expect("the sizes add up");
                        found.push(part.iter().any(|g| *g != 0.0).then(|| part.to_vec()));
                    }
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
