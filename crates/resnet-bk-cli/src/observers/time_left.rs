//! The time that is left of a run, from the speed of its steps.
//!
//! ```text
//! stage   steps left x seconds per step + epochs left x seconds of an evaluation
//! run     that of the stage, and for each later one
//!         tokens x operations per token x seconds per operation + its evaluations
//! ```
//!
//! The work of later stages is known from the recipe ([`work`](resnet_bk::pipeline::work)), the tokens of
//! an epoch from the running stage. So the time of a later stage is an estimate.

use resnet_bk::observer::Event;
use resnet_bk::pipeline::{QUANTIZED_COST, StageWork};

/// Weight of the newest step in the averages.
pub const SMOOTHING: f64 = 0.1;
/// Steps and seconds after which the speed is known well enough for a prediction of the whole run, or
/// seconds that are enough for any number of steps.
const MEASURED: (usize, f64) = (5, 5.0);
const LONG_ENOUGH: f64 = 60.0;

/// The moving average of a number, from its newest value.
pub fn smoothed(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + SMOOTHING * (new - old))
}

/// The time that is left, in seconds.
#[derive(Clone, Debug)]
pub struct TimeLeft {
    work: Vec<StageWork>,
    /// With a given model, stages are numbered after those of the model.
    has_model: bool,
    processes: usize,
    /// Index of the running stage in `work`. `None` before the first.
    current: Option<usize>,
    /// `None` until the first epoch of a schedule in minutes has ended.
    epochs: Option<usize>,
    steps_per_epoch: usize,
    /// Steps that are done.
    done: usize,
    /// Steps and seconds of this stage in this session.
    measured: (usize, f64),
    seconds_per_step: Option<f64>,
    /// Whether the steps that were measured went through quantizers.
    is_quantized: bool,
    /// Seconds of the steps of the running epoch; `None` if its clock did not begin with it.
    epoch_steps: Option<f64>,
    /// Seconds of the stage at the end of the last epoch.
    epoch_began: f64,
    /// Seconds of the evaluation after an epoch.
    evaluation: f64,
    /// Seconds per floating-point operation, of all steps so far.
    speed: Option<f64>,
}

impl TimeLeft {
    /// For a run with this work, by this number of processes.
    pub fn new(work: Vec<StageWork>, has_model: bool, processes: usize) -> Self {
        Self {
            work,
            has_model,
            processes,
            current: None,
            epochs: None,
            steps_per_epoch: 1,
            done: 0,
            measured: (0, 0.0),
            seconds_per_step: None,
            is_quantized: false,
            epoch_steps: None,
            epoch_began: 0.0,
            evaluation: 0.0,
            speed: None,
        }
    }

    /// Takes an event into account.
    pub fn event(&mut self, event: &Event) {
        match *event {
            Event::StageStarted { stage, kind, epochs, minutes, steps_per_epoch, first_step, .. } => {
                let begin = self.current.map_or(0, |current| current + 1);
                let current = match self.has_model {
                    false => Some(stage - 1).filter(|&index| index < self.work.len()),
                    true => (begin..self.work.len()).find(|&index| self.work[index].kind == kind),
                };
                // The clock of a resumed stage, and of one with trials, does not begin here.
                let has_trials = current.is_some_and(|index| self.work[index].trial_tokens > 0);
                *self = Self {
                    current,
                    epochs: minutes.is_none().then_some(epochs),
                    steps_per_epoch: steps_per_epoch.max(1),
                    done: first_step,
                    epoch_steps: (first_step == 0 && !has_trials).then_some(0.0),
                    speed: self.speed,
                    ..Self::new(std::mem::take(&mut self.work), self.has_model, self.processes)
                };
                self.is_quantized = self.stage().is_some_and(|stage| stage.quantized == 1.0);
            }
            Event::EpochsPlanned { epochs, .. } => self.epochs = Some(epochs),
            Event::Quantized { .. } => (self.is_quantized, self.seconds_per_step) = (true, None),
            Event::Step { step, tokens_per_second, .. } => self.step(step, tokens_per_second),
            Event::EpochEnded { seconds, .. } => {
                if let Some(steps) = self.epoch_steps {
                    self.evaluation = (seconds - self.epoch_began - steps).max(0.0);
                }
                (self.epoch_began, self.epoch_steps) = (seconds, Some(0.0));
            }
            _ => {}
        }
    }

