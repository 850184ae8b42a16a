//! The one place that writes to stdout and stderr, and how numbers look there.

use crate::failure::{Failure, system_message};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

/// Writes results to stdout.
///
/// A reader who closes the pipe has seen enough: what is printed after that goes nowhere, and the
/// command goes on, so that its files and its exit code are those that it has earned.
pub struct Printer {
    out: Box<dyn Write>,
    is_terminal: bool,
    is_closed: bool,
}

impl Printer {
    /// To the program's stdout.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self::new(Box::new(BufWriter::new(stdout)), is_terminal)
    }

    fn new(out: Box<dyn Write>, is_terminal: bool) -> Self {
        Self { out, is_terminal, is_closed: false }
    }

    /// A line.
    pub fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        let line = format!("{line}\n");
        self.write(&line)
    }

    /// A piece of text, shown at once.
    pub fn stream(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.flush()
    }

    /// A value as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(value).expect("results are plain data");
        if !self.is_terminal {
            return self.line(json);
        }
        // In JSON's own form: what is shown can be copied.
        let shown: String = json
            .chars()
            .map(|c| if steers_a_terminal(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() })
            .collect();
        self.line(shown)
    }

    /// Shows what was written so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.out.flush();
        self.judge(flushed)
    }

    /// How a text will look: what steers a terminal is escaped where stdout is one, and is left
    /// alone elsewhere, where it is data.
    pub fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_terminal { escaped(text) } else { Cow::Borrowed(text) }
    }

    /// Whether nobody reads stdout any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        let shown = self.shown(text).into_owned();
        let written = self.out.write_all(shown.as_bytes());
        self.judge(written)
    }

    fn judge(&mut self, result: io::Result<()>) -> Result<(), Failure> {
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

/// A message on stderr, with what steers a terminal escaped. Nothing can be done where even that
/// fails.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped(message));
}

/// The last message on stderr: no other follows while the lock is held.
pub fn last_note(message: &str) -> io::StderrLock<'static> {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{}", escaped(message));
    stderr
}

/// The text with control characters and bidirectional overrides written out, such as `\u{1b}`. Line
/// breaks and tabs stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(steers_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers_a_terminal(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Control characters (C0, DEL, C1) but line breaks and tabs, and characters that turn the
/// direction of what follows.
fn steers_a_terminal(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Rows of cells under a heading; the first column is flush left, numbers are flush right.
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

    /// The heading, then the rows.
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

/// A perplexity, with two decimals while they mean something.
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

/// Seconds of wall time.
pub fn seconds(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 16_584_480].map(grouped), ["0", "999", "1,000", "16,584,480"]);
        assert_eq!([7.125, 99.76].map(ratio), ["7.12x", "99.8x"]);
        assert_eq!([0.153, -0.02].map(change), ["+15.3 %", "-2.0 %"]);
        assert_eq!([0.15, 0.125].map(percent), ["15 %", "12.5 %"]);
        assert_eq!([278.3, 1e6].map(perplexity), ["278.30", "1.000e6"]);
    }

    /// What a printer wrote.
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

    /// A place that refuses every byte.
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
    fn what_steers_a_terminal_is_escaped() {
        let raw = "a\u{1b}[31mb\0c\u{7f}d\u{9b}e\u{202e}f\u{2066}g\rh";
        assert_eq!(escaped(raw), r"a\u{1b}[31mb\u{0}c\u{7f}d\u{9b}e\u{202e}f\u{2066}g\u{d}h");
        let text = "é\t日本語\nעברית\u{200f} 🙂";
        assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn only_a_terminal_gets_escapes() {
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
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_stdouts() {
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
    fn columns_line_up() {
        let mut table = Table::new(["stage", "bytes"]);
        table.row(["1 train".into(), "9".into()]);
        assert_eq!(table.to_string(), "stage    bytes\n1 train      9");
    }
}
