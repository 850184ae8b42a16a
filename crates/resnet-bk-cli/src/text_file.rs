//! The argument `--text`: a file, or standard input.

use crate::failure::{Failure, system_message};
use anyhow::Result;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The text of a file, or of standard input for `-`, with its name.
pub fn read_text(path: &Path) -> Result<(String, String)> {
    let mut bytes = Vec::new();
    let (name, read) = if path == Path::new("-") {
        ("standard input".to_owned(), io::stdin().lock().read_to_end(&mut bytes))
    } else {
        let file = File::open(path);
        (path.display().to_string(), file.and_then(|mut file| file.read_to_end(&mut bytes)))
    };
    read.map_err(|error| {
        Failure::new(format!("cannot read {name}: {}", system_message(&error)), "pass a text file in UTF-8 to --text")
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
        Failure::new(format!("{name} is not UTF-8 at line {line}, byte {at}"), "convert it to UTF-8")
    })?;
    // Editors on Windows write a byte-order mark, which would become part of the first word.
    let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
    Ok((text, name))
}
