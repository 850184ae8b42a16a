//! What stands around the data: the heading with its legend, and plots with grid, ticks and names
//! of axes.

use super::area::Area;
use super::axis::Axis;
use super::canvas::{Canvas, Format};
use super::palette::{FAINT, GRID, INK};
use super::text::{height, width, wrap};
use anyhow::Result;
use plotters::style::RGBColor;

/// Pixels left free at the edges of a picture.
pub const EDGE: i32 = 20;
/// Radius of a round mark.
pub const DOT: i32 = 11;

/// A mark of the legend.
#[derive(Clone, Copy, Debug)]
pub enum Symbol {
    /// A filled one.
    Dot(RGBColor),
    /// An open one.
    Ring(RGBColor),
    /// A square.
    Square,
    /// A circle of ink.
    Circle,
    /// A triangle.
    Triangle,
    /// A square on its tip.
    Diamond,
}

/// Title, notes and legend of a picture, each as long as it takes.
pub struct Heading {
    texts: Vec<(String, i32, RGBColor, i32)>,
    legend: Vec<(Symbol, (i32, i32), String)>,
    format: Format,
    /// The first free row.
    pub bottom: i32,
}

impl Heading {
    /// Lays it out.
    pub fn new(format: Format, title: &str, notes: &[String], legend: &[(Symbol, String)]) -> Self {
        let room = format.width - 2 * EDGE;
        let mut heading = Self { texts: Vec::new(), legend: Vec::new(), format, bottom: EDGE };
        heading.add(title, INK, format.text + 8, room);
        heading.bottom += 4;
        for note in notes {
            heading.add(note, FAINT, format.text, room);
        }
        let mut x = EDGE;
        for (index, (symbol, text)) in legend.iter().enumerate() {
            /// Before an entry's text, and after it.
            const SPACES: [i32; 2] = [34, 30];
            let taken = SPACES[0] + width(text, format.text);
            if index == 0 || x + taken > format.width - EDGE {
                x = EDGE;
                heading.bottom += height(format.text) + 4;
            }
            let middle = heading.bottom - height(format.text) / 2;
            heading.legend.push((*symbol, (x + DOT, middle), text.clone()));
            x += taken + SPACES[1];
        }
        heading
    }

    fn add(&mut self, text: &str, color: RGBColor, size: i32, room: i32) {
        for line in wrap(text, size, room) {
            self.texts.push((line, self.bottom + height(size) / 2, color, size));
            self.bottom += height(size);
        }
    }

    /// Draws it.
    pub fn draw(&self, canvas: &Canvas) -> Result<()> {
        for (text, row, color, size) in &self.texts {
            canvas.text(text, (EDGE, *row), *color, *size)?;
        }
        for (symbol, place, text) in &self.legend {
            match *symbol {
                Symbol::Dot(color) => canvas.dot(*place, &[color], DOT)?,
                Symbol::Ring(color) => canvas.ring(*place, color, DOT)?,
                Symbol::Square => canvas.square(*place, DOT - 2)?,
                Symbol::Circle => canvas.ring(*place, INK, DOT)?,
                Symbol::Triangle => canvas.triangle(*place, DOT + 2)?,
                Symbol::Diamond => canvas.diamond(*place, DOT + 2)?,
            }
            canvas.text(text, (place.0 + 23, place.1), INK, self.format.text)?;
        }
        Ok(())
    }
}

/// An axis and how its values are written.
pub type Scale<'a> = (&'a Axis, &'a dyn Fn(f64) -> String);

/// A rectangle with axes.
pub struct Plot {
    /// The rectangle.
    pub area: Area,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
    ticks: [Vec<(f64, String)>; 2],
    format: Format,
}

impl Plot {
    /// Columns that the values of an upright axis take, with the edge.
    pub fn left_margin(format: Format, rows: i32, (axis, write): Scale) -> i32 {
        let ticks = axis.ticks(Self::count(rows));
        EDGE + 14 + ticks.iter().map(|&value| width(&write(value), format.text)).max().unwrap_or(0)
    }

    /// Rows that values and name of the level axis take, with the edge.
    pub fn bottom_margin(format: Format) -> i32 {
        2 * height(format.text) + 18 + EDGE
    }

    fn count(rows: i32) -> usize {
        (rows / 90).clamp(2, 7) as usize
    }

