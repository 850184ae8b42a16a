//! The end of a run: packs the artifact, decodes and measures it, and writes the summary.

use super::continuations::sample;
use super::{ARTIFACT, Run, RunError, SUMMARY, folder};
use crate::config::Target;
use crate::corpus::sha256;
use crate::environment::Environment;
use crate::evaluate::evaluate_model;
use crate::export::pack;
use crate::ngram::NgramBaselines;
use crate::observer::{Event, Observer};
use crate::summary::{ArtifactSummary, Baselines, CodeHistogram, Continuations, Summary};
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::artifact::{Artifact, ArtifactError};
use resnet_bk_runtime::internal::model::Model;

/// Largest relative difference between the perplexities of the decoded artifact and the trained
/// model. Both compute the same, except for the order of the head's sums and, with a tile unit,
/// their number format.
const PARITY: f64 = 1e-4;

/// Packs the model, decodes and measures the file's bytes, then writes artifact and summary. A file
/// whose perplexity differs from the model's is not written.
///
/// What the artifact is compared with is measured beside it.
pub(super) fn finish(run: Run, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let packed = pack(&run.checkpoint.model)?;
    let valid = &run.text.streams.valid;
    let Run { candidates, text, checkpoint, .. } = &run;
    let causality = checkpoint.model.config.causality;
    let most_counted = run.request.recipe.corpus.ngram_tokens;
    // Events of another thread, which are passed on when all is measured.
    let mut events: Vec<Event> = Vec::new();
    let (measured, (ngrams, baselines)) = rayon::join(
        || measure(&packed, valid),
        || {
            rayon::join(
                || text.ngrams(most_counted, &mut events),
                || candidates.summarize(&checkpoint.history.stages, causality, valid),
            )
        },
    );
    events.iter().for_each(|event| observer.event(event));
    let (bytes, artifact, model) = measured?;
    let trained = run.checkpoint.history.stages.last().map_or(f64::NAN, |stage| stage.valid_perplexity);
    if !are_close(artifact.valid_perplexity, trained) {
        return Err(RunError::Parity { trained, decoded: artifact.valid_perplexity });
    }
    let (out, baselines) = (run.request.out.clone(), baselines?);
    let continuations = continuations(&run, &baselines, &model)?;
    let summary = Summary { continuations, ..summarize(run, artifact, ngrams?, baselines) };
    let json = serde_json::to_vec_pretty(&summary).expect("a summary is plain data");
    folder::write(&out.join(ARTIFACT), &bytes)?;
    folder::write(&out.join(SUMMARY), &json)?;
    Ok(summary)
}

/// Encodes an artifact, decodes it from its bytes and evaluates it.
fn measure(packed: &Artifact, valid: &[u32]) -> Result<(Vec<u8>, ArtifactSummary, Model), ArtifactError> {
    let (bytes, size_breakdown) = packed.encode()?;
    let decoded = Artifact::from_bytes(&bytes)?;
    let model = decoded.to_model();
    let summary = ArtifactSummary {
        bytes_total: bytes.len() as u64,
        bytes_weights: size_breakdown.weights_bytes(),
        valid_perplexity: evaluate_model(&model, valid).perplexity(),
        size_breakdown,
        sha256: sha256(&bytes),
        codes: CodeHistogram::of(&decoded),
    };
    Ok((bytes, summary, model))
}

/// Continuations by the best float model, where it is comparable, and by the artifact.
fn continuations(run: &Run, baselines: &Baselines, artifact: &Model) -> Result<Option<Continuations>, RunError> {
    if run.checkpoint.model.config.causality == Causality::Bidirectional || baselines.best.measured().is_none() {
        return Ok(None);
    }
    let Some((name, best)) = run.candidates.best_model(&run.checkpoint.history.stages)? else { return Ok(None) };
    let sampled = sample((&name, &best), artifact, &run.checkpoint.model.vocabulary, &run.text.streams.valid);
    Ok(Some(sampled.expect("both models are causal")))
}

/// Whether two perplexities are equal up to rounding. NaN equals nothing.
fn are_close(decoded: f64, trained: f64) -> bool {
    (decoded / trained - 1.0).abs() <= PARITY
}

fn summarize(run: Run, artifact: ArtifactSummary, ngrams: NgramBaselines, mut baselines: Baselines) -> Summary {
    let target = run.request.recipe.target;
    let vocabulary = &run.checkpoint.model.vocabulary;
    let text_bytes: usize = vocabulary.words().iter().map(|word| word.len() + 1).sum();
    baselines.correct_trained_to_end(artifact.valid_perplexity, ngrams.unigram);
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
        continuations: None,
        plan: run.checkpoint.history.plan.map(|plan| plan.summary),
        warnings: run.warnings.into_iter().chain(environment_warnings(&run.checkpoint.history.environments)).collect(),
        target_reached: None,
        artifact,
        baselines,
        ratio,
        ratio_with_vocabulary,
        loss,
        target,
    };
    summary.target_reached = target.has_goals().then(|| is_reached(&target, &summary));
    summary
}

/// One warning for each change of environment.
fn environment_warnings(environments: &[Environment]) -> Vec<String> {
    environments.windows(2).filter_map(|pair| pair[0].difference(&pair[1])).collect()
}

/// Whether all goals of the target are met. A goal whose baseline is missing is not met.
fn is_reached(target: &Target, summary: &Summary) -> bool {
    target.ratio.is_none_or(|least| summary.ratio.is_some_and(|ratio| ratio >= least))
        && target.max_loss.is_none_or(|most| summary.loss.is_some_and(|loss| loss <= most))
        && target.bytes.is_none_or(|most| summary.artifact.bytes_total <= most)
        && summary.worse_than_ngrams().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_equals_no_perplexity() {
        assert!(are_close(100.0, 100.005) && are_close(100.005, 100.0));
        assert!(!are_close(100.0, 100.02) && !are_close(100.02, 100.0));
        for (decoded, trained) in
            [(f64::NAN, 100.0), (100.0, f64::NAN), (f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY)]
        {
            assert!(!are_close(decoded, trained), "{decoded}, {trained}");
        }
    }
}
