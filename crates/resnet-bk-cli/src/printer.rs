//! The one place that writes to stdout and stderr, and how numbers look there.

use serde::Serialize;
use std::fmt::{self, Display};
use std::io::{self, BufWriter, Write};

/// Writes results to stdout.
pub struct Printer {
    out: Box<dyn Write>,
}

impl Printer {
    /// To the program's stdout.
    pub fn stdout() -> Self {
        Self { out: Box::new(BufWriter::new(io::stdout())) }
    }

    /// A line.
    pub fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// A piece of text, shown at once.
    pub fn stream(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A value as indented JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.line("")
    }

    /// Shows what was written so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A message on stderr. Nothing can be done where even that fails.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
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

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 16_584_480].map(grouped), ["0", "999", "1,000", "16,584,480"]);
        assert_eq!([7.125, 99.76].map(ratio), ["7.12x", "99.8x"]);
        assert_eq!([0.153, -0.02].map(change), ["+15.3 %", "-2.0 %"]);
        assert_eq!([0.15, 0.125].map(percent), ["15 %", "12.5 %"]);
        assert_eq!([278.3, 1e6].map(perplexity), ["278.30", "1.000e6"]);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["stage", "bytes"]);
        table.row(["1 train".into(), "9".into()]);
        assert_eq!(table.to_string(), "stage    bytes\n1 train      9");
    }
}
