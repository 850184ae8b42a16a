//! Text tables of a summary, for the terminal and the page.

use crate::printer::{Table, change, grouped, percent, perplexity, ratio, seconds};
use resnet_bk::ngram::NgramBaselines;
use resnet_bk::pipeline::MANY_UNKNOWN;
use resnet_bk::summary::{Baseline, Baselines, CorpusSummary, PlanSummary, StageSummary, Summary};
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::artifact::SizeBreakdown;

/// Label of a bidirectional model's perplexity.
pub const NOT_CAUSAL: &str = "not a causal perplexity";

/// Name of a corpus, its tokens in each part, and its words.
pub fn tokens_of(corpus: &CorpusSummary) -> String {
    let dev = match corpus.dev_tokens {
        0 => String::new(),
        dev => format!(", {} more to choose by", grouped(dev as u64)),
    };
    format!(
        "{}: {} tokens to train on{dev}, {} held out, {} words",
        corpus.name,
        grouped(corpus.train_tokens as u64),
        grouped(corpus.valid_tokens as u64),
        grouped(corpus.vocab_size as u64),
    )
}

/// Mark after every perplexity of a bidirectional model.
pub fn mark(causality: Causality) -> &'static str {
    match causality {
        Causality::Causal => "",
        Causality::Bidirectional => " (not causal)",
    }
}

/// One row per stage, and one for the artifact.
pub fn stages(summary: &Summary) -> Table {
    let mut table =
        Table::new(["stage", "epochs", "total epochs", "parameters", "bytes if packed", "valid perplexity", "seconds"]);
    let mark = mark(summary.causality);
    for stage in &summary.stages {
        table.row([
            format!("{} {}", stage.stage, stage.kind),
            epochs(stage),
            stage.epochs_total.to_string(),
            parameters(stage),
            grouped(stage.weights_bytes),
            format!("{}{}", perplexity(stage.valid_perplexity), self::mark(stage.causality)),
            seconds(stage.seconds),
        ]);
    }
    let artifact = &summary.artifact;
    let last = summary.stages.last();
    table.row([
        "model.rbk".to_owned(),
        String::new(),
        last.map_or_else(String::new, |stage| stage.epochs_total.to_string()),
        last.map_or_else(String::new, parameters),
        grouped(artifact.bytes_weights),
        format!("{}{mark}", perplexity(artifact.valid_perplexity)),
        seconds(summary.seconds),
    ]);
    table
}

/// Epochs of a stage, and the kept epoch if it is not the last.
fn epochs(stage: &StageSummary) -> String {
    if stage.kept_epoch == stage.epochs {
        stage.epochs.to_string()
    } else {
        format!("{}, kept {}", stage.epochs, stage.kept_epoch)
    }
}

/// One row per baseline: the baseline, and how the artifact compares. Ratios against float32, with
/// those against bf16 beside them.
pub fn comparison(summary: &Summary) -> Table {
    let mut table = Table::new([
        "model.rbk compared with",
        "epochs seen",
        "bytes of weights",
        "ratio (fp32)",
        "ratio (bf16)",
        "valid perplexity",
        "model.rbk against it",
    ]);
    let (artifact, mark) = (&summary.artifact, mark(summary.causality));
    let Baselines { first, best, int8 } = &summary.baselines;
    let floats: &[(&str, &Baseline)] = if first == best {
        &[("first and best float model", first)]
    } else {
        &[("first model", first), ("best float model", best)]
    };
    let rows = floats.iter().map(|&(name, baseline)| (name, baseline, true));
    for (name, baseline, is_float) in rows.chain([("best, int8 after training", int8, false)]) {
        let Some(baseline) = baseline.measured() else { continue };
        let smaller = baseline.weights_bytes as f64 / artifact.bytes_weights as f64;
        let kind = if is_float { format!("{name}: {}", baseline.name) } else { name.to_owned() };
        table.row([
            baseline.doubt().map_or(kind.clone(), |doubt| format!("{kind}, {doubt}")),
            if baseline.epochs == 0 { "unknown".to_owned() } else { baseline.epochs.to_string() },
            grouped(baseline.weights_bytes),
            ratio(smaller),
            if is_float { ratio(smaller / 2.0) } else { String::new() },
            format!("{}{mark}", perplexity(baseline.valid_perplexity)),
            change(artifact.valid_perplexity / baseline.valid_perplexity - 1.0),
        ]);
    }
    let first =
        summary.ngrams.counted.map_or_else(String::new, |tokens| format!(" (first {} tokens)", grouped(tokens as u64)));
    for (name, count) in ngrams(summary) {
        let empty = String::new;
        table.row([
            format!("{name} baseline{first}"),
            empty(),
            empty(),
            empty(),
            empty(),
            perplexity(count),
            // A bidirectional model cannot be compared with causal n-gram baselines.
            match summary.causality {
                Causality::Causal => change(artifact.valid_perplexity / count - 1.0),
                Causality::Bidirectional => String::new(),
            },
        ]);
    }
    table
}

