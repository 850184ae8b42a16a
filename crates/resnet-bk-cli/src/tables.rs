//! What a summary says, as rows of text. The terminal and the page show the same.

use crate::printer::{Table, change, grouped, percent, perplexity, ratio, seconds};
use resnet_bk::summary::{PlanSummary, StageSummary, Summary};
use resnet_bk_runtime::architecture::Causality;
use resnet_bk_runtime::artifact::Ledger;

/// How the perplexity of a model that sees the future is labelled.
pub const NOT_CAUSAL: &str = "not a causal perplexity";

/// The mark after every perplexity of a bidirectional model.
pub fn mark(causality: Causality) -> &'static str {
    match causality {
        Causality::Causal => "",
        Causality::Bidirectional => " (not causal)",
    }
}

/// One row a stage, and the artifact's.
pub fn stages(summary: &Summary) -> Table {
    let mut table =
        Table::new(["stage", "parameters", "bytes of weights", "ratio", "valid perplexity", "change", "seconds"]);
    let baseline = &summary.baseline;
    let mark = mark(summary.causality);
    let row = |name: String, parameters: String, bytes: u64, valid: f64, time: f64| {
        [
            name,
            parameters,
            grouped(bytes),
            ratio(baseline.float32_bytes as f64 / bytes as f64),
            format!("{}{mark}", perplexity(valid)),
            change(valid / baseline.valid_perplexity - 1.0),
            seconds(time),
        ]
    };
    for stage in &summary.stages {
        let name = format!("{} {}", stage.stage, stage.kind);
        table.row(row(name, parameters(stage), stage.weights_bytes, stage.valid_perplexity, stage.seconds));
    }
    let artifact = &summary.artifact;
    let last = summary.stages.last().map_or_else(|| grouped(baseline.parameters as u64), parameters);
    let name = "model.rbk".to_owned();
    table.row(row(name, last, artifact.bytes_weights, artifact.valid_perplexity, summary.seconds));
    table
}

/// Trained parameters, and how many of them pruning leaves.
fn parameters(stage: &StageSummary) -> String {
    let (all, left) = (grouped(stage.parameters as u64), grouped(stage.nonzero_parameters as u64));
    if stage.nonzero_parameters == stage.parameters { all } else { format!("{left} of {all}") }
}

/// What is known besides: a name and a sentence each.
pub fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let artifact = &summary.artifact;
    let mark = mark(summary.causality);
    let mut facts = vec![
        (
            "corpus",
            format!(
                "{}: {} tokens to train on, {} held out, {} words",
                summary.corpus.name,
                grouped(summary.corpus.train_tokens as u64),
                grouped(summary.corpus.valid_tokens as u64),
                grouped(summary.corpus.vocab_size as u64),
            ),
        ),
        (
            "baseline",
            format!(
                "{} parameters, {} bytes in float32, valid perplexity {}{mark}",
                grouped(summary.baseline.parameters as u64),
                grouped(summary.baseline.float32_bytes),
                perplexity(summary.baseline.valid_perplexity),
            ),
        ),
        (
            "artifact",
            format!(
                "{} bytes, {} of them weights; decoded, valid perplexity {}{mark}",
                grouped(artifact.bytes_total),
                grouped(artifact.bytes_weights),
                perplexity(artifact.valid_perplexity),
            ),
        ),
        (
            "ratio",
            format!(
                "{} by weights, {} with the vocabulary on both sides",
                ratio(summary.ratio),
                ratio(summary.ratio_with_vocabulary),
            ),
        ),
        (
            "n-gram baselines",
            format!(
                "unigram {}, bigram {}, trigram {} (modified Kneser-Ney)",
                perplexity(summary.ngrams.unigram),
                perplexity(summary.ngrams.bigram),
                perplexity(summary.ngrams.trigram),
            ),
        ),
    ];
    if summary.causality == Causality::Bidirectional {
        facts.push(("not causal", format!("the model sees the tokens that it should predict: {NOT_CAUSAL}")));
    }
    if let Some(plan) = &summary.plan {
        let (predicted, bytes) = (plan.predicted_bytes, artifact.bytes_weights);
        facts.push((
            "plan",
            format!(
                "{} trials; {}: {} bytes of weights predicted, {} found ({})",
                plan.trials.len(),
                plan.trials[plan.chosen].student,
                grouped(predicted),
                grouped(bytes),
                change(bytes as f64 / predicted as f64 - 1.0),
            ),
        ));
    }
    facts.push(("target", target(summary)));
    facts
}

