//! Bytes of the weights against perplexity: all stages of a run up to the artifact, the models that
//! it is compared with, and the n-gram baselines; or the artifacts of several runs.

use super::area::{Area, Pixel};
use super::axis::Axis;
use super::canvas::{Format, Png, WIDE, paint};
use super::frame::{EDGE, Heading, Plot, short, short_bytes};
use super::labels::{self, Anchor, Label, Obstacles, Placement};
use super::marks::{Mark, Point, Role, merge};
use super::palette::FAINT;
use crate::printer::{grouped, perplexity, ratio};
use crate::tables::{mark, ngrams};
use anyhow::Result;
use resnet_bk::summary::{Baselines, Summary};

/// n-gram baselines that are further from every model than this factor are named, but do not extend
/// the axis.
const NEAR: f64 = 1.5;
/// Height of the plot in rows.
const ROWS: i32 = 680;

/// The layout of the picture.
struct Scene {
    heading: Heading,
    plot: Plot,
    marks: Vec<Mark>,
    path: Vec<Pixel>,
    levels: Vec<i32>,
    labels: Placement,
}

/// What a picture shows.
pub struct View {
    /// Its title.
    pub title: String,
    /// Notes above those of the axes.
    pub notes: Vec<String>,
    /// Mark after the name of the perplexity.
    pub mark: &'static str,
    /// The models.
    pub models: Vec<Model>,
    /// Names and perplexities of the n-gram baselines.
    pub ngrams: Vec<(&'static str, f64)>,
}

/// A model in a picture.
pub struct Model {
    role: Role,
    text: String,
    short: String,
    bytes: f64,
    valid: f64,
}

impl Model {
    /// A model with its name and figures.
    pub fn new(role: Role, name: &str, bytes: u64, valid: f64, format: Format) -> Self {
        let short = if let Role::Stage(number) = role { number.to_string() } else { name.to_owned() };
        let size = if format == WIDE { format!("{} bytes", grouped(bytes)) } else { short_bytes(bytes as f64) };
        Self { role, text: format!("{name}: {size}, {}", perplexity(valid)), short, bytes: bytes as f64, valid }
    }
}

/// The picture of a run.
pub fn of_run(summary: &Summary, format: Format) -> View {
    View {
        title: title(summary),
        notes: summary.worse_than_ngrams().into_iter().collect(),
        mark: mark(summary.causality),
        models: models(summary, format),
        ngrams: ngrams(summary).to_vec(),
    }
}

/// Draws the picture.
pub fn draw(view: &View, format: Format) -> Result<Png> {
    let scene = arrange(view, format);
    let Area { left, right, bottom, .. } = scene.plot.area;
    paint(format.width, bottom + Plot::bottom_margin(format), |canvas| {
        scene.heading.draw(canvas)?;
        scene.plot.draw(canvas, Some("bytes of weights (logarithmic)"))?;
        for &row in &scene.levels {
            canvas.dashed(((left, row), (right, row)), FAINT)?;
        }
        canvas.line(&scene.path, FAINT, 2)?;
        scene.marks.iter().try_for_each(|mark| mark.draw(canvas))?;
        labels::draw(&scene.labels, canvas, format.text)
    })
}

/// The layout with names beside the marks. If there is not enough room, marks get numbers and the
/// names are listed above the plot.
fn arrange(view: &View, format: Format) -> Scene {
    let named = arrange_with(view, format, Names::BesideMarks);
    if named.labels.is_clear { named } else { arrange_with(view, format, Names::AbovePlot) }
}

/// Position of the models' names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    BesideMarks,
    AbovePlot,
}

