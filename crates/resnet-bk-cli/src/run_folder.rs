//! Reads `summary.json` and `metrics.jsonl` of a run.

use crate::failure::Failure;
use anyhow::{Context, Result};
use resnet_bk::config::StageKind;
use resnet_bk::observer::{Event, METRICS};
use resnet_bk::pipeline::{RECIPE, SUMMARY};
use resnet_bk::summary::Summary;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The log of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageLog {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// Step and loss in nats per token.
    pub losses: Vec<(usize, f64)>,
    /// Epoch, from 1, and perplexity of the held-out text.
    pub epochs: Vec<(usize, f64)>,
}

/// The summary of a finished run.
pub fn read_summary(run: &Path) -> Result<Summary> {
    let path = run.join(SUMMARY);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if run.is_file() => return Err(is_a_file(run, A_RUN).into()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(unfinished(run).into()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(
            format!("{} is not a sound summary: {error}", path.display()),
            "write it again with `resnet-bk compress --resume` and the same recipe, corpus and folder",
        )
        .into()
    })
}

/// What to pass where the folder of a run is needed.
const A_RUN: &str = "pass the folder that was given to `resnet-bk compress --out`";

/// A file where a folder is needed.
pub fn is_a_file(path: &Path, hint: &str) -> Failure {
    Failure::new(format!("{} is a file, but a folder is needed", path.display()), hint)
}

fn unfinished(run: &Path) -> Failure {
    if !run.exists() {
        return Failure::new(format!("there is no folder {}", run.display()), A_RUN);
    }
    if run.join(RECIPE).exists() {
        return Failure::new(
            format!("the run in {} is not finished: it has no {SUMMARY}", run.display()),
            "finish it with `resnet-bk compress --resume` and the same recipe, corpus and folder",
        );
    }
    Failure::new(format!("{} is not the folder of a run: it has no {SUMMARY}", run.display()), A_RUN)
}

/// The resolved recipe, if it exists.
pub fn read_recipe(run: &Path) -> Option<String> {
    fs::read_to_string(run.join(RECIPE)).ok()
}

/// The log, split by stage. Empty if there is no log.
pub fn read_metrics(run: &Path) -> Result<Vec<StageLog>> {
    let path = run.join(METRICS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut stages = Vec::new();
    // Text after the last line break is an incomplete line of an interrupted run.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (index, line) in whole.lines().enumerate() {
        let event: Event = serde_json::from_str(line).map_err(|error| {
            Failure::new(
                format!("{} line {}: {error}", path.display(), index + 1),
                format!("remove the line, or the file: the report is then drawn without it from {SUMMARY}"),
            )
        })?;
        add(&mut stages, &event);
    }
    Ok(stages)
}

/// Adds an event. When a stage is resumed, events after its last checkpoint are dropped.
fn add(stages: &mut Vec<StageLog>, event: &Event) {
    match *event {
        Event::StageStarted { stage, kind, steps_per_epoch, first_step, .. } => {
            stages.retain(|log| log.stage <= stage);
            match stages.last_mut() {
                Some(log) if log.stage == stage => {
                    log.losses.retain(|&(step, _)| step < first_step);
                    log.epochs.retain(|&(epoch, _)| epoch * steps_per_epoch <= first_step);
                }
                _ => stages.push(StageLog { stage, kind, steps_per_epoch, losses: Vec::new(), epochs: Vec::new() }),
            }
        }
        Event::Step { stage, step, loss, .. } => {
            if let Some(log) = stages.last_mut().filter(|log| log.stage == stage) {
                log.losses.push((step, loss));
            }
        }
        Event::EpochEnded { stage, epoch, valid_perplexity, .. } => {
            if let Some(log) = stages.last_mut().filter(|log| log.stage == stage) {
                log.epochs.push((epoch, valid_perplexity));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(stage: usize, first_step: usize) -> Event {
        let kind = if stage == 1 { StageKind::Train } else { StageKind::Qat };
        Event::StageStarted { stage, kind, epochs: 2, minutes: None, steps_per_epoch: 2, first_step, parameters: 9 }
    }

    fn step(stage: usize, step: usize, loss: f64) -> Event {
        Event::Step { stage, step, loss, learning_rate: 0.1, gradient_norm: 1.0, tokens_per_second: 1.0 }
    }

    fn ended(stage: usize, epoch: usize, valid_perplexity: f64) -> Event {
        Event::EpochEnded {
            stage,
            epoch,
            train_loss: 1.0,
            valid_perplexity,
            dev_perplexity: None,
            weights_bytes: None,
            seconds: 1.0,
        }
    }

    #[test]
    fn a_resumed_stage_replaces_lost_events() {
        let first = [started(1, 0), step(1, 0, 5.0), step(1, 1, 4.0), ended(1, 1, 50.0), step(1, 2, 9.0)];
        let resumed =
            [started(1, 2), step(1, 2, 3.0), step(1, 3, 2.0), ended(1, 2, 20.0), started(2, 0), step(2, 0, 1.0)];
        let mut stages = Vec::new();
        for event in first.iter().chain(&resumed) {
            add(&mut stages, event);
        }
        assert_eq!(stages.len(), 2);
        assert_eq!(stages[0].losses, [(0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0)]);
        assert_eq!(stages[0].epochs, [(1, 50.0), (2, 20.0)]);
        assert_eq!(stages[1].losses, [(0, 1.0)]);
    }

    #[test]
    fn an_incomplete_last_line_is_skipped_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read_metrics(folder.path()).expect("no log is an empty one"), []);
        let path = folder.path().join(METRICS);
        let line = serde_json::to_string(&started(1, 0)).expect("JSON");
        fs::write(&path, format!("{line}\n{{\"event\":\"st")).expect("written");
        assert_eq!(read_metrics(folder.path()).expect("readable").len(), 1);
        fs::write(&path, format!("{line}\nnonsense\n")).expect("written");
        assert!(read_metrics(folder.path()).expect_err("damaged").to_string().contains("metrics.jsonl line 2"));
    }
}
