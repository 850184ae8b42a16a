//! Candidate students of the planner. Each combines a body with the widest table that fits the
//! budget.
//!
//! ```text
//! budget = body (blocks, experts, mixers) + table
//! table  = bins of V/30, V/10 and the remaining words, with rows about 8k, 3k and k wide
//! ```

use super::size::predict;
use crate::config::ModelConfig;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::embedding::EmbeddingBin;
use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};

/// `(d_model, n_layers, num_experts)` of the bodies to try.
const BODIES: [(usize, usize, usize); 8] =
    [(32, 1, 1), (48, 1, 1), (48, 2, 1), (64, 1, 1), (64, 2, 1), (64, 2, 2), (96, 2, 1), (128, 2, 1)];
/// Levels to try, with the share of the budget to spend. The last entry shows the perplexity at a
/// smaller size.
const TABLES: [(Levels, f64); 4] =
    [(Levels::FINE, 1.0), (Levels::MIDDLE, 1.0), (Levels::COARSE, 1.0), (Levels::COARSE, 0.6)];
/// Share of the budget that a body should take. With a smaller body, the table is wider than the
/// text can train.
const BODY_SHARES: std::ops::RangeInclusive<f64> = 0.06..=0.6;
/// In a budget so large that every body takes a smaller share, bodies of at least this fraction of
/// the largest body are tried.
const LARGE_BODY: f64 = 0.5;
/// Width of the first two bins over the width of the last bin.
const FIRST_BIN_FACTOR: usize = 8;
const SECOND_BIN_FACTOR: usize = 3;
/// Smallest width of the last bin.
const MIN_WIDTH: usize = 2;
/// Words of the first two bins, as shares of the vocabulary.
const BIN_SHARES: [f64; 2] = [1.0 / 30.0, 0.1];
/// Knots of the bias curve.
const KNOTS: usize = 16;

/// Levels of the table's bins, the matrices and the bias. Coarse levels hurt the matrices and the
/// frequent words most (docs/LOG.md, "Which levels where").
#[derive(Clone, Copy, Debug)]
struct Levels {
    table: [u16; 3],
    expert: u16,
    mixer: u16,
    bias: u16,
}

impl Levels {
    const FINE: Self = Self { table: [15, 9, 5], expert: 15, mixer: 31, bias: 5 };
    const MIDDLE: Self = Self { table: [9, 5, 3], expert: 9, mixer: 15, bias: 3 };
    const COARSE: Self = Self { table: [5, 3, 3], expert: 5, mixer: 7, bias: 3 };

    fn policy(self) -> QuantizationPolicy {
        let Self { table, expert, mixer, bias } = self;
        let learned = LearnedScales { embedding: table.to_vec(), expert, mixer, bias, ..LearnedScales::default() };
        QuantizationPolicy { learned: Some(learned), activation_bits: None, ..QuantizationPolicy::default() }
    }
}

/// A candidate student.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its configuration.
    pub model: ModelConfig,
    /// Its quantizers.
    pub policy: QuantizationPolicy,
    /// Whether the table uses the whole budget. Other candidates only show the perplexity at a
    /// smaller size; the planner does not choose them.
    pub spends_budget: bool,
}

impl Candidate {
    /// A student with this body and these quantizers, whose last bin is `width` wide.
    fn new(common: &ModelConfig, body: (usize, usize, usize), policy: &QuantizationPolicy, width: usize) -> Self {
        let (d_model, n_layers, num_experts) = body;
        let words = BIN_SHARES.map(|share| ((common.vocab_size as f64 * share) as usize).max(1));
        let rest = common.vocab_size.saturating_sub(words[0] + words[1]).max(1);
        let bin = |words: usize, width: usize| EmbeddingBin { words, width: width.min(d_model) };
        let bins =
            vec![bin(words[0], FIRST_BIN_FACTOR * width), bin(words[1], SECOND_BIN_FACTOR * width), bin(rest, width)];
        let model = ModelConfig {
            d_model,
            n_layers,
            num_experts,
            d_ff: 2 * d_model,
            heads: d_model / 2,
            embedding_bins: bins,
            bias_knots: KNOTS,
            ..common.clone()
        };
        Self { model, policy: policy.clone(), spends_budget: true }
    }