    fn step(&mut self, step: usize, tokens_per_second: f64) {
        self.done = step + 1;
        let Some(stage) = self.stage() else { return };
        let tokens = (stage.batch_tokens * self.processes) as f64;
        let (seconds, operations) = (tokens / tokens_per_second, tokens * stage.operations);
        self.measured = (self.measured.0 + 1, self.measured.1 + seconds);
        self.epoch_steps = self.epoch_steps.map(|steps| steps + seconds);
        // The first step of all is slow: memory is new.
        let is_first = self.measured.0 == 1 && self.speed.is_none();
        self.seconds_per_step =
            Some(if self.measured.0 == 2 { seconds } else { smoothed(self.seconds_per_step, seconds) });
        if !is_first && operations > 0.0 {
            let float = seconds / if self.is_quantized { QUANTIZED_COST } else { 1.0 };
            self.speed = Some(smoothed(self.speed, float / operations));
        }
    }

    /// The running stage.
    fn stage(&self) -> Option<&StageWork> {
        self.work.get(self.current?)
    }

    /// Seconds of the stage that are left. `None` before its first steps.
    pub fn of_stage(&self) -> Option<f64> {
        let stage = self.stage()?;
        let Some(epochs) = self.epochs else {
            return Some((60.0 * stage.minutes? - self.measured.1).max(0.0));
        };
        let steps = epochs * self.steps_per_epoch;
        let left = steps.saturating_sub(self.done) as f64;
        let slowdown =
            if self.is_quantized { 1.0 } else { stage.slowdown_after(self.done as f64 / steps.max(1) as f64) };
        let evaluations = epochs.saturating_sub(self.done.saturating_sub(1) / self.steps_per_epoch) as f64;
        Some(left * self.seconds_per_step? * slowdown + evaluations * self.evaluation)
    }

    /// Seconds of the run that are left, an estimate. `None` before the stage's first steps.
    pub fn of_run(&self) -> Option<f64> {
        let (stage, later) = (self.stage()?, self.work.get(self.current? + 1..)?);
        let of_stage = self.of_stage()?;
        if later.is_empty() {
            return Some(of_stage);
        }
        let tokens = (self.steps_per_epoch * stage.batch_tokens * self.processes) as f64;
        let speed = self.speed?;
        let of_later = |later: &StageWork| {
            let of_tokens = |tokens: f64| tokens * later.operations * speed * later.slowdown();
            let trials = of_tokens(later.trial_tokens as f64);
            match (later.minutes, later.epochs) {
                (Some(minutes), _) => trials + 60.0 * minutes,
                (None, epochs) => trials + epochs.unwrap_or(1) as f64 * (of_tokens(tokens) + self.evaluation),
            }
        };
        Some(of_stage + later.iter().map(of_later).sum::<f64>())
    }

