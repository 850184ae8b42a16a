//! All writes to stdout and stderr, and the format of numbers.

use crate::failure::{Failure, system_message};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

/// Writes results to stdout.
///
/// If the reader closes the pipe, further output is dropped and the command continues. So its files
/// and its exit code do not depend on the reader.
pub struct Printer {
    out: Box<dyn Write>,
    is_terminal: bool,
    is_closed: bool,
}

impl Printer {
    /// A printer to the program's stdout.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self::new(Box::new(BufWriter::new(stdout)), is_terminal)
    }

    fn new(out: Box<dyn Write>, is_terminal: bool) -> Self {
        Self { out, is_terminal, is_closed: false }
    }

    /// Prints a line.
    pub fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        let line = format!("{line}\n");
        self.write(&line)
    }

    /// Prints a piece of text immediately.
    pub fn stream(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.flush()
    }

    /// Prints a value as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(value).expect("results are plain data");
        if !self.is_terminal {
            return self.line(json);
        }
        self.line(json_escaped(&json))
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        self.checked(flushed)
    }

    /// The text as it will be printed. Control characters are escaped if stdout is a terminal;
    /// otherwise the text is data and unchanged.
    pub fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_terminal { escaped(text) } else { Cow::Borrowed(text) }
    }

    /// Whether the reader has closed stdout.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        let shown = self.shown(text).into_owned();
        let written = self.out.write_all(shown.as_bytes());
        self.checked(written)
    }

    fn checked(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(_) if self.is_closed => Ok(()),
            Err(error) => Err(Failure::new(
                format!("cannot write to stdout: {}", system_message(&error)),
                "make room, or send the output elsewhere; files that the command writes are complete",
            )),
        }
    }
}

/// Prints a message on stderr with control characters escaped. A failure is ignored, because it
/// cannot be reported.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped(message));
}

/// Prints a value as one line of JSON on stderr.
pub fn json_note(value: &impl Serialize) {
    let json = serde_json::to_string(value).expect("events are plain data");
    let _ = writeln!(io::stderr(), "{}", json_escaped(&json));
}

/// JSON with the characters escaped that [`escaped`] escapes, as JSON does, so that it stays valid.
fn json_escaped(json: &str) -> String {
    let shown = |c: char| if is_control(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(shown).collect()
}

/// Prints the last message on stderr: no other can follow while the lock is held.
pub fn last_note(message: &str) -> io::StderrLock<'static> {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{}", escaped(message));
    stderr
}

/// Escapes control characters and bidirectional overrides, for example as `\u{1b}`. Line breaks and
/// tabs are kept.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_control(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1) except line breaks and tabs, and characters that change the
/// text direction.
fn is_control(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A table with a heading. The first column is left-aligned, columns of numbers are right-aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a heading.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Heading and rows.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A perplexity, with two decimals if they are significant.
pub fn perplexity(value: f64) -> String {
    if value < 10_000.0 { format!("{value:.2}") } else { format!("{value:.3e}") }
}

/// A ratio of sizes, such as `99.8x`.
pub fn ratio(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}x") } else { format!("{value:.1}x") }
}

/// A change such as 0.153 as `+15.3 %`.
pub fn change(value: f64) -> String {
    format!("{:+.1} %", 100.0 * value)
}

/// A share such as 0.15 as `15 %`.
pub fn percent(value: f64) -> String {
    let rounded = (1_000.0 * value).round() / 10.0;
    format!("{rounded} %")
}

/// A duration for people, such as `45 s`, `12 min`, `3 h 20 min` or `2 days 4 h`.
pub fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        _ if seconds < 59.5 => format!("{seconds:.0} s"),
        0..60 => format!("{minutes} min"),
        60..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days {} h", minutes / 1440, minutes % 1440 / 60),
    }
}

/// Wall time in seconds.
pub fn seconds(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn numbers_are_formatted() {
        assert_eq!([0, 999, 1_000, 16_584_480].map(grouped), ["0", "999", "1,000", "16,584,480"]);
        assert_eq!([7.125, 99.76].map(ratio), ["7.12x", "99.8x"]);
        assert_eq!([0.153, -0.02].map(change), ["+15.3 %", "-2.0 %"]);
        assert_eq!([0.15, 0.125].map(percent), ["15 %", "12.5 %"]);
        assert_eq!([278.3, 1e6].map(perplexity), ["278.30", "1.000e6"]);
        let durations = [0.4, 59.4, 59.6, 3_569.0, 3_571.0, 86_400.0, 200_000.0].map(duration);
        assert_eq!(durations, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "24 h 0 min", "2 days 7 h"]);
    }

    /// Collects the output of a printer.
    #[derive(Clone, Default)]
    struct Written(Rc<RefCell<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer that refuses every byte.
    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let raw = "a\u{1b}[31mb\0c\u{7f}d\u{9b}e\u{202e}f\u{2066}g\rh";
        assert_eq!(escaped(raw), r"a\u{1b}[31mb\u{0}c\u{7f}d\u{9b}e\u{202e}f\u{2066}g\u{d}h");
        let text = "é\t日本語\nעברית\u{200f} 🙂";
        assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn only_output_to_a_terminal_is_escaped() {
        let printed = |is_terminal: bool| {
            let written = Written::default();
            let mut printer = Printer::new(Box::new(written.clone()), is_terminal);
            printer.line("x\u{1b}").expect("written");
            printer.stream("y\u{9b}\n").expect("written");
            printer.json(&["z\u{9b}\0"]).expect("written");
            let bytes = written.0.borrow().clone();
            String::from_utf8(bytes).expect("UTF-8")
        };
        assert_eq!(printed(true), "x\\u{1b}\ny\\u{9b}\n[\n  \"z\\u009b\\u0000\"\n]\n");
        assert_eq!(printed(false), "x\u{1b}\ny\u{9b}\n[\n  \"z\u{9b}\\u0000\"\n]\n");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error_and_a_full_disk_is() {
        let mut printer = Printer::new(Box::new(Refusing(ErrorKind::BrokenPipe)), false);
        printer.line("nobody reads this").expect("no error");
        assert!(printer.is_closed());
        printer.flush().expect("no error");
        let mut printer = Printer::new(Box::new(Refusing(ErrorKind::StorageFull)), false);
        let error = printer.line("there is no room for this").expect_err("a full disk").to_string();
        assert!(error.starts_with("cannot write to stdout: no "), "{error}");
        assert!(!printer.is_closed());
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["stage", "bytes"]);
        table.row(["1 train".into(), "9".into()]);
        assert_eq!(table.to_string(), "stage    bytes\n1 train      9");
    }
}
