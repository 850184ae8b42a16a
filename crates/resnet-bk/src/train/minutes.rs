//! The number of epochs of a schedule in minutes, from the time of the first epoch.
//!
//! ```text
//! epochs = 1 + (minutes - time of the first epoch) / time of another one
//! ```
//!
//! A step's time is measured in the second half of the first epoch, because a GPU compiles and
//! records in the first half. Steps through quantizers take longer, see [`QUANTIZED_COST`].

use crate::config::Schedule;
use std::time::Instant;

/// Time of a step through quantizers, relative to one in float: 3.64 against 2.90 ms for a student on
/// an H100 (docs/gpu.md), and the measurements of rate control.
pub const QUANTIZED_COST: f64 = 1.3;
/// Most epochs, as in a recipe.
const MOST: usize = 1 << 20;

/// Clock of a stage that begins with its first epoch.
pub(super) struct FirstEpoch {
    began: Instant,
    steps: usize,
    /// When the second half began.
    middle: Instant,
    /// Seconds of a step in the second half.
    step: f64,
    trained: Instant,
}

impl FirstEpoch {
    /// Begins an epoch of this many steps.
    pub(super) fn begin(steps: usize) -> Self {
        let now = Instant::now();
        Self { began: now, steps, middle: now, step: 0.0, trained: now }
    }

    /// Whether the first half is done after this many steps.
    pub(super) fn is_middle(&self, done: usize) -> bool {
        done == self.steps / 2
    }

    /// Called when all steps so far are done.
    pub(super) fn done(&mut self, steps: usize) {
        let now = Instant::now();
        if self.is_middle(steps) {
            self.middle = now;
        } else if steps == self.steps {
            let measured = self.steps - self.steps / 2;
            (self.step, self.trained) = (now.duration_since(self.middle).as_secs_f64() / measured as f64, now);
        }
    }

    /// Number of epochs, and seconds of a later one in float, after the evaluation of the first.
    /// The stage is quantized after the share `quantizes_after` of its steps.
    pub(super) fn plan(&self, schedule: &Schedule, quantizes_after: Option<f64>) -> (usize, f64) {
        let steps = self.steps as f64 * self.step;
        let evaluation = self.trained.elapsed().as_secs_f64();
        // If the first epoch was quantized, its steps are as slow as the later ones.
        let quantized = quantizes_after.filter(|&share| share > 0.0).map_or(0.0, |share| 1.0 - share);
        let slower = 1.0 + (QUANTIZED_COST - 1.0) * quantized;
        let left = 60.0 * schedule.minutes.unwrap_or(0.0) - self.began.elapsed().as_secs_f64();
        (epochs(left, slower * steps + evaluation), steps + evaluation)
    }
}

/// Epochs for the seconds that are left after the first.
fn epochs(left: f64, seconds: f64) -> usize {
    // A quotient that is not finite or below 0 is cast to the nearest number.
    ((left / seconds.max(1e-9)) as usize).saturating_add(1).clamp(Schedule::LEAST_EPOCHS, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_time_that_is_left_is_divided_by_that_of_an_epoch() {
        assert_eq!(epochs(100.0, 9.0), 12);
        assert_eq!(epochs(-5.0, 9.0), Schedule::LEAST_EPOCHS);
        assert_eq!(epochs(f64::MAX, 0.0), MOST);
    }

    #[test]
    fn the_first_half_counts_as_time_but_not_for_later_epochs() {
        let schedule = Schedule { epochs: None, minutes: Some(1.0), ..Schedule::default() };
        let mut first = FirstEpoch::begin(5);
        let ago = |seconds: u64| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the clock runs");
        // 30 seconds for the first two steps, 3 for the other three, 2 for the evaluation.
        (first.began, first.middle) = (ago(35), ago(3));
        assert!(first.is_middle(2));
        first.done(5);
        first.trained = ago(2);
        assert!((first.step - 1.0).abs() < 0.1, "{}", first.step);
        let (epochs, seconds) = first.plan(&schedule, None);
        assert!((seconds - 7.0).abs() < 0.5, "{seconds}");
        assert_eq!(epochs, 4);
        let two_minutes = Schedule { minutes: Some(2.0), ..schedule };
        assert_eq!(first.plan(&two_minutes, Some(1e-9)).0, 10, "quantizers go in at once after the first epoch");
        assert_eq!(first.plan(&two_minutes, Some(0.0)).0, 13, "the first epoch was through quantizers");
    }
}
