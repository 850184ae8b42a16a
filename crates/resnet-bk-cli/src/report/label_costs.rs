//! Where a label could stand, and what each place costs: its distance, and whatever makes it hard
//! to see what the label names.

use super::area::{Area, Pixel, Segment, cross, distance};
use super::labels::{Anchor, BESIDE, Label, MARGIN, Obstacles};
use super::text::{height, width};

/// Pixels between the places that are tried.
const LATTICE: usize = 6;

/// Rectangles for the label by their distances from what it names, which count as costs.
pub fn candidates(label: &Label, bounds: Area, text: i32) -> Vec<(f64, Area)> {
    /// Beside a mark is better than above or below it.
    const STACKED: f64 = 3.0;
    /// A name below a line may be taken for that of the next one.
    const BELOW_LINE: f64 = 80.0;
    let (width, height) = label.size(text);
    let inside = bounds.grown(-MARGIN);
    let at = |left: i32, top: i32| Area { left, top, right: left + width, bottom: top + height };
    let columns = (inside.left..=inside.right - width).step_by(LATTICE);
    let rows = || (inside.top..=inside.bottom - height).step_by(LATTICE);
    let mut areas: Vec<Area> = columns.flat_map(|left| rows().map(move |top| at(left, top))).collect();
    let gap = MARGIN + 4;
    match label.anchor {
        Anchor::Mark((x, y), radius) => {
            let (beside, stacked) = (radius + gap, radius + gap + height / 2);
            for middle in [y, y - stacked, y + stacked] {
                areas.push(at(x + beside, middle - height / 2));
                areas.push(at(x - beside - width, middle - height / 2));
                areas.push(at(x - width / 2, middle - height / 2));
            }
        }
        Anchor::Level(row) => {
            for left in (inside.left..=inside.right - width).step_by(LATTICE) {
                areas.push(at(left, row - gap - height));
                areas.push(at(left, row + gap));
            }
        }
    }
    areas.retain(|area| inside.holds(area));
    let cost = |area: Area| {
        let (gap, _) = label.anchor.reach(&area);
        let preference = match label.anchor {
            Anchor::Mark((_, y), _) if area.top < y && area.bottom > y => 0.0,
            Anchor::Mark(..) => STACKED,
            // Lines are named at their left ends, above them.
            Anchor::Level(row) => {
                f64::from(area.left - inside.left) / 20.0 + if area.top < row { 0.0 } else { BELOW_LINE }
            }
        };
        (gap + preference, area)
    };
    let mut candidates: Vec<(f64, Area)> = areas.into_iter().map(cost).collect();
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates
}

/// What makes a free place worse than its distance.
pub fn penalty(label: &Label, area: &Area, leader: Option<Segment>, obstacles: &Obstacles) -> f64 {
    const JOINED: f64 = 30.0;
    const CROSSES_LINE: f64 = 25.0;
    const CROSSES_MARK: f64 = 300.0;
    const NEAR_ANOTHER: f64 = 40.0;
    let is_own = |mark: &Area| matches!(label.anchor, Anchor::Mark((x, y), _) if mark.nearest((x, y)) == (x, y));
    let others = || obstacles.marks.iter().filter(|mark| !is_own(mark));
    let mut cost = 0.0;
    if let Some(leader) = leader {
        cost += JOINED;
        cost += CROSSES_MARK * others().filter(|mark| mark.is_crossed(leader)).count() as f64;
        let crossed = obstacles.lines.iter().filter(|&&line| cross(line, leader));
        cost += CROSSES_LINE * crossed.count() as f64;
    } else if others().any(|mark| mark.meets(&area.grown(BESIDE as i32))) {
        cost += NEAR_ANOTHER;
    }
    cost
}

impl Label {
    /// Width and height.
    fn size(&self, text: i32) -> (i32, i32) {
        let width = self.lines.iter().map(|(line, _)| width(line, text)).max().unwrap_or(0);
        (width, height(text) * self.lines.len() as i32)
    }
}

impl Anchor {
    /// A place by which labels are ordered.
    pub fn place(self) -> Pixel {
        match self {
            Self::Mark(place, _) => place,
            Self::Level(row) => (0, row),
        }
    }

    /// From the edge of what is named to a rectangle, and the line that would join them.
    pub fn reach(self, area: &Area) -> (f64, Segment) {
        let (from, radius) = match self {
            Self::Mark(place, radius) => (place, radius),
            Self::Level(row) => ((i32::midpoint(area.left, area.right), row), 0),
        };
        let to = area.nearest(from);
        let length = distance(from, to);
        // From the rim, not from the middle of the mark.
        let share = if length > 0.0 { (f64::from(radius) / length).min(1.0) } else { 1.0 };
        let along = |a: i32, b: i32| a + (f64::from(b - a) * share).round() as i32;
        ((length - f64::from(radius)).max(0.0), ((along(from.0, to.0), along(from.1, to.1)), to))
    }
}
