//! Loss of every step, one stage after the other, in one panel for each kind of loss.
//!
//! Held-out losses are logarithms of perplexities, so they are cross-entropies whatever a stage
//! trains on: those of all stages are in the panel of that kind, where they can be compared.

use super::area::{Area, Pixel};
use super::axis::Axis;
use super::canvas::{Canvas, Format, Png, WIDE, paint};
use super::frame::{DOT, EDGE, Heading, Plot, Symbol};
use super::objective::{Objective, Objectives};
use super::palette::{FAINT, INK, stage_color};
use super::series::{Point, finite, smoothed, thinned, valid_losses};
use super::text::{height, width, wrap};
use crate::printer::{grouped, perplexity};
use crate::run_folder::StageLog;
use crate::tables::mark;
use anyhow::Result;
use resnet_bk::summary::Summary;

/// Rows of a panel.
const ROWS: i32 = 540;

/// A stage's curves.
struct Curves<'a> {
    log: &'a StageLog,
    /// Steps of the stages before it.
    start: usize,
    end: usize,
    objective: Objective,
    raw: Vec<Point>,
    smooth: Vec<Point>,
    valid: Vec<Point>,
}

/// The losses of one kind.
struct Panel {
    objective: Objective,
    name: Vec<String>,
    plot: Plot,
}

/// Everything in the picture, in its place.
struct Scene<'a> {
    heading: Heading,
    curves: Vec<Curves<'a>>,
    panels: Vec<Panel>,
    bottom: i32,
}

/// Draws the picture.
pub fn draw(stages: &[StageLog], objectives: &Objectives, summary: &Summary, format: Format) -> Result<Png> {
    let scene = arrange(stages, objectives, summary, format);
    paint(format.width, scene.bottom, |canvas| {
        scene.heading.draw(canvas)?;
        if scene.curves.is_empty() {
            let place = (EDGE, scene.heading.bottom + height(format.text));
            return canvas.text("no metrics.jsonl: no step was logged", place, FAINT, format.text);
        }
        for (index, panel) in scene.panels.iter().enumerate() {
            let is_last = index + 1 == scene.panels.len();
            panel.plot.draw(canvas, is_last.then_some("optimizer step, over all stages"))?;
            panel.draw(canvas, &scene.curves, format)?;
        }
        Ok(())
    })
}

fn arrange<'a>(stages: &'a [StageLog], objectives: &Objectives, summary: &Summary, format: Format) -> Scene<'a> {
    let curves = curves(stages, objectives);
    let steps = curves.last().map_or(0, |last| last.end);
    let x = Axis::exact(0.0, steps as f64);
    let write_steps = |step: f64| grouped(step as u64);
    let write_loss = |loss: f64| format!("{loss:.2}");
    let kinds: Vec<(Objective, Axis)> = [Objective::CrossEntropy, Objective::Distillation]
        .into_iter()
        .filter_map(|objective| {
            let values: Vec<f64> = values(&curves, objective).collect();
            // Single steps may jump out of the picture; the smoothed loss and the marks must not.
            (!values.is_empty()).then(|| (objective, Axis::linear(values.into_iter())))
        })
        .collect();
    let left = kinds.iter().map(|(_, y)| Plot::left_margin(format, ROWS, (y, &write_loss))).max().unwrap_or(EDGE);
    let right = format.width - EDGE;
    let legend: Vec<_> =
        curves.iter().map(|stage| (Symbol::Dot(stage_color(stage.log.stage)), stage.entry())).collect();
    let heading = Heading::new(format, &format!("Losses by stage{}", mark(summary.causality)), &[], &legend);
    let mut bottom = heading.bottom + 12;
    let mut panels = Vec::new();
    for (objective, y) in &kinds {
        let name = wrap(name(*objective), format.text, format.width - 2 * EDGE);
        // Below the name there is room for the stages' numbers.
        let top = bottom + height(format.text) * (name.len() as i32 + 1) + 24;
        let area = Area { left, top, right, bottom: top + ROWS };
        let plot = Plot::new(format, area, (&x, &write_steps), (y, &write_loss));
        bottom = area.bottom + 24;
        panels.push(Panel { objective: *objective, name, plot });
    }
    bottom += if panels.is_empty() { 2 * height(format.text) } else { Plot::bottom_margin(format) - 24 };
    Scene { heading, curves, panels, bottom }
}

