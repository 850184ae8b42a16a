//! What a planner's search will cost, before it runs.

use super::candidates::candidates;
use super::{SECOND_ROUND_FACTOR, common, goal};
use crate::config::{ModelConfig, PlanConfig};

/// The cost of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchCost {
    /// Trials of both rounds.
    pub trials: usize,
    /// Tokens that all trials together train on.
    pub tokens: usize,
    /// The candidate with the most parameters. It stands for all, so the cost is rather too high.
    pub student: ModelConfig,
}

/// The cost of a search for a student of at most `budget` bytes, with a teacher of this configuration, a
/// vocabulary of `words` words and a text of `train_tokens` tokens. `None` if no student fits.
pub fn search_cost(
    config: &PlanConfig,
    teacher: &ModelConfig,
    words: usize,
    budget: u64,
    train_tokens: usize,
) -> Option<SearchCost> {
    let pool = candidates(&common(config, teacher, words), goal(budget));
    let largest = pool.iter().max_by_key(|candidate| candidate.model.architecture().parameter_count())?;
    let finalists = pool.iter().filter(|candidate| candidate.spends_budget).count().min(config.finalists.max(1));
    let [first, second] =
        [1, SECOND_ROUND_FACTOR].map(|factor| config.trial_tokens.saturating_mul(factor).min(train_tokens));
    // The second round is skipped where it would repeat the first.
    let finalists = if first == second { 0 } else { finalists };
    Some(SearchCost {
        trials: pool.len() + finalists,
        tokens: pool.len().saturating_mul(first).saturating_add(finalists.saturating_mul(second)),
        student: largest.model.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_round_is_counted_where_the_text_is_long_enough() {
        let teacher = ModelConfig::preset("memory").unwrap();
        let config = PlanConfig { trial_tokens: 1_000, finalists: 2, ..PlanConfig::default() };
        let cost = |tokens: usize| search_cost(&config, &teacher, 30_000, 165_000, tokens).unwrap();
        let (short, long) = (cost(900), cost(10_000));
        assert_eq!(short.tokens, 900 * short.trials);
        assert_eq!(long.trials, short.trials + 2);
        assert_eq!(long.tokens, 1_000 * short.trials + 2 * 3_000);
        assert_eq!(search_cost(&config, &teacher, 30_000, 100, 900), None);
    }
}