    /// Lays it out.
    pub fn new(format: Format, area: Area, x: Scale, y: Scale) -> Self {
        let axes = [x.0.over((area.left, area.right)), y.0.over((area.bottom, area.top))];
        let fits = |ticks: &[(f64, String)]| {
            ticks.windows(2).all(|pair| {
                let room = axes[0].pixel(pair[1].0) - axes[0].pixel(pair[0].0);
                room >= i32::midpoint(width(&pair[0].1, format.text), width(&pair[1].1, format.text)) + 20
            })
        };
        let write = |axis: &Axis, count: usize, write: &dyn Fn(f64) -> String| -> Vec<(f64, String)> {
            axis.ticks(count).into_iter().map(|value| (value, write(value))).collect()
        };
        let level =
            (1..=8).rev().map(|count| write(&axes[0], count, x.1)).find(|ticks| fits(ticks)).unwrap_or_default();
        let upright = write(&axes[1], Self::count(area.bottom - area.top), y.1);
        let [x, y] = axes;
        Self { area, x, y, ticks: [level, upright], format }
    }

    /// Grid, axes and values; the name of the level axis, where this is its plot.
    pub fn draw(&self, canvas: &Canvas, name: Option<&str>) -> Result<()> {
        let (Area { left, top, right, bottom }, text) = (self.area, self.format.text);
        for (value, label) in &self.ticks[0] {
            let column = self.x.pixel(*value);
            canvas.line(&[(column, bottom), (column, top)], GRID, 2)?;
            if name.is_some() {
                let width = width(label, text);
                let start = (column - width / 2).clamp(0, self.format.width - width);
                canvas.text(label, (start, bottom + 8 + height(text) / 2), INK, text)?;
            }
        }
        for (value, label) in &self.ticks[1] {
            let row = self.y.pixel(*value);
            canvas.line(&[(left, row), (right, row)], GRID, 2)?;
            canvas.text(label, (left - 12 - width(label, text), row), INK, text)?;
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], INK, 2)?;
        if let Some(name) = name {
            let start = i32::midpoint(left, right) - width(name, text) / 2;
            let start = start.min(self.format.width - EDGE - width(name, text)).max(0);
            canvas.text(name, (start, bottom + 12 + height(text) * 3 / 2), INK, text)?;
        }
        Ok(())
    }
}

/// A perplexity or a number of units at a tick, short.
pub fn short(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

/// Bytes at a tick, short.
pub fn short_bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e6 => format!("{} MB", short(b / 1e6)),
        b if b >= 1e3 => format!("{} kB", short(b / 1e3)),
        b => format!("{} B", short(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::{NARROW, WIDE};
    use super::*;

    #[test]
    fn ticks_are_short() {
        assert_eq!([950.0, 20_000.0, 5e6].map(short_bytes), ["950 B", "20 kB", "5 MB"]);
    }

    #[test]
    fn headings_stay_inside_the_picture() {
        let legend: Vec<(Symbol, String)> =
            (1..=12).map(|n| (Symbol::Dot(super::super::palette::stage_color(n)), format!("{n} distill"))).collect();
        for format in [WIDE, NARROW] {
            let heading = Heading::new(format, &"a long title ".repeat(12), &["notes as well ".repeat(20)], &legend);
            for (text, row, _, size) in &heading.texts {
                assert!(EDGE + width(text, *size) <= format.width && *row < heading.bottom, "{text}");
            }
            for (index, (_, place, text)) in heading.legend.iter().enumerate() {
                let end = place.0 + 23 + width(text, format.text);
                assert!(end <= format.width && place.1 < heading.bottom);
                if let Some((_, next, _)) = heading.legend.get(index + 1) {
                    assert!(next.1 > place.1 || next.0 - DOT > end, "{text} reaches the next entry");
                }
            }
        }
    }

    #[test]
    fn values_of_a_level_axis_stand_apart() {
        for (low, high) in [(1e3, 2e3), (16e4, 17e6), (1.0, 9e9)] {
            let axis = Axis::logarithmic([low, high].into_iter());
            let area = Area { left: 120, top: 0, right: 700, bottom: 400 };
            let plot = Plot::new(NARROW, area, (&axis, &short_bytes), (&axis, &short));
            assert!(plot.ticks[0].len() >= 2, "{low} to {high}: {:?}", plot.ticks[0]);
            for pair in plot.ticks[0].windows(2) {
                let ends =
                    [&pair[0], &pair[1]].map(|(value, text)| (plot.x.pixel(*value), width(text, NARROW.text) / 2));
                assert!(ends[0].0 + ends[0].1 < ends[1].0 - ends[1].1, "{pair:?}");
            }
        }
    }
}
