//! What a planner tried and chose.

use serde::{Deserialize, Serialize};

/// What a planner tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Most bytes of the weights section.
    pub budget: u64,
    /// The trials, in order.
    pub trials: Vec<Trial>,
    /// Index of the trial whose student was trained.
    pub chosen: usize,
    /// Bytes of the weights section that were predicted for it, before it was trained.
    pub predicted_bytes: u64,
}

impl PlanSummary {
    /// Indices of the first round's trials that no other one beats in both bytes and perplexity, by
    /// their bytes.
    pub fn front(&self) -> Vec<usize> {
        let first = |index: &usize| self.trials[*index].round == 1;
        let mut order: Vec<usize> = (0..self.trials.len()).filter(first).collect();
        order.sort_by_key(|&index| self.trials[index].bytes);
        let mut best = f64::INFINITY;
        order.retain(|&index| {
            let better = self.trials[index].perplexity < best;
            best = best.min(self.trials[index].perplexity);
            better
        });
        order
    }
}

/// A student that was trained for a short while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Round of the search, from 1: later ones are longer.
    pub round: usize,
    /// Its sizes and levels, in words.
    pub student: String,
    /// Tokens that it was trained on.
    pub tokens: usize,
    /// Bytes of its weights section by the planner's table of entropies.
    pub predicted_bytes: u64,
    /// Bytes of its weights section.
    pub bytes: u64,
    /// Perplexity of the dev slice.
    pub perplexity: f64,
}