/// The n-gram baselines with their names, the strongest first.
pub fn ngrams(summary: &Summary) -> [(&'static str, f64); 3] {
    let NgramBaselines { unigram, bigram, trigram, .. } = summary.ngrams;
    [("trigram", trigram), ("bigram", bigram), ("unigram", unigram)]
}

/// Trained parameters, and the number that is not pruned.
fn parameters(stage: &StageSummary) -> String {
    let (all, left) = (grouped(stage.parameters as u64), grouped(stage.nonzero_parameters as u64));
    if stage.nonzero_parameters == stage.parameters { all } else { format!("{left} not zero, of {all}") }
}

/// Further facts: a name and a sentence each.
pub fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let (artifact, corpus) = (&summary.artifact, &summary.corpus);
    let mark = mark(summary.causality);
    let mut facts = vec![
        (
            "corpus",
            format!(
                "{}; unknown words: {} of the training tokens, {} of the held-out ones",
                tokens_of(corpus),
                percent(corpus.unknown_train),
                percent(corpus.unknown_valid),
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
    ];
    let against = summary.target.against;
    facts.push((
        "result",
        match (summary.ratio, summary.ratio_with_vocabulary, summary.loss) {
            (Some(by_weights), Some(with_vocabulary), Some(loss)) => format!(
                "{} smaller than {against}{} in float32 by weights, {} with the vocabulary on both sides; perplexity {}",
                ratio(by_weights),
                baseline_name(summary),
                ratio(with_vocabulary),
                change(loss),
            ),
            _ => format!("cannot be compared with {against}"),
        },
    ));
    let baselines = &summary.baselines;
    for (name, baseline) in [("first", &baselines.first), ("best float", &baselines.best), ("int8", &baselines.int8)] {
        if let Baseline::Missing { missing } = baseline {
            facts.push((name, format!("not measured: {missing}")));
        }
    }
    if matches!(baselines.first, Baseline::Missing { .. }) || matches!(baselines.best, Baseline::Missing { .. }) {
        facts.push(("hint", "--baseline CHECKPOINT supplies a float model".to_owned()));
    }
    facts.push((
        "n-grams",
        match summary.ngrams.counted {
            None => "models of the same tokens: unigram (add-one), bigram and trigram (modified Kneser-Ney)".to_owned(),
            Some(tokens) => format!(
                "unigram (add-one), bigram and trigram (modified Kneser-Ney) of the first {} training tokens only \
                 (corpus.ngram_tokens); of all {} they would predict better",
                grouped(tokens as u64),
                grouped((summary.corpus.train_tokens + summary.corpus.dev_tokens) as u64),
            ),
        },
    ));
    let environment = &summary.environment;
    facts.push((
        "made by",
        format!(
            "resnet-bk {} with {}{} thread{} on {}{}; head's products in {}",
            environment.version,
            match environment.processes {
                1 => String::new(),
                processes => format!("{processes} processes of "),
            },
            environment.threads,
            if environment.threads == 1 { "" } else { "s" },
            environment.processor,
            environment.gpu.as_ref().map_or(String::new(), |gpu| format!(", and {gpu}")),
            environment.precision,
        ),
    ));
    facts.extend(summary.warnings.iter().map(|warning| ("warning", warning.clone())));
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

/// The name of the target's baseline, in parentheses.
fn baseline_name(summary: &Summary) -> String {
    let baseline = summary.baselines.of(summary.target.against).measured();
    baseline.map_or(String::new(), |baseline| format!(" ({})", baseline.name))
}

/// Reservations that belong to a verdict.
pub fn reservations(summary: &Summary) -> String {
    let mut reservations = Vec::new();
    if summary.causality == Causality::Bidirectional {
        reservations.push(NOT_CAUSAL.to_owned());
    }
    if summary.corpus.unknown_valid > MANY_UNKNOWN {
        reservations
            .push(format!("{} of the held-out tokens are unknown words", percent(summary.corpus.unknown_valid)));
    }
    if reservations.is_empty() { String::new() } else { format!(" (but {})", reservations.join("; ")) }
}

/// The target, and whether each goal was reached.
pub fn target(summary: &Summary) -> String {
    let against = summary.target.against;
    let mut parts = Vec::new();
    if let Some(wanted) = summary.target.ratio {
        parts.push(match summary.ratio {
            Some(found) => {
                let state = if found >= wanted { "reached" } else { "missed" };
                format!("ratio of at least {wanted}x to {against} {state} with {}", ratio(found))
            }
            None => format!("ratio of at least {wanted}x not judged, for {against} is missing"),
        });
    }
    if let Some(allowed) = summary.target.max_loss {
        parts.push(match summary.loss {
            Some(loss) => {
                let state = if loss <= allowed { "kept" } else { "missed" };
                format!("perplexity loss of at most {} to {against} {state} with {}", percent(allowed), change(loss))
            }
            None => format!("perplexity loss of at most {} not judged, for {against} is missing", percent(allowed)),
        });
    }
    if let Some(most) = summary.target.bytes {
        let state = if summary.artifact.bytes_total <= most { "kept" } else { "missed" };
        parts.push(format!("at most {} bytes {state} with {}", grouped(most), grouped(summary.artifact.bytes_total)));
    }
    if parts.is_empty() {
        return "none, or the command does not check it".to_owned();
    }
    let goals = parts.join("; ");
    // A model that does not beat the n-gram baselines reaches no target.
    match summary.worse_than_ngrams() {
        None => format!("{goals}{}", reservations(summary)),
        Some(sentence) => format!("not reached: {sentence}; {goals}"),
    }
}

/// A factor above 1 as a difference, or as a factor from 2 on.
fn excess(factor: f64) -> String {
    if factor < 2.0 { percent(factor - 1.0) } else { format!("{factor:.1} times") }
}

/// The missed goals with the difference. Empty if the target was reached.
pub fn missed(summary: &Summary) -> Vec<String> {
    let against = summary.target.against;
    let mut parts = Vec::new();
    if let Some(wanted) = summary.target.ratio.filter(|&wanted| summary.ratio.is_none_or(|ratio| ratio < wanted)) {
        parts.push(match summary.ratio {
            Some(found) => format!(
                "the ratio to {against} is {}, but {wanted}x was asked for: the weights are {} too large",
                ratio(found),
                excess(wanted / found),
            ),
            None => format!("the ratio to {against} cannot be judged, for it is missing"),
        });
    }
    if let Some(allowed) = summary.target.max_loss.filter(|&allowed| summary.loss.is_none_or(|loss| loss > allowed)) {
        parts.push(match summary.loss {
            Some(loss) => format!(
                "the perplexity loss to {against} is {}, but at most {} was asked for: {:.1} points too much",
                change(loss),
                percent(allowed),
                100.0 * (loss - allowed),
            ),
            None => format!("the perplexity loss to {against} cannot be judged, for it is missing"),
        });
    }
    if let Some(most) = summary.target.bytes.filter(|&most| summary.artifact.bytes_total > most) {
        let over = grouped(summary.artifact.bytes_total - most);
        parts.push(format!("the file has {over} bytes more than the {} that were asked for", grouped(most)));
    }
    parts
}

/// Trials of the planner, with marks for those on the Pareto front.
pub fn trials(plan: &PlanSummary) -> Table {
    let mut table = Table::new(["round", "student", "tokens", "bytes of weights", "dev perplexity", ""]);
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
            trial.perplexity.map_or_else(|| "diverged".to_owned(), perplexity),
            mark.to_owned(),
        ]);
    }
    table
}

