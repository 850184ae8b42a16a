//! Held-out lines that were trained on.

use super::split::fingerprint;
use super::{Cache, CorpusError, Key, TextSource};
use crate::observer::Observer;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Lines of at most this many words, mostly headings, do not count.
const SHORT: usize = 5;

/// Share of the lines of `held_out` that are lines of `train` too, without the white space around
/// them. Short lines do not count.
///
/// Lines are compared by a hash of 64 bits, and only hashes of held-out lines are in memory.
///
/// # Errors
///
/// If a text cannot be read. Failures of the cache are warnings.
pub(crate) fn repeated_lines(
    train: &TextSource,
    held_out: &TextSource,
    cache: &Cache,
    observer: &mut dyn Observer,
) -> Result<f64, CorpusError> {
    let key =
        || Key::new("repeated-lines", &format!("over {SHORT} words: {} in {}", held_out.identity(), train.identity()));
    cache.for_texts(&[train, held_out]).get_or_make(key, || compare(train, held_out), observer)
}

fn compare(train: &TextSource, held_out: &TextSource) -> Result<f64, CorpusError> {
    // For each line, how often it is held out.
    let (mut lines, mut all): (HashMap<u64, usize>, usize) = (HashMap::new(), 0);
    for_each_long_line(held_out, |line| {
        all += 1;
        *lines.entry(line).or_default() += 1;
    })?;
    let mut repeated = 0;
    for_each_long_line(train, |line| repeated += lines.remove(&line).unwrap_or(0))?;
    Ok(repeated as f64 / all.max(1) as f64)
}

/// Calls `visit` with the hash of every line that is not short.
fn for_each_long_line(text: &TextSource, mut visit: impl FnMut(u64)) -> Result<(), CorpusError> {
    text.for_each_line(|line| {
        let line = line.trim();
        if line.split_whitespace().nth(SHORT).is_some() {
            visit(fingerprint(line));
        }
        ControlFlow::Continue(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;

    #[test]
    fn long_lines_are_counted_as_often_as_they_are_held_out() {
        let train = TextSource::from("a b c d e f\n  g h i j k l \r\nshort one\na b c d e f\n");
        let share = |held_out: &str| {
            repeated_lines(&train, &held_out.into(), &Cache::disabled(), &mut Silent).expect("in memory")
        };
        assert_eq!(share("a b c d e f\nshort one\n\na b c d e g\ng h i j k l\na b c d e f"), 0.75);
        assert_eq!(share("short one"), 0.0);
    }
}
