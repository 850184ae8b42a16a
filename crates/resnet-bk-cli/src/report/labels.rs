//! Places labels near what they name, without overlaps.
//!
//! Positions on a lattice are tried, the nearest first. A label never covers a mark or another
//! label and is never outside the plot. It also avoids lines. If this is impossible, it covers a
//! line with a white background. A label that is not beside its mark is joined to it by a leader.
//! Leaders go around other labels, or under them if there is no other way.

use super::area::{Area, Pixel, Segment};
use super::canvas::Canvas;
use super::label_costs::{candidates, penalty};
use super::palette::{FAINT, PAPER};
use anyhow::Result;
use plotters::style::RGBColor;

/// Free pixels around a label.
pub const MARGIN: i32 = 4;
/// A label at a larger distance from its mark gets a leader.
pub const BESIDE: f64 = 16.0;

/// The thing that a label names.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// A mark with its radius.
    Mark(Pixel, i32),
    /// A horizontal line with its row.
    Level(i32),
}

/// A label to place.
#[derive(Clone, Debug)]
pub struct Label {
    /// The thing that it names.
    pub anchor: Anchor,
    /// Its lines of text with their colors.
    pub lines: Vec<(String, RGBColor)>,
}

/// A placed label.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The rectangle of the label.
    pub area: Area,
    /// The leader to its mark, if any.
    pub leader: Option<Segment>,
    lines: Vec<(String, RGBColor)>,
}

/// Things that labels must not cover.
#[derive(Clone, Debug, Default)]
pub struct Obstacles {
    /// Marks.
    pub marks: Vec<Area>,
    /// Lines.
    pub lines: Vec<Segment>,
}

impl Obstacles {
    /// Adds a polyline.
    pub fn add_line(&mut self, points: &[Pixel]) {
        self.lines.extend(points.windows(2).map(|ends| (ends[0], ends[1])));
    }
}

/// Requirements on the position of a label. Each includes the ones before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    /// The label covers no mark and no other label.
    Uncovered,
    /// Its leader goes under no other label.
    FreeLeader,
    /// It covers no line.
    OffLines,
}

/// Cost of dropping a requirement.
const DROPPED_REQUIREMENT: f64 = 1_000.0;

/// Placed labels.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The placed labels; `None` if there was no room.
    pub labels: Vec<Option<Placed>>,
    /// Whether all labels are placed, cover no line, and no leader goes under a label. If not,
    /// shorter labels may help.
    pub is_clear: bool,
}

/// Places labels one after the other. The result depends on the order, so several are tried: along
/// and across the picture, from the center, and, if requirements are dropped, random orders.
pub fn place(labels: &[Label], obstacles: &Obstacles, bounds: Area, text: i32) -> Placement {
    const SHUFFLES: u32 = 20;
    let candidates: Vec<_> = labels.iter().map(|label| candidates(label, bounds, text)).collect();
    let order = |key: &dyn Fn(usize) -> i32| {
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by_key(|&index| key(index));
        order
    };
    let from_middle = |index: usize| {
        let (x, y) = labels[index].anchor.place();
        let middle = (i32::midpoint(bounds.left, bounds.right), i32::midpoint(bounds.top, bounds.bottom));
        (x - middle.0).abs() + (y - middle.1).abs()
    };
    let (x, y) = (|index: usize| labels[index].anchor.place().0, |index: usize| labels[index].anchor.place().1);
    let sorted = [
        order(&|_| 0),
        order(&x),
        order(&|index| -x(index)),
        order(&y),
        order(&|index| -y(index)),
        order(&from_middle),
        order(&|index| -from_middle(index)),
    ];
    let shuffled = (1..=SHUFFLES).map(|seed| order(&|index| shuffle(seed, index as u32)));
    let attempt = |order: Vec<usize>| place_in_order(labels, &candidates, &order, obstacles);
    let mut best = sorted.into_iter().map(attempt).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    for order in shuffled {
        if best.0 < DROPPED_REQUIREMENT {
            break;
        }
        let next = attempt(order);
        if next.0 < best.0 {
            best = next;
        }
    }
    Placement { is_clear: best.0 < DROPPED_REQUIREMENT, labels: best.1 }
}

/// A pseudorandom number, equal in every run.
fn shuffle(seed: u32, index: u32) -> i32 {
    let mixed = (seed.wrapping_mul(0x9e37_79b9) ^ index.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0x27d4_eb2f) >> 1) as i32
}

/// Places the labels in one order and returns the total cost.
fn place_in_order(
    labels: &[Label],
    candidates: &[Vec<(f64, Area)>],
    order: &[usize],
    obstacles: &Obstacles,
) -> (f64, Vec<Option<Placed>>) {
    let mut obstacles = obstacles.clone();
    let mut taken: Vec<Area> = Vec::new();
    let mut total = 0.0;
    let mut all = vec![None; labels.len()];
    for &index in order {
        for requirement in [Requirement::OffLines, Requirement::FreeLeader, Requirement::Uncovered] {
            if let Some((cost, placed)) = search(&labels[index], &candidates[index], &obstacles, &taken, requirement) {
                total += cost;
                taken.push(placed.area);
                obstacles.lines.extend(placed.leader);
                all[index] = Some(placed);
                break;
            }
            total += DROPPED_REQUIREMENT;
        }
    }
    (total, all)
}

fn search(
    label: &Label,
    candidates: &[(f64, Area)],
    obstacles: &Obstacles,
    taken: &[Area],
    requirement: Requirement,
) -> Option<(f64, Placed)> {
    let mut best: Option<(f64, Placed)> = None;
    for &(cost, area) in candidates {
        if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
            break;
        }
        let room = area.with_margin(MARGIN);
        let is_covered =
            obstacles.marks.iter().any(|mark| mark.intersects(&room)) || taken.iter().any(|t| t.intersects(&room));
        if is_covered
            || requirement >= Requirement::OffLines && obstacles.lines.iter().any(|&line| room.is_crossed(line))
        {
            continue;
        }
        let (gap, leader) = label.anchor.reach(&area);
        let leader = (gap > BESIDE).then_some(leader);
        let is_under = |leader| taken.iter().any(|t| t.with_margin(MARGIN).is_crossed(leader));
        if requirement >= Requirement::FreeLeader && leader.is_some_and(is_under) {
            continue;
        }
        let cost = cost + penalty(label, &area, leader, obstacles);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, Placed { area, leader, lines: label.lines.clone() }));
        }
    }
    best
}

/// Draws labels with a white background, above all leaders.
pub fn draw(placement: &Placement, canvas: &Canvas, text: i32) -> Result<()> {
    for (from, to) in placement.labels.iter().flatten().filter_map(|label| label.leader) {
        canvas.line(&[from, to], FAINT, 1)?;
    }
    for label in placement.labels.iter().flatten() {
        canvas.fill(label.area, PAPER)?;
        canvas.lines(&label.lines, (label.area.left, label.area.top), text)?;
    }
    Ok(())
}
