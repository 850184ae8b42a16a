//! Numbers on the command line. What is wrong with one is said in plain words, without the names of
//! types.

use std::ops::RangeInclusive;

/// Most threads.
const MAX_THREADS: u64 = 1024;
/// Most timed runs of a benchmark.
const MAX_RUNS: u64 = 1_000_000;

/// A whole number in a range.
fn whole(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(format!("write a whole number such as {}", range.start().max(&1)));
    }
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if *range.end() == u64::MAX && (text.starts_with('-') || digits.bytes().all(|digit| digit == b'0')) => {
            Err(format!("it must be at least {}", range.start()))
        }
        _ => Err(format!("it must be from {} to {}", range.start(), range.end())),
    }
}

fn size(text: &str, range: RangeInclusive<u64>) -> Result<usize, String> {
    let number = whole(text, range)?;
    usize::try_from(number).map_err(|_| format!("it must be at most {}", usize::MAX))
}

/// How many of something, at least one.
pub fn count(text: &str) -> Result<usize, String> {
    size(text, 1..=u64::MAX)
}

/// Threads that compute.
pub fn threads(text: &str) -> Result<usize, String> {
    size(text, 1..=MAX_THREADS)
}

/// Timed runs of a benchmark.
pub fn runs(text: &str) -> Result<usize, String> {
    size(text, 1..=MAX_RUNS)
}

/// A seed.
pub fn seed(text: &str) -> Result<u64, String> {
    whole(text, 0..=u64::MAX)
}

/// A number.
pub fn number(text: &str) -> Result<f32, String> {
    text.parse().map_err(|_| "write a number such as 0.8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_told_the_range() {
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("18446744073709551615"), Ok(usize::MAX));
        for (wrong, message) in [
            ("0", "it must be at least 1"),
            ("-3", "it must be at least 1"),
            ("18446744073709551616", "it must be from 1 to 18446744073709551615"),
            ("", "write a whole number such as 1"),
            ("five", "write a whole number such as 1"),
            ("1.5", "write a whole number such as 1"),
        ] {
            assert_eq!(count(wrong), Err(message.to_owned()), "{wrong}");
        }
        assert_eq!(threads("1024"), Ok(1024));
        for wrong in ["0", "-1", "1025", "99999999999999999999"] {
            assert_eq!(threads(wrong), Err("it must be from 1 to 1024".to_owned()), "{wrong}");
        }
        assert!(runs("1000001").is_err());
        assert_eq!(seed("0"), Ok(0));
        assert_eq!(seed("-1"), Err("it must be at least 0".to_owned()));
        assert!(number("hot").is_err());
    }
}
