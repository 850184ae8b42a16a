//! The trials and the choice of a planner.

use serde::{Deserialize, Serialize};

/// A planner's search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Largest weights section in bytes.
    pub budget: u64,
    /// The trials, in order.
    pub trials: Vec<Trial>,
    /// Index of the chosen trial.
    pub chosen: usize,
    /// Predicted bytes of the weights section of the final student.
    pub predicted_bytes: u64,
}

impl PlanSummary {
    /// Indices of the first round's trials on the Pareto front of bytes and perplexity, in order of
    /// bytes.
    pub fn front(&self) -> Vec<usize> {
        let first = |index: &usize| self.trials[*index].round == 1;
        let mut order: Vec<usize> = (0..self.trials.len()).filter(first).collect();
        order.sort_by_key(|&index| self.trials[index].bytes);
        let mut best = f64::INFINITY;
        order.retain(|&index| {
            let perplexity = self.trials[index].perplexity.unwrap_or(f64::INFINITY);
            let better = perplexity < best;
            best = best.min(perplexity);
            better
        });
        order
    }
}

/// A student after a short training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Round of the search, from 1. The second round trains longer.
    pub round: usize,
    /// Sizes and levels of the student.
    pub student: String,
    /// Tokens that it was trained on.
    pub tokens: usize,
    /// Bytes of the weights section, predicted by the planner.
    pub predicted_bytes: u64,
    /// Measured bytes of the weights section. If training diverged, the predicted ones.
    pub bytes: u64,
    /// Perplexity of the dev slice. `None` if training diverged.
    pub perplexity: Option<f64>,
}