    /// Architecture of the student.
    pub fn architecture(&self) -> Architecture {
        Architecture { quantization: Some(self.policy.clone()), ..self.model.architecture() }
    }

    /// Predicted bytes of the weights section.
    pub fn bytes(&self) -> f64 {
        predict(&self.architecture())
    }

    /// The same body and levels with the widest table that fits `budget`, in bytes. `None` if even
    /// the narrowest table does not fit.
    pub fn refit(&self, budget: f64) -> Option<Self> {
        let body = (self.model.d_model, self.model.n_layers, self.model.num_experts);
        fit(&self.model, body, &self.policy, budget)
    }

    /// One line for tables: width, blocks x experts, widths and levels of the table's bins.
    pub fn describe(&self) -> String {
        let listed = |numbers: Vec<String>| numbers.join("/");
        let rows = self.model.embedding_bins.iter().map(|bin| bin.width.to_string()).collect();
        let levels = &self.policy.learned.as_ref().expect("students have learned scales").embedding;
        format!(
            "width {}, {} x {} experts, rows of {} at {} levels",
            self.model.d_model,
            self.model.n_layers,
            self.model.num_experts,
            listed(rows),
            listed(levels.iter().map(u16::to_string).collect()),
        )
    }
}

/// The widest table for a body: first widens the last bin (the others follow), then the second.
fn fit(
    common: &ModelConfig,
    body: (usize, usize, usize),
    policy: &QuantizationPolicy,
    budget: f64,
) -> Option<Candidate> {
    let fits = |candidate: &Candidate| candidate.bytes() <= budget;
    let mut best =
        (MIN_WIDTH..=body.0).map(|width| Candidate::new(common, body, policy, width)).take_while(fits).last()?;
    while best.model.embedding_bins[1].width < body.0 {
        let mut wider = best.clone();
        wider.model.embedding_bins[1].width += 1;
        if !fits(&wider) {
            break;
        }
        best = wider;
    }
    Some(best)
}

