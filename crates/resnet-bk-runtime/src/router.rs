//! The router of the sparse mixture of experts: every token uses its `top_k` best experts.
//!
//! ```text
//! p = softmax of the k largest router logits      y = sum_e p_e expert_e(x)      expert(x) = relu(x W_up + b_up) W_down + b_down
//! ```
//!
//! For `k = 1` the weight is exactly 1. For `k = E` it is the dense softmax mixture.

use crate::kernels::softmax_in_place;

/// Weights of the experts for every token, zero for experts that it is not routed to. Ties go to
/// the expert with the lower index. `top_k` is at most `E`.
///
/// # Shapes
/// - `logits`: `[n, E]`
/// - returns `[n, E]`
pub fn gate_weights(logits: &[f32], experts: usize, top_k: usize) -> Vec<f32> {
    let mut weights = vec![0.0; logits.len()];
    let mut order: Vec<usize> = Vec::with_capacity(experts);
    let mut chosen = vec![0.0; top_k];
    for (logits, weights) in logits.chunks(experts).zip(weights.chunks_mut(experts)) {
        order.clear();
        order.extend(0..experts);
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        for (chosen, &expert) in chosen.iter_mut().zip(&order) {
            *chosen = logits[expert];
        }
        softmax_in_place(&mut chosen);
        for (&chosen, &expert) in chosen.iter().zip(&order) {
            weights[expert] = chosen;
        }
    }
    weights
}

/// The indices of the tokens routed to each expert, ascending.
///
/// # Shapes
/// - `weights`: `[n, E]` from [`gate_weights`]
/// - returns one list of token indices per expert
pub fn assignments(weights: &[f32], experts: usize) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); experts];
    for (token, weights) in weights.chunks(experts).enumerate() {
        for (expert, &weight) in weights.iter().enumerate() {
            if weight != 0.0 {
                lists[expert].push(token);
            }
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_softmax_of_the_k_largest() {
        let logits = [1.0, 3.0, 2.0, -1.0];
        assert_eq!(gate_weights(&logits, 4, 1), [0.0, 1.0, 0.0, 0.0]);
        let two = gate_weights(&logits, 4, 2);
        let e = (-1.0f32).exp();
        assert!((two[1] - 1.0 / (1.0 + e)).abs() < 1e-6 && (two[2] - e / (1.0 + e)).abs() < 1e-6);
        assert_eq!((two[0], two[3]), (0.0, 0.0));
        let all = gate_weights(&logits, 4, 4);
        assert!((all.iter().sum::<f32>() - 1.0).abs() < 1e-6 && all.iter().all(|&p| p > 0.0));
        assert_eq!(assignments(&two, 4), [vec![], vec![0], vec![0], vec![]]);
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(gate_weights(&[0.5, 0.5], 2, 1), [1.0, 0.0]);
    }
}
