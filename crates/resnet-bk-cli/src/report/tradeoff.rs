//! Bytes of the weights against perplexity: the way from the baseline to the artifact, and the n-gram baselines.

use super::axis::Axis;
use super::canvas::{Align, COLOURS, FAINT, horizontal, paint, vertical};
use super::labels::{Area, Labels};
use crate::printer::{grouped, perplexity, ratio};
use crate::tables::mark;
use anyhow::Result;
use resnet_bk::summary::Summary;

struct Point {
    name: String,
    bytes: f64,
    valid: f64,
}

/// n-gram baselines further than this factor from every model are named, but do not squeeze the picture.
const NEAR: f64 = 1.5;

/// Draws the picture and returns its PNG file.
pub fn draw(summary: &Summary) -> Result<Vec<u8>> {
    let points = points(summary);
    let ngrams =
        [("unigram", summary.ngrams.unigram), ("bigram", summary.ngrams.bigram), ("trigram", summary.ngrams.trigram)];
    let valid = || points.iter().map(|point| point.valid);
    let (best, worst) = (valid().fold(f64::INFINITY, f64::min), valid().fold(0.0, f64::max));
    let (near, far): (Vec<_>, Vec<_>) =
        ngrams.into_iter().partition(|ngram| (best / NEAR..=worst * NEAR).contains(&ngram.1));
    let x = Axis::logarithmic(points.iter().map(|point| point.bytes), horizontal());
    let y = Axis::logarithmic(valid().chain(near.iter().map(|ngram| ngram.1)), vertical());
    let bytes: Vec<(f64, String)> = x.ticks(7).iter().map(|&bytes| (bytes, short_bytes(bytes))).collect();
    let perplexities: Vec<(f64, String)> = y.ticks(7).iter().map(|&value| (value, short(value))).collect();
    let far: String =
        far.iter().map(|(name, value)| format!("; {name} baseline not shown: {}", perplexity(*value))).collect();
    let mark = mark(summary.causality);
    paint(|canvas| {
        canvas.frame(
            &verdict(summary),
            (&x, "bytes of weights (logarithmic)", &bytes),
            (&y, &format!("valid perplexity{mark}, logarithmic; less is better{far}"), &perplexities),
        )?;
        let mut labels = Labels::default();
        let (left, right) = horizontal();
        for (name, value) in near {
            let height = y.pixel(value);
            canvas.dashed((left, height), (right, height), FAINT)?;
            labels.avoid(Area { left, right, top: height - 3, bottom: height + 3 });
            let label = format!("{name} baseline: {}", perplexity(value));
            labels.avoid(Area::of_label(&label, (left + 14, height - 22), Align::Left));
            canvas.text(&label, (left + 14, height - 22), Align::Left, FAINT)?;
        }
        let places: Vec<(i32, i32)> = points.iter().map(|point| (x.pixel(point.bytes), y.pixel(point.valid))).collect();
        canvas.line(&places, FAINT, 2)?;
        places.windows(2).for_each(|ends| labels.avoid_line(ends[0], ends[1]));
        for (index, &place) in places.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            if index == 0 || index + 1 == places.len() {
                canvas.diamond(place, colour, 15)?;
            } else {
                canvas.dot(place, colour, 10)?;
            }
            labels.avoid(Area { left: place.0 - 16, right: place.0 + 16, top: place.1 - 16, bottom: place.1 + 16 });
        }
        for (index, (point, &place)) in points.iter().zip(&places).enumerate() {
            let text = format!("{}: {} bytes, {}", point.name, grouped(point.bytes as u64), perplexity(point.valid));
            labels.write(canvas, &text, place, COLOURS[index % COLOURS.len()])?;
        }
        Ok(())
    })
}

/// The baseline, each stage and the artifact. A stage that looks like the baseline or the artifact shares its mark.
fn points(summary: &Summary) -> Vec<Point> {
    let artifact = &summary.artifact;
    let point = |name: &str, bytes: u64, valid: f64| Point { name: name.to_owned(), bytes: bytes as f64, valid };
    let baseline = summary.baselines.of(summary.target.against).measured();
    let mut points: Vec<Point> = baseline
        .map(|baseline| point("baseline", baseline.weights_bytes, baseline.valid_perplexity))
        .into_iter()
        .collect();
    let mut last = point("model.rbk", artifact.bytes_weights, artifact.valid_perplexity);
    for stage in &summary.stages {
        let name = format!("{} {}", stage.stage, stage.kind);
        let point = point(&name, stage.weights_bytes, stage.valid_perplexity);
        if points.first().is_some_and(|first| point.covers(first)) {
            points[0].name += &format!(", {name}");
        } else if point.covers(&last) {
            last.name = format!("{name}, {}", last.name);
        } else {
            points.push(point);
        }
    }
    points.push(last);
    points
}

impl Point {
    /// Whether two marks would lie on each other: within 2 % both ways.
    fn covers(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.02;
        near(self.bytes, other.bytes) && near(self.valid, other.valid)
    }
}

fn verdict(summary: &Summary) -> String {
    let (against, mark) = (summary.target.against, mark(summary.causality));
    let Some((smaller, loss)) = summary.ratio.zip(summary.loss) else {
        return format!("{against} was not measured on this text{mark}");
    };
    let direction = if loss > 0.0 { "above" } else { "below" };
    format!("{} smaller, perplexity {:.1} % {direction} {against}{mark}", ratio(smaller), 100.0 * loss.abs())
}

pub(super) fn short_bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e6 => format!("{} MB", short(b / 1e6)),
        b if b >= 1e3 => format!("{} kB", short(b / 1e3)),
        b => format!("{} B", short(b)),
    }
}

pub(super) fn short(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        assert_eq!([950.0, 20_000.0, 5e6].map(short_bytes), ["950 B", "20 kB", "5 MB"]);
    }
}
