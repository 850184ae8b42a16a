//! Rate control: chooses the rate-distortion multiplier lambda so that the weights reach a given
//! size.
//!
//! The loss is `distortion + lambda * rate`, with the rate in coded bits. A stage with a goal in
//! bytes regularly measures the weights section with the coder that writes it. A PI controller then
//! sets lambda: it rises while the section is too long and falls while it is too short. The
//! integral part removes the remaining error; the proportional part damps oscillation.
//!
//! On a GPU the steps go on while a thread of the host packs, and the size counts from half an
//! interval later on: at a fixed step, so that the bits repeat.
//!
//! ```text
//! e = ln(bytes / goal) + r, clamped to +-MAX_EXCESS
//! ln integral += min(INTEGRAL_GAIN, k / 2) e          lambda = integral exp(k e)
//! k = min(PROPORTIONAL_GAIN, LOOP_GAIN / (learning rate * steps between measurements),
//!         REST_GAIN / steps between measurements)
//! r += RATIO_GAIN (ln(bytes of the average / bytes) - r)
//! ```
//!
//! AdamW moves a weight by at most the learning rate in a step, so the size changes at a speed
//! proportional to it: the size is an integral of ln lambda. What changes from one measurement to the
//! next must be less than what the controller wants to change, or the size swings. It swung at low rates
//! too, where measurements were 360 and more steps apart: hence the third limit, and `MOST_STEPS`.
//!
//! Where weights are averaged, the average has to reach the goal. But it follows the weights late, and
//! steering by it oscillates. So the weights' own size is steered, by a goal that allows for the ratio
//! `exp(r)` of both sizes. `r` is 0 without an average.

use crate::config::Schedule;
use crate::device::Device;
use crate::export::weights_bytes;
use crate::parameters::Parameters;
use crate::train::Length;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::thread::JoinHandle;

/// Least number of measurements in a long stage. In a shorter one, every step measures.
const MEASUREMENTS: usize = 200;
/// Most steps between measurements.
const MOST_STEPS: usize = 200;
/// Largest excess that one measurement counts.
const MAX_EXCESS: f64 = 0.1;
/// Largest gain of the proportional part.
const PROPORTIONAL_GAIN: f64 = 20.0;
/// Largest gain of the integral part, and its largest share of that of the proportional part.
const INTEGRAL_GAIN: f64 = 2.0;
const INTEGRAL_SHARE: f64 = 0.5;
/// Largest gain times learning rate and steps between measurements: a third of that with which a size
/// swings at high rates; see docs/LOG.md, "A size that swings".
const LOOP_GAIN: f64 = 0.9;
/// Largest gain times steps between measurements.
const REST_GAIN: f64 = 1600.0;
/// Initial lambda if the schedule has none, in nats of loss per coded bit.
const INITIAL_LAMBDA: f64 = 1e-7;
/// Range of the integral part.
const INTEGRAL_RANGE: (f64, f64) = (1e-12, 1e-3);

/// How fast the ratio of the average's size follows a measurement.
const RATIO_GAIN: f64 = 0.2;

/// Bytes of the weights section.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    weights: u64,
    /// With averaged weights, if there are some.
    average: Option<u64>,
}

impl Sizes {
    fn measure(parameters: &Parameters) -> Result<Self, ArtifactError> {
        let average = parameters.is_averaged().then(|| weights_bytes(&parameters.averaged())).transpose()?;
        Ok(Self { weights: weights_bytes(parameters)?, average })
    }
}

/// A measurement beside the steps of a GPU.
#[derive(Debug)]
struct Pending {
    /// The step from which it counts.
    from: usize,
    packing: JoinHandle<Result<Sizes, ArtifactError>>,
}

/// Lambda during a stage.
#[derive(Debug)]
pub struct RateControl {
    goal: Option<u64>,
    integral: f64,
    lambda: f64,
    gain: f64,
    /// Logarithm of the ratio of the average's size to that of the weights.
    ratio: f64,
    bytes: Option<u64>,
    pending: Option<Pending>,
}

impl RateControl {
    /// Lambda at the beginning of a stage.
    pub fn new(schedule: &Schedule) -> Self {
        let initial = match schedule.weights_bytes {
            Some(_) if schedule.lambda == 0.0 => INITIAL_LAMBDA,
            _ => schedule.lambda,
        };
        let (goal, integral, lambda) = (schedule.weights_bytes, initial, initial);
        Self { goal, integral, lambda, gain: PROPORTIONAL_GAIN, ratio: 0.0, bytes: None, pending: None }
    }

