//! How much room text takes, and where it breaks, by the font's own measures.

use plotters::style::{FontStyle, IntoFont, register_font};
use std::sync::Once;

/// The name that the font is registered under.
const FONT: &str = "report";

/// The pictures' font, in pixels: no font has to be installed on the machine.
pub fn font(size: i32) -> plotters::style::FontDesc<'static> {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // The bytes are a crate's constant: a failure would show in the tests.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
    (FONT, size).into_font()
}

/// Width of a line of text.
pub fn width(text: &str, size: i32) -> i32 {
    let measured = font(size).box_size(text).map_or(0, |(width, _)| width as i32);
    // The last letter may stand out of its box, and the second stroke by a pixel.
    if text.is_empty() { 0 } else { measured + 2 }
}

/// Height of a line of text.
pub fn height(size: i32) -> i32 {
    size * 5 / 4
}

/// Breaks text at spaces into lines of at most `limit` pixels; a longer word gets a line of its
/// own.
pub fn wrap(text: &str, size: i32, limit: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_full_but_not_too_long() {
        let text = "valid perplexity, logarithmic; less is better";
        let lines = wrap(text, 26, 300);
        assert_eq!(lines.join(" "), text);
        assert!(lines.len() == 2 && lines.iter().all(|line| width(line, 26) <= 300), "{lines:?}");
        assert_eq!(wrap(text, 26, 5_000), [text]);
        assert_eq!(wrap("unbreakable", 26, 10), ["unbreakable"]);
        assert!(wrap("", 26, 10).is_empty());
    }

    #[test]
    fn no_break_spaces_hold() {
        assert_eq!(wrap("a +6.9\u{a0}%", 26, 1), ["a", "+6.9\u{a0}%"]);
    }
}