/// The students that fit `budget`, in bytes. Empty only if the smallest one does not fit.
pub fn candidates(common: &ModelConfig, budget: f64) -> Vec<Candidate> {
    let mut list: Vec<(f64, Candidate)> = Vec::new();
    for body in BODIES {
        for (levels, share) in TABLES {
            let policy = levels.policy();
            let found = fit(common, body, &policy, share * budget);
            // If the widest table does not use up the budget, all shares give the same student.
            let is_other =
                |other: &Candidate, found: &Candidate| (&other.model, &other.policy) != (&found.model, &found.policy);
            let found = found.filter(|found| list.iter().all(|(_, other)| is_other(other, found)));
            let found = found.map(|found| Candidate { spends_budget: share == 1.0, ..found });
            list.extend(found.map(|found| (body_bytes(common, body, &policy), found)));
        }
    }
    let smallest_share = list.iter().map(|(body, _)| body / budget).fold(f64::INFINITY, f64::min);
    let largest = list.iter().map(|&(body, _)| body).fold(0.0, f64::max);
    let balanced = list.iter().any(|(body, _)| BODY_SHARES.contains(&(body / budget)));
    list.retain(|(body, _)| match balanced {
        true => BODY_SHARES.contains(&(body / budget)),
        // The budget is large and the table is at its full width: only a larger body helps.
        false if smallest_share < *BODY_SHARES.start() => *body >= LARGE_BODY * largest,
        // The budget is small: keep all that fit.
        false => true,
    });
    list.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Predicted bytes of the smallest student.
pub fn smallest(common: &ModelConfig) -> f64 {
    let students = BODIES.into_iter().flat_map(|body| TABLES.map(|(levels, _)| (body, levels.policy())));
    students
        .map(|(body, policy)| Candidate::new(common, body, &policy, MIN_WIDTH).bytes())
        .fold(f64::INFINITY, f64::min)
}

/// Predicted bytes of everything but the table.
fn body_bytes(common: &ModelConfig, body: (usize, usize, usize), policy: &QuantizationPolicy) -> f64 {
    // The size is linear in the width, so two tables give the body's part.
    let table = |width: usize| Candidate::new(common, body, policy, width).bytes();
    2.0 * table(1) - table(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PerHead, PlanConfig};
    use crate::numerics::Gradient;
    use resnet_bk_runtime::internal::architecture::Causality;

    #[test]
    fn candidates_use_their_budget_and_are_valid() {
        let common = ModelConfig::preset("memory").unwrap();
        for budget in [40e3, 165e3, 1e6] {
            let list = candidates(&common, budget);
            for (index, candidate) in list.iter().enumerate() {
                let same = |other: &Candidate| (&other.model, &other.policy) == (&candidate.model, &candidate.policy);
                assert!(!list[..index].iter().any(same), "twice: {}", candidate.describe());
            }
            assert!(list.len() >= 3, "{} candidates in {budget} bytes", list.len());
            for candidate in list {
                candidate.model.validate().unwrap();
                candidate.architecture().validate().unwrap();
                let used = candidate.bytes() / budget;
                let full = candidate.model.embedding_bins[2].width == candidate.model.d_model;
                assert!(used <= 1.0 && (full || used > 0.45), "{}: {used} of the budget", candidate.describe());
            }
        }
        assert_eq!(candidates(&common, 1e3), []);
    }

    #[test]
    fn the_list_is_empty_only_if_no_student_fits() {
        for words in [40, 500, 8_000, 30_000] {
            let common = ModelConfig { vocab_size: words, ..ModelConfig::preset("memory").unwrap() };
            let least = smallest(&common);
            assert_eq!(candidates(&common, 0.999 * least), [], "{words} words");
            for factor in [1.001, 1.5, 2.0, 5.0, 20.0, 100.0, 1e3, 1e5] {
                let (budget, list) = (factor * least, candidates(&common, factor * least));
                assert!(list.iter().any(|one| one.spends_budget), "{words} words, {budget} bytes");
                assert!(list.iter().all(|one| one.bytes() <= budget), "{words} words, {budget} bytes");
            }
        }
    }

    #[test]
    fn a_large_budget_gives_large_students() {
        let common = ModelConfig { vocab_size: 500, ..ModelConfig::preset("memory").unwrap() };
        let list = candidates(&common, 5e6);
        let largest = list.iter().map(|one| one.model.d_model).max().unwrap();
        assert_eq!(largest, BODIES.map(|(width, ..)| width)[BODIES.len() - 1]);
        for one in &list {
            assert!(one.model.d_model >= 64, "{}", one.describe());
            let width = one.model.d_model;
            assert!(one.model.embedding_bins.iter().all(|bin| bin.width == width), "{}", one.describe());
        }
        // Not more trials than with a usual budget.
        assert!((3..=candidates(&common, 165e3).len().max(12)).contains(&list.len()), "{} candidates", list.len());
    }

    #[test]
    fn students_of_any_teacher_are_valid() {
        let odd = ModelConfig {
            causality: Causality::Bidirectional,
            eta: PerHead::Each(vec![0.5]),
            gradient: Gradient::Blended(0.5),
            vocab_size: 40,
            top_k: 2,
            ..ModelConfig::preset("seed").unwrap()
        };
        let list = candidates(&PlanConfig::default().common(&odd), 20e3);
        assert!(!list.is_empty());
        for candidate in list {
            candidate.model.validate().unwrap();
            candidate.architecture().validate().unwrap();
        }
    }

    #[test]
    fn a_refit_keeps_the_body() {
        let common = ModelConfig::preset("memory").unwrap();
        let candidate = candidates(&common, 165e3).swap_remove(0);
        let smaller = candidate.refit(120e3).unwrap();
        assert!(smaller.bytes() <= 120e3 && smaller.bytes() > 100e3);
        assert_eq!((smaller.model.d_model, smaller.policy.clone()), (candidate.model.d_model, candidate.policy));
    }
}
