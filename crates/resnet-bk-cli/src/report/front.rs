//! The planner's trials: bytes of weights against perplexity, and the front that no trial beats.

use super::axis::Axis;
use super::canvas::{Align, COLOURS, FAINT, INK, horizontal, paint, vertical};
use super::tradeoff::{short, short_bytes};
use crate::printer::grouped;
use anyhow::Result;
use resnet_bk::summary::{PlanSummary, Trial};

/// Height of the legend, as a factor of perplexity.
const LEGEND: f64 = 1.6;

/// Draws the picture and returns its PNG file.
pub fn draw(plan: &PlanSummary) -> Result<Vec<u8>> {
    let trials = &plan.trials;
    let x = Axis::logarithmic(trials.iter().map(|trial| trial.bytes as f64), horizontal());
    // Room for the legend above the worst one.
    let worst = trials.iter().map(|trial| trial.perplexity).fold(0.0, f64::max);
    let y = Axis::logarithmic(trials.iter().map(|trial| trial.perplexity).chain([LEGEND * worst]), vertical());
    let bytes: Vec<(f64, String)> = x.ticks(7).iter().map(|&bytes| (bytes, short_bytes(bytes))).collect();
    let perplexities: Vec<(f64, String)> = y.ticks(7).iter().map(|&value| (value, short(value))).collect();
    let place = |trial: &Trial| (x.pixel(trial.bytes as f64), y.pixel(trial.perplexity));
    paint(|canvas| {
        canvas.frame(
            &format!("{} trials for {} bytes of weights", trials.len(), grouped(plan.budget)),
            (&x, "bytes of weights (logarithmic)", &bytes),
            (&y, "perplexity of training text that trials do not train on, logarithmic; less is better", &perplexities),
        )?;
        let front: Vec<(i32, i32)> = plan.front().iter().map(|&index| place(&trials[index])).collect();
        canvas.line(&front, COLOURS[0], 3)?;
        for (index, trial) in trials.iter().enumerate() {
            match trial.round {
                _ if index == plan.chosen => canvas.diamond(place(trial), COLOURS[1], 15)?,
                1 => canvas.dot(place(trial), COLOURS[0], 8)?,
                _ => canvas.dot(place(trial), COLOURS[1], 10)?,
            }
        }
        let (left, top) = (horizontal().0 + 20, vertical().1 + 20);
        let legend =
            [("short trials, their front joined", COLOURS[0]), ("longer trials; the diamond was chosen", COLOURS[1])];
        for (line, (text, colour)) in legend.into_iter().enumerate() {
            let height = top + 36 * line as i32;
            canvas.dot((left, height), colour, 8)?;
            canvas.text(text, (left + 22, height), Align::Left, INK)?;
        }
        canvas.text(&trials[plan.chosen].student, (left, top + 72), Align::Left, FAINT)
    })
}
