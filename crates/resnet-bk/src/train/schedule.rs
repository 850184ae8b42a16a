//! The course of a stage: its length, and the learning rate of each step.
//!
//! ```text
//! warm-up    rate = peak t / warm-up                        t = 1, 2, ... steps
//! then       rate = peak (m + (1 - m) (1 + cos(pi u)) / 2)  u from 0 to 1 over the rest of the phase
//! ```
//!
//! m is `min_lr_ratio`. The whole stage is one phase. With `restart`, there is a second phase from the
//! step on at which quantizers come in. Its peak is `restart` times the learning rate, and it has no
//! warm-up.
//!
//! The length of a schedule in minutes is not known in its first epoch, so nothing in that epoch
//! depends on it: the warm-up is a share of the first epoch, the rate then stays at the peak, and it
//! begins to fall with the second epoch. What happens after a share of the stage happens after the
//! first epoch.

use crate::config::{LearningRateShape, Schedule};

/// Number of steps of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Epochs; `None` in the first epoch of a schedule in minutes.
    pub epochs: Option<usize>,
    /// Steps at the beginning that do not depend on the number of epochs: those of the first epoch
    /// of a schedule in minutes, otherwise 0.
    pub open: usize,
}

impl Length {
    /// Length of a stage. `planned` is the number of epochs of a schedule in minutes, once it is
    /// known.
    pub fn new(schedule: &Schedule, steps_per_epoch: usize, planned: Option<usize>) -> Self {
        match schedule.known_epochs() {
            Some(epochs) => Self { steps_per_epoch, epochs: Some(epochs), open: 0 },
            None => Self { steps_per_epoch, epochs: planned, open: steps_per_epoch },
        }
    }

    /// Steps of the stage, if they are known.
    pub fn steps(&self) -> Option<usize> {
        self.epochs.map(|epochs| epochs * self.steps_per_epoch)
    }

    /// The step before which this share of the stage is done, at most the last one. `None` while it
    /// is not known; then it lies after the first epoch.
    pub fn step_after(&self, share: f64) -> Option<usize> {
        if share == 0.0 {
            return Some(0);
        }
        let steps = self.steps()?;
        Some(((share * steps as f64) as usize).max(self.open).min(steps - 1))
    }
}

/// Learning rate of a step, counted from 0. `quantized_after` is the share of the stage after which
/// quantizers come in, if they do.
pub fn learning_rate(schedule: &Schedule, step: usize, length: Length, quantized_after: Option<f64>) -> f64 {
    let (peak, position) = (schedule.learning_rate, step as f64 + 1.0);
    let restart = schedule.restart.zip(quantized_after.filter(|&share| share > 0.0));
    let restart = restart.and_then(|(factor, share)| Some((factor, length.step_after(share)?)));
    if let (Some((factor, begin)), Some(end)) = (restart, length.steps())
        && step >= begin
    {
        return falling(schedule, factor * peak, position - begin as f64, end as f64 - begin as f64);
    }
    let end = restart.map_or_else(|| length.steps(), |(_, begin)| Some(begin));
    let warmup_of = if length.open > 0 { Some(length.open) } else { length.steps() };
    let warmup = warmup_of.map_or(0.0, |steps| (schedule.warmup * steps as f64).ceil());
    if position < warmup {
        return peak * position / warmup;
    }
    let held = warmup.max(length.open as f64);
    match end {
        Some(end) if position >= held => falling(schedule, peak, position - held, end as f64 - held),
        _ => peak,
    }
}

/// Learning rate `position` steps after the peak, of `steps`.
fn falling(schedule: &Schedule, peak: f64, position: f64, steps: f64) -> f64 {
    match schedule.shape {
        LearningRateShape::Constant => peak,
        LearningRateShape::Cosine => {
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * (position / steps.max(1.0))).cos());
            peak * (schedule.min_lr_ratio + (1.0 - schedule.min_lr_ratio) * cosine)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let (epochs, learning_rate) = (Some(10), 1.0);
        Schedule { epochs, learning_rate, warmup: 0.1, min_lr_ratio: 0.1, ..Schedule::default() }
    }

    /// Rates of a stage with ten steps an epoch.
    fn rates(schedule: &Schedule, planned: Option<usize>, quantized_after: Option<f64>) -> Vec<f64> {
        let length = Length::new(schedule, 10, planned);
        let steps = length.steps().unwrap_or(10);
        (0..steps).map(|step| learning_rate(schedule, step, length, quantized_after)).collect()
    }

    #[test]
    fn rates_rise_then_fall_to_the_min_lr_ratio() {
        let rates_of = |schedule: &Schedule| rates(schedule, None, Some(0.5));
        let rates = rates_of(&schedule());
        assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[9] - 1.0).abs() < 1e-12);
        assert!(rates[..10].is_sorted() && rates[9..].is_sorted_by(|a, b| a >= b));
        assert!((rates[99] - 0.1).abs() < 1e-12);
        let constant = Schedule { shape: LearningRateShape::Constant, ..schedule() };
        assert_eq!(rates_of(&constant)[99], 1.0);
    }

    #[test]
    fn the_quantized_phase_has_a_cosine_of_its_own() {
        let restarting = Schedule { restart: Some(0.5), ..schedule() };
        let found = rates(&restarting, None, Some(0.6));
        assert!((found[9] - 1.0).abs() < 1e-12 && found[9..60].is_sorted_by(|a, b| a >= b));
        assert!((found[59] - 0.1).abs() < 1e-12, "the float phase falls to its end");
        assert!(found[60] > 0.49 && found[60] <= 0.5, "{}", found[60]);
        assert!(found[60..].is_sorted_by(|a, b| a >= b));
        assert!((found[99] - 0.05).abs() < 1e-12);
        // Without quantizers, or with them from the first step on, there is one phase.
        for without in [None, Some(0.0)] {
            assert_eq!(rates(&restarting, None, without), rates(&schedule(), None, None));
        }
    }

    #[test]
    fn the_first_epoch_of_a_schedule_in_minutes_does_not_depend_on_their_number() {
        let minutes = Schedule { epochs: None, minutes: Some(5.0), warmup: 0.4, restart: Some(0.5), ..schedule() };
        let unknown = rates(&minutes, None, Some(0.1));
        assert!((unknown[0] - 0.25).abs() < 1e-12);
        assert!(unknown[3..].iter().all(|&rate| rate == 1.0));
        for planned in [3, 8] {
            let known = rates(&minutes, Some(planned), Some(0.5));
            assert_eq!(known[..10], unknown);
            let begin = (5 * planned).max(10);
            assert!(known[10..begin].is_sorted_by(|a, b| a > b), "{known:?}");
            assert!((known[begin - 1] - 0.1).abs() < 1e-12 && known[begin] > 0.4);
            assert!((known[10 * planned - 1] - 0.05).abs() < 1e-12);
        }
    }

    #[test]
    fn a_share_of_a_schedule_in_minutes_lies_after_its_first_epoch() {
        let minutes = Schedule { epochs: None, minutes: Some(5.0), ..schedule() };
        let [unknown, known] = [None, Some(4)].map(|planned| Length::new(&minutes, 10, planned));
        assert_eq!([0.0, 0.1, 1.0].map(|share| unknown.step_after(share)), [Some(0), None, None]);
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(|share| known.step_after(share)), [Some(0), Some(10), Some(20), Some(39)]);
        let epochs = Length::new(&schedule(), 10, None);
        assert_eq!([0.0, 0.05, 1.0].map(|share| epochs.step_after(share)), [Some(0), Some(5), Some(99)]);
    }
}
