//! Labels beside their points, where nothing else is.

use super::canvas::{Align, Canvas, horizontal, vertical, width};
use anyhow::Result;
use plotters::style::RGBColor;

/// Height of a label, in pixels.
const LINE: i32 = 34;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// First column.
    pub left: i32,
    /// Last column.
    pub right: i32,
    /// First row.
    pub top: i32,
    /// Last row.
    pub bottom: i32,
}

impl Area {
    /// What a label takes.
    pub fn of_label(text: &str, (x, y): (i32, i32), align: Align) -> Self {
        let width = width(text);
        let left = match align {
            Align::Left => x,
            Align::Centre => x - width / 2,
            Align::Right => x - width,
        };
        Self { left, right: left + width, top: y - LINE / 2, bottom: y + LINE / 2 }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn is_inside(&self) -> bool {
        let ((left, right), (bottom, top)) = (horizontal(), vertical());
        self.left >= left && self.right <= right && self.top >= top && self.bottom <= bottom
    }
}

/// The labels of a picture, and what they must not cover.
#[derive(Default)]
pub struct Labels {
    taken: Vec<Area>,
}

impl Labels {
    /// Keeps labels away from an area.
    pub fn avoid(&mut self, area: Area) {
        self.taken.push(area);
    }

    /// Keeps labels away from a straight line.
    pub fn avoid_line(&mut self, from: (i32, i32), to: (i32, i32)) {
        const STEP: i32 = 8;
        let steps = ((to.0 - from.0).abs().max((to.1 - from.1).abs()) / STEP).max(1);
        for n in 0..=steps {
            let (x, y) = (from.0 + (to.0 - from.0) * n / steps, from.1 + (to.1 - from.1) * n / steps);
            self.avoid(Area { left: x - STEP / 2, right: x + STEP / 2, top: y - STEP / 2, bottom: y + STEP / 2 });
        }
    }

    /// Writes a label beside, above or below its point, at the next free place.
    pub fn write(&mut self, canvas: &Canvas, text: &str, (x, y): (i32, i32), colour: RGBColor) -> Result<()> {
        /// From the middle of a mark to a label beside it, in pixels.
        const BESIDE: i32 = 24;
        let beside = [((x + BESIDE, y), Align::Left), ((x - BESIDE, y), Align::Right)];
        let heights = (1..30).flat_map(|n| [y - n * LINE, y + n * LINE]);
        let sides = [Align::Centre, Align::Left, Align::Right];
        let stacked = heights.flat_map(|height| sides.map(|align| ((x, height), align)));
        let free = beside.into_iter().chain(stacked).find(|&(place, align)| {
            let area = Area::of_label(text, place, align);
            area.is_inside() && !self.taken.iter().any(|taken| taken.meets(&area))
        });
        // Where there is no room at all, a covered label is better than none.
        let (place, align) = free.unwrap_or(((x, y - LINE), Align::Centre));
        self.avoid(Area::of_label(text, place, align));
        canvas.text(text, place, align, colour)
    }
}
