//! What is added to the loss of the head: terms that keep experts in use and bring a student's
//! features to its teacher's.
//!
//! ```text
//! load balancing      L = E sum_e f_e P_e                       f_e share of tokens routed to e, P_e mean probability
//! feature distance    L = mean (x - t)^2 / (mean t^2 + 1e-8)
//! ```
//!
//! Load balancing is least, 1 a block, when all experts are used alike (Fedus, Zoph, Shazeer,
//! "Switch Transformers", arXiv 2101.03961). The shares are constants in its gradient.

use crate::tape::{HostOp, Tensor};

#[derive(Debug)]
struct LoadBalancing {
    /// `E f_e`.
    shares: Vec<f32>,
}

impl LoadBalancing {
    /// Exponentials of a row, and their sum.
    fn exponentials(row: &[f32]) -> (Vec<f32>, f32) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
        let exponentials: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
        let sum = exponentials.iter().sum();
        (exponentials, sum)
    }
}

impl HostOp<1> for LoadBalancing {
    fn forward(&mut self, [logits]: [&[f32]; 1]) -> Vec<f32> {
        let experts = self.shares.len();
        let mut mean = vec![0.0; experts];
        for row in logits.chunks(experts) {
            let (exponentials, sum) = Self::exponentials(row);
            mean.iter_mut().zip(exponentials).for_each(|(mean, e)| *mean += e / sum);
        }
        let rows = (logits.len() / experts) as f32;
        vec![mean.iter().zip(&self.shares).map(|(mean, share)| mean / rows * share).sum()]
    }

    fn backward(self, [logits]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let experts = self.shares.len();
        let per_row = (1.0 / (logits.len() / experts) as f64) as f32;
        let g: Vec<f32> = self.shares.iter().map(|share| per_row * (gradient[0] * share)).collect();
        let mut dlogits = Vec::with_capacity(logits.len());
        for row in logits.chunks(experts) {
            // The quotient rule for p = e / sum e.
            let (exponentials, sum) = Self::exponentials(row);
            let dsum: f32 = exponentials.iter().zip(&g).map(|(e, g)| g * (-e / (sum * sum))).sum();
            dlogits.extend(exponentials.iter().zip(&g).map(|(e, g)| (g * (1.0 / sum) + dsum) * e));
        }
        [dlogits]
    }
}

/// How unevenly a block's experts are used, `[1, 1]`.
///
/// # Shapes
/// - `logits`: `[n, E]`, the router's
/// - `usage`: `[E]`, tokens that were routed to each expert
pub fn load_balancing(logits: &Tensor, usage: &[usize]) -> Tensor {
    let routed: usize = usage.iter().sum();
    let shares = usage.iter().map(|&used| (usage.len() * used) as f32 / routed as f32).collect();
    LoadBalancing { shares }.apply([logits], [1, 1])
}

#[derive(Debug)]
struct FeatureDistance {
    target: Vec<f32>,
    /// Mean square of the target.
    scale: f32,
}

impl FeatureDistance {
    fn new(target: &[f32]) -> Self {
        let scale = target.iter().map(|t| t * t).sum::<f32>() / target.len() as f32 + 1e-8;
        Self { target: target.to_vec(), scale }
    }
}

impl HostOp<1> for FeatureDistance {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        let squares: f32 = x.iter().zip(&self.target).map(|(x, t)| (x - t) * (x - t)).sum();
        vec![squares / x.len() as f32 / self.scale]
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let factor = 2.0 * gradient[0] / (self.scale * x.len() as f32);
        [x.iter().zip(&self.target).map(|(x, t)| factor * (x - t)).collect()]
    }
}

/// Mean squared distance of features from the teacher's, relative to the teacher's mean square,
/// `[1, 1]`.
///
/// # Shapes
/// - `features`, `target`: `[n, C]`
pub fn feature_distance(features: &Tensor, target: &[f32]) -> Tensor {
    assert_eq!(features.values().len(), target.len(), "features of the teacher");
    FeatureDistance::new(target).apply([features], [1, 1])
}

#[derive(Debug)]
struct AddPenalty {
    weight: f32,
}

impl HostOp<2> for AddPenalty {
    fn forward(&mut self, [loss, penalty]: [&[f32]; 2]) -> Vec<f32> {
        vec![loss[0] + penalty[0] * self.weight]
    }

    fn backward(self, _: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        [vec![gradient[0]], vec![gradient[0] * self.weight]]
    }
}

/// `loss + weight * penalty`; all are `[1, 1]`.
pub fn add_penalty(loss: &Tensor, penalty: &Tensor, weight: f32) -> Tensor {
    AddPenalty { weight }.apply([loss, penalty], [1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients([&values(24, 1)], || LoadBalancing { shares: vec![0.4, 0.0, 1.6, 2.0] }, 2e-3);
        check_gradients([&values(24, 1)], || FeatureDistance::new(&values(24, 2)), 2e-3);
        check_gradients([&[2.0], &[3.0]], || AddPenalty { weight: 0.1 }, 2e-3);
    }

    #[test]
    fn even_use_is_the_least() {
        let even = load_balancing(&Tensor::constant(vec![0.0; 12].into(), [3, 4]), &[3, 3, 3, 3]);
        assert!((even.values()[0] - 1.0).abs() < 1e-6);
        let uneven = load_balancing(&Tensor::constant([5.0, 0.0, 0.0, 0.0].repeat(3).into(), [3, 4]), &[12, 0, 0, 0]);
        assert!(uneven.values()[0] > 3.0);
    }
}
