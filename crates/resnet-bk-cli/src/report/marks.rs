//! Marks of a run's models. Overlapping marks are merged into one with the colors of all its
//! stages.

use super::area::{Area, Pixel};
use super::canvas::Canvas;
use super::frame::{DOT, Symbol};
use super::palette::{INK, stage_color};
use anyhow::Result;
use plotters::style::RGBColor;

/// Half the width of the outlines around a dot.
const OUTLINE: i32 = 22;
/// Distance from the center of the triangle around a dot to its corners.
const TRIANGLE: i32 = 28;

/// Role of a model in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The model after this stage: a dot in the stage's color.
    Stage(usize),
    /// The first model in float32: a square.
    First,
    /// The best float model: a circle.
    Best,
    /// The best float model rounded to int8: a triangle.
    Int8,
    /// The packed model: a diamond.
    Artifact,
    /// The packed model of one of several runs, by its number from 1: a dot in a color of its own.
    Run(usize),
}

impl Role {
    fn color(self) -> RGBColor {
        if let Self::Stage(number) | Self::Run(number) = self { stage_color(number) } else { INK }
    }

    /// Its symbol in a legend.
    pub fn symbol(self) -> Symbol {
        match self {
            Self::Stage(number) | Self::Run(number) => Symbol::Dot(stage_color(number)),
            Self::First => Symbol::Square,
            Self::Best => Symbol::Circle,
            Self::Int8 => Symbol::Triangle,
            Self::Artifact => Symbol::Diamond,
        }
    }
}

/// A model in the picture.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its role.
    pub role: Role,
    /// Text of its label.
    pub text: String,
    /// Shorter text, if there is not enough room.
    pub short: String,
    /// Its position.
    pub place: Pixel,
}

/// A mark for one or more models.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its position: that of its first model.
    pub place: Pixel,
    /// Its models.
    pub points: Vec<Point>,
}

/// Merges models whose marks would overlap.
pub fn merge(points: Vec<Point>) -> Vec<Mark> {
    let mark = |point: Point| Mark { place: point.place, points: vec![point] };
    let mut marks: Vec<Mark> = points.into_iter().map(mark).collect();
    // A merged mark is larger, so it may overlap further marks.
    while let Some((first, second)) = overlap(&marks) {
        let points = marks.remove(second).points;
        marks[first].points.extend(points);
    }
    marks
}

/// Indices of two overlapping marks.
fn overlap(marks: &[Mark]) -> Option<(usize, usize)> {
    let pairs = (0..marks.len()).flat_map(|first| (first + 1..marks.len()).map(move |second| (first, second)));
    pairs.into_iter().find(|&(first, second)| marks[first].area().intersects(&marks[second].area()))
}

impl Mark {
    /// Half of its width.
    pub fn radius(&self) -> i32 {
        let radius = |point: &Point| match point.role {
            Role::Stage(_) | Role::Run(_) => DOT + 3,
            Role::Int8 => TRIANGLE + 2,
            Role::First | Role::Best | Role::Artifact => OUTLINE + 2,
        };
        self.points.iter().map(radius).max().unwrap_or(0)
    }

    /// The rectangle of the mark.
    pub fn area(&self) -> Area {
        Area::around(self.place, self.radius())
    }

    /// Lines of its label. The line of a stage or a run has its color.
    pub fn lines(&self) -> Vec<(String, RGBColor)> {
        self.points.iter().map(|point| (point.text.clone(), point.role.color())).collect()
    }

    /// One line for the label, with stages by number, such as `1-3, 5, model.rbk`.
    pub fn short_line(&self) -> (String, RGBColor) {
        let mut parts: Vec<(String, Option<usize>)> = Vec::new();
        for point in &self.points {
            let Role::Stage(number) = point.role else {
                parts.push((point.short.clone(), None));
                continue;
            };
            match parts.last_mut() {
                Some((text, last)) if *last == Some(number.saturating_sub(1)) => {
                    let first = text.split('-').next().unwrap_or_default();
                    (*text, *last) = (format!("{first}-{number}"), Some(number));
                }
                _ => parts.push((number.to_string(), Some(number))),
            }
        }
        let text: Vec<String> = parts.into_iter().map(|(text, _)| text).collect();
        let color = if let [point] = self.points.as_slice() { point.role.color() } else { INK };
        (text.join(", "), color)
    }

    /// Colors of the dot, one per stage or run.
    pub fn colors(&self) -> Vec<RGBColor> {
        let stages = self.points.iter().filter_map(|point| match point.role {
            Role::Stage(number) | Role::Run(number) => Some(stage_color(number)),
            Role::First | Role::Best | Role::Int8 | Role::Artifact => None,
        });
        stages.collect()
    }

    /// Draws the mark.
    pub fn draw(&self, canvas: &Canvas) -> Result<()> {
        let has = |role| self.points.iter().any(|point| point.role == role);
        if has(Role::First) {
            canvas.square(self.place, OUTLINE - 5)?;
        }
        if has(Role::Best) {
            canvas.ring(self.place, INK, OUTLINE - 3)?;
        }
        if has(Role::Int8) {
            canvas.triangle(self.place, TRIANGLE)?;
        }
        if has(Role::Artifact) {
            canvas.diamond(self.place, OUTLINE)?;
        }
        match self.colors() {
            colors if colors.is_empty() => canvas.dot(self.place, &[INK], 4),
            colors => canvas.dot(self.place, &colors, DOT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(role: Role, place: Pixel) -> Point {
        Point { role, text: format!("{role:?}"), short: String::new(), place }
    }

    #[test]
    fn overlapping_models_share_a_mark_with_all_colors() {
        let marks = merge(vec![
            point(Role::First, (100, 100)),
            point(Role::Stage(1), (100, 100)),
            point(Role::Stage(3), (110, 105)),
            point(Role::Stage(2), (300, 100)),
            point(Role::Artifact, (301, 100)),
        ]);
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[0].colors(), [stage_color(1), stage_color(3)]);
        let lines = marks[0].lines();
        assert_eq!(lines[2], ("Stage(3)".to_owned(), stage_color(3)));
        assert_eq!((lines[0].1, marks[1].colors()), (INK, vec![stage_color(2)]));
    }

    #[test]
    fn consecutive_stages_are_written_as_a_range() {
        let roles = [1, 2, 3, 5, 7, 8].map(Role::Stage).into_iter().chain([Role::Artifact]);
        let points = roles.map(|role| Point { short: "model.rbk".to_owned(), ..point(role, (0, 0)) });
        assert_eq!(merge(points.collect())[0].short_line(), ("1-3, 5, 7-8, model.rbk".to_owned(), INK));
        assert_eq!(merge(vec![point(Role::Stage(4), (0, 0))])[0].short_line(), ("4".to_owned(), stage_color(4)));
    }

    #[test]
    fn marks_do_not_cover_each_other() {
        let role = |n| if n % 9 == 8 { Role::First } else { Role::Stage(n as usize) };
        let marks = merge((0..40).map(|n| point(role(n), (n * 37 % 900, n * 61 % 700))).collect());
        assert!(marks.len() > 10 && marks.iter().map(|mark| mark.points.len()).sum::<usize>() == 40);
        for (index, mark) in marks.iter().enumerate() {
            assert!(marks[..index].iter().all(|other| !other.area().intersects(&mark.area())), "{:?}", mark.place);
        }
    }
}
