//! AdamW (Loshchilov, Hutter, "Decoupled weight decay regularization", arXiv 1711.05101), one pass
//! over each tensor.
//!
//! ```text
//! m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
//! w = w - rate decay w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//! ```

use crate::config::Schedule;
use crate::kernels::{AdamWStep, adamw_step};
use crate::model::ParameterGradients;
use crate::parameters::Parameter;
use rayon::prelude::*;
use resnet_bk_runtime::internal::tensor_spec::Role;

/// Keeps the step finite where a gradient has always been zero.
const EPSILON: f32 = 1e-8;
/// Elements that one task updates.
const CHUNK: usize = 1 << 15;

/// One step of the optimizer.
#[derive(Clone, Debug)]
pub struct AdamW<'a> {
    /// Decays.
    pub schedule: &'a Schedule,
    /// Learning rate of this step.
    pub rate: f64,
    /// What the gradients are multiplied with: the clipping factor.
    pub gradient_scale: f32,
}

impl AdamW<'_> {
    /// Updates every parameter that has a gradient, and keeps masked values at zero.
    pub fn update<'p>(&self, parameters: impl Iterator<Item = &'p mut Parameter>, gradients: &ParameterGradients) {
        for parameter in parameters {
            if let Some(gradient) = gradients.get(&parameter.spec.id) {
                self.update_one(parameter, gradient);
            }
        }
    }

    fn update_one(&self, parameter: &mut Parameter, gradient: &[f32]) {
        let len = parameter.values.len();
        parameter.moments.first.resize(len, 0.0);
        parameter.moments.second.resize(len, 0.0);
        // Its own steps: a quantizer's step may be born in the middle of a stage, and an expert be
        // used late.
        parameter.moments.steps += 1;
        let steps = parameter.moments.steps as f64;
        let correction = |beta: f64| 1.0 - beta.powf(steps);
        let step = AdamWStep {
            beta1: self.schedule.beta1 as f32,
            beta2: self.schedule.beta2 as f32,
            gradient_scale: self.gradient_scale,
            rate: (self.rate / correction(self.schedule.beta1)) as f32,
            second_scale: (1.0 / correction(self.schedule.beta2)) as f32,
            shrink: 1.0 - (self.rate * self.decay(parameter.spec.role)) as f32,
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

    /// Matrices and tables decay; norms, biases and scalars do not.
    fn decay(&self, role: Role) -> f64 {
        match role {
            Role::Small | Role::HeadBias | Role::ActivationScale | Role::LogScale => 0.0,
            _ => self.schedule.weight_decay,
        }
    }
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
        parameter.mask = Some(vec![true, false]);
        let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
        for step in 1..=5u64 {
            let g = 0.5 * step as f64;
            let adam = AdamW { schedule: &schedule, rate: 0.01, gradient_scale: 0.5 };
            let gradients = HashMap::from([(parameter.spec.id, vec![2.0 * g as f32, 1.0])]);
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