/// The target, and whether each part of it was reached.
pub fn target(summary: &Summary) -> String {
    let mut parts = Vec::new();
    if let Some(wanted) = summary.target.ratio {
        let state = if summary.ratio >= wanted { "reached" } else { "missed" };
        parts.push(format!("ratio of at least {wanted}x {state} with {}", ratio(summary.ratio)));
    }
    if let Some(allowed) = summary.target.max_loss {
        let state = if summary.loss <= allowed { "kept" } else { "missed" };
        parts.push(format!("perplexity loss of at most {} {state} with {}", percent(allowed), change(summary.loss)));
    }
    if let Some(most) = summary.target.bytes {
        let state = if summary.artifact.bytes_total <= most { "kept" } else { "missed" };
        parts.push(format!("at most {} bytes {state} with {}", grouped(most), grouped(summary.artifact.bytes_total)));
    }
    if parts.is_empty() { "none was set".to_owned() } else { parts.join("; ") }
}

/// What was missed and by how much; empty where the target was reached.
pub fn missed(summary: &Summary) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(wanted) = summary.target.ratio.filter(|&wanted| summary.ratio < wanted) {
        let factor = wanted / summary.ratio;
        parts.push(format!(
            "the ratio is {}, but {wanted}x was asked for: the weights are {factor:.2} times too large",
            ratio(summary.ratio),
        ));
    }
    if let Some(allowed) = summary.target.max_loss.filter(|&allowed| summary.loss > allowed) {
        let over = 100.0 * (summary.loss - allowed);
        parts.push(format!(
            "the perplexity loss is {}, but at most {} was asked for: {over:.1} points too much",
            change(summary.loss),
            percent(allowed),
        ));
    }
    if let Some(most) = summary.target.bytes.filter(|&most| summary.artifact.bytes_total > most) {
        let over = grouped(summary.artifact.bytes_total - most);
        parts.push(format!("the file has {over} bytes more than the {} that were asked for", grouped(most)));
    }
    parts
}

/// The planner's trials; those of the front are marked.
pub fn trials(plan: &PlanSummary) -> Table {
    let mut table = Table::new(["round", "student", "tokens", "bytes of weights", "perplexity", ""]);
    let front = plan.front();
    for (index, trial) in plan.trials.iter().enumerate() {
        let mark = match index {
            index if index == plan.chosen => "chosen",
            index if front.contains(&index) => "front",
            _ => "",
        };
        table.row([
            trial.round.to_string(),
            trial.student.clone(),
            grouped(trial.tokens as u64),
            grouped(trial.bytes),
            perplexity(trial.perplexity),
            mark.to_owned(),
        ]);
    }
    table
}

/// Bytes by part and use, and their sums.
pub fn ledger(ledger: &Ledger) -> Table {
    let mut table = Table::new(["part", "kind", "bytes", "share"]);
    let total = ledger.total_bytes();
    let share = |bytes: u64| format!("{:.1} %", 100.0 * bytes as f64 / total.max(1) as f64);
    for entry in &ledger.entries {
        let kind = format!("{:?}", entry.kind).to_lowercase();
        table.row([entry.part.clone(), kind, grouped(entry.bytes), share(entry.bytes)]);
    }
    let weights = ledger.weights_bytes();
    table.row(["weights".to_owned(), "sum".to_owned(), grouped(weights), share(weights)]);
    table.row(["file".to_owned(), "sum".to_owned(), grouped(total), share(total)]);
    table
}