fn name(objective: Objective) -> &'static str {
    match objective {
        Objective::CrossEntropy => {
            "Cross-entropy in nats per token. Lines: training text, where the stage trains on it alone (with the router's extra terms). \
             Dots: held-out text after each epoch, for every stage; above, the perplexity at the last one."
        }
        Objective::Distillation => {
            "Distillation loss in nats per token: KL divergence from the teacher's soft targets and cross-entropy, weighted. \
             Not to be compared with cross-entropy alone."
        }
    }
}

fn curves<'a>(stages: &'a [StageLog], objectives: &Objectives) -> Vec<Curves<'a>> {
    let mut start = 0;
    let mut curves = Vec::new();
    for log in stages {
        let (raw, valid) = (finite(&log.losses), valid_losses(log));
        let steps = log.losses.last().map_or(0, |&(step, _)| step + 1);
        let end = start + steps.max(valid.last().map_or(0, |&(step, _)| step));
        let (objective, smooth) = (objectives.get(log.stage), smoothed(&raw));
        curves.push(Curves { log, start, end, objective, raw, smooth, valid });
        start = end;
    }
    curves
}

impl Curves<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.log.stage, self.log.kind)
    }

    /// What the legend says: the name, and the perplexity at the last dot. There it is beside no
    /// line that could cover it.
    fn entry(&self) -> String {
        let last = self.log.epochs.last().map(|epoch| format!(": {}", perplexity(epoch.1)));
        self.name() + &last.unwrap_or_default()
    }

    /// Columns of the stage.
    fn columns(&self, x: &Axis) -> (i32, i32) {
        (x.pixel(self.start as f64), x.pixel(self.end as f64))
    }

    /// Its name, or its number, or nothing, as there is room.
    fn shown_name(&self, x: &Axis, format: Format) -> Option<String> {
        let (from, to) = self.columns(x);
        [self.name(), self.log.stage.to_string()].into_iter().find(|name| width(name, format.text) + 8 <= to - from)
    }
}

/// Every loss of a panel.
fn values(curves: &[Curves], objective: Objective) -> impl Iterator<Item = f64> {
    curves.iter().flat_map(move |stage| {
        let lines = if stage.objective == objective { stage.smooth.as_slice() } else { &[] };
        let dots = if objective == Objective::CrossEntropy { stage.valid.as_slice() } else { &[] };
        lines.iter().chain(dots).map(|&(_, loss)| loss)
    })
}

fn places<'a>(points: &'a [Point], start: usize, plot: &'a Plot) -> impl Iterator<Item = Pixel> + use<'a> {
    let rows = (plot.area.top, plot.area.bottom);
    thinned(points)
        .map(move |&(step, loss)| (plot.x.pixel((start + step) as f64), plot.y.pixel(loss).clamp(rows.0, rows.1)))
}

