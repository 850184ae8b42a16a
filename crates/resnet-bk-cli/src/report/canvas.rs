//! A picture in memory: lines, marks and text, without a font or an image library on the machine.

use super::area::{Area, Pixel, Segment};
use super::palette::{INK, PAPER};
use super::text::{font, height};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::f64::consts::TAU;

/// What a picture is drawn for. Sizes are in pixels, twice those of the page, for sharp screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Columns.
    pub width: i32,
    /// Height of text.
    pub text: i32,
}

/// For a desk.
pub const WIDE: Format = Format { width: 1_600, text: 26 };
/// For a phone: shown 360 pixels wide, its text is 13 pixels high.
pub const NARROW: Format = Format { width: 720, text: 27 };

/// A PNG file and its size.
pub struct Png {
    /// The file.
    pub file: Vec<u8>,
    /// Columns.
    pub width: i32,
    /// Rows.
    pub height: i32,
}

/// Draws a picture.
pub fn paint(width: i32, height: i32, draw: impl FnOnce(&Canvas) -> Result<()>) -> Result<Png> {
    let pixels = pixels(width, height, draw)?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(Png { file, width, height })
}

fn pixels(width: i32, height: i32, draw: impl FnOnce(&Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32)).into_drawing_area();
        area.fill(&PAPER).map_err(failed)?;
        let canvas = Canvas { area };
        draw(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    Ok(pixels)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the picture: {error}")
}

/// A picture that is being drawn.
pub struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