    /// Seconds of the whole run, from the first steps of this session: those that are left and those of the
    /// running stage. `None` until enough was measured.
    pub fn of_all(&self) -> Option<f64> {
        let (steps, seconds) = self.measured;
        let is_measured = (steps >= MEASURED.0 && seconds >= MEASURED.1) || seconds >= LONG_ENOUGH;
        is_measured.then(|| Some(self.of_run()? + seconds))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk::config::StageKind;

    fn stage(kind: StageKind, epochs: usize, operations: f64, quantized: f64) -> StageWork {
        StageWork {
            kind,
            epochs: Some(epochs),
            minutes: None,
            batch_tokens: 100,
            trial_tokens: 0,
            operations,
            quantized,
        }
    }

    fn started(stage: usize, kind: StageKind, epochs: usize, first_step: usize) -> Event {
        Event::StageStarted { stage, kind, epochs, minutes: None, steps_per_epoch: 10, first_step, parameters: 1 }
    }

    /// A step of two seconds.
    fn step(time: &mut TimeLeft, steps: std::ops::Range<usize>) {
        for step in steps {
            let (loss, learning_rate, gradient_norm) = (1.0, 0.1, 1.0);
            time.event(&Event::Step { stage: 1, step, loss, learning_rate, gradient_norm, tokens_per_second: 50.0 });
        }
    }

    fn epoch_ended(time: &mut TimeLeft, epoch: usize, seconds: f64) {
        time.event(&Event::EpochEnded {
            stage: 1,
            epoch,
            train_loss: 1.0,
            valid_perplexity: 2.0,
            dev_perplexity: None,
            weights_bytes: None,
            seconds,
        });
    }

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6), "{found:?}, not {expected}");
    }

    #[test]
    fn a_stage_lasts_as_long_as_its_steps_and_evaluations() {
        let mut time = TimeLeft::new(vec![stage(StageKind::Train, 3, 6.0, 0.0)], false, 1);
        assert_eq!((time.of_stage(), time.of_run()), (None, None));
        time.event(&started(1, StageKind::Train, 3, 0));
        assert_eq!(time.of_stage(), None);
        step(&mut time, 0..4);
        close(time.of_stage(), 26.0 * 2.0);
        assert_eq!(time.of_all(), None, "four steps are too few");
        step(&mut time, 4..10);
        close(time.of_all(), 60.0);
        epoch_ended(&mut time, 1, 25.0);
        step(&mut time, 10..11);
        close(time.of_stage(), 19.0 * 2.0 + 2.0 * 5.0);
    }

    #[test]
    fn later_stages_take_as_long_as_their_operations() {
        let work = vec![
            stage(StageKind::Train, 1, 6.0, 0.0),
            stage(StageKind::Qat, 2, 6.0, 1.0),
            StageWork { epochs: None, minutes: Some(3.0), ..stage(StageKind::Distill, 1, 3.0, 0.5) },
        ];
        let mut time = TimeLeft::new(work, false, 1);
        time.event(&started(1, StageKind::Train, 1, 0));
        step(&mut time, 0..10);
        close(time.of_run(), 2.0 * 20.0 * QUANTIZED_COST + 180.0);
        epoch_ended(&mut time, 1, 20.0);
        // A stage whose quantizers are there from the beginning is measured with them.
        time.event(&started(2, StageKind::Qat, 2, 0));
        step(&mut time, 0..5);
        close(time.of_stage(), 15.0 * 2.0);
        close(time.of_run(), 15.0 * 2.0 + 180.0);
    }

    #[test]
    fn steps_slow_down_when_quantizers_come_in() {
        let mut time = TimeLeft::new(vec![stage(StageKind::Distill, 2, 6.0, 0.5)], false, 1);
        time.event(&started(1, StageKind::Distill, 2, 0));
        step(&mut time, 0..10);
        close(time.of_stage(), 10.0 * 2.0 * QUANTIZED_COST);
        time.event(&Event::Quantized { stage: 1, calibration_samples: 0 });
        step(&mut time, 10..12);
        close(time.of_stage(), 8.0 * 2.0);
    }

    #[test]
    fn a_resumed_stage_counts_what_is_left_of_it() {
        let work = vec![stage(StageKind::Train, 1, 6.0, 0.0), stage(StageKind::Prune, 4, 6.0, 0.0)];
        for has_model in [false, true] {
            let mut time = TimeLeft::new(work.clone(), has_model, 1);
            time.event(&started(if has_model { 7 } else { 2 }, StageKind::Prune, 4, 20));
            step(&mut time, 20..25);
            close(time.of_run(), 15.0 * 2.0);
            // The time of the whole first epoch is not known.
            epoch_ended(&mut time, 3, 1_000.0);
            close(time.of_run(), 15.0 * 2.0);
        }
    }
}