    /// Restores the controller of an interrupted stage from [`state`](Self::state),
    /// [`ratio`](Self::ratio) and [`bytes`](Self::bytes).
    pub fn restore(&mut self, (integral, lambda): (f64, f64), ratio: f64, bytes: Option<u64>) {
        (self.integral, self.lambda, self.ratio, self.bytes) = (integral, lambda, ratio, bytes);
    }

    /// State for [`restore`](Self::restore): integral part and lambda.
    pub fn state(&self) -> (f64, f64) {
        (self.integral, self.lambda)
    }

    /// State for [`restore`](Self::restore): logarithm of the ratio of the average's size to that of
    /// the weights.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// Lambda of the last step.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// Bytes of the weights section at the last measurement: of the averaged weights once there are
    /// some, because they are what the stage keeps.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Lambda for a step with this learning rate, in nats of loss per token and coded bit.
    ///
    /// # Errors
    /// [`ArtifactError`] if the model cannot be packed because values or scales are not finite.
    pub fn for_step(
        &mut self,
        parameters: &Parameters,
        step: usize,
        rate: f64,
        length: Length,
    ) -> Result<f64, ArtifactError> {
        let quantization = parameters.architecture().quantization.as_ref();
        let trained = quantization.is_some_and(|policy| policy.learned.is_some());
        if self.pending.as_ref().is_some_and(|pending| pending.from <= step) {
            self.settle()?;
        }
        let interval = interval(length);
        if let (Some(goal), true, true) = (self.goal, trained, step.is_multiple_of(interval)) {
            self.settle()?;
            self.gain = gain(rate, interval);
            match parameters.device() {
                Device::Cpu => self.measured(Sizes::measure(parameters)?, goal),
                Device::Cuda(_) => {
                    let copy = parameters.copy_to_host();
                    let packing = std::thread::spawn(move || Sizes::measure(&copy));
                    self.pending = Some(Pending { from: step + interval.div_ceil(2), packing });
                }
            }
        }
        Ok(self.lambda)
    }

    /// Waits for a measurement that is under way. A stage does so after each epoch, because the state
    /// is saved then.
    ///
    /// # Errors
    /// As for [`for_step`](Self::for_step).
    pub fn settle(&mut self) -> Result<(), ArtifactError> {
        if let (Some(Pending { packing, .. }), Some(goal)) = (self.pending.take(), self.goal) {
            let sizes = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.measured(sizes, goal);
        }
        Ok(())
    }

    fn measured(&mut self, Sizes { weights, average }: Sizes, goal: u64) {
        self.bytes = Some(average.unwrap_or(weights));
        if let Some(average) = average {
            self.ratio += RATIO_GAIN * ((average as f64 / weights as f64).ln() - self.ratio);
        }
        let excess = ((weights as f64 / goal as f64).ln() + self.ratio).clamp(-MAX_EXCESS, MAX_EXCESS);
        let growth = (INTEGRAL_GAIN.min(INTEGRAL_SHARE * self.gain) * excess).exp();
        self.integral = (self.integral * growth).clamp(INTEGRAL_RANGE.0, INTEGRAL_RANGE.1);
        self.lambda = self.integral * (self.gain * excess).exp();
    }
}

/// Steps between measurements.
fn interval(length: Length) -> usize {
    let steps = length.steps().unwrap_or(Schedule::LEAST_EPOCHS * length.steps_per_epoch);
    (steps / MEASUREMENTS).clamp(1, MOST_STEPS)
}