fn arrange_with(view: &View, format: Format, names: Names) -> Scene {
    let models = &view.models;
    let valid = || models.iter().map(|model| model.valid);
    let (best, worst) = (valid().fold(f64::INFINITY, f64::min), valid().fold(0.0, f64::max));
    let is_near = |(_, value): &(&str, f64)| (best / NEAR..=worst * NEAR).contains(value);
    let (near, far): (Vec<_>, Vec<_>) = view.ngrams.iter().copied().partition(is_near);
    let x = Axis::logarithmic(models.iter().map(|model| model.bytes));
    let y = Axis::logarithmic(valid().chain(near.iter().map(|ngram| ngram.1)));

    let mut notes = view.notes.clone();
    notes.push(format!("held-out perplexity{} (logarithmic), lower is better", view.mark));
    notes.extend(
        far.iter().map(|(name, value)| format!("{name} baseline: {} (outside the picture)", perplexity(*value))),
    );
    let entry = |model: &Model| (model.role.symbol(), model.text.clone());
    let legend: Vec<_> = if names == Names::AbovePlot { models.iter().map(entry).collect() } else { vec![] };
    let heading = Heading::new(format, &view.title, &notes, &legend);
    let top = heading.bottom + 24;
    let left = Plot::left_margin(format, ROWS, (&y, &short));
    let area = Area { left, top, right: format.width - EDGE, bottom: top + ROWS };
    let plot = Plot::new(format, area, (&x, &short_bytes), (&y, &short));

    let point = |model: &Model| Point {
        role: model.role,
        text: model.text.clone(),
        short: model.short.clone(),
        place: (plot.x.pixel(model.bytes), plot.y.pixel(model.valid)),
    };
    let marks = merge(models.iter().map(point).collect());
    let path = path(models, &marks);
    let levels: Vec<i32> = near.iter().map(|ngram| plot.y.pixel(ngram.1)).collect();
    let mut obstacles = Obstacles { marks: marks.iter().map(Mark::area).collect(), ..Obstacles::default() };
    obstacles.add_line(&path);
    for &row in &levels {
        obstacles.add_line(&[(area.left, row), (area.right, row)]);
    }
    let lines = |mark: &Mark| if names == Names::AbovePlot { vec![mark.short_line()] } else { mark.lines() };
    let of_marks =
        marks.iter().map(|mark| Label { anchor: Anchor::Mark(mark.place, mark.radius()), lines: lines(mark) });
    let of_levels = near.iter().zip(&levels).map(|((name, value), &row)| Label {
        anchor: Anchor::Level(row),
        lines: vec![(format!("{name} baseline: {}", perplexity(*value)), FAINT)],
    });
    let wanted: Vec<Label> = of_marks.chain(of_levels).collect();
    let labels = labels::place(&wanted, &obstacles, area, format.text);
    Scene { heading, plot, marks, path, levels, labels }
}

/// The line through the marks in the order of the stages, up to the artifact.
fn path(models: &[Model], marks: &[Mark]) -> Vec<Pixel> {
    let is_on_way = |model: &&Model| matches!(model.role, Role::Stage(_) | Role::Artifact);
    let mark = |model: &Model| marks.iter().find(|mark| mark.points.iter().any(|point| point.role == model.role));
    let mut path: Vec<Pixel> = models.iter().filter(is_on_way).filter_map(mark).map(|mark| mark.place).collect();
    path.dedup();
    path
}

/// Baselines, stages and the artifact, in the order of the run.
fn models(summary: &Summary, format: Format) -> Vec<Model> {
    let model = |role, name: &str, bytes: u64, valid: f64| Model::new(role, name, bytes, valid, format);
    let Baselines { first, best, int8 } = &summary.baselines;
    let is_one = first.measured().is_some() && first == best;
    let names = if is_one { ["first and best float", ""] } else { ["first model", "best float"] };
    let baselines = [(Role::First, names[0], first), (Role::Best, names[1], best), (Role::Int8, "int8", int8)];
    let measured = baselines.into_iter().filter(|&(role, ..)| !is_one || role != Role::Best);
    let mut models: Vec<Model> = measured
        .filter_map(|(role, name, baseline)| Some((role, name, baseline.measured()?)))
        .map(|(role, name, baseline)| model(role, name, baseline.weights_bytes, baseline.valid_perplexity))
        .collect();
    models.extend(summary.stages.iter().map(|stage| {
        let name = format!("{} {}", stage.stage, stage.kind);
        model(Role::Stage(stage.stage), &name, stage.weights_bytes, stage.valid_perplexity)
    }));
    let artifact = &summary.artifact;
    models.push(model(Role::Artifact, "model.rbk", artifact.bytes_weights, artifact.valid_perplexity));
    models
}

/// Comparison of the artifact with the target's baseline.
fn title(summary: &Summary) -> String {
    let (against, mark) = (summary.target.against, mark(summary.causality));
    let Some((smaller, loss)) = summary.ratio.zip(summary.loss) else {
        return format!("{against} was not measured on this text{mark}");
    };
    let percent = 100.0 * loss.abs();
    let change = match loss {
        // A difference that rounds to zero has no sign.
        _ if percent < 0.05 => "perplexity the same".to_owned(),
        loss if loss > 0.0 => format!("perplexity {percent:.1}\u{a0}% above"),
        _ => format!("perplexity {percent:.1}\u{a0}% below"),
    };
    format!("{} smaller than {against} in float32, {change}{mark}", ratio(smaller))
}

