//! The colors of pictures and page: one a stage, and inks that can be read on the pictures' white.
//!
//! Contrast is that of WCAG 2.2, `(L1 + 0.05) / (L2 + 0.05)` of relative luminances: at least 4.5
//! for every ink, stages included, so a stage's name can be written in its color. That leaves the
//! darker half of all colors. The twelve were searched in it, for the largest least distance in
//! CIELAB under normal vision, protanopia, deuteranopia and tritanopia (Machado et al. 2009).

use plotters::style::RGBColor;

/// What the pictures are drawn on.
pub const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Text, axes, and marks of what is not a stage.
pub const INK: RGBColor = RGBColor(40, 40, 40);
/// Less important text.
pub const FAINT: RGBColor = RGBColor(96, 96, 96);
/// Lines behind everything.
pub const GRID: RGBColor = RGBColor(226, 226, 226);

/// Colors of stages, by their numbers.
const STAGES: [RGBColor; 12] = [
    RGBColor(0, 98, 190),
    RGBColor(176, 80, 0),
    RGBColor(3, 134, 74),
    RGBColor(224, 7, 135),
    RGBColor(71, 2, 70),
    RGBColor(96, 6, 187),
    RGBColor(171, 0, 37),
    RGBColor(9, 69, 0),
    RGBColor(0, 0, 236),
    RGBColor(140, 5, 128),
    RGBColor(116, 64, 89),
    RGBColor(3, 12, 127),
];

/// The color of a stage, by its number from 1, in every picture and table. From the thirteenth on
/// colors come again; the number, which stands beside each of them, does not.
pub fn stage_color(number: usize) -> RGBColor {
    STAGES[number.saturating_sub(1) % STAGES.len()]
}

/// A color as a style sheet writes it.
pub fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Least contrast of text (WCAG 2.2, level AA).
    pub const TEXT_CONTRAST: f64 = 4.5;
    /// A difference that is seen at a glance; 2.3 is just noticeable (Mahy et al. 1994).
    const DISTANCE: f64 = 15.0;

    type Matrix = [[f64; 3]; 3];
    /// Linear RGB as it is seen without one kind of cones (Machado et al. 2009, severity 1).
    const DEFICIENCIES: [(&str, Matrix); 4] = [
        ("normal vision", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        ),
        (
            "deuteranopia",
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        ),
        (
            "tritanopia",
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        ),
    ];

    fn linear(RGBColor(red, green, blue): RGBColor) -> [f64; 3] {
        [red, green, blue].map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    pub fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let luminance = |color| {
            let [red, green, blue] = linear(color);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn lab([red, green, blue]: [f64; 3]) -> [f64; 3] {
        let root = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        let x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047);
        let y = root(0.2126 * red + 0.7152 * green + 0.0722 * blue);
        let z = root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    fn seen(color: RGBColor, matrix: &Matrix) -> [f64; 3] {
        let color = linear(color);
        lab(matrix.map(|row| row.iter().zip(color).map(|(a, b)| a * b).sum::<f64>().clamp(0.0, 1.0)))
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((contrast(RGBColor(0, 0, 0), PAPER) - 21.0).abs() < 1e-9);
        // WCAG's best known border case: #767676 is the lightest gray that may stand on white.
        assert!(
            contrast(RGBColor(0x76, 0x76, 0x76), PAPER) >= 4.5 && contrast(RGBColor(0x77, 0x77, 0x77), PAPER) < 4.5
        );
    }

    #[test]
    fn every_ink_can_be_read_on_the_paper() {
        for color in STAGES.into_iter().chain([INK, FAINT]) {
            assert!(contrast(color, PAPER) >= TEXT_CONTRAST, "{}: {:.2}", hex(color), contrast(color, PAPER));
        }
    }

    #[test]
    fn stages_differ_for_every_kind_of_eyes() {
        let colors: Vec<RGBColor> = STAGES.into_iter().chain([INK]).collect();
        for (name, matrix) in DEFICIENCIES {
            for (index, &a) in colors.iter().enumerate() {
                for &b in &colors[..index] {
                    let squares = seen(a, &matrix).into_iter().zip(seen(b, &matrix)).map(|(a, b)| (a - b).powi(2));
                    let distance = squares.sum::<f64>().sqrt();
                    assert!(distance >= DISTANCE, "{name}: {} and {} differ by {distance:.1}", hex(a), hex(b));
                }
            }
        }
    }

    #[test]
    fn a_stage_has_its_color_by_its_number() {
        assert_eq!(hex(stage_color(1)), "#0062be");
        let all: std::collections::BTreeSet<String> = (1..=12).map(|number| hex(stage_color(number))).collect();
        assert_eq!(all.len(), 12);
        assert_eq!(hex(stage_color(13)), hex(stage_color(1)));
    }
}