/// Bytes by part and use, with sums.
pub fn size_breakdown(size_breakdown: &SizeBreakdown) -> Table {
    let mut table = Table::new(["part", "kind", "bytes", "share"]);
    let total = size_breakdown.total_bytes();
    let share = |bytes: u64| format!("{:.1} %", 100.0 * bytes as f64 / total.max(1) as f64);
    for entry in &size_breakdown.entries {
        let kind = format!("{:?}", entry.kind).to_lowercase();
        table.row([entry.part.clone(), kind, grouped(entry.bytes), share(entry.bytes)]);
    }
    let weights = size_breakdown.weights_bytes();
    table.row(["weights".to_owned(), "sum".to_owned(), grouped(weights), share(weights)]);
    table.row(["file".to_owned(), "sum".to_owned(), grouped(total), share(total)]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_counting_beats_has_all_its_reasons() {
        let mut summary: Summary =
            serde_json::from_str(include_str!("../tests/data/run/summary.json")).expect("a summary");
        summary.ngrams.bigram = 200.0;
        let target = target(&summary);
        for reason in ["not reached: the model predicts this text no better", "x to the best float model missed with "]
        {
            assert!(target.contains(reason), "{target}");
        }
        assert_eq!(target.matches("missed with").count(), missed(&summary).len());
    }

    #[test]
    fn what_is_too_large_is_a_percentage_below_twice() {
        assert_eq!([1.004, 1.5, 2.0, 12.34].map(excess), ["0.4 %", "50 %", "2.0 times", "12.3 times"]);
    }
}
