//! AdamW (Loshchilov, Hutter, "Decoupled weight decay regularization", arXiv 1711.05101), in one
//! pass over each tensor.
//!
//! ```text
//! m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
//! w = w - rate decay w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! ```

use crate::config::Schedule;
use crate::kernels::{AdamWStep, adamw_step};
use crate::model::ParameterGradients;
use crate::parameters::{Moments, Parameter};
use rayon::prelude::*;
use resnet_bk_runtime::internal::tensor_spec::Role;

/// Keeps the update finite if all gradients so far are zero.
const EPSILON: f32 = 1e-8;
/// Elements per task.
const CHUNK: usize = 1 << 15;

/// One optimizer step.
#[derive(Clone, Debug)]
pub struct AdamW<'a> {
    /// Constants of the optimizer: betas and weight decay.
    pub schedule: &'a Schedule,
    /// Learning rate of this step.
    pub rate: f64,
    /// Factor on the gradients, from gradient clipping.
    pub gradient_scale: f32,
}

impl AdamW<'_> {
    /// Updates every parameter that has a gradient. Masked values stay zero.
    pub fn update<'p>(&self, parameters: impl Iterator<Item = &'p mut Parameter>, gradients: &ParameterGradients) {
        for parameter in parameters {
            if let Some(gradient) = gradients.get(&parameter.spec.id) {
                self.update_one(parameter, gradient);
            }
        }
    }

    fn update_one(&self, parameter: &mut Parameter, gradient: &[f32]) {
        if parameter.moments.is_empty() {
            parameter.moments = Moments::zeros(parameter.values.len());
        }
        // Each tensor counts its own steps: a learned scale may be added during a stage, and an
        // expert may get its first token late.
        parameter.moments.steps[0] += 1.0;
        let steps = parameter.moments.step_count() as f64;
        let correction = |beta: f64| 1.0 - beta.powf(steps);
        let step = AdamWStep {
            beta1: self.schedule.beta1 as f32,
            beta2: self.schedule.beta2 as f32,
            gradient_scale: self.gradient_scale,
            rate: (self.rate / correction(self.schedule.beta1)) as f32,
            second_scale: (1.0 / correction(self.schedule.beta2)) as f32,
            shrink: if decays(parameter.spec.role) {
                1.0 - (self.rate * self.schedule.weight_decay) as f32
            } else {
                1.0
            },
            epsilon: EPSILON,
        };
        parameter
            .values
            .par_chunks_mut(CHUNK)
            .zip(parameter.moments.first.par_chunks_mut(CHUNK))
            .zip(parameter.moments.second.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(((values, first), second), gradient)| adamw_step(values, first, second, gradient, step));
        parameter.apply_mask();
    }
}

/// Matrices and tables decay; norms, biases and scales do not.
pub(super) fn decays(role: Role) -> bool {
    !matches!(role, Role::Small | Role::HeadBias | Role::ActivationScale | Role::LogScale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk_runtime::internal::tensor_id::ModelTensor;
    use resnet_bk_runtime::internal::tensor_spec::TensorSpec;
    use std::collections::HashMap;

    #[test]
    fn steps_follow_the_formula_and_masks_hold() {
        let schedule = Schedule { weight_decay: 0.1, ..Schedule::default() };
        let spec = TensorSpec { id: ModelTensor::HeadBias.into(), shape: vec![2], role: Role::Expert };
        let mut parameter = Parameter::new(spec, vec![1.0, 0.0]);
        parameter.mask = Some(vec![true, false].into());
        let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        for step in 1..=5u64 {
            let g = 0.5 * step as f64;
            let adam = AdamW { schedule: &schedule, rate: 0.01, gradient_scale: 0.5 };
            let gradients = HashMap::from([(parameter.spec.id, vec![2.0 * g as f32, 1.0].into())]);
            adam.update(std::iter::once(&mut parameter), &gradients);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (t, b1, b2) = (step as f64, 0.9f64, 0.999f64);
            w -= 0.01 * 0.1 * w + 0.01 * (m / (1.0 - b1.powf(t))) / ((v / (1.0 - b2.powf(t))).sqrt() + 1e-8);
        }
        assert!((f64::from(parameter.values[0]) - w).abs() < 1e-5, "{} against {w}", parameter.values[0]);
        assert_eq!(parameter.values[1], 0.0);
    }
}
