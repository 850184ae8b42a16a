//! The points of loss curves: what is left out and what is averaged.

use crate::run_folder::StageLog;

/// Points of a line: more than a picture has columns show nothing new.
const POINTS: usize = 1_500;
/// Share of a stage over which its loss is smoothed.
const WINDOW: f64 = 0.03;

/// Step and loss.
pub type Point = (usize, f64);

/// Losses that are numbers.
pub fn finite(losses: &[Point]) -> Vec<Point> {
    losses.iter().copied().filter(|(_, loss)| loss.is_finite()).collect()
}

/// Epochs' ends and the held-out losses there, the logarithms of the perplexities.
pub fn valid_losses(stage: &StageLog) -> Vec<Point> {
    finite(&stage.epochs.iter().map(|&(epoch, valid)| (epoch * stage.steps_per_epoch, valid.ln())).collect::<Vec<_>>())
}

/// Exponential moving average, without the pull of its start.
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

/// Every n-th point, and the last.
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
