//! The size breakdown as a treemap: each part of the file is a rectangle of proportional area.
//!
//! The layout is squarified (Bruls, Huizing, van Wijk, "Squarified treemaps", 2000): parts are laid
//! out in rows along the shorter side, and a row takes parts as long as that improves the worst
//! ratio of its sides. Positions are shares of the whole, so the page scales rectangles and not
//! their text.

use super::html::escape;
use crate::printer::grouped;
use resnet_bk_runtime::internal::artifact::{SizeBreakdown, SizeEntry, SizeKind};
use std::fmt::Write as _;

/// Width and height of the treemap in pixels of the page, for desktops and for phones. Labels are
/// chosen for the least width at which a layout is shown.
const LAYOUTS: [(&str, f64, f64); 2] = [("at-desktop", 640.0, 380.0), ("at-phone", 330.0, 420.0)];
/// Width of a letter at most, height of a line and margin of a label, in pixels.
const LETTER: f64 = 7.6;
const LINE: f64 = 18.0;
const MARGIN: f64 = 12.0;

/// A rectangle: left, top, width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

/// Rectangles of these areas, in descending order, that fill the whole.
fn squarify(areas: &[f64], whole: Cell) -> Vec<Cell> {
    let total: f64 = areas.iter().sum();
    let scale = whole.w * whole.h / total.max(f64::MIN_POSITIVE);
    let areas: Vec<f64> = areas.iter().map(|area| area * scale).collect();
    let (mut cells, mut rest, mut left) = (Vec::new(), whole, areas.as_slice());
    while !left.is_empty() {
        let side = rest.w.min(rest.h);
        let mut length = 1;
        while length < left.len() && worst(&left[..=length], side) <= worst(&left[..length], side) {
            length += 1;
        }
        let (row, later) = left.split_at(length);
        let thickness = row.iter().sum::<f64>() / side.max(f64::MIN_POSITIVE);
        let mut at = 0.0;
        for area in row {
            let extent = area / thickness.max(f64::MIN_POSITIVE);
            cells.push(if rest.w >= rest.h {
                Cell { x: rest.x, y: rest.y + at, w: thickness, h: extent }
            } else {
                Cell { x: rest.x + at, y: rest.y, w: extent, h: thickness }
            });
            at += extent;
        }
        if rest.w >= rest.h {
            (rest.x, rest.w) = (rest.x + thickness, rest.w - thickness);
        } else {
            (rest.y, rest.h) = (rest.y + thickness, rest.h - thickness);
        }
        left = later;
    }
    cells
}

/// The largest ratio of sides of a row's rectangles along a side of this length.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let ratio = |area: f64| (side * side * area / (sum * sum)).max(sum * sum / (side * side * area));
    row.iter().copied().map(ratio).fold(0.0, f64::max)
}

/// Class and legend of what bytes contain.
fn group(kind: SizeKind) -> (&'static str, &'static str) {
    match kind {
        SizeKind::Codes => ("codes", "codes of quantized tensors"),
        SizeKind::Scales => ("scales", "scales"),
        SizeKind::Floats => ("floats", "float32 tensors"),
        SizeKind::Vocabulary => ("vocabulary", "words of the vocabulary"),
        SizeKind::Header | SizeKind::Checksums | SizeKind::Config => ("rest", "header, checksums, configuration"),
    }
}

/// The treemap. A screen reader reads its description; the table of the page has the numbers.
pub fn render(sizes: &SizeBreakdown) -> String {
    let mut entries: Vec<&SizeEntry> = sizes.entries.iter().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    let total = sizes.total_bytes().max(1) as f64;
    let share = |entry: &SizeEntry| format!("{:.1} %", 100.0 * entry.bytes as f64 / total);
    let largest: Vec<String> =
        entries.iter().take(3).map(|entry| format!("{} {}", name(entry), share(entry))).collect();
    let description = format!("Treemap of the file's bytes by part. The largest: {}.", largest.join(", "));
    let mut html = String::new();
    for (class, width, height) in LAYOUTS {
        let _ = write!(
            html,
            "<div class=\"treemap {class}\" role=\"img\" aria-label=\"{}\" style=\"height:{height}px\">",
            escape(&description)
        );
        let areas: Vec<f64> = entries.iter().map(|entry| entry.bytes as f64).collect();
        for (entry, cell) in entries.iter().zip(squarify(&areas, Cell { x: 0.0, y: 0.0, w: width, h: height })) {
            let title = format!("{}: {} bytes, {}", name(entry), grouped(entry.bytes), share(entry));
            let _ = write!(
                html,
                "<div class=\"cell {}\" style=\"left:{:.3}%;top:{:.3}%;width:{:.3}%;height:{:.3}%\" title=\"{}\">{}</div>",
                group(entry.kind).0,
                100.0 * cell.x / width,
                100.0 * cell.y / height,
                100.0 * cell.w / width,
                100.0 * cell.h / height,
                escape(&title),
                label(&name(entry), &share(entry), cell),
            );
        }
        html += "</div>\n";
    }
    html + &legend(&entries)
}

