//! The planner's trials: bytes of weights against perplexity, with the Pareto front.

use super::area::{Area, Pixel};
use super::axis::Axis;
use super::canvas::{Format, Png, paint};
use super::frame::{DOT, EDGE, Heading, Plot, Symbol, short, short_bytes};
use super::labels::{self, Anchor, Label, Obstacles, Placement};
use super::palette::{FAINT, INK, stage_color};
use super::text::wrap;
use crate::printer::{grouped, perplexity};
use anyhow::Result;
use plotters::style::RGBColor;
use resnet_bk::config::StageKind;
use resnet_bk::summary::{PlanSummary, Summary, Trial};

/// Rows of the plot.
const ROWS: i32 = 620;
/// Half the width of the chosen trial's mark.
const CHOSEN: i32 = 20;

/// The layout of the picture.
struct Scene {
    heading: Heading,
    plot: Plot,
    /// None for trials that diverged.
    places: Vec<Option<Pixel>>,
    chosen: Pixel,
    front: Vec<Pixel>,
    /// Column of the budget.
    budget: Option<i32>,
    labels: Placement,
}

/// Draws the picture. Trials have the color of the planner's stage.
pub fn draw(plan: &PlanSummary, summary: &Summary, format: Format) -> Result<Png> {
    let stage = summary.stages.iter().find(|stage| stage.kind == StageKind::Plan);
    let color = stage.map_or(INK, |stage| stage_color(stage.stage));
    let scene = arrange(plan, color, format);
    let Area { top, bottom, .. } = scene.plot.area;
    paint(format.width, bottom + Plot::bottom_margin(format), |canvas| {
        scene.heading.draw(canvas)?;
        scene.plot.draw(canvas, Some("bytes of weights (logarithmic)"))?;
        if let Some(column) = scene.budget {
            canvas.dashed(((column, top), (column, bottom)), FAINT)?;
        }
        canvas.line(&scene.front, color, 3)?;
        for (trial, place) in plan.trials.iter().zip(&scene.places) {
            let Some(place) = *place else { continue };
            if trial.round == 1 { canvas.ring(place, color, DOT - 3)? } else { canvas.dot(place, &[color], DOT - 2)? }
        }
        canvas.diamond(scene.chosen, CHOSEN)?;
        labels::draw(&scene.labels, canvas, format.text)
    })
}

fn arrange(plan: &PlanSummary, color: RGBColor, format: Format) -> Scene {
    let trials = &plan.trials;
    let x = Axis::logarithmic(trials.iter().map(|trial| trial.bytes as f64));
    let y = Axis::logarithmic(trials.iter().filter_map(|trial| trial.perplexity));
    let title = format!("{} trials for {} bytes of weights", trials.len(), grouped(plan.budget));
    let note = "perplexity (logarithmic) of training text that trials do not train on, lower is better".to_owned();
    let mut legend = vec![(Symbol::Ring(color), "short trials, their front joined".to_owned())];
    if trials.iter().any(|trial| trial.round > 1) {
        legend.push((Symbol::Dot(color), "longer trials".to_owned()));
    }
    legend.push((Symbol::Diamond, "chosen".to_owned()));
    let heading = Heading::new(format, &title, &[note], &legend);
    let top = heading.bottom + 24;
    let left = Plot::left_margin(format, ROWS, (&y, &short));
    let area = Area { left, top, right: format.width - EDGE, bottom: top + ROWS };
    let plot = Plot::new(format, area, (&x, &short_bytes), (&y, &short));

    let place = |trial: &Trial| Some((plot.x.pixel(trial.bytes as f64), plot.y.pixel(trial.perplexity?)));
    let places: Vec<Option<Pixel>> = trials.iter().map(place).collect();
    let front: Vec<Pixel> = plan.front().iter().filter_map(|&index| places[index]).collect();
    let chosen_place = places[plan.chosen].expect("a trial that diverged is never chosen");
    let budget = Some(plot.x.pixel(plan.budget as f64)).filter(|column| (left..area.right).contains(column));

    let mut obstacles =
        Obstacles { marks: places.iter().flatten().map(|&place| Area::around(place, DOT)).collect(), lines: vec![] };
    obstacles.marks.push(Area::around(chosen_place, CHOSEN + 2));
    obstacles.add_line(&front);
    obstacles.lines.extend(budget.map(|column| ((column, top), (column, area.bottom))));
    let chosen = &trials[plan.chosen];
    let values =
        format!("{}, {}", short_bytes(chosen.bytes as f64), chosen.perplexity.map_or_else(String::new, perplexity));
    let mut lines: Vec<_> =
        wrap(&chosen.student, format.text, format.width * 3 / 10).into_iter().map(|line| (line, INK)).collect();
    lines.push((values, INK));
    let mut wanted = vec![Label { anchor: Anchor::Mark(chosen_place, CHOSEN + 2), lines }];
    // The budget is named at the bottom of its line, away from the front.
    wanted.extend(budget.map(|column| Label {
        anchor: Anchor::Mark((column, area.bottom - 30), 1),
        lines: vec![("budget".to_owned(), FAINT)],
    }));
    let labels = labels::place(&wanted, &obstacles, area, format.text);
    Scene { heading, plot, places, chosen: chosen_place, front, budget, labels }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::{NARROW, WIDE};
    use super::super::labels_tests::assert_clear;
    use super::*;

    fn plan(count: usize, chosen: usize, budget: u64) -> PlanSummary {
        let trial = |index: usize| {
            let bytes = 90_000 + 5_000 * (index * 7 % count) as u64;
            let perplexity = 5e7 / bytes as f64 * (1.0 + 0.04 * (index * 5 % 7) as f64);
            let student = "4 blocks of 24, 16 heads, levels 15/7/5, biases 3".to_owned();
            // One in ten diverged.
            let perplexity = (index % 10 != 5).then_some(perplexity);
            Trial { round: 1 + index % 9 / 8, student, tokens: 150_000, predicted_bytes: bytes, bytes, perplexity }
        };
        PlanSummary { budget, trials: (0..count).map(trial).collect(), chosen, predicted_bytes: 100_000 }
    }

    #[test]
    fn nothing_covers_the_label_of_the_chosen_trial() {
        for (count, chosen, budget) in
            [(1, 0, 90_000), (3, 2, 95_000), (60, 0, 100_000), (60, 31, 240_000), (60, 59, 9_000_000)]
        {
            let plan = plan(count, chosen, budget);
            for format in [WIDE, NARROW] {
                let scene = arrange(&plan, INK, format);
                let area = scene.plot.area;
                let mut obstacles = Obstacles {
                    marks: scene.places.iter().flatten().map(|&place| Area::around(place, DOT)).collect(),
                    lines: vec![],
                };
                obstacles.marks.push(Area::around(scene.chosen, CHOSEN));
                obstacles.add_line(&scene.front);
                obstacles.lines.extend(scene.budget.map(|column| ((column, area.top), (column, area.bottom))));
                assert_clear(&format!("{count} trials, {} wide", format.width), &scene.labels, &obstacles, area);
                assert_eq!(scene.labels.labels.len(), 1 + usize::from(scene.budget.is_some()));
            }
        }
    }
}
