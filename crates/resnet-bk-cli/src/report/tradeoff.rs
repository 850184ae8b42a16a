//! Bytes of the weights against perplexity: the way from the baseline to the artifact, above the floors.

use super::axis::Axis;
use super::canvas::{Align, COLOURS, Canvas, FAINT, INK, horizontal, paint, vertical};
use crate::printer::{grouped, perplexity, ratio};
use crate::tables::mark;
use anyhow::Result;
use resnet_bk::summary::Summary;

struct Point {
    name: String,
    bytes: f64,
    valid: f64,
}

/// Draws the picture and returns its PNG file.
pub fn draw(summary: &Summary) -> Result<Vec<u8>> {
    let points = points(summary);
    let floors = [("unigram", summary.floors.unigram), ("bigram", summary.floors.bigram)];
    let valid = points.iter().map(|point| point.valid).chain(floors.map(|floor| floor.1));
    let x = Axis::logarithmic(points.iter().map(|point| point.bytes), horizontal());
    let y = Axis::logarithmic(valid, vertical());
    let bytes: Vec<(f64, String)> = x.ticks(7).iter().map(|&bytes| (bytes, short_bytes(bytes))).collect();
    let perplexities: Vec<(f64, String)> = y.ticks(7).iter().map(|&value| (value, short(value))).collect();
    paint(|canvas| {
        canvas.frame(
            &format!("{} smaller, {}", ratio(summary.ratio), verdict(summary)),
            (&x, "bytes of weights (logarithmic)", &bytes),
            (&y, &format!("valid perplexity{}, logarithmic; less is better", mark(summary.causality)), &perplexities),
        )?;
        for (name, value) in floors {
            let (left, right) = horizontal();
            let height = y.pixel(value);
            canvas.dashed((left, height), (right, height), FAINT)?;
            let label = format!("{name} {}", perplexity(value));
            canvas.text(&label, (right - 8, height - 20), Align::Right, FAINT)?;
        }
        let places: Vec<(i32, i32)> = points.iter().map(|point| (x.pixel(point.bytes), y.pixel(point.valid))).collect();
        canvas.line(&places, FAINT, 2)?;
        for (index, &place) in places.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            if index == 0 || index + 1 == places.len() {
                canvas.diamond(place, colour, 15)?;
            } else {
                canvas.dot(place, colour, 10)?;
            }
        }
        label(canvas, &points, &places)
    })
}

/// The baseline, each stage and the artifact.
fn points(summary: &Summary) -> Vec<Point> {
    let point = |name: String, bytes: u64, valid: f64| Point { name, bytes: bytes as f64, valid };
    let baseline = &summary.baseline;
    let mut points = vec![point("baseline".to_owned(), baseline.float32_bytes, baseline.valid_perplexity)];
    let artifact = &summary.artifact;
    points.extend(
        summary.stages.iter().map(|s| point(format!("{} {}", s.stage, s.kind), s.weights_bytes, s.valid_perplexity)),
    );
    points.push(point("model.rbk".to_owned(), artifact.bytes_weights, artifact.valid_perplexity));
    points
}

/// Writes the points' names beside them. One that would cover another label moves on to the next free line.
fn label(canvas: &Canvas, points: &[Point], places: &[(i32, i32)]) -> Result<()> {
    const LINE: i32 = 32;
    /// Room that is kept for a label, in pixels.
    const WIDTH: i32 = 430;
    let (left, right) = horizontal();
    let mut taken: Vec<(i32, i32)> = Vec::new();
    for (index, (point, &(x, y))) in points.iter().zip(places).enumerate() {
        let text = format!("{}: {} bytes, {}", point.name, grouped(point.bytes as u64), perplexity(point.valid));
        let is_free = |candidate: i32| {
            let covers = |&(other_x, other_y): &(i32, i32)| {
                (other_x - x).abs() < WIDTH && (other_y - candidate).abs() < LINE
            };
            !taken.iter().any(covers)
        };
        let (bottom, top) = vertical();
        let offsets = (1..40).flat_map(|n| [-n * LINE, n * LINE]);
        let mut candidates = offsets.map(|offset| y + offset).filter(|y| (top + LINE..bottom - LINE).contains(y));
        let height = candidates.find(|&candidate| is_free(candidate)).unwrap_or(y - LINE);
        taken.push((x, height));
        let align = if x - left < WIDTH / 2 {
            Align::Left
        } else if right - x < WIDTH / 2 {
            Align::Right
        } else {
            Align::Centre
        };
        let is_end = index == 0 || index + 1 == points.len();
        canvas.text(&text, (x, height), align, if is_end { INK } else { FAINT })?;
    }
    Ok(())
}

fn verdict(summary: &Summary) -> String {
    let percent = 100.0 * summary.loss.abs();
    let direction = if summary.loss > 0.0 { "above" } else { "below" };
    format!("perplexity {percent:.1} % {direction} the baseline{}", mark(summary.causality))
}

fn short_bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e6 => format!("{} MB", short(b / 1e6)),
        b if b >= 1e3 => format!("{} kB", short(b / 1e3)),
        b => format!("{} B", short(b)),
    }
}

fn short(value: f64) -> String {
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
