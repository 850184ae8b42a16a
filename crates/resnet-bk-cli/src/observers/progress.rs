//! Progress of a run on stderr: a bar or lines for people, events as JSON for programs, or warnings
//! alone.

use super::time_left::smoothed;
use super::{ProgressMode, TimeLeft, Warnings};
use crate::printer::{duration, grouped, json_note, note, percent, perplexity, seconds};
use crate::tables::mark;
use indicatif::{ProgressBar, ProgressStyle};
use resnet_bk::config::StageKind;
use resnet_bk::observer::{Event, Observer};
use resnet_bk_runtime::internal::architecture::Causality;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time without a line after which a step is told in one.
const RHYTHM: Duration = Duration::from_secs(30);
/// A run on a processor that takes longer says how long at its beginning.
const LONG_RUN: f64 = 30.0 * 60.0;

/// The bar of the running stage, if shown. It is shared, so that others can clear the line.
#[derive(Clone, Default)]
pub struct Bar(Arc<Mutex<Option<ProgressBar>>>);

impl Bar {
    /// Removes the bar from the screen.
    pub fn clear(&self) {
        if let Some(bar) = self.get().take() {
            bar.finish_and_clear();
        }
    }

    fn get(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints on stderr, above the bar.
    fn above(&self, print: impl FnOnce()) {
        match self.get().as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Shows the events of a run on stderr.
pub struct Progress {
    mode: ProgressMode,
    causality: Causality,
    bar: Bar,
    stage: Stage,
    time_left: TimeLeft,
    /// Whether to say how long the run takes, if it is long.
    warns_of_length: bool,
    last_line: Instant,
}

/// The running stage.
struct Stage {
    number: usize,
    kind: StageKind,
    /// `None` until the first epoch of a schedule in minutes has ended.
    epochs: Option<usize>,
    steps_per_epoch: usize,
    loss: Option<f64>,
    tokens_per_second: Option<f64>,
    /// Perplexity of the held-out text after the last epoch of this session.
    valid_perplexity: Option<f64>,
}

impl Stage {
    /// An epoch, with the number of all if it is known.
    fn epoch(&self, epoch: usize) -> String {
        self.epochs.map_or_else(|| epoch.to_string(), |epochs| format!("{epoch}/{epochs}"))
    }
}

impl Progress {
    /// Progress of a run whose model has this causality; perplexities are marked with it. A long run on a
    /// processor says how long it takes.
    pub fn new(mode: ProgressMode, causality: Causality, time_left: TimeLeft, is_on_cpu: bool) -> Self {
        let stage = Stage {
            number: 0,
            kind: StageKind::Train,
            epochs: None,
            steps_per_epoch: 1,
            loss: None,
            tokens_per_second: None,
            valid_perplexity: None,
        };
        let (bar, last_line) = (Bar::default(), Instant::now());
        Self { mode, causality, bar, stage, time_left, warns_of_length: is_on_cpu, last_line }
    }

    /// The bar.
    pub fn bar(&self) -> Bar {
        self.bar.clone()
    }

    fn say(&mut self, message: &str) {
        let line = format!("stage {} {}: {message}", self.stage.number, self.stage.kind);
        self.bar.above(|| note(&line));
        self.last_line = Instant::now();
    }

    fn start(&mut self, first_step: usize) {
        if self.mode != ProgressMode::Bar {
            return;
        }
        let steps = self.stage.epochs.unwrap_or(1) * self.stage.steps_per_epoch;
        let style = ProgressStyle::with_template("{prefix} [{bar:16}] {pos}/{len} steps{wide_msg}")
            .expect("a valid template")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps as u64).with_style(style);
        bar.set_prefix(format!("stage {} {}", self.stage.number, self.stage.kind));
        bar.set_position(first_step as u64);
        bar.tick();
        *self.bar.get() = Some(bar);
    }

    fn step(&mut self, step: usize, loss: f64, tokens_per_second: f64) {
        self.stage.loss = Some(smoothed(self.stage.loss, loss));
        self.stage.tokens_per_second = Some(smoothed(self.stage.tokens_per_second, tokens_per_second));
        if let Some(all) = self.time_left.of_all().filter(|_| self.warns_of_length) {
            self.warns_of_length = false;
            if let Some(warning) = length_warning(all) {
                self.bar.above(|| note(&warning));
            }
        }
        if let Some(bar) = self.bar.get().as_ref() {
            bar.set_message(format!("{}, {}", self.left(), self.state(step)));
            bar.set_position(step as u64 + 1);
        } else if self.last_line.elapsed() >= RHYTHM {
            let steps = self.stage.epochs.map_or(String::new(), |epochs| {
                format!(" of {}", grouped((epochs * self.stage.steps_per_epoch) as u64))
            });
            self.say(&format!("step {}{steps}, {}{}", grouped(step as u64 + 1), self.state(step), self.left()));
        }
    }

    /// Epoch, loss, perplexity and speed after a step.
    fn state(&self, step: usize) -> String {
        let Stage { loss, tokens_per_second, valid_perplexity, .. } = &self.stage;
        format!(
            "epoch {}, loss {:.3}{}, {} tokens/s",
            self.stage.epoch(step / self.stage.steps_per_epoch.max(1) + 1),
            loss.unwrap_or(f64::NAN),
            valid_perplexity.map_or(String::new(), |valid| format!(
                ", valid perplexity {}{}",
                perplexity(valid),
                mark(self.causality)
            )),
            grouped(tokens_per_second.unwrap_or(0.0) as u64),
        )
    }

    /// The time that is left of the stage and of the run, as far as it is known.
    fn left(&self) -> String {
        match (self.time_left.of_stage(), self.time_left.of_run()) {
            (Some(stage), Some(run)) if run > stage => {
                format!(", {} left, about {} left of the run", duration(stage), duration(run))
            }
            (Some(stage), _) => format!(", {} left", duration(stage)),
            _ => String::new(),
        }
    }
}

/// What to say before a run of this many seconds on a processor. `None` if it is short.
fn length_warning(seconds: f64) -> Option<String> {
    (seconds > LONG_RUN).then(|| {
        format!(
            "on this processor the run will take about {} (an estimate from its first steps); a GPU takes a small part of that",
            duration(seconds)
        )
    })
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        match (self.mode, event) {
            (ProgressMode::Json, event) => json_note(event),
            (ProgressMode::None, event) => Warnings(self.mode).event(event),
            (ProgressMode::Bar | ProgressMode::Lines, event) => {
                self.time_left.event(event);
                self.show(event);
            }
        }
    }
}

impl Progress {
    fn show(&mut self, event: &Event) {
        match event {
            &Event::StageStarted { stage, kind, epochs, minutes, steps_per_epoch, first_step, parameters } => {
                let known = minutes.is_none().then_some(epochs);
                self.stage = Stage {
                    number: stage,
                    kind,
                    epochs: known,
                    steps_per_epoch,
                    loss: None,
                    tokens_per_second: None,
                    valid_perplexity: None,
                };
                let from = if first_step > 0 { format!(", goes on from step {first_step}") } else { String::new() };
                let length = match (minutes, epochs) {
                    (Some(minutes), _) => format!("{minutes} minutes in epochs"),
                    (None, 1) => "1 epoch".to_owned(),
                    (None, epochs) => format!("{epochs} epochs"),
                };
                self.say(&format!("{parameters} parameters, {length} of {steps_per_epoch} steps{from}"));
                self.start(first_step);
            }
            &Event::Step { step, loss, tokens_per_second, .. } => self.step(step, loss, tokens_per_second),
            &Event::EpochsPlanned { epochs, seconds_per_epoch, .. } => {
                self.stage.epochs = Some(epochs);
                if let Some(bar) = self.bar.get().as_ref() {
                    bar.set_length((epochs * self.stage.steps_per_epoch) as u64);
                }
                self.say(&format!("{epochs} epochs, {} s each in float", seconds(seconds_per_epoch)));
            }
            &Event::EpochEnded {
                epoch,
                train_loss,
                valid_perplexity,
                dev_perplexity,
                weights_bytes,
                seconds: time,
                ..
            } => {
                self.stage.valid_perplexity = Some(valid_perplexity);
                self.say(&format!(
                    "epoch {}, loss {train_loss:.4}, {}valid perplexity {}{}{}, {} s",
                    self.stage.epoch(epoch),
                    dev_perplexity.map_or(String::new(), |dev| format!("dev perplexity {}, ", perplexity(dev))),
                    perplexity(valid_perplexity),
                    mark(self.causality),
                    weights_bytes.map_or(String::new(), |bytes| format!(", {} bytes of weights", grouped(bytes))),
                    seconds(time),
                ));
            }
            Event::ModelMeasured { .. } | Event::SizeMeasured { .. } => {}
            Event::Warning { message } => self.bar.above(|| self.mode.warning(message)),
            Event::ExpertRemoved(removal) => self.say(&format!(
                "expert {} of block {} {} before step {}: {} (used for {} of the training tokens)",
                removal.expert,
                removal.block,
                removal.merged_into.map_or("removed".to_owned(), |other| format!("merged into expert {other}")),
                removal.step,
                removal.reason,
                percent(removal.usage),
            )),
            &Event::WeightsMasked { sparsity, .. } => {
                self.say(&format!("{} of the matrices' weights held at zero", percent(sparsity)));
            }
            &Event::Quantized { calibration_samples, .. } if calibration_samples > 0 => {
                self.say(&format!("quantizers put in, calibrated on {calibration_samples} windows"));
            }
            Event::Quantized { .. } => self.say("quantizers put in"),
            &Event::BegunFromTeacher { stage, kind, energy, blocks } => {
                (self.stage.number, self.stage.kind) = (stage, kind);
                let copies = if blocks == 0 { String::new() } else { format!(", {blocks} of its blocks") };
                self.say(&format!(
                    "the student begins with {} of the energy of its teacher's rows, its bias{copies}",
                    percent(energy),
                ));
            }
            Event::TrialEnded { trial, trials, result, stage } => {
                (self.stage.number, self.stage.kind) = (*stage, StageKind::Plan);
                self.say(&format!(
                    "round {}, trial {trial}/{trials}: dev perplexity {} in {} bytes: {}",
                    result.round,
                    perplexity(result.perplexity),
                    grouped(result.bytes),
                    result.student,
                ));
            }
            &Event::StageEnded { stage, kind, valid_perplexity, seconds: time } => {
                self.bar.clear();
                (self.stage.number, self.stage.kind) = (stage, kind);
                self.say(&format!(
                    "done, valid perplexity {}{}, {} s",
                    perplexity(valid_perplexity),
                    mark(self.causality),
                    seconds(time),
                ));
            }
        }
    }
}

impl Drop for Progress {
    /// Otherwise the bar would stay below an error message.
    fn drop(&mut self) {
        self.bar.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_run_is_warned_of() {
        assert_eq!(length_warning(1_799.0), None);
        let warning = length_warning(50_000.0).expect("a warning");
        assert!(warning.starts_with("on this processor the run will take about 13 h 53 min"), "{warning}");
    }
}
