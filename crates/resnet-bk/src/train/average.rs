//! Averaged weights: an exponential moving average of all trained weights (Polyak, Juditsky, SIAM J.
//! Control Optim. 30, 1992).
//!
//! ```text
//! a += (1 - d) (w - a)        d = min(decay, (1 + k) / (10 + k))        k = steps in the average
//! ```
//!
//! The average begins with the weights before its first step. The smaller `d` of its first steps
//! lets it forget them. Training goes on with the weights `w`; whatever measures, chooses or keeps a
//! model takes the average. A change of the model's form (quantizers, masks, removed experts) drops
//! the average, and it begins anew.

use crate::config::Schedule;
use crate::kernels::average_step;
use crate::parameters::{Parameter, Parameters};
use rayon::prelude::*;

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// The share `1 - d` of a step's weights in the average; 0 while `schedule` averages nothing. Begins
/// the average if there is none. `averaged` counts the steps in it.
pub(super) fn share(schedule: &Schedule, is_due: bool, parameters: &mut Parameters, averaged: &mut u64) -> f32 {
    if schedule.average == 0.0 || !is_due {
        return 0.0;
    }
    if !parameters.is_averaged() {
        parameters.begin_average();
        *averaged = 0;
    }
    let steps = *averaged as f64;
    *averaged += 1;
    (1.0 - schedule.average.min((1.0 + steps) / (10.0 + steps))) as f32
}

/// Moves the averages toward the weights by `share`.
pub(super) fn update(parameters: &mut [Parameter], share: f32) {
    for Parameter { values, average, .. } in parameters {
        let parts = average.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
        parts.for_each(|(average, values)| average_step(average, values, share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn parameters() -> Parameters {
        Parameters::initialize(ModelConfig::preset("tiny").expect("a preset").architecture(), 1)
    }

    #[test]
    fn the_average_follows_the_formula() {
        let schedule = Schedule { average: 0.5, ..Schedule::default() };
        let (mut parameters, mut steps) = (parameters(), 7);
        let (mut expected, values) = (parameters.as_mut_slice()[0].values.to_vec(), vec![2.0f32; 64 * 16]);
        for d in [0.1, 2.0 / 11.0, 0.25, 4.0 / 13.0, 5.0 / 14.0, 0.4, 7.0 / 16.0, 8.0 / 17.0, 0.5, 0.5] {
            let share = share(&schedule, true, &mut parameters, &mut steps);
            assert!((share - (1.0 - d)).abs() < 1e-6, "{share} at step {steps}");
            parameters.as_mut_slice()[0].values = values.clone().into();
            update(parameters.as_mut_slice(), share);
            expected.iter_mut().for_each(|a| *a += (1.0 - d) * (2.0 - *a));
            let found = &parameters.iter().next().expect("a table").average;
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        assert_eq!(steps, 10);
        let averaged = parameters.averaged();
        assert_ne!(averaged, parameters);
        assert_eq!(averaged.iter().next().expect("a table").values, parameters.iter().next().expect("a table").average);
        assert!(!averaged.is_averaged());
    }

    #[test]
    fn a_change_of_the_form_begins_the_average_anew() {
        let schedule = Schedule { average: 0.9, ..Schedule::default() };
        let (mut parameters, mut steps) = (parameters(), 0);
        assert_eq!(share(&schedule, false, &mut parameters, &mut steps), 0.0);
        assert_eq!(share(&Schedule::default(), true, &mut parameters, &mut steps), 0.0);
        assert!(!parameters.is_averaged());
        for _ in 0..5 {
            share(&schedule, true, &mut parameters, &mut steps);
        }
        let mut smaller = parameters.remove_expert(0, 0);
        assert!(!smaller.is_averaged());
        share(&schedule, true, &mut smaller, &mut steps);
        assert_eq!((steps, smaller.is_averaged()), (1, true));
        let architecture = smaller.architecture().clone();
        assert!(!smaller.with_architecture(architecture).is_averaged());
    }
}
