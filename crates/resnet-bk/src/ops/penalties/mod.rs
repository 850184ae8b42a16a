//! Terms beside the loss of the head: one keeps all experts in use, one brings a student's features
//! to its teacher's.
//!
//! ```text
//! load balancing      L = E sum_e f_e P_e                      p_n = softmax(l_n), P = mean over n
//!                     dl_ni = p_ni (g_i - sum_e p_ne g_e)      g_e = dL E f_e / n
//! feature distance    L = mean (x - t)^2 / m                   m = mean t^2 + 1e-8
//!                     dx = 2 dL (x - t) / (m n C)
//! sum                 L = loss + w penalty                     dloss = dL, dpenalty = w dL
//! ```
//!
//! `f_e` is the share of tokens that are routed to expert `e`. Load balancing is least, 1 a block,
//! when all experts are used alike (Fedus, Zoph, Shazeer, "Switch Transformers", arXiv 2101.03961).
//! The shares are constants in its gradient.

mod host;

use crate::tape::{HostOp, Tensor};

#[derive(Debug)]
struct LoadBalancing {
    /// `E f_e`.
    shares: Vec<f32>,
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