/// Gain of the proportional part for a learning rate and a number of steps between measurements.
fn gain(rate: f64, interval: usize) -> f64 {
    PROPORTIONAL_GAIN.min(LOOP_GAIN / (rate * interval as f64)).min(REST_GAIN / interval as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn of(weights: u64) -> Sizes {
        Sizes { weights, average: None }
    }

    fn control_for(goal: u64) -> RateControl {
        RateControl::new(&Schedule { weights_bytes: Some(goal), ..Schedule::default() })
    }

    /// A model that shrinks by a third if lambda rises tenfold, with a delay.
    #[test]
    fn the_size_reaches_its_goal() {
        for goal in [60_000u64, 90_000, 140_000] {
            let mut control = control_for(goal);
            let mut bytes = 150_000.0f64;
            for _ in 0..100 {
                control.measured(of(bytes as u64), goal);
                let settled = 150_000.0 * (control.lambda / 1e-8).max(1.0).powf(-0.18);
                bytes += 0.1 * (settled - bytes);
            }
            let error = bytes / goal as f64 - 1.0;
            assert!(error.abs() < 0.005, "{goal}: {bytes}");
        }
    }

    /// A model like those of a long stage with a high rate: ln lambda moves the size by 0.8 times the
    /// rate in a step. With a gain of 20 it swings between 355,000 and 502,000 bytes.
    #[test]
    fn a_size_that_moves_fast_does_not_swing() {
        const INTERVAL: usize = 214;
        let mut control = control_for(418_000);
        let mut size = 400_000f64.ln();
        for measurement in 0..130 {
            let done = f64::from(measurement) / 130.0;
            let rate = 2.1e-3 * (0.02 + 0.49 * (1.0 + (std::f64::consts::PI * done).cos()));
            control.gain = gain(rate, INTERVAL);
            control.measured(of(size.exp() as u64), 418_000);
            for _ in 0..INTERVAL {
                let balance = 3e-7f64.ln() - (size - 450_000f64.ln()) / 0.18;
                size -= 0.8 * rate * (control.lambda.ln() - balance).clamp(-3.0, 3.0);
            }
            let excess = size.exp() / 418_000.0 - 1.0;
            assert!(measurement < 20 || excess.abs() < 0.03, "measurement {measurement}: {excess}");
        }
    }

    /// The average lags behind the weights, by a tenth of its steps at first, and is smaller in the
    /// end.
    #[test]
    fn the_size_of_an_average_reaches_its_goal() {
        for (interval, measurements) in [(5, 100), (65, 100), (154, 80)] {
            for (goal, smaller) in [(60_000u64, 1.0), (140_000, 1.0), (140_000, 0.97)] {
                let mut control = control_for(goal);
                let (mut bytes, mut average, mut steps) = (150_000.0f64, 150_000.0f64, 0.0f64);
                for _ in 0..measurements {
                    let sizes = Sizes { weights: bytes as u64, average: Some((smaller * average) as u64) };
                    control.measured(sizes, goal);
                    let settled = 150_000.0 * (control.lambda / 1e-8).max(1.0).powf(-0.18);
                    for _ in 0..interval {
                        bytes += 0.1 / f64::from(interval) * (settled - bytes);
                        average += (1.0 - ((1.0 + steps) / (10.0 + steps)).min(0.999)) * (bytes - average);
                        steps += 1.0;
                    }
                }
                let error = smaller * average / goal as f64 - 1.0;
                assert!(error.abs() < 0.005, "{goal}, measured every {interval} steps: {average}");
            }
        }
    }

    #[test]
    fn a_stage_is_measured_often_enough() {
        let of = |epochs| interval(Length { steps_per_epoch: 800, epochs, open: 0 });
        assert_eq!([Some(1), Some(50), Some(70), None].map(of), [4, 200, 200, 12]);
        assert_eq!(interval(Length { steps_per_epoch: 9, epochs: Some(2), open: 0 }), 1, "every step");
    }

    #[test]
    fn without_a_goal_lambda_is_that_of_the_schedule() {
        let fixed = RateControl::new(&Schedule { lambda: 3e-7, ..Schedule::default() });
        assert_eq!(fixed.state(), (3e-7, 3e-7));
        assert_eq!(RateControl::new(&Schedule::default()).state(), (0.0, 0.0));
    }

    #[test]
    fn a_measurement_beside_the_steps_counts_from_a_fixed_step() {
        let architecture = ModelConfig::preset("tiny").expect("a preset").architecture();
        let parameters = Parameters::initialize(architecture, 1);
        let pending = || Some(Pending { from: 3, packing: std::thread::spawn(|| Ok(of(1100))) });
        let (mut expected, mut control) = (control_for(1000), control_for(1000));
        expected.measured(of(1100), 1000);
        control.pending = pending();
        let length = Length { steps_per_epoch: 100, epochs: Some(10), open: 0 };
        let lambdas =
            [1, 2, 3, 4].map(|step| control.for_step(&parameters, step, 1e-3, length).expect("it can be packed"));
        let (before, after) = (INITIAL_LAMBDA, expected.lambda);
        assert_eq!(lambdas, [before, before, after, after]);
        // An epoch's end waits for it.
        let mut ended = control_for(1000);
        ended.pending = pending();
        ended.settle().expect("it can be packed");
        assert_eq!(ended.state(), expected.state());
    }

    #[test]
    fn a_restored_controller_continues() {
        let mut first = control_for(1000);
        first.measured(of(1100), 1000);
        let mut second = control_for(1000);
        second.restore(first.state(), first.ratio(), first.bytes());
        first.measured(of(1050), 1000);
        second.measured(of(1050), 1000);
        assert_eq!(first.state(), second.state());
    }
}
