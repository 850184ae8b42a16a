//! Rectangles of pixels, straight lines, and whether they meet.

/// A place in pixels, from the upper left corner.
pub type Pixel = (i32, i32);

/// A straight line between two places.
pub type Segment = (Pixel, Pixel);

/// A rectangle; the right column and the last row are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First column.
    pub left: i32,
    /// First row.
    pub top: i32,
    /// Column after the last.
    pub right: i32,
    /// Row after the last.
    pub bottom: i32,
}

impl Area {
    /// A square around a place.
    pub fn around((x, y): Pixel, radius: i32) -> Self {
        Self { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }
    }

    /// With a margin on all sides.
    pub fn grown(&self, margin: i32) -> Self {
        Self {
            left: self.left - margin,
            top: self.top - margin,
            right: self.right + margin,
            bottom: self.bottom + margin,
        }
    }

    /// Whether the two share a pixel.
    pub fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// Whether the other one lies within this one.
    pub fn holds(&self, other: &Self) -> bool {
        self.left <= other.left && self.top <= other.top && self.right >= other.right && self.bottom >= other.bottom
    }

    /// The place of the rectangle that is nearest.
    pub fn nearest(&self, (x, y): Pixel) -> Pixel {
        (x.clamp(self.left, self.right), y.clamp(self.top, self.bottom))
    }

    /// Whether a line runs through the inside (Liang and Barsky 1984).
    pub fn is_crossed(&self, (from, to): Segment) -> bool {
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let (mut enter, mut leave) = (0.0f64, 1.0f64);
        for (step, room) in
            [(-dx, from.0 - self.left), (dx, self.right - from.0), (-dy, from.1 - self.top), (dy, self.bottom - from.1)]
        {
            let room = f64::from(room);
            if step == 0.0 {
                if room <= 0.0 {
                    return false;
                }
            } else if step < 0.0 {
                enter = enter.max(room / step);
            } else {
                leave = leave.min(room / step);
            }
        }
        enter < leave
    }
}

/// Length of the line.
pub fn distance(a: Pixel, b: Pixel) -> f64 {
    f64::from(a.0 - b.0).hypot(f64::from(a.1 - b.1))
}

/// Whether two lines cross.
pub fn cross(a: Segment, b: Segment) -> bool {
    let side = |(from, to): Segment, place: Pixel| {
        let (dx, dy) = (i64::from(to.0 - from.0), i64::from(to.1 - from.1));
        (dx * i64::from(place.1 - from.1) - dy * i64::from(place.0 - from.0)).signum()
    };
    side(a, b.0) * side(a, b.1) < 0 && side(b, a.0) * side(b, a.1) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area { left: 10, top: 10, right: 30, bottom: 20 };

    #[test]
    fn lines_cross_inside_only() {
        for crossing in [((0, 15), (40, 15)), ((20, 0), (20, 40)), ((0, 0), (40, 30)), ((12, 12), (13, 13))] {
            assert!(AREA.is_crossed(crossing), "{crossing:?}");
        }
        for apart in
            [((0, 10), (40, 10)), ((0, 5), (40, 5)), ((0, 20), (9, 15)), ((31, 0), (31, 40)), ((0, 30), (15, 21))]
        {
            assert!(!AREA.is_crossed(apart), "{apart:?}");
        }
    }

    #[test]
    fn lines_cross_where_each_has_the_other_on_both_sides() {
        assert!(cross(((0, 0), (10, 10)), ((0, 10), (10, 0))));
        assert!(!cross(((0, 0), (10, 10)), ((0, 10), (4, 6))) && !cross(((0, 0), (10, 0)), ((0, 5), (10, 5))));
    }

    #[test]
    fn neighbors_do_not_meet() {
        assert!(
            !AREA.meets(&Area { left: 30, right: 40, ..AREA }) && AREA.meets(&Area { left: 29, right: 40, ..AREA })
        );
        assert_eq!(AREA.nearest((0, 15)), (10, 15));
        assert!(AREA.grown(1).holds(&AREA) && !AREA.holds(&AREA.grown(1)));
    }
}