fn name(entry: &SizeEntry) -> String {
    match entry.kind {
        SizeKind::Scales => format!("{}, scales", entry.part),
        SizeKind::Header => "header".to_owned(),
        SizeKind::Checksums => "checksums".to_owned(),
        SizeKind::Codes | SizeKind::Floats | SizeKind::Vocabulary | SizeKind::Config => entry.part.clone(),
    }
}

/// Name and share if they fit, or as much of them as fits.
fn label(name: &str, share: &str, cell: Cell) -> String {
    let fits = |text: &str| text.chars().count() as f64 * LETTER + MARGIN <= cell.w;
    let rows = ((cell.h - MARGIN / 2.0) / LINE).floor();
    match (fits(name), fits(share), rows) {
        (true, true, 2.0..) => format!("<p><b>{}</b><br>{}</p>", escape(name), escape(share)),
        (true, _, 1.0..) => format!("<p><b>{}</b></p>", escape(name)),
        (false, true, 1.0..) => format!("<p>{}</p>", escape(share)),
        _ => String::new(),
    }
}

fn legend(entries: &[&SizeEntry]) -> String {
    let mut groups: Vec<_> = entries.iter().map(|entry| group(entry.kind)).collect();
    let mut seen = Vec::new();
    groups.retain(|group| {
        !seen.contains(group) && {
            seen.push(*group);
            true
        }
    });
    let item = |(class, text): &(&str, &str)| format!("<li><span class=\"key {class}\"></span>{text}</li>");
    format!("<ul class=\"legend\">{}</ul>\n", groups.iter().map(item).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    #[test]
    fn rectangles_fill_the_whole_in_proportion() {
        let areas = [60.0, 60.0, 40.0, 30.0, 20.0, 10.0, 0.01];
        let whole = Cell { x: 0.0, y: 0.0, w: 600.0, h: 400.0 };
        let cells = squarify(&areas, whole);
        let scale = 600.0 * 400.0 / areas.iter().sum::<f64>();
        for (cell, area) in cells.iter().zip(areas) {
            assert!((cell.w * cell.h - scale * area).abs() < 1e-6, "{cell:?}");
            assert!(cell.x >= -1e-9 && cell.y >= -1e-9 && cell.x + cell.w < 600.001 && cell.y + cell.h < 400.001);
        }
        for (index, a) in cells.iter().enumerate() {
            for b in &cells[..index] {
                let overlap = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x) > 1e-6
                    && (a.y + a.h).min(b.y + b.h) - a.y.max(b.y) > 1e-6;
                assert!(!overlap, "{a:?} and {b:?}");
            }
        }
        let ratio = |cell: &Cell| (cell.w / cell.h).max(cell.h / cell.w);
        assert!(cells[..6].iter().all(|cell| ratio(cell) < 3.0), "{cells:?}");
        assert!(squarify(&[], whole).is_empty());
    }

    #[test]
    fn every_entry_has_a_rectangle_with_its_number() {
        let sizes = summary().artifact.size_breakdown;
        let html = render(&sizes);
        assert_eq!(html.matches("class=\"cell ").count(), 2 * sizes.entries.len());
        assert!(html.contains("title=\"vocabulary: 204,310 bytes, 55.1&nbsp;%\""), "{html}");
        assert!(html.contains("aria-label=\"Treemap of the file's bytes by part. The largest: vocabulary 55.1&nbsp;%"));
    }
}
