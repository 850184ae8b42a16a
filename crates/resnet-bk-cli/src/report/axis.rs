//! Axes: the map from values to pixels, and the positions of ticks.

/// One axis of a picture.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Values at both ends.
    range: (f64, f64),
    /// Pixels at both ends.
    pixels: (i32, i32),
    logarithmic: bool,
}

impl Axis {
    /// A linear axis over the values, with a margin.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values, (0.0, 1.0));
        let margin = if high > low { 0.05 * (high - low) } else { 0.5 };
        Self { range: (low - margin, high + margin), pixels: (0, 1), logarithmic: false }
    }

    /// A linear axis between two values, without a margin.
    pub fn exact(low: f64, high: f64) -> Self {
        Self { range: (low, high.max(low + 1.0)), pixels: (0, 1), logarithmic: false }
    }

    /// A logarithmic axis over positive values, with a margin.
    pub fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values.filter(|&x| x > 0.0), (1.0, 10.0));
        let margin = (high / low).powf(0.08).max(1.1);
        Self { range: (low / margin, high * margin), pixels: (0, 1), logarithmic: true }
    }

    /// The same axis between two pixels.
    pub fn over(&self, pixels: (i32, i32)) -> Self {
        Self { pixels, ..self.clone() }
    }

    /// The pixel of a value.
    pub fn pixel(&self, value: f64) -> i32 {
        let place = |x: f64| if self.logarithmic { x.ln() } else { x };
        let (low, high) = (place(self.range.0), place(self.range.1));
        let share = (place(value) - low) / (high - low);
        (f64::from(self.pixels.0) + share * f64::from(self.pixels.1 - self.pixels.0)).round() as i32
    }

    /// About `count` round values inside the axis.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let (low, high) = self.range;
        // A short logarithmic axis contains few powers of ten, so equal distances are better.
        if self.logarithmic && high / low > 8.0 {
            for steps in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
                let ticks = decades(low, high, steps);
                if ticks.len() <= count + 2 {
                    return ticks;
                }
            }
            // A long one contains too many.
            let powers = decades(low, high, &[1.0]);
            let every = powers.len().div_ceil(count.max(1));
            return powers.into_iter().step_by(every).collect();
        }
        let step = round_step((high - low) / count.max(1) as f64);
        let first = (low / step).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|&x| x <= high).collect()
    }
}

fn bounds(values: impl Iterator<Item = f64>, default: (f64, f64)) -> (f64, f64) {
    let finite = values.filter(|x| x.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low <= high { (low, high) } else { default }
}

/// The least of 1, 2, 5 times a power of ten that is at least `x`.
fn round_step(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    [1.0, 2.0, 5.0].map(|step| step * power).into_iter().find(|&step| step >= x * 0.999).unwrap_or(10.0 * power)
}

fn decades(low: f64, high: f64, steps: &[f64]) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|x| (low..=high).contains(x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_map_to_the_first_and_last_pixel() {
        let axis = Axis::exact(0.0, 10.0).over((100, 300));
        assert_eq!([0.0, 5.0, 10.0].map(|x| axis.pixel(x)), [100, 200, 300]);
        assert_eq!(axis.ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    }

    #[test]
    fn equal_factors_have_equal_lengths_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic([100.0, 10_000.0].into_iter()).over((0, 1_000));
        let [a, b, c] = [100.0, 1_000.0, 10_000.0].map(|x| axis.pixel(x));
        assert!(((b - a) - (c - b)).abs() <= 1 && a > 0 && c < 1_000);
        assert_eq!(axis.ticks(6), [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]);
        let long = Axis::logarithmic([1.0, 1e9].into_iter());
        assert_eq!(long.ticks(4), [1.0, 1e3, 1e6, 1e9]);
    }

    #[test]
    fn axes_of_one_or_no_value_are_valid() {
        for values in [vec![], vec![7.0], vec![f64::NAN]] {
            let linear = Axis::linear(values.iter().copied());
            let logarithmic = Axis::logarithmic(values.iter().copied());
            assert!(!linear.ticks(5).is_empty() && !logarithmic.ticks(5).is_empty(), "{values:?}");
        }
    }
}