impl Panel {
    fn draw(&self, canvas: &Canvas, curves: &[Curves], format: Format) -> Result<()> {
        let Area { top, bottom, .. } = self.plot.area;
        let above = top - height(format.text) * (self.name.len() as i32 + 1) - 20;
        let name: Vec<_> = self.name.iter().map(|line| (line.clone(), INK)).collect();
        canvas.lines(&name, (EDGE, above), format.text)?;
        for (index, stage) in curves.iter().enumerate() {
            let color = stage_color(stage.log.stage);
            let (from, to) = stage.columns(&self.plot.x);
            if index > 0 {
                canvas.dashed(((from, top), (from, bottom)), FAINT)?;
            }
            canvas.fill(Area { left: from, top: top - 8, right: to, bottom: top }, color)?;
            if let Some(name) = stage.shown_name(&self.plot.x, format) {
                canvas.text(&name, (from, top - 10 - height(format.text) / 2), color, format.text)?;
            }
            if stage.objective == self.objective {
                canvas.pale_line(&places(&stage.raw, stage.start, &self.plot).collect::<Vec<_>>(), color)?;
                canvas.line(&places(&stage.smooth, stage.start, &self.plot).collect::<Vec<_>>(), color, 4)?;
            }
        }
        if self.objective == Objective::CrossEntropy {
            for stage in curves {
                let color = stage_color(stage.log.stage);
                let radius = if format == WIDE { DOT - 2 } else { DOT - 4 };
                places(&stage.valid, stage.start, &self.plot)
                    .try_for_each(|place| canvas.dot(place, &[color], radius))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::NARROW;
    use super::super::tests::summary;
    use super::*;
    use resnet_bk::config::StageKind;

    fn log(stage: usize, kind: StageKind, loss: f64, valid: f64) -> StageLog {
        let losses = (0..20).map(|step| (step, loss - 0.01 * step as f64)).collect();
        StageLog { stage, kind, steps_per_epoch: 10, losses, epochs: vec![(1, valid), (2, valid - 1.0)] }
    }

    /// Panels, from the top, of the fixture's stages with these logs.
    fn panels(logs: &[StageLog], format: Format) -> Vec<(Objective, Plot)> {
        let summary = summary();
        let objectives = Objectives::of(&summary.stages, None);
        let scene = arrange(logs, &objectives, &summary, format);
        assert!(scene.panels.windows(2).all(|pair| pair[0].plot.area.bottom < pair[1].plot.area.top));
        scene.panels.into_iter().map(|panel| (panel.objective, panel.plot)).collect()
    }

    #[test]
    fn each_kind_of_loss_has_a_panel_with_an_axis_of_its_own() {
        // The distillation loss lies where no cross-entropy does; the fourth stage's perplexity is
        // that of ln 5.
        let logs = [log(1, StageKind::Train, 6.0, 150.0), log(4, StageKind::Distill, 40.0, 148.4)];
        for format in [WIDE, NARROW] {
            let panels = panels(&logs, format);
            assert_eq!(
                panels.iter().map(|panel| panel.0).collect::<Vec<_>>(),
                [Objective::CrossEntropy, Objective::Distillation]
            );
            let inside = |plot: &Plot, loss: f64| (plot.area.top..=plot.area.bottom).contains(&plot.y.pixel(loss));
            assert!(inside(&panels[0].1, 6.0) && inside(&panels[0].1, 148.4f64.ln()) && !inside(&panels[0].1, 40.0));
            assert!(inside(&panels[1].1, 40.0) && !inside(&panels[1].1, 6.0));
        }
    }

    #[test]
    fn one_kind_of_loss_has_one_panel() {
        let logs = [log(1, StageKind::Train, 6.0, 150.0), log(2, StageKind::Qat, 5.5, 148.4)];
        assert_eq!(panels(&logs, WIDE).len(), 1);
        let mut only = log(4, StageKind::Distill, 7.0, 150.0);
        only.epochs.clear();
        assert_eq!(panels(&[only.clone()], WIDE)[0].0, Objective::Distillation);
        // Held-out losses are cross-entropies, also of a distillation.
        only.epochs.push((1, 150.0));
        assert_eq!(panels(&[only], WIDE).len(), 2);
        assert!(panels(&[], WIDE).is_empty());
    }

    #[test]
    fn a_stage_that_the_log_lacks_does_not_shift_the_colors() {
        let log = log(3, StageKind::Prune, 6.0, 150.0);
        let png = draw(&[log], &Objectives::of(&summary().stages, None), &summary(), NARROW).expect("drawn");
        let mut reader = png::Decoder::new(std::io::Cursor::new(png.file)).read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut pixels).expect("pixels");
        let count = |number| {
            let color = stage_color(number);
            pixels.chunks(3).filter(|pixel| *pixel == [color.0, color.1, color.2]).count()
        };
        assert!(count(3) > 1_000 && count(1) == 0, "{} and {}", count(3), count(1));
    }
}
