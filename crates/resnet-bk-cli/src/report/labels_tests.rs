//! Labels over awkward sets of points: none is covered, none is outside.

use super::area::{Area, Pixel};
use super::canvas::{Format, NARROW, WIDE};
use super::labels::{Anchor, Label, Obstacles, Placement, place};
use super::marks::{Mark, Point, Role, merge};
use super::palette::INK;

const RADIUS: i32 = 14;

fn bounds(format: Format) -> Area {
    Area { left: 110, top: 100, right: format.width - 20, bottom: 780 }
}

/// Labels of models, which are joined by a line in the order given; those on each other share a
/// mark.
fn labels_of(places: &[Pixel], format: Format) -> (Vec<Label>, Obstacles) {
    let size = if format == WIDE { "166,172 bytes" } else { "166.17 kB" };
    let text = |number: usize| format!("{number} distill: {size}, 297.60");
    let model =
        |(index, &place)| Point { role: Role::Stage(index + 1), text: text(index + 1), short: String::new(), place };
    let marks = merge(places.iter().enumerate().map(model).collect());
    let label = |mark: &Mark| Label { anchor: Anchor::Mark(mark.place, mark.radius()), lines: mark.lines() };
    let mut obstacles = Obstacles { marks: marks.iter().map(Mark::area).collect(), lines: vec![] };
    obstacles.add_line(&marks.iter().map(|mark| mark.place).collect::<Vec<_>>());
    (marks.iter().map(label).collect(), obstacles)
}

/// The label without names.
fn number(label: &Label) -> Label {
    let short = |(line, color): &(String, _)| (line.split(' ').next().unwrap_or_default().to_owned(), *color);
    Label { anchor: label.anchor, lines: label.lines.iter().map(short).collect() }
}

/// Asserts that every label has a place, inside, where no mark, line, leader or other label is.
#[track_caller]
pub fn assert_clear(name: &str, placed: &Placement, obstacles: &Obstacles, bounds: Area) {
    assert!(placed.is_clear, "{name}");
    let placed = &placed.labels;
    for (index, label) in placed.iter().enumerate() {
        let label = label.as_ref().unwrap_or_else(|| panic!("{name}: label {index} has no place"));
        assert!(bounds.holds(&label.area), "{name}: label {index} is outside: {:?}", label.area);
        assert!(!obstacles.marks.iter().any(|mark| mark.meets(&label.area)), "{name}: label {index} is under a mark");
        let crossed = obstacles.lines.iter().any(|&line| label.area.is_crossed(line));
        assert!(!crossed, "{name}: label {index} is on a line");
        for (other, second) in placed.iter().flatten().enumerate() {
            assert!(other == index || !label.area.meets(&second.area), "{name}: labels {index} and {other}");
            let crossed = second.leader.is_some_and(|leader| label.area.is_crossed(leader));
            assert!(other == index || !crossed, "{name}: label {index} is under the leader of {other}");
        }
    }
}

fn awkward_sets(format: Format) -> Vec<(&'static str, Vec<Pixel>)> {
    let Area { left, top, right, bottom } = bounds(format);
    let middle = (i32::midpoint(left, right), i32::midpoint(top, bottom));
    let along = |n: i32| left + (right - left) * n / 11;
    let down = |n: i32| top + (bottom - top) * n / 11;
    let mut random = 1u32;
    let mut next = |low: i32, high: i32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low + (random >> 8) as i32 % (high - low)
    };
    vec![
        ("one in the middle", vec![middle]),
        ("four corners", vec![(left, top), (right, top), (left, bottom), (right, bottom)]),
        ("all on one place", vec![middle; 12]),
        ("all in one corner", vec![(right, bottom); 12]),
        ("12 in a row", (0..12).map(|n| (along(n), middle.1)).collect()),
        ("12 at the lower edge", (0..12).map(|n| (along(n), bottom)).collect()),
        ("12 in a column", (0..12).map(|n| (middle.0, down(n))).collect()),
        ("12 at the right edge", (0..12).map(|n| (right, down(n))).collect()),
        ("12 falling", (0..12).map(|n| (along(n), down(n))).collect()),
        ("a crowd of 12", (0..12).map(|n| (middle.0 + n % 4 * 30, middle.1 + n / 4 * 30)).collect()),
        ("a pair and 10 at random", {
            let mut places = vec![middle, (middle.0 + 3, middle.1)];
            places.extend((0..10).map(|_| (next(left, right), next(top, bottom))));
            // In the order of their sizes, as stages mostly are.
            places.sort_by_key(|place| -place.0);
            places
        }),
    ]
}

