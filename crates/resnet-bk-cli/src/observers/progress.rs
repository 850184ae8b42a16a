//! Progress of a run: a bar if stderr is a terminal, and one line per epoch.

use crate::printer::{grouped, note, percent, perplexity, seconds};
use crate::tables::mark;
use indicatif::{ProgressBar, ProgressStyle};
use resnet_bk::config::StageKind;
use resnet_bk::observer::{Event, Observer};
use resnet_bk_runtime::internal::architecture::Causality;
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Weight of the newest step in the averages of loss and speed.
const SMOOTHING: f64 = 0.1;

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

    /// Prints a line on stderr above the bar.
    fn note(&self, line: &str) {
        match self.get().as_ref() {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }
}

/// Shows the events of a run on stderr.
pub struct Progress {
    causality: Causality,
    is_terminal: bool,
    bar: Bar,
    stage: Stage,
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
}

impl Stage {
    /// An epoch, with the number of all if it is known.
    fn epoch(&self, epoch: usize) -> String {
        self.epochs.map_or_else(|| epoch.to_string(), |epochs| format!("{epoch}/{epochs}"))
    }
}

impl Progress {
    /// Progress of a run whose model has this causality; perplexities are marked with it.
    pub fn new(causality: Causality) -> Self {
        let stage = Stage {
            number: 0,
            kind: StageKind::Train,
            epochs: None,
            steps_per_epoch: 1,
            loss: None,
            tokens_per_second: None,
        };
        Self { causality, is_terminal: stderr().is_terminal(), bar: Bar::default(), stage }
    }

    /// The bar.
    pub fn bar(&self) -> Bar {
        self.bar.clone()
    }

    fn say(&self, message: &str) {
        self.bar.note(&format!("stage {} {}: {message}", self.stage.number, self.stage.kind));
    }

    fn start(&mut self, first_step: usize) {
        if !self.is_terminal {
            return;
        }
        let steps = self.stage.epochs.unwrap_or(1) * self.stage.steps_per_epoch;
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} steps, {msg}{eta} left")
            .expect("a valid template")
            .progress_chars("=> ");
        let bar = ProgressBar::new(steps as u64).with_style(style);
        bar.set_prefix(format!("stage {} {}", self.stage.number, self.stage.kind));
        bar.set_position(first_step as u64);
        // Estimate the remaining time from the steps of this session only.
        bar.reset_eta();
        // Update the clock while held-out text is measured.
        bar.enable_steady_tick(Duration::from_millis(500));
        *self.bar.get() = Some(bar);
    }

    fn step(&mut self, step: usize, loss: f64, tokens_per_second: f64) {
        let shown = self.bar.get();
        let Some(bar) = shown.as_ref() else { return };
        let smooth = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old + SMOOTHING * (new - old)));
        self.stage.loss = smooth(self.stage.loss, loss);
        self.stage.tokens_per_second = smooth(self.stage.tokens_per_second, tokens_per_second);
        bar.set_message(format!(
            "epoch {}, loss {:.3}, {:.0} tokens/s, ",
            self.stage.epoch(step / self.stage.steps_per_epoch.max(1) + 1),
            self.stage.loss.unwrap_or(loss),
            self.stage.tokens_per_second.unwrap_or(tokens_per_second),
        ));
        bar.set_position(step as u64 + 1);
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) {
        match event {
            &Event::StageStarted { stage, kind, epochs, minutes, steps_per_epoch, first_step, parameters } => {
                let known = minutes.is_none().then_some(epochs);
                self.stage =
                    Stage { number: stage, kind, epochs: known, steps_per_epoch, loss: None, tokens_per_second: None };
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
            } => self.say(&format!(
                "epoch {}, loss {train_loss:.4}, {}valid perplexity {}{}{}, {} s",
                self.stage.epoch(epoch),
                dev_perplexity.map_or(String::new(), |dev| format!("dev perplexity {}, ", perplexity(dev))),
                perplexity(valid_perplexity),
                mark(self.causality),
                weights_bytes.map_or(String::new(), |bytes| format!(", {} bytes of weights", grouped(bytes))),
                seconds(time),
            )),
            Event::ModelMeasured { .. } | Event::SizeMeasured { .. } => {}
            Event::Warning { message } => self.bar.note(&format!("warning: {message}")),
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
                    "round {}, trial {trial}/{trials}: perplexity {} in {} bytes: {}",
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