#[cfg(test)]
mod tests {
    use super::super::canvas::NARROW;
    use super::super::labels_tests::assert_clear;
    use super::super::palette::stage_color;
    use super::super::tests::summary;
    use super::*;
    use resnet_bk::config::Against;
    use resnet_bk::summary::Baseline;

    /// A summary of 12 stages with these bytes and perplexities; the last one is packed.
    fn run(values: impl Fn(usize) -> (u64, f64)) -> Summary {
        let mut summary = summary();
        let stage = summary.stages[1].clone();
        summary.stages = (1..=12)
            .map(|number| {
                let (weights_bytes, valid_perplexity) = values(number);
                resnet_bk::summary::StageSummary { stage: number, weights_bytes, valid_perplexity, ..stage.clone() }
            })
            .collect();
        (summary.artifact.bytes_weights, summary.artifact.valid_perplexity) = values(12);
        summary
    }

    #[test]
    fn twelve_stages_have_uncovered_labels() {
        let runs: [(&str, Summary); 5] = [
            ("each smaller and worse", run(|n| (16_000_000 >> n, 270.0 + 8.0 * n as f64))),
            ("all alike", run(|_| (2_000_000, 290.0))),
            ("pairs", run(|n| (16_000_000 >> (n / 2), 250.0 + 30.0 * (n / 2) as f64))),
            ("of one size", run(|n| (2_000_000, 200.0 * 1.1f64.powi(n as i32)))),
            ("equally good", run(|n| (16_000_000 >> n, 279.4))),
        ];
        for (name, summary) in runs {
            for format in [WIDE, NARROW] {
                let scene = arrange(&of_run(&summary, format), format);
                let mut obstacles = Obstacles { marks: scene.marks.iter().map(Mark::area).collect(), lines: vec![] };
                obstacles.add_line(&scene.path);
                assert_clear(&format!("{name}, {} wide", format.width), &scene.labels, &obstacles, scene.plot.area);
                assert_eq!(scene.labels.labels.len(), scene.marks.len() + scene.levels.len());
                for number in 1..=12 {
                    let shown = scene.marks.iter().filter(|mark| mark.colors().contains(&stage_color(number))).count();
                    assert_eq!(shown, 1, "{name}: stage {number}");
                }
                assert!(
                    scene.marks.iter().all(|mark| scene.plot.area.contains(&mark.area())),
                    "{name}: a mark is outside"
                );
            }
        }
    }

    #[test]
    fn baselines_have_their_own_marks() {
        let mut summary = summary();
        let roles = |summary: &Summary| -> Vec<Role> { models(summary, WIDE).iter().map(|model| model.role).collect() };
        assert_eq!(roles(&summary)[..3], [Role::First, Role::Int8, Role::Stage(1)], "the first one is the best one");
        let mut best = summary.baselines.first.measured().expect("a baseline").clone();
        best.valid_perplexity = 120.0;
        summary.baselines.best = Baseline::Measured(best);
        assert_eq!(roles(&summary)[..3], [Role::First, Role::Best, Role::Int8]);
        summary.baselines.first = Baseline::missing("another text");
        summary.baselines.int8 = Baseline::missing("another text");
        assert_eq!(roles(&summary)[..2], [Role::Best, Role::Stage(1)]);
    }

    #[test]
    fn the_title_names_the_baseline_of_the_ratio() {
        let mut summary = summary();
        assert_eq!(title(&summary), "99.8x smaller than the best float model in float32, perplexity 6.9\u{a0}% above");
        summary.target.against = Against::Baseline;
        assert!(title(&summary).contains("than the first model"));
        summary.loss = Some(-1e-9);
        assert!(title(&summary).ends_with("perplexity the same"));
        summary.ratio = None;
        assert_eq!(title(&summary), "the first model was not measured on this text");
    }

    #[test]
    fn a_distant_ngram_baseline_is_named_without_extending_the_axis() {
        let scene = arrange(&of_run(&summary(), WIDE), WIDE);
        assert_eq!(scene.levels.len(), 2);
        let area = scene.plot.area;
        assert!(!(area.top..area.bottom).contains(&scene.plot.y.pixel(940.1)));
    }
}
