//! One step: forward, backward, clipping by the global norm, and the optimizer.

use super::{AdamW, Objective, global_norm};
use crate::batch::Batch;
use crate::checkpoint::ModelState;
use crate::config::Schedule;
use crate::model::{LanguageModel, Leaves, Mode, Noise, ParameterGradients};
use crate::ops;
use crate::parameters::Parameter;
use crate::random::Random;

/// How a step changes the parameters.
#[derive(Clone, Debug)]
pub struct Optimization<'a> {
    /// The optimizer's constants.
    pub schedule: &'a Schedule,
    /// Learning rate.
    pub rate: f64,
    /// Price of a coded bit, in nats of loss.
    pub lambda: f64,
    /// Draws dropout masks and routing noise.
    pub random: Random,
}

/// What a step found.
#[derive(Clone, Copy, Debug)]
pub struct StepOutcome {
    /// Mean loss of the batch, in nats.
    pub loss: f32,
    /// Euclidean norm of all gradients before clipping.
    pub gradient_norm: f64,
}

/// Takes one step on a batch. `auxiliary` are the parameters of the loss alone.
///
/// # Errors
/// The loss where it, or the gradient, is not finite; the parameters are then unchanged.
pub fn optimization_step(
    state: &mut ModelState,
    auxiliary: &mut [Parameter],
    batch: &Batch,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> Result<StepOutcome, f32> {
    let (loss, gradients) = gradient_step(state, auxiliary, batch, objective, optimization);
    // In the order of the parameters: the norm's bits do not depend on a hash.
    let all = state.parameters.iter().chain(&*auxiliary);
    let gradient_norm = global_norm(all.filter_map(|parameter| gradients.get(&parameter.spec.id)));
    if !loss.is_finite() || !gradient_norm.is_finite() {
        return Err(if loss.is_finite() { f32::NAN } else { loss });
    }
    let clip = (f64::from(state.config.grad_clip) / (gradient_norm + 1e-6)).min(1.0);
    let optimizer = AdamW { schedule: optimization.schedule, rate: optimization.rate, gradient_scale: clip as f32 };
    let trained = state.parameters.as_mut_slice().iter_mut().chain(auxiliary);
    optimizer.update(trained, &gradients);
    Ok(StepOutcome { loss, gradient_norm })
}

/// Loss of a batch and the gradients of all parameters, the auxiliary ones too.
fn gradient_step(
    state: &ModelState,
    auxiliary: &[Parameter],
    batch: &Batch,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> (f32, ParameterGradients) {
    let config = &state.config;
    let mut leaves = Leaves::tracked(&state.parameters);
    for parameter in auxiliary {
        leaves.push_auxiliary(parameter);
    }
    let model = LanguageModel::bind(state.parameters.architecture(), config.gradient, &leaves);
    let mut mode = Mode::Train(Noise {
        random: optimization.random.clone(),
        dropout: config.dropout,
        embedding_dropout: config.embedding_dropout,
        gumbel_noise: config.gumbel_noise,
    });
    let output = model.forward(&batch.inputs, batch.n_seq, &mut mode);
    let mut loss = objective.loss(&model, &output, &leaves, batch);
    if config.load_balancing > 0.0 {
        let of_blocks = output.layers.iter().map(|layer| ops::load_balancing(&layer.router_logits, &layer.usage));
        let penalty = of_blocks.reduce(|sum, block| ops::add_penalty(&sum, &block, 1.0));
        loss = ops::add_penalty(&loss, &penalty.expect("a model has a block"), config.load_balancing);
    }
    let value = loss.values()[0];
    let gradients = loss.backward();
    (value, leaves.gradients(&state.parameters, gradients, optimization.lambda as f32))
}