impl Canvas<'_> {
    /// A line through the points.
    pub fn line(&self, points: &[Pixel], color: RGBColor, width: u32) -> Result<()> {
        // One piece after the other: where thick ones meet at a sharp angle, the library draws the
        // corner far out.
        points.windows(2).try_for_each(|ends| {
            self.area.draw(&PathElement::new(ends.to_vec(), color.stroke_width(width))).map_err(failed)
        })
    }

    /// A pale line through the points.
    pub fn pale_line(&self, points: &[Pixel], color: RGBColor) -> Result<()> {
        self.area.draw(&PathElement::new(points.to_vec(), color.mix(0.3).stroke_width(1))).map_err(failed)
    }

    /// A dashed line, level or upright.
    pub fn dashed(&self, (from, to): Segment, color: RGBColor) -> Result<()> {
        const DASH: i32 = 12;
        let length = (to.0 - from.0).abs().max((to.1 - from.1).abs());
        let at = |part: i32| {
            let part = part.min(length);
            (from.0 + (to.0 - from.0).signum() * part, from.1 + (to.1 - from.1).signum() * part)
        };
        (0..length).step_by(2 * DASH as usize).try_for_each(|start| self.line(&[at(start), at(start + DASH)], color, 2))
    }

    /// A filled rectangle.
    pub fn fill(&self, area: Area, color: RGBColor) -> Result<()> {
        let corners = [(area.left, area.top), (area.right, area.bottom)];
        self.area.draw(&Rectangle::new(corners, color.filled())).map_err(failed)
    }

    /// A round mark with a rim of paper, in equal parts of all colors.
    pub fn dot(&self, place: Pixel, colors: &[RGBColor], radius: i32) -> Result<()> {
        self.area.draw(&Circle::new(place, radius + 3, PAPER.filled())).map_err(failed)?;
        if let [color] = colors {
            return self.area.draw(&Circle::new(place, radius, color.filled())).map_err(failed);
        }
        for (index, color) in colors.iter().enumerate() {
            let angle = |part: i32| TAU * (index as f64 + f64::from(part) / 16.0) / colors.len() as f64 - TAU / 4.0;
            let rim = (0..=16).map(angle).map(|angle| {
                let along = |x: i32, share: f64| x + (f64::from(radius) * share).round() as i32;
                (along(place.0, angle.cos()), along(place.1, angle.sin()))
            });
            let sector: Vec<Pixel> = std::iter::once(place).chain(rim).collect();
            self.area.draw(&Polygon::new(sector, color.filled())).map_err(failed)?;
        }
        Ok(())
    }

    /// A round mark that is open.
    pub fn ring(&self, place: Pixel, color: RGBColor, radius: i32) -> Result<()> {
        self.area.draw(&Circle::new(place, radius, color.filled())).map_err(failed)?;
        self.area.draw(&Circle::new(place, radius - 3, PAPER.filled())).map_err(failed)
    }

    /// A closed outline.
    pub fn outline(&self, corners: &[Pixel], color: RGBColor) -> Result<()> {
        let closed: Vec<Pixel> = corners.iter().chain(corners.first()).copied().collect();
        self.line(&closed, color, 4)
    }

    /// Text; its left end and the middle of its height are at the place.
    pub fn text(&self, text: &str, place: Pixel, color: RGBColor, size: i32) -> Result<()> {
        let style = TextStyle::from(font(size)).color(&color).pos(Pos::new(HPos::Left, VPos::Center));
        // The font's letters stand higher than their boxes.
        let place = (place.0, place.1 + size / 8);
        // The font is a light one: a second stroke beside the first gives it the weight that small
        // sizes need.
        for shift in [0, 1] {
            let at = (place.0 + shift, place.1);
            self.area.draw(&Text::new(text.to_owned(), at, style.clone())).map_err(failed)?;
        }
        Ok(())
    }

    /// Lines of text, from the upper left corner.
    pub fn lines(&self, lines: &[(String, RGBColor)], corner: Pixel, size: i32) -> Result<()> {
        for (index, (text, color)) in lines.iter().enumerate() {
            let middle = corner.1 + height(size) * index as i32 + height(size) / 2;
            self.text(text, (corner.0, middle), *color, size)?;
        }
        Ok(())
    }

    /// The mark of the first model: a square.
    pub fn square(&self, (x, y): Pixel, half: i32) -> Result<()> {
        self.outline(&[(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)], INK)
    }

    /// The mark of plain int8: a triangle.
    pub fn triangle(&self, (x, y): Pixel, radius: i32) -> Result<()> {
        let half = radius * 7 / 8;
        self.outline(&[(x - half, y + radius / 2), (x, y - radius), (x + half, y + radius / 2)], INK)
    }

    /// The mark of the artifact: a square on its tip.
    pub fn diamond(&self, (x, y): Pixel, radius: i32) -> Result<()> {
        self.outline(&[(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)], INK)
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::width;
    use super::*;

    fn ink(pixels: &[u8], columns: i32) -> Option<Area> {
        let dark = pixels.chunks(3).enumerate().filter(|(_, pixel)| pixel.iter().any(|&value| value < 250));
        let places = dark.map(|(index, _)| (index as i32 % columns, index as i32 / columns));
        places.map(|place| Area { left: place.0, top: place.1, right: place.0 + 1, bottom: place.1 + 1 }).reduce(
            |a, b| Area {
                left: a.left.min(b.left),
                top: a.top.min(b.top),
                right: a.right.max(b.right),
                bottom: a.bottom.max(b.bottom),
            },
        )
    }

    #[test]
    fn text_stays_in_the_room_that_it_was_given() {
        for size in [WIDE.text, NARROW.text, WIDE.text + 8] {
            for text in ["model.rbk: 166,172 bytes, 297.60", "(jgyQ|Wf)", "W", "4 distill"] {
                let pixels = pixels(800, 100, |canvas| canvas.lines(&[(text.to_owned(), INK)], (50, 30), size));
                let ink = ink(&pixels.expect("drawn"), 800).expect("ink");
                let room = Area { left: 50, top: 30, right: 50 + width(text, size), bottom: 30 + height(size) };
                assert!(room.grown(1).holds(&ink), "{text} at {size}: {ink:?} is outside {room:?}");
            }
        }
    }

    #[test]
    fn a_dot_shows_every_color() {
        let colors: Vec<RGBColor> = (1..=12).map(super::super::palette::stage_color).collect();
        let pixels = pixels(60, 60, |canvas| canvas.dot((30, 30), &colors, 12)).expect("drawn");
        for color in &colors {
            let shown = pixels.chunks(3).filter(|pixel| *pixel == [color.0, color.1, color.2]).count();
            assert!(shown >= 5, "{color:?}: {shown} pixels");
        }
    }
}
