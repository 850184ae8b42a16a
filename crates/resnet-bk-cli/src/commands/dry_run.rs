//! `--dry-run` of `train` and `compress`: what a run will be, without the run.

use crate::Outcome;
use crate::printer::{Printer, Table, duration, grouped};
use crate::tables::tokens_of;
use anyhow::Result;
use resnet_bk::pipeline::{Forecast, StageForecast};

/// Prints a forecast.
pub fn print(forecast: &Forecast, json: bool, printer: &mut Printer) -> Result<Outcome> {
    if json {
        printer.json(forecast)?;
        return Ok(Outcome::Done);
    }
    printer.line(stages(forecast))?;
    printer.line("")?;
    for (name, fact) in facts(forecast) {
        printer.line(format_args!("{name:<10}  {fact}"))?;
    }
    Ok(Outcome::Done)
}

/// One row per stage.
fn stages(forecast: &Forecast) -> Table {
    let mut table = Table::new([
        "stage",
        "epochs",
        "steps",
        "tokens",
        "parameters",
        "bytes in float32",
        "bytes to reach",
        "memory, at least",
        "ms a step",
        "time",
    ]);
    for stage in &forecast.stages {
        table.row([
            format!("{} {}", stage.stage, stage.kind),
            stage.epochs.to_string(),
            grouped(stage.steps as u64),
            grouped(stage.tokens as u64),
            grouped(stage.parameters as u64),
            grouped(stage.float32_bytes),
            stage.weights_bytes.map_or(String::new(), grouped),
            megabytes(stage.memory_bytes),
            format!("{:.1}", stage.step_ms),
            duration(stage.seconds),
        ]);
    }
    table
}

/// Further facts: a name and a sentence each.
fn facts(forecast: &Forecast) -> Vec<(&'static str, String)> {
    let mut facts = vec![("text", tokens_of(&forecast.corpus))];
    let searching = forecast.stages.iter().find(|stage| stage.trials > 0);
    if let Some(StageForecast { stage, trials, trial_tokens, .. }) = searching {
        facts.push((
            "plan",
            format!(
                "stage {stage} trains {trials} trials on {} tokens in all; its row is that of the largest candidate",
                grouped(*trial_tokens as u64)
            ),
        ));
    }
    let target = forecast.target;
    let mut goals: Vec<String> = Vec::new();
    goals.extend(target.ratio.map(|ratio| format!("{ratio}x smaller than {}", target.against)));
    goals.extend(target.bytes.map(|bytes| format!("a file of at most {} bytes", grouped(bytes))));
    goals.extend(target.max_loss.map(|loss| format!("perplexity at most {:.1} % higher", 100.0 * loss)));
    if !goals.is_empty() {
        let bytes = match forecast.target_weights_bytes {
            None => String::new(),
            Some(0) => {
                "; that cannot be met: the vocabulary and the rest of the file leave nothing for the weights".to_owned()
            }
            Some(bytes) => format!("; that leaves about {} bytes for the weights", grouped(bytes)),
        };
        facts.push(("target", format!("{}{bytes}", goals.join(", "))));
    }
    let available =
        forecast.available_bytes.map_or(String::new(), |available| format!("; {} are available", megabytes(available)));
    facts.push(("memory", format!("at least {}{available}", megabytes(forecast.memory_bytes))));
    if let Some(bytes) = forecast.stages.iter().filter_map(|stage| stage.device_bytes).max() {
        facts.push(("GPU memory", format!("{} in the timed steps", megabytes(bytes))));
    }
    facts.push((
        "time",
        format!(
            "about {} on {}, from a few steps of each stage; n-gram baselines, packing and the report come on top",
            duration(forecast.seconds),
            match forecast.processes {
                1 => forecast.device.clone(),
                processes => format!("{processes} processes, this one on {}", forecast.device),
            }
        ),
    ));
    facts.extend(forecast.warnings.iter().map(|warning| ("warning", warning.clone())));
    facts
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", grouped(bytes.div_ceil(1_000_000)))
}
