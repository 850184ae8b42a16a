//! A picture in memory: lines, marks and text, without a font or an image library on the machine.

use super::axis::Axis;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::sync::Once;

/// Size of every picture, in pixels: twice what a page shows, for sharp screens.
const SIZE: (u32, u32) = (1_600, 900);
/// Pixels left of, above, right of and below the plot.
const MARGINS: [i32; 4] = [130, 110, 60, 110];
const FONT: &str = "report";
/// Height of text, in pixels.
const TEXT: i32 = 26;

/// Colours that people with a colour vision deficiency tell apart (Okabe and Ito 2008).
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
/// Text and axes.
pub const INK: RGBColor = RGBColor(40, 40, 40);
/// Less important text.
pub const FAINT: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// Where text stands against its point.
#[derive(Clone, Copy, Debug)]
pub enum Align {
    /// Right of it.
    Left,
    /// Across it.
    Centre,
    /// Left of it.
    Right,
}

/// Pixels of the plot along x.
pub fn horizontal() -> (i32, i32) {
    (MARGINS[0], SIZE.0 as i32 - MARGINS[2])
}

/// Pixels of the plot along y, from its lower end.
pub fn vertical() -> (i32, i32) {
    (SIZE.1 as i32 - MARGINS[3], MARGINS[1])
}

/// About the width of a text, in pixels.
pub fn width(text: &str) -> i32 {
    text.chars().count() as i32 * (TEXT / 2)
}

/// Draws a picture and returns its PNG file.
pub fn paint(draw: impl FnOnce(&Canvas) -> Result<()>) -> Result<Vec<u8>> {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // The bytes are a crate's constant: a failure would show in the tests.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let canvas = Canvas { area };
        draw(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can not draw the picture: {error}")
}

/// A picture that is being drawn. Places are in pixels, from the upper left corner.
pub struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

impl Canvas<'_> {
    /// Title, grid, ticks and names of both axes.
    pub fn frame(
        &self,
        title: &str,
        x: (&Axis, &str, &[(f64, String)]),
        y: (&Axis, &str, &[(f64, String)]),
    ) -> Result<()> {
        let ((left, right), (bottom, top)) = (horizontal(), vertical());
        for (value, label) in x.2 {
            let place = x.0.pixel(*value);
            self.line(&[(place, bottom), (place, top)], GRID, 2)?;
            self.text(label, (place, bottom + 28), Align::Centre, INK)?;
        }
        for (value, label) in y.2 {
            let place = y.0.pixel(*value);
            self.line(&[(left, place), (right, place)], GRID, 2)?;
            self.text(label, (left - 16, place), Align::Right, INK)?;
        }
        self.line(&[(left, top), (left, bottom), (right, bottom)], INK, 2)?;
        self.sized(title, (left, 38), Align::Left, INK, TEXT + 8)?;
        self.text(x.1, ((left + right) / 2, bottom + 76), Align::Centre, INK)?;
        self.text(y.1, (24, top - 30), Align::Left, FAINT)
    }

    /// A line through the points.
    pub fn line(&self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()> {
        self.area.draw(&PathElement::new(points.to_vec(), colour.stroke_width(width))).map_err(failed)
    }

    /// A pale line through the points.
    pub fn pale_line(&self, points: &[(i32, i32)], colour: RGBColor) -> Result<()> {
        self.area.draw(&PathElement::new(points.to_vec(), colour.mix(0.3).stroke_width(1))).map_err(failed)
    }

    /// A dashed line, level or upright.
    pub fn dashed(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
        const DASH: i32 = 12;
        let length = (to.0 - from.0).abs().max((to.1 - from.1).abs());
        let at = |part: i32| {
            let part = part.min(length);
            (from.0 + (to.0 - from.0).signum() * part, from.1 + (to.1 - from.1).signum() * part)
        };
        (0..length)
            .step_by(2 * DASH as usize)
            .try_for_each(|start| self.line(&[at(start), at(start + DASH)], colour, 2))
    }

    /// A round mark with a white rim.
    pub fn dot(&self, place: (i32, i32), colour: RGBColor, radius: i32) -> Result<()> {
        self.area.draw(&Circle::new(place, radius + 3, WHITE.filled())).map_err(failed)?;
        self.area.draw(&Circle::new(place, radius, colour.filled())).map_err(failed)
    }

    /// A square mark, on its tip.
    pub fn diamond(&self, (x, y): (i32, i32), colour: RGBColor, radius: i32) -> Result<()> {
        let corners = |r: i32| vec![(x - r, y), (x, y - r), (x + r, y), (x, y + r)];
        self.area.draw(&Polygon::new(corners(radius + 4), WHITE.filled())).map_err(failed)?;
        self.area.draw(&Polygon::new(corners(radius), colour.filled())).map_err(failed)
    }

    /// Text, its middle at the height of the point.
    pub fn text(&self, text: &str, place: (i32, i32), align: Align, colour: RGBColor) -> Result<()> {
        self.sized(text, place, align, colour, TEXT)
    }

    fn sized(&self, text: &str, place: (i32, i32), align: Align, colour: RGBColor, size: i32) -> Result<()> {
        let horizontal = match align {
            Align::Left => HPos::Left,
            Align::Centre => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = TextStyle::from((FONT, size).into_font()).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        // The font's letters stand higher than their boxes.
        let place = (place.0, place.1 + size / 8);
        self.area.draw(&Text::new(text.to_owned(), place, style)).map_err(failed)
    }
}
