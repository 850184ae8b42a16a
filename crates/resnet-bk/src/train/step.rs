//! One training step: forward, backward, clipping by the global norm, optimizer.

use super::cuda::CudaSteps;
use super::{AdamW, Objective, average, global_norm};
use crate::batch::{Batch, Carried};
use crate::buffer::Buffer;
use crate::checkpoint::ModelState;
use crate::config::Schedule;
use crate::device::Device;
use crate::model::{
    CarriedState, LanguageModel, LayerOutput, Leaves, Mode, Noise, Output, ParameterGradients, forward_of_step,
};
use crate::ops;
use crate::parameters::Parameter;
use crate::random::{Random, StepStream};
use crate::ranks::Ranks;
use crate::tape::Tensor;

/// Settings of one step.
#[derive(Clone, Debug)]
pub struct Optimization<'a> {
    /// Constants of the optimizer.
    pub schedule: &'a Schedule,
    /// Learning rate.
    pub rate: f64,
    /// Rate-distortion multiplier, in nats of loss per coded bit.
    pub lambda: f64,
    /// Share of the step's weights in their average; 0 if nothing is averaged.
    pub average: f32,
    /// Source of dropout masks and routing noise.
    pub random: Random,
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss of the batch, in nats.
    pub loss: f32,
    /// Euclidean norm of all gradients before clipping.
    pub gradient_norm: f64,
}

impl StepOutcome {
    /// The loss of a step that could not be taken (NaN if only a gradient is not finite), because
    /// loss or gradient norm is not finite. The parameters are as before it.
    pub fn failure(self) -> Option<f32> {
        match (self.loss.is_finite(), self.gradient_norm.is_finite()) {
            (true, true) => None,
            (true, false) => Some(f32::NAN),
            (false, _) => Some(self.loss),
        }
    }
}

/// Takes steps where the model is. A GPU works while the host prepares the next steps, so outcomes
/// come later.
pub enum Steps {
    /// On the host, with the outcome of the last step, and the state that is carried to the next.
    Host(Option<StepOutcome>, CarriedState),
    /// On a GPU.
    Cuda(Box<CudaSteps>),
}

impl Steps {
    /// Steps on a device.
    pub fn new(device: &Device) -> Self {
        match device {
            Device::Cpu => Self::Host(None, CarriedState::default()),
            Device::Cuda(cuda) => Self::Cuda(Box::new(CudaSteps::new(cuda))),
        }
    }

    /// Takes one step on a batch. `auxiliary` are parameters of the loss, not of the model.
    pub fn take(
        &mut self,
        state: &mut ModelState,
        auxiliary: &mut [Parameter],
        batch: &Batch,
        objective: &mut dyn Objective,
        optimization: &Optimization,
    ) {
        match self {
            Self::Host(outcome, carried) => {
                if batch.carried == Carried::Begin {
                    carried.reset();
                }
                *outcome = Some(optimization_step(state, auxiliary, batch, carried, objective, optimization));
            }
            Self::Cuda(steps) => steps.take(state, auxiliary, batch, objective, optimization),
        }
    }

    /// Outcomes of steps since the last call, in order. With `wait`, of all of them.
    pub fn outcomes(&mut self, wait: bool) -> Vec<StepOutcome> {
        match self {
            Self::Host(outcome, _) => outcome.take().into_iter().collect(),
            Self::Cuda(steps) => steps.outcomes(wait),
        }
    }
}

/// A step on the host. If it fails, the parameters are unchanged.
fn optimization_step(
    state: &mut ModelState,
    auxiliary: &mut [Parameter],
    batch: &Batch,
    carried: &mut CarriedState,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> StepOutcome {
    let (loss, gradients) = gradients(state, auxiliary, batch, carried, objective, optimization);
    // Sum in the order of the parameters, so that the result does not depend on hash order.
    let all = state.parameters.iter().chain(&*auxiliary);
    let gradient_norm = global_norm(all.filter_map(|parameter| gradients.get(&parameter.spec.id)));
    let outcome = StepOutcome { loss: loss.values()[0], gradient_norm };
    if outcome.failure().is_none() {
        let clip = (f64::from(state.config.grad_clip) / (gradient_norm + 1e-6)).min(1.0);
        let optimizer = AdamW { schedule: optimization.schedule, rate: optimization.rate, gradient_scale: clip as f32 };
        let trained = state.parameters.as_mut_slice().iter_mut().chain(auxiliary);
        optimizer.update(trained, &gradients);
        if optimization.average > 0.0 {
            average::update(state.parameters.as_mut_slice(), optimization.average);
        }
    }
    outcome
}

/// Loss of the global batch, and the gradients of all parameters including the auxiliary ones.
/// `batch` is this rank's part. `carried` is the state before its windows, and then after them.
pub(super) fn gradients(
    state: &ModelState,
    auxiliary: &[Parameter],
    batch: &Batch,
    carried: &mut CarriedState,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> (Tensor, ParameterGradients) {
    let (config, ranks) = (&state.config, state.parameters.ranks());
    let mut leaves = Leaves::tracked(&state.parameters);
    for parameter in auxiliary {
        leaves.push_auxiliary(parameter);
    }
    let model = LanguageModel::bind(state.parameters.architecture(), config.gradient, &leaves);
    let mut mode = Mode::Train(Noise {
        stream: StepStream::new(&optimization.random),
        share: ranks.share(batch.inputs.len()),
        dropout: config.dropout,
        embedding_dropout: config.embedding_dropout,
        word_dropout: config.word_dropout,
        head_dropout: config.head_dropout,
        weight_dropout: config.weight_dropout,
        gumbel_noise: config.gumbel_noise,
    });
    let (architecture, device) = (state.parameters.architecture(), state.parameters.device());
    let before = carried.before(batch, architecture, device);
    objective.before_forward(batch);
    let (output, after, mut loss) = forward_of_step(architecture, device, || {
        let (output, after) = model.forward_batch(before, batch, &mut mode);
        let loss = objective.loss(&model, &output, &leaves, batch);
        (output, after, loss)
    });
    if config.load_balancing > 0.0 {
        let usage = mean_usage(&output, ranks);
        let blocks = output.layers.iter().zip(&usage);
        let of_blocks = blocks.map(|(layer, usage)| ops::load_balancing(&layer.router_logits, usage));
        let penalty = of_blocks.reduce(|sum, block| ops::add_penalty(&sum, &block, 1.0));
        loss = ops::add_penalty(&loss, &penalty.expect("a model has a block"), config.load_balancing);
    }
    let mut gradients = loss.backward();
    // The backward pass was the last to read the states before.
    carried.replace(after);
    if !ranks.are_alone() {
        let mut mean = loss.buffer().clone();
        leaves.average(&mut mean, &mut gradients, ranks);
        loss = Tensor::constant(mean, loss.shape());
    }
    let gradients = leaves.gradients(&state.parameters, gradients, optimization.lambda as f32);
    (loss, gradients)
}

/// Number of tokens that are routed to each expert, for each block: the mean over the ranks.
fn mean_usage(output: &Output, ranks: &Ranks) -> Vec<Tensor> {
    let mut usage: Vec<Buffer> = output.layers.iter().map(|layer| layer.usage.buffer().clone()).collect();
    // One exchange for all blocks.
    ranks.average(&mut usage);
    let of_block = |(usage, layer): (Buffer, &LayerOutput)| Tensor::constant(usage, layer.usage.shape());
    usage.into_iter().zip(&output.layers).map(of_block).collect()
}

#[cfg(test)]
mod tests;
