//! Magnitude pruning: holds the smallest weights of a matrix at zero.

use crate::checkpoint::ModelState;
use crate::config::MagnitudePruning;
use crate::observer::Event;
use crate::parameters::Parameter;
use crate::train::StepContext;

/// Number of mask updates while the sparsity rises.
const UPDATES: usize = 50;

/// Updates the masks on schedule: once at the first step, or, if the rise takes a share `over` of
/// the stage, repeatedly along `sparsity (1 - (1 - t)^3)` (Zhu, Gupta, arXiv 1710.01878).
pub fn follow_schedule(model: &mut ModelState, magnitude: MagnitudePruning, over: f64, context: &mut StepContext) {
    let Some(steps) = context.length.step_after(over) else { return };
    let interval = (steps / UPDATES).max(1);
    if context.step > steps || !context.step.is_multiple_of(interval) && context.step != steps {
        return;
    }
    if context.step == steps {
        return mask_small_weights(model, magnitude, context);
    }
    let rise = 1.0 - (1.0 - context.step as f32 / steps as f32).powi(3);
    mask_all(
        model,
        match magnitude {
            MagnitudePruning::Threshold(threshold) => MagnitudePruning::Threshold(rise * threshold),
            MagnitudePruning::Sparsity(sparsity) => MagnitudePruning::Sparsity(rise * sparsity),
        },
    );
}

/// Masks the smallest weights of every matrix and table. Masked weights stay masked.
pub fn mask_small_weights(model: &mut ModelState, magnitude: MagnitudePruning, context: &mut StepContext) {
    mask_all(model, magnitude);
    model.compression.magnitude = Some(magnitude);
    let sparsity = model.parameters.sparsity();
    context.observer.event(&Event::WeightsMasked { stage: context.stage, sparsity });
}

/// Masks weights of all matrices, and drops an average.
fn mask_all(model: &mut ModelState, magnitude: MagnitudePruning) {
    model.parameters.drop_average();
    let matrices = model.parameters.as_mut_slice().iter_mut().filter(|parameter| parameter.spec.role.is_matrix());
    matrices.for_each(|parameter| mask(parameter, magnitude));
}

fn mask(parameter: &mut Parameter, magnitude: MagnitudePruning) {
    let mut mask = keep_mask(&parameter.values, magnitude);
    if let Some(old) = parameter.mask.take() {
        mask.iter_mut().zip(old.iter()).for_each(|(keep, old)| *keep &= old);
    }
    parameter.mask = Some(mask.into());
    parameter.apply_mask();
}

/// Which values to keep. Of equal magnitudes, all are kept or none.
///
/// # Panics
/// If there are no values.
pub(crate) fn keep_mask(values: &[f32], magnitude: MagnitudePruning) -> Vec<bool> {
    let threshold = match magnitude {
        MagnitudePruning::Threshold(threshold) => threshold,
        MagnitudePruning::Sparsity(sparsity) => {
            let mut sizes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
            let cut = (f64::from(sparsity) * sizes.len() as f64) as usize;
            let (_, threshold, _) = sizes.select_nth_unstable_by(cut.min(values.len() - 1), f32::total_cmp);
            *threshold
        }
    };
    values.iter().map(|x| x.abs() >= threshold).collect()
}