#[test]
fn nothing_covers_a_label() {
    for format in [WIDE, NARROW] {
        let bounds = bounds(format);
        for (name, places) in awkward_sets(format) {
            let (labels, obstacles) = labels_of(&places, format);
            let mut placed = place(&labels, &obstacles, bounds, format.text);
            if !placed.is_clear {
                // What the picture does, too: the marks get numbers, and names are listed above the
                // plot.
                let numbers: Vec<Label> = labels.iter().map(number).collect();
                placed = place(&numbers, &obstacles, bounds, format.text);
            }
            assert_clear(&format!("{name}, {} wide", format.width), &placed, &obstacles, bounds);
        }
    }
}

#[test]
fn a_label_without_neighbors_is_beside_its_mark() {
    let (labels, obstacles) = labels_of(&[(600, 400)], WIDE);
    let placed = place(&labels, &obstacles, bounds(WIDE), WIDE.text);
    let label = placed.labels[0].as_ref().expect("a place");
    assert!(label.leader.is_none() && label.area.left - 600 <= RADIUS + 10 && label.area.left > 600, "{label:?}");
}

#[test]
fn where_lines_are_everywhere_a_label_interrupts_one() {
    let (labels, mut obstacles) = labels_of(&[(600, 400)], WIDE);
    obstacles.lines = (0..200).map(|n| ((0, 10 * n), (2_000, 10 * n))).collect();
    let placed = place(&labels, &obstacles, bounds(WIDE), WIDE.text);
    let label = placed.labels[0].as_ref().expect("a place");
    let interrupts = obstacles.lines.iter().any(|&line| label.area.is_crossed(line));
    assert!(
        interrupts && !placed.is_clear && bounds(WIDE).holds(&label.area) && !obstacles.marks[0].meets(&label.area)
    );
}

#[test]
fn labels_that_shut_another_in_do_not_drop_it() {
    let (labels, obstacles) = labels_of(&[(600, 400)], WIDE);
    let crowd: Vec<Label> = labels.iter().cycle().take(12).cloned().collect();
    let placed = place(&crowd, &obstacles, bounds(WIDE), WIDE.text);
    let areas: Vec<Area> = placed.labels.iter().map(|label| label.as_ref().expect("a place").area).collect();
    for (index, area) in areas.iter().enumerate() {
        assert!(!areas[..index].iter().any(|other| other.meets(area)), "{index}");
    }
}

#[test]
fn level_lines_are_named_beside_themselves() {
    let named =
        |row: i32| Label { anchor: Anchor::Level(row), lines: vec![("bigram baseline: 279.40".to_owned(), INK)] };
    let bounds = bounds(WIDE);
    let mut obstacles = Obstacles { marks: vec![Area::around((200, 300), RADIUS)], lines: vec![] };
    for row in [300, 304] {
        obstacles.add_line(&[(bounds.left, row), (bounds.right, row)]);
    }
    let placed = place(&[named(300), named(304)], &obstacles, bounds, WIDE.text);
    assert_clear("two lines", &placed, &obstacles, bounds);
    assert!(placed.labels.iter().flatten().all(|label| label.leader.is_none()), "{placed:?}");
}
