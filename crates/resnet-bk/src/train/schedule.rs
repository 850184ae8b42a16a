//! Linear warm-up, then a cosine or a constant rate.

use crate::config::{LearningRateShape, Schedule};

/// Learning rate of a step. `step` counts from 0, `steps` is the stage's number of steps.
pub fn learning_rate(schedule: &Schedule, step: usize, steps: usize) -> f64 {
    let warmup = (schedule.warmup * steps as f64).ceil();
    let position = step as f64 + 1.0;
    if position < warmup {
        return schedule.learning_rate * position / warmup;
    }
    match schedule.shape {
        LearningRateShape::Constant => schedule.learning_rate,
        LearningRateShape::Cosine => {
            let done = (position - warmup) / (steps as f64 - warmup).max(1.0);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            schedule.learning_rate * (schedule.min_lr_ratio + (1.0 - schedule.min_lr_ratio) * cosine)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_then_fall_to_the_min_lr_ratio() {
        let schedule = Schedule { learning_rate: 1.0, warmup: 0.1, min_lr_ratio: 0.1, ..Schedule::default() };
        let rates: Vec<f64> = (0..100).map(|step| learning_rate(&schedule, step, 100)).collect();
        assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[9] - 1.0).abs() < 1e-12);
        assert!(rates[..10].is_sorted() && rates[9..].is_sorted_by(|a, b| a >= b));
        assert!((rates[99] - 0.1).abs() < 1e-12);
        let constant = Schedule { shape: LearningRateShape::Constant, ..schedule };
        assert_eq!(learning_rate(&constant, 99, 100), 1.0);
    }
}
