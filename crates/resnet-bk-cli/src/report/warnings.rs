//! Warnings about the figures, for the top of the page.

use crate::tables::NOT_CAUSAL;
use resnet_bk::summary::{Baseline, Summary};
use resnet_bk_runtime::internal::architecture::Causality;

/// The warnings, one sentence each, the most serious first.
pub fn warnings(summary: &Summary) -> Vec<String> {
    let mut warnings: Vec<String> = summary.worse_than_ngrams().into_iter().collect();
    if summary.causality == Causality::Bidirectional {
        warnings
            .push(format!("the model sees the tokens that it should predict: every perplexity here is {NOT_CAUSAL}"));
    }
    let baselines = &summary.baselines;
    // Name a model only once if it is both.
    let first = Some(("first", &baselines.first)).filter(|_| baselines.first != baselines.best);
    for (name, baseline) in first.into_iter().chain([("best float", &baselines.best)]) {
        match baseline {
            Baseline::Measured(model) if model.trained_to_end => {}
            Baseline::Measured(model) if model.epochs == 0 => warnings.push(format!(
                "the {name} model came as an artifact, which does not say how it was trained: if it was not trained to its end, the artifact \
                 of this run looks better beside it than it is"
            )),
            Baseline::Measured(_) => warnings.push(format!(
                "the {name} model was not trained to its end: its last epoch still gained, so the artifact looks better beside it than it is"
            )),
            Baseline::Missing { missing } => warnings.push(format!("the {name} model was not measured: {missing}")),
        }
    }
    warnings.extend(summary.warnings.iter().cloned());
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    #[test]
    fn every_reason_for_doubt_gives_a_warning() {
        let mut summary = summary();
        assert_eq!(warnings(&summary), [""; 0]);
        summary.ngrams.bigram = 200.0;
        summary.causality = Causality::Bidirectional;
        summary.warnings = vec!["the held-out text has 600 tokens only".to_owned()];
        let Baseline::Measured(first) = &mut summary.baselines.first else { panic!("a baseline") };
        first.trained_to_end = false;
        summary.baselines.best = Baseline::missing("another text");
        let said = warnings(&summary);
        for (warning, part) in
            said.iter().zip(["counting words", "not a causal", "not trained to its end", "another text", "600"])
        {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        assert_eq!(said.len(), 5);
    }

    #[test]
    fn a_model_that_is_first_and_best_gives_one_warning() {
        let mut summary = summary();
        let Baseline::Measured(mut model) = summary.baselines.first.clone() else { panic!("a baseline") };
        model.trained_to_end = false;
        (summary.baselines.first, summary.baselines.best) =
            (Baseline::Measured(model.clone()), Baseline::Measured(model));
        assert_eq!(warnings(&summary).len(), 1);
    }
}
