//! One step: forward, backward, clipping by the global norm, and the optimizer.

use super::{AdamW, Objective, global_norm};
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::config::Schedule;
use crate::model::{LanguageModel, Leaves, Mode, Noise, Output};
use crate::random::Random;
use burn_tensor::{Tensor, TensorData, activation::softmax};

/// How a step changes the parameters.
#[derive(Clone, Debug)]
pub struct Optimization<'a> {
    /// The optimizer's constants.
    pub schedule: &'a Schedule,
    /// Learning rate.
    pub rate: f64,
    /// Price of a coded bit, in nats of loss.
    pub bit_price: f64,
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

/// Takes one step on a batch.
///
/// # Errors
/// The loss where it, or the gradient, is not finite; the parameters are then unchanged.
pub fn optimization_step(
    checkpoint: &mut Checkpoint,
    batch: &Batch,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> Result<StepOutcome, f32> {
    let (loss, mut gradients) = gradient_step(checkpoint, batch, objective, optimization);
    let gradient_norm = global_norm(&gradients);
    if !loss.is_finite() || !gradient_norm.is_finite() {
        return Err(if loss.is_finite() { f32::NAN } else { loss });
    }
    let clip = (f64::from(checkpoint.config.grad_clip) / (gradient_norm + 1e-6)).min(1.0);
    let optimizer = AdamW { schedule: optimization.schedule, rate: optimization.rate, gradient_scale: clip as f32 };
    let trained = checkpoint.parameters.as_mut_slice().iter_mut().chain(&mut checkpoint.auxiliary);
    optimizer.update(trained, &mut gradients);
    Ok(StepOutcome { loss, gradient_norm })
}

/// Loss of a batch and the gradients of all parameters, then of the auxiliary ones; `None` where there is none.
fn gradient_step(
    checkpoint: &Checkpoint,
    batch: &Batch,
    objective: &mut dyn Objective,
    optimization: &Optimization,
) -> (f32, Vec<Option<Vec<f32>>>) {
    let config = &checkpoint.config;
    let mut leaves = Leaves::tracked(&checkpoint.parameters);
    for parameter in &checkpoint.auxiliary {
        leaves.push_auxiliary(parameter);
    }
    let model = LanguageModel::bind(checkpoint.parameters.architecture(), config.gradient, &leaves);
    let mut mode = Mode::Train(Noise {
        random: optimization.random.clone(),
        dropout: config.dropout,
        embedding_dropout: config.embedding_dropout,
        gumbel_noise: config.gumbel_noise,
    });
    let output = model.forward(&batch.inputs, batch.n_seq, &mut mode);
    let mut loss = objective.loss(&model, &output, &leaves, batch);
    if config.load_balancing > 0.0 {
        loss = loss + load_balancing_loss(&output) * config.load_balancing;
    }
    let value = loss.to_data().as_slice::<f32>().expect("a float32 loss")[0];
    let gradients = loss.backward();
    (value, leaves.gradients(&checkpoint.parameters, gradients, optimization.bit_price as f32))
}

/// `sum over blocks of E sum_e f_e P_e`: `f_e` the share of tokens routed to an expert, `P_e` its mean router probability. Least,
/// 1 a block, when all experts are used alike (Fedus, Zoph, Shazeer, "Switch Transformers", arXiv 2101.03961).
fn load_balancing_loss(output: &Output) -> Tensor<1> {
    let device = output.hidden.device();
    let mut total = Tensor::<1>::zeros([1], &device);
    for layer in &output.layers {
        let [_, experts] = layer.router_logits.dims();
        let routed: usize = layer.usage.iter().sum();
        let share: Vec<f32> = layer.usage.iter().map(|&used| (experts * used) as f32 / routed as f32).collect();
        let share = Tensor::<2>::from_data(TensorData::new(share, [1, experts]), &device);
        let probability = softmax(layer.router_logits.clone(), 1).mean_dim(0);
        total = total + (probability * share).sum();
    }
    total
}
