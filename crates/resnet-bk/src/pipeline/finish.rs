//! The end of a run: the artifact, decoded again and measured, and the summary.

use super::{Run, RunError, folder};
use crate::config::Target;
use crate::environment::Environment;
use crate::evaluate::evaluate_model;
use crate::export::pack;
use crate::ngram::NgramBaselines;
use crate::summary::{ArtifactSummary, Summary};
use resnet_bk_runtime::internal::artifact::Artifact;

/// How far the decoded artifact's perplexity may be from the trained model's, relative: both
/// compute alike but for the order and, with a tile unit, the format of the head's sums.
const PARITY: f64 = 1e-4;

/// Packs the model, decodes and measures the file's bytes, and writes artifact and summary. A file
/// that does not predict as the model that it was packed from is not written.
pub(super) fn finish(run: Run) -> Result<Summary, RunError> {
    let bytes = pack(&run.checkpoint.model)?.to_bytes()?;
    let decoded = Artifact::from_bytes(&bytes)?;
    let size_breakdown = decoded.size_breakdown()?;
    let artifact = ArtifactSummary {
        bytes_total: bytes.len() as u64,
        bytes_weights: size_breakdown.weights_bytes(),
        valid_perplexity: evaluate_model(&decoded.to_model(), &run.text.streams.valid).perplexity(),
        size_breakdown,
    };
    let trained = run.checkpoint.history.stages.last().map_or(f64::NAN, |stage| stage.valid_perplexity);
    if !agrees(artifact.valid_perplexity, trained) {
        return Err(RunError::Parity { trained, decoded: artifact.valid_perplexity });
    }
    let out = run.request.out.clone();
    let summary = summarise(run, artifact)?;
    let json = serde_json::to_vec_pretty(&summary).expect("a summary is plain data");
    folder::write(&out.join("model.rbk"), &bytes)?;
    folder::write(&out.join("summary.json"), &json)?;
    Ok(summary)
}

/// Whether two perplexities are the same but for rounding. One that is not a number agrees with
/// none.
fn agrees(decoded: f64, trained: f64) -> bool {
    (decoded / trained - 1.0).abs() <= PARITY
}

fn summarise(run: Run, artifact: ArtifactSummary) -> Result<Summary, RunError> {
    let target = run.request.recipe.target;
    let vocabulary = &run.checkpoint.model.vocabulary;
    let text_bytes: usize = vocabulary.words().iter().map(|word| word.len() + 1).sum();
    // Every training token is counted, the dev slice too: the counts are to be as good as they can
    // be.
    let ngrams = NgramBaselines::measure(&run.text.tokens, &run.text.streams.valid, vocabulary.len())?;
    let mut baselines = run.candidates.summarise(
        &run.checkpoint.history.stages,
        run.checkpoint.model.config.causality,
        &run.text.streams.valid,
    )?;
    baselines.doubt(artifact.valid_perplexity, ngrams.unigram);
    let baseline = baselines.of(target.against).measured();
    let ratio = baseline.map(|baseline| baseline.weights_bytes as f64 / artifact.bytes_weights as f64);
    let ratio_with_vocabulary =
        baseline.map(|baseline| (baseline.weights_bytes + text_bytes as u64) as f64 / artifact.bytes_total as f64);
    let loss = baseline.map(|baseline| artifact.valid_perplexity / baseline.valid_perplexity - 1.0);
    let mut summary = Summary {
        ngrams,
        corpus: run.text.summary,
        environment: run.checkpoint.history.environments.last().cloned().unwrap_or(run.environment),
        causality: run.checkpoint.model.config.causality,
        seconds: run.checkpoint.history.stages.iter().map(|stage| stage.seconds).sum(),
        stages: run.checkpoint.history.stages,
        removals: run.checkpoint.history.removals,
        plan: run.checkpoint.history.plan.map(|plan| plan.summary),
        warnings: run.warnings.into_iter().chain(several(&run.checkpoint.history.environments)).collect(),
        target_reached: None,
        artifact,
        baselines,
        ratio,
        ratio_with_vocabulary,
        loss,
        target,
    };
    summary.target_reached = target.asks().then(|| is_reached(&target, &summary));
    Ok(summary)
}

/// A sentence for each time that the run was gone on with elsewhere.
fn several(environments: &[Environment]) -> Vec<String> {
    environments.windows(2).filter_map(|pair| pair[0].difference(&pair[1])).collect()
}

/// Whether all that was asked for is kept. What cannot be judged, for want of a baseline, is not.
fn is_reached(target: &Target, summary: &Summary) -> bool {
    target.ratio.is_none_or(|least| summary.ratio.is_some_and(|ratio| ratio >= least))
        && target.max_loss.is_none_or(|most| summary.loss.is_some_and(|loss| loss <= most))
        && target.bytes.is_none_or(|most| summary.artifact.bytes_total <= most)
        && summary.worse_than_counting().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_agrees_with_nothing() {
        assert!(agrees(100.0, 100.005) && agrees(100.005, 100.0));
        assert!(!agrees(100.0, 100.02) && !agrees(100.02, 100.0));
        for (decoded, trained) in
            [(f64::NAN, 100.0), (100.0, f64::NAN), (f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY)]
        {
            assert!(!agrees(decoded, trained), "{decoded}, {trained}");
        }
    }
}
