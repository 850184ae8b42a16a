//! Where a recipe's value was written: in the file, or in a `--set`.

use std::fmt;
use toml::Table;
use toml::de::{DeTable, DeValue};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, from 1.
    Line {
        /// The file.
        file: String,
        /// The line.
        line: usize,
    },
    /// A file.
    File(String),
    /// A `--set`, as it was given.
    Assignment(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file} line {line}"),
            Self::File(file) => f.write_str(file),
            Self::Assignment(assignment) => write!(f, "--set {assignment}"),
        }
    }
}

/// What a recipe is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What changes it, in order.
    pub assignments: &'a [String],
}

impl Sources<'_> {
    /// Where the value at `path` of the finished recipe was written, and its path there: a stage
    /// takes what it does not say itself from the recipe's `[schedule]` and `[model]`. `None` where
    /// it was written nowhere, as a preset's and a default.
    pub fn find(&self, path: &[String]) -> Option<(Place, Vec<String>)> {
        let mut candidates = vec![path.to_vec()];
        if let [first, _, part, ..] = path
            && first == "stage"
            && (part == "schedule" || part == "model")
        {
            candidates.push(path[2..].to_vec());
        }
        candidates.into_iter().find_map(|path| {
            let place = self.assignment(|key| path.starts_with(key)).or_else(|| self.line(&path));
            place.map(|place| (place, path))
        })
    }

    /// As [`find`](Self::find), or where the tables around the value were written.
    pub fn near(&self, path: &[String]) -> Place {
        if let Some((place, _)) = self.find(path) {
            return place;
        }
        let inside = self.assignment(|key| key.starts_with(path));
        let around = || (1..path.len()).rev().find_map(|length| self.line(&path[..length]));
        inside.or_else(around).unwrap_or_else(|| Place::File(self.file.to_owned()))
    }

    /// The last assignment with such a key.
    fn assignment(&self, fits: impl Fn(&[String]) -> bool) -> Option<Place> {
        let found = self.assignments.iter().rev().find(|assignment| {
            let key = assignment.split_once('=').map_or("", |(key, _)| key);
            fits(&key.trim().split('.').map(str::to_owned).collect::<Vec<String>>())
        });
        found.map(|assignment| Place::Assignment(assignment.clone()))
    }

    fn line(&self, path: &[String]) -> Option<Place> {
        let document = DeTable::parse(self.text).ok()?;
        let offset = offset(document.get_ref(), path)?;
        Some(Place::Line { file: self.file.to_owned(), line: line_of(self.text, offset) })
    }

    /// The first whole number of the file that is too large for TOML, as it is written, and its
    /// line.
    pub fn too_large(&self) -> Option<(Place, String)> {
        let document = DeTable::parse(self.text).ok()?;
        let (text, offset) =
            document.get_ref().values().find_map(|value| too_large(value.get_ref(), value.span().start))?;
        Some((Place::Line { file: self.file.to_owned(), line: line_of(self.text, offset) }, text))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

/// Where the key of a value stands, or, in a list, the value.
fn offset(table: &DeTable, path: &[String]) -> Option<usize> {
    let (key, mut rest) = path.split_first()?;
    let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
    let (mut at, mut value) = (name.span().start, value.get_ref());
    loop {
        match (value, rest) {
            (_, []) => return Some(at),
            (DeValue::Table(inner), _) => return offset(inner, rest),
            (DeValue::Array(list), [index, more @ ..]) => {
                let item = list.get(index.parse::<usize>().ok()?)?;
                (at, value, rest) = (item.span().start, item.get_ref(), more);
            }
            _ => return None,
        }
    }
}

fn too_large(value: &DeValue, at: usize) -> Option<(String, usize)> {
    match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).is_err().then(|| (number.to_string(), at))
        }
        DeValue::Array(list) => list.iter().find_map(|item| too_large(item.get_ref(), item.span().start)),
        DeValue::Table(table) => table.values().find_map(|value| too_large(value.get_ref(), value.span().start)),
        _ => None,
    }
}

/// The largest whole number of TOML.
const LARGEST: &str = "9,223,372,036,854,775,807";

/// What is wrong with a whole number that TOML cannot hold.
pub(super) fn too_large_message(number: &str) -> String {
    if number.starts_with('-') {
        format!("{number} is too small: the smallest whole number is -9,223,372,036,854,775,808")
    } else {
        format!("{number} is too large: the largest whole number is {LARGEST}")
    }
}

/// Whether the text is a whole number, of any size.
pub(super) fn is_whole_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == '_')
}

/// The value of an assignment: TOML, or else a text without its quotes.
pub(super) fn value(text: &str) -> Result<toml::Value, String> {
    let parsed = format!("x = {text}").parse::<Table>().ok().filter(|table| table.len() == 1);
    let text = text.trim();
    match parsed.and_then(|mut table| table.remove("x")) {
        Some(value) => Ok(value),
        None if is_whole_number(text) && text.replace('_', "").parse::<i64>().is_err() => Err(too_large_message(text)),
        None => Ok(toml::Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seed = 1\n[model]\nd_model = 3\n[schedule]\nepochs = 2\n[[stage]]\nkind = \"train\"\n[[stage]]\n\
                        kind = \"qat\"\nschedule.epochs = 4\nexperts = [\n  { epoch = 1 },\n  { epoch = 2 },\n]\n";

    #[test]
    fn values_are_found_where_they_were_written() {
        let assignments = ["model.heads=3".to_owned(), "schedule.warmup=0".to_owned(), "model.heads=4".to_owned()];
        let sources = Sources { file: "r.toml", text: TEXT, assignments: &assignments };
        let near = |path: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            sources.near(&path).to_string()
        };
        assert_eq!(near("seed"), "r.toml line 1");
        assert_eq!(near("model.d_model"), "r.toml line 3");
        assert_eq!(near("model.heads"), "--set model.heads=4");
        assert_eq!(near("model.n_layers"), "r.toml line 2");
        assert_eq!(near("stage.0.schedule.epochs"), "r.toml line 5");
        assert_eq!(near("stage.1.schedule.epochs"), "r.toml line 10");
        assert_eq!(near("stage.1.schedule.warmup"), "--set schedule.warmup=0");
        assert_eq!(near("stage.1.experts.1.epoch"), "r.toml line 13");
        assert_eq!(near("stage.0.model.d_model"), "r.toml line 3");
        assert_eq!(near("target"), "r.toml");
    }

    #[test]
    fn whole_numbers_that_do_not_fit_are_refused() {
        assert_eq!(value("3"), Ok(toml::Value::Integer(3)));
        assert_eq!(value("9223372036854775807"), Ok(toml::Value::Integer(i64::MAX)));
        assert_eq!(value("abc"), Ok(toml::Value::String("abc".to_owned())));
        assert_eq!(value("1\ny = 2"), Ok(toml::Value::String("1\ny = 2".to_owned())));
        let largest = "99999999999999999999 is too large: the largest whole number is 9,223,372,036,854,775,807";
        assert_eq!(value("99999999999999999999"), Err(largest.to_owned()));
        assert!(value("-9223372036854775809").is_err_and(|message| message.contains("too small")));
        let text = "a = 1\nb = [{ c = 18446744073709551615 }]\n";
        let (place, number) = Sources { file: "r.toml", text, assignments: &[] }.too_large().expect("too large");
        assert_eq!((place.to_string().as_str(), number.as_str()), ("r.toml line 2", "18446744073709551615"));
    }
}
