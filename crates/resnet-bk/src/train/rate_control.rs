//! The price of a coded bit, and how it is steered to a size.
//!
//! A stage that keeps to a number of bytes measures the weights section every so often, by the
//! coder that writes it, and makes bits dearer while it is too long, cheaper while it is too short:
//! an integral of the excess, and a part that follows the excess itself, so that the size does not
//! swing.
//!
//! ```text
//! e = ln(bytes / goal), within +-LIMIT      ln base += INTEGRAL e      price = base exp(PROPORTIONAL e)
//! ```

use crate::config::Schedule;
use crate::export::weights_bytes;
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::artifact::ArtifactError;

/// Measurements in a stage of many steps, at least; each step of a shorter one is measured.
const MEASUREMENTS: usize = 200;
/// Largest excess that one measurement counts.
const LIMIT: f64 = 0.1;
const INTEGRAL: f64 = 2.0;
const PROPORTIONAL: f64 = 20.0;
/// Price to start from where the schedule has none, in nats of loss for a bit.
const FIRST: f64 = 1e-7;
/// Prices that are ever asked.
const RANGE: (f64, f64) = (1e-12, 1e-3);

/// The price in a running stage.
#[derive(Clone, Copy, Debug)]
pub struct RateControl {
    goal: Option<u64>,
    interval: usize,
    base: f64,
    price: f64,
    bytes: Option<u64>,
}

impl RateControl {
    /// The price at a stage's beginning.
    pub fn new(schedule: &Schedule, steps: usize) -> Self {
        let first = match schedule.weights_bytes {
            Some(_) if schedule.lambda == 0.0 => FIRST,
            _ => schedule.lambda,
        };
        Self {
            goal: schedule.weights_bytes,
            interval: (steps / MEASUREMENTS).max(1),
            base: first,
            price: first,
            bytes: None,
        }
    }

    /// Goes on from an interrupted stage's prices.
    pub fn restore(&mut self, (base, price): (f64, f64)) {
        (self.base, self.price) = (base, price);
    }

    /// What [`restore`](Self::restore) takes.
    pub fn state(&self) -> (f64, f64) {
        (self.base, self.price)
    }

    /// Bytes of the weights section at the last measurement.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// The price for a step, in nats of loss for each token and coded bit.
    ///
    /// # Errors
    /// A model that cannot be packed: it has values or scales that are not finite.
    pub fn for_step(&mut self, parameters: &Parameters, step: usize) -> Result<f64, ArtifactError> {
        let quantization = parameters.architecture().quantization.as_ref();
        let trained = quantization.is_some_and(|policy| policy.learned.is_some());
        if let (Some(goal), true, true) = (self.goal, trained, step.is_multiple_of(self.interval)) {
            self.measured(weights_bytes(parameters)?, goal);
        }
        Ok(self.price)
    }

    fn measured(&mut self, bytes: u64, goal: u64) {
        self.bytes = Some(bytes);
        let excess = (bytes as f64 / goal as f64).ln().clamp(-LIMIT, LIMIT);
        self.base = (self.base * (INTEGRAL * excess).exp()).clamp(RANGE.0, RANGE.1);
        self.price = self.base * (PROPORTIONAL * excess).exp();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steered(goal: u64) -> RateControl {
        RateControl::new(&Schedule { weights_bytes: Some(goal), ..Schedule::default() }, 1000)
    }

    /// A model of which a tenfold price takes a third, with a delay.
    #[test]
    fn a_size_is_steered_to_its_goal() {
        for goal in [60_000u64, 90_000, 140_000] {
            let mut price = steered(goal);
            let mut bytes = 150_000.0f64;
            for _ in 0..100 {
                price.measured(bytes as u64, goal);
                let settled = 150_000.0 * (price.price / 1e-8).max(1.0).powf(-0.18);
                bytes += 0.1 * (settled - bytes);
            }
            let error = bytes / goal as f64 - 1.0;
            assert!(error.abs() < 0.005, "{goal}: {bytes}");
        }
    }

    #[test]
    fn without_a_goal_the_price_is_the_schedules() {
        let fixed = RateControl::new(&Schedule { lambda: 3e-7, ..Schedule::default() }, 1000);
        assert_eq!(fixed.state(), (3e-7, 3e-7));
        assert_eq!(RateControl::new(&Schedule::default(), 1000).state(), (0.0, 0.0));
    }

    #[test]
    fn a_restored_price_goes_on() {
        let mut first = steered(1000);
        first.measured(1100, 1000);
        let mut second = steered(1000);
        second.restore(first.state());
        first.measured(1050, 1000);
        second.measured(1050, 1000);
        assert_eq!(first.state(), second.state());
    }
}
