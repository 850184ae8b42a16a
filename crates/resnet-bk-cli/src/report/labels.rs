//! Labels near what they name, where nothing covers them.
//!
//! Every place of a lattice is tried, from the nearest on. A label never lies on a mark, on another
//! label or outside the plot. It keeps clear of lines as well; only where there is no such place,
//! it lies on a line, on paper of its own, so that it is the line that is interrupted. A label that
//! is not beside its mark is joined to it by a leader, which runs around the other labels, or,
//! where these shut it in, under them.

use super::area::{Area, Pixel, Segment};
use super::canvas::Canvas;
use super::label_costs::{candidates, penalty};
use super::palette::{FAINT, PAPER};
use anyhow::Result;
use plotters::style::RGBColor;

/// Pixels around a label that stay free.
pub const MARGIN: i32 = 4;
/// A label that is further from its mark is joined to it by a line.
pub const BESIDE: f64 = 16.0;

/// What a label names.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// A mark, with its radius.
    Mark(Pixel, i32),
    /// A level line, with its row.
    Level(i32),
}

/// A label that looks for a place.
#[derive(Clone, Debug)]
pub struct Label {
    /// What it names.
    pub anchor: Anchor,
    /// Its lines and their colors.
    pub lines: Vec<(String, RGBColor)>,
}

/// A label that has a place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What it covers.
    pub area: Area,
    /// The line that joins it to its mark.
    pub leader: Option<Segment>,
    lines: Vec<(String, RGBColor)>,
}

/// What labels keep away from.
#[derive(Clone, Debug, Default)]
pub struct Obstacles {
    /// Marks.
    pub marks: Vec<Area>,
    /// Lines.
    pub lines: Vec<Segment>,
}

impl Obstacles {
    /// Adds a line through the points.
    pub fn add_line(&mut self, points: &[Pixel]) {
        self.lines.extend(points.windows(2).map(|ends| (ends[0], ends[1])));
    }
}

/// How much is asked of a place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Demands {
    /// The label is on no mark and no other label.
    Uncovered,
    /// Its leader runs under no other label, too.
    FreeLeader,
    /// And it is on no line.
    OffLines,
}

/// Cost of giving up a demand.
const DEMAND: f64 = 1_000.0;

/// Labels with their places.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Their places, `None` where there is no room at all.
    pub labels: Vec<Option<Placed>>,
    /// Whether all have a place, on no line, and no leader runs under one of them. Where they have
    /// not, shorter labels may.
    pub is_clear: bool,
}

/// Finds places. One label is placed after the other; which comes first matters, so orders are
/// tried: along and across the picture, from its middle, and, while demands are given up, shuffled
/// ones.
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
        if best.0 < DEMAND {
            break;
        }
        let next = attempt(order);
        if next.0 < best.0 {
            best = next;
        }
    }
    Placement { is_clear: best.0 < DEMAND, labels: best.1 }
}

/// A number that looks random, the same in every run.
fn shuffle(seed: u32, index: u32) -> i32 {
    let mixed = (seed.wrapping_mul(0x9e37_79b9) ^ index.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0x27d4_eb2f) >> 1) as i32
}

/// Places and their costs together.
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
        for demands in [Demands::OffLines, Demands::FreeLeader, Demands::Uncovered] {
            if let Some((cost, placed)) = search(&labels[index], &candidates[index], &obstacles, &taken, demands) {
                total += cost;
                taken.push(placed.area);
                obstacles.lines.extend(placed.leader);
                all[index] = Some(placed);
                break;
            }
            total += DEMAND;
        }
    }
    (total, all)
}

fn search(
    label: &Label,
    candidates: &[(f64, Area)],
    obstacles: &Obstacles,
    taken: &[Area],
    demands: Demands,
) -> Option<(f64, Placed)> {
    let mut best: Option<(f64, Placed)> = None;
    for &(cost, area) in candidates {
        if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
            break;
        }
        let room = area.grown(MARGIN);
        let is_covered = obstacles.marks.iter().any(|mark| mark.meets(&room)) || taken.iter().any(|t| t.meets(&room));
        if is_covered || demands >= Demands::OffLines && obstacles.lines.iter().any(|&line| room.is_crossed(line)) {
            continue;
        }
        let (gap, leader) = label.anchor.reach(&area);
        let leader = (gap > BESIDE).then_some(leader);
        let is_under = |leader| taken.iter().any(|t| t.grown(MARGIN).is_crossed(leader));
        if demands >= Demands::FreeLeader && leader.is_some_and(is_under) {
            continue;
        }
        let cost = cost + penalty(label, &area, leader, obstacles);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, Placed { area, leader, lines: label.lines.clone() }));
        }
    }
    best
}

/// Draws labels, on paper of their own, over all leaders.
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
