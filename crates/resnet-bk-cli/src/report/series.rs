//! Data of loss curves: thinning and smoothing.

use crate::run_folder::StageLog;

/// Points of a line. More than the picture has columns are not visible.
const POINTS: usize = 1_500;
/// Width of the smoothing, as a share of the stage.
const WINDOW: f64 = 0.03;

/// Step and loss.
pub type Point = (usize, f64);

/// Finite losses only.
pub fn finite(losses: &[Point]) -> Vec<Point> {
    losses.iter().copied().filter(|(_, loss)| loss.is_finite()).collect()
}

/// Last step of each epoch, and the held-out loss there: the logarithm of the perplexity.
pub fn valid_losses(stage: &StageLog) -> Vec<Point> {
    finite(&stage.epochs.iter().map(|&(epoch, valid)| (epoch * stage.steps_per_epoch, valid.ln())).collect::<Vec<_>>())
}

/// Exponential moving average, without bias toward the start value.
pub fn smoothed(losses: &[Point]) -> Vec<Point> {
    let keep = 1.0 - 1.0 / (WINDOW * losses.len() as f64).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let average = |&(step, loss): &Point| {
        sum = keep * sum + loss;
        weight = keep * weight + 1.0;
        (step, sum / weight)
    };
    losses.iter().map(average).collect()
}

/// Every n-th point and the last one.
pub fn thinned(points: &[Point]) -> impl Iterator<Item = &Point> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(index, _)| index % every == 0 || *index == last).map(|(_, point)| point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_starts_at_the_first_loss() {
        let constant: Vec<Point> = (0..500).map(|step| (step, 4.0)).collect();
        assert!(smoothed(&constant).iter().all(|&(_, loss)| (loss - 4.0).abs() < 1e-12));
        assert_eq!(smoothed(&[(0, 9.0), (1, 1.0)])[0], (0, 9.0));
        assert_eq!(smoothed(&[]), []);
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<Point> = (0..10_000).map(|step| (step, 0.0)).collect();
        let kept: Vec<usize> = thinned(&points).map(|point| point.0).collect();
        assert!(kept.len() <= POINTS + 1 && kept[0] == 0 && kept.last() == Some(&9_999));
        assert_eq!(thinned(&[]).count(), 0);
    }
}
