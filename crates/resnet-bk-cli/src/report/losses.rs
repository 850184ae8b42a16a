//! Loss of every step, one stage after the other, with the perplexity of the held-out text after each epoch.

use super::axis::Axis;
use super::canvas::{Align, COLOURS, FAINT, INK, horizontal, paint, vertical};
use crate::printer::{grouped, perplexity};
use crate::run_folder::StageLog;
use crate::tables::mark;
use anyhow::Result;
use resnet_bk::summary::Summary;

/// Points of a line: more than a picture has columns show nothing new.
const POINTS: usize = 1_500;
/// Share of a stage over which its loss is smoothed.
const WINDOW: f64 = 0.03;

/// Draws the picture and returns its PNG file.
pub fn draw(stages: &[StageLog], summary: &Summary) -> Result<Vec<u8>> {
    let mut first = 0;
    let mut offsets = Vec::new();
    for stage in stages {
        offsets.push(first);
        first += stage.losses.last().map_or(0, |&(step, _)| step + 1);
    }
    let raw: Vec<Vec<(usize, f64)>> = stages.iter().map(|stage| finite(&stage.losses)).collect();
    let smooth: Vec<Vec<(usize, f64)>> = raw.iter().map(|losses| smoothed(losses)).collect();
    let marks: Vec<Vec<(usize, f64)>> = stages.iter().map(valid_losses).collect();
    let x = Axis::exact(0.0, first as f64, horizontal());
    // Single steps may jump out of the picture; the smoothed loss and the marks must not.
    let y = Axis::linear(smooth.iter().chain(&marks).flatten().map(|&(_, loss)| loss), vertical());
    let steps: Vec<(f64, String)> = x.ticks(8).iter().map(|&step| (step, grouped(step as u64))).collect();
    let nats: Vec<(f64, String)> = y.ticks(7).iter().map(|&loss| (loss, format!("{loss:.2}"))).collect();
    let (bottom, top) = vertical();
    paint(|canvas| {
        canvas.frame(
            &format!("Training loss by stage{}", mark(summary.causality)),
            (&x, "optimizer step", &steps),
            (&y, "loss in nats per token, of each stage's own objective; dots: held-out text after each epoch, with its perplexity", &nats),
        )?;
        if stages.is_empty() {
            canvas.text("no metrics.jsonl: no step was logged", (horizontal().0 + 20, top + 40), Align::Left, FAINT)?;
        }
        for (index, stage) in stages.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let start = offsets[index];
            let place =
                |&(step, loss): &(usize, f64)| (x.pixel((start + step) as f64), y.pixel(loss).clamp(top, bottom));
            let line = |points: &[(usize, f64)]| thinned(points).map(place).collect::<Vec<_>>();
            canvas.pale_line(&line(&raw[index]), colour)?;
            canvas.line(&line(&smooth[index]), colour, 4)?;
            let from = x.pixel(start as f64);
            if index > 0 {
                canvas.dashed((from, top), (from, bottom), FAINT)?;
            }
            canvas.text(&format!("{} {}", stage.stage, stage.kind), (from + 12, top + 18), Align::Left, colour)?;
        }
        for (index, marks) in marks.iter().enumerate() {
            for mark in marks {
                let place = (x.pixel((offsets[index] + mark.0) as f64), y.pixel(mark.1));
                canvas.dot(place, COLOURS[index % COLOURS.len()], 8)?;
            }
            if let (Some(last), Some(&(_, valid))) = (marks.last(), stages[index].epochs.last()) {
                let place = (x.pixel((offsets[index] + last.0) as f64) - 16, y.pixel(last.1) - 24);
                canvas.text(&perplexity(valid), place, Align::Right, INK)?;
            }
        }
        Ok(())
    })
}

fn finite(losses: &[(usize, f64)]) -> Vec<(usize, f64)> {
    losses.iter().copied().filter(|(_, loss)| loss.is_finite()).collect()
}

/// Epochs' ends and the held-out losses there, the logarithms of the perplexities.
fn valid_losses(stage: &StageLog) -> Vec<(usize, f64)> {
    finite(&stage.epochs.iter().map(|&(epoch, valid)| (epoch * stage.steps_per_epoch, valid.ln())).collect::<Vec<_>>())
}

/// Exponential moving average, without the pull of its start.
fn smoothed(losses: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let keep = 1.0 - 1.0 / (WINDOW * losses.len() as f64).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let average = |&(step, loss): &(usize, f64)| {
        sum = keep * sum + loss;
        weight = keep * weight + 1.0;
        (step, sum / weight)
    };
    losses.iter().map(average).collect()
}

/// Every n-th point, and the last.
fn thinned(points: &[(usize, f64)]) -> impl Iterator<Item = &(usize, f64)> {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(index, _)| index % every == 0 || *index == last).map(|(_, point)| point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_starts_at_the_first_loss() {
        let constant: Vec<(usize, f64)> = (0..500).map(|step| (step, 4.0)).collect();
        assert!(smoothed(&constant).iter().all(|&(_, loss)| (loss - 4.0).abs() < 1e-12));
        assert_eq!(smoothed(&[(0, 9.0), (1, 1.0)])[0], (0, 9.0));
        assert_eq!(smoothed(&[]), []);
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<(usize, f64)> = (0..10_000).map(|step| (step, 0.0)).collect();
        let kept: Vec<usize> = thinned(&points).map(|point| point.0).collect();
        assert!(kept.len() <= POINTS + 1 && kept[0] == 0 && kept.last() == Some(&9_999));
        assert_eq!(thinned(&[]).count(), 0);
    }
}
