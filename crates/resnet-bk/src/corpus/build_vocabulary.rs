//! Builds the vocabulary of a text from its most frequent words.

use super::{Cache, CorpusError, Key, TextSource};
use crate::observer::Observer;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// The `size - 1` most frequent words of `train_text`, after `<unk>` with id 0.
///
/// Words are sorted by count, the most frequent first, then by bytes. `<eos>` is counted once for
/// every line, except for blank lines if they are dropped. An `<unk>` in the text is not counted. A
/// text with fewer distinct words gives a smaller vocabulary. `<eos>` is always kept; if it is too
/// rare, it is the last word.
///
/// # Errors
///
/// If `size` is below 2, the text has no words, or it cannot be read.
pub fn build_vocabulary(
    train_text: &TextSource,
    size: usize,
    pretokenizer: Pretokenizer,
    blank_lines: BlankLines,
) -> Result<Vocabulary, CorpusError> {
    let words = frequent_words(train_text, size, pretokenizer, blank_lines)?;
    Ok(Vocabulary::new(words, pretokenizer)?.with_blank_lines(blank_lines))
}

/// The same vocabulary, from the cache if the text is on disk and has been counted before.
///
/// # Errors
///
/// As [`build_vocabulary`]. Failures of the cache are warnings.
pub fn cached_vocabulary(
    train_text: &TextSource,
    size: usize,
    pretokenizer: Pretokenizer,
    blank_lines: BlankLines,
    cache: &Cache,
    observer: &mut dyn Observer,
) -> Result<Vocabulary, CorpusError> {
    let key = || {
        let text = train_text.identity();
        Key::new("vocabulary", &format!("{size} words, {pretokenizer:?}, blank lines {blank_lines:?}, of {text}"))
    };
    let words = || frequent_words(train_text, size, pretokenizer, blank_lines);
    let words = cache.for_texts(&[train_text]).get_or_make(key, words, observer)?;
    Ok(Vocabulary::new(words, pretokenizer)?.with_blank_lines(blank_lines))
}

/// The words of the vocabulary.
fn frequent_words(
    train_text: &TextSource,
    size: usize,
    pretokenizer: Pretokenizer,
    blank_lines: BlankLines,
) -> Result<Vec<String>, CorpusError> {
    if size < 2 {
        return Err(CorpusError::VocabularyTooSmall { size });
    }
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut count = |word: &str| match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => {
            counts.insert(word.to_owned(), 1);
        }
    };
    train_text.for_each_line(|line| {
        let mut kept = blank_lines == BlankLines::Kept;
        for word in pretokenizer.split(line) {
            kept = true;
            count(word);
        }
        if kept {
            count(END_OF_LINE);
        }
        ControlFlow::Continue(())
    })?;
    // `<eos>` alone does not count.
    if counts.keys().all(|word| word == END_OF_LINE) {
        return Err(CorpusError::NoWords { bytes: train_text.bytes() });
    }
    counts.remove(UNKNOWN);
    let mut ranked: Vec<(Reverse<u64>, String)> =
        counts.into_iter().map(|(word, count)| (Reverse(count), word)).collect();
    ranked.sort_unstable();
    if let Some(rank) = ranked.iter().position(|(_, word)| word == END_OF_LINE)
        && rank > size - 2
    {
        ranked.swap(rank, size - 2);
    }
    ranked.truncate(size - 1);
    Ok(std::iter::once(UNKNOWN.to_owned()).chain(ranked.into_iter().map(|(_, word)| word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, size: usize) -> Vec<String> {
        build_vocabulary(&text.into(), size, Pretokenizer::Whitespace, BlankLines::Dropped)
            .expect("valid")
            .words()
            .to_vec()
    }

    #[test]
    fn words_are_in_order_of_count_then_bytes() {
        let text = "b a\n\nc b <unk>\n<unk> <unk> <unk> a b B\n";
        assert_eq!(words(text, 100), ["<unk>", "<eos>", "b", "a", "B", "c"]);
        assert_eq!(words(text, 4), ["<unk>", "<eos>", "b", "a"]);
    }

    #[test]
    fn end_of_line_is_always_kept() {
        assert_eq!(words("a a b b c", 3), ["<unk>", "a", "<eos>"]);
        assert_eq!(words("a a b b c", 2), ["<unk>", "<eos>"]);
    }

    #[test]
    fn punctuation_is_counted_separately_in_raw_text() {
        let vocabulary =
            build_vocabulary(&"Yes, yes. Yes!".into(), 100, Pretokenizer::Words, BlankLines::Dropped).expect("valid");
        assert_eq!(vocabulary.words(), ["<unk>", "Yes", "!", ",", ".", "<eos>", "yes"]);
        assert_eq!(vocabulary.pretokenizer(), Pretokenizer::Words);
    }

    #[test]
    fn invalid_sizes_and_texts_are_refused() {
        let refused = |text: &str, size| {
            let built = build_vocabulary(&text.into(), size, Pretokenizer::Words, BlankLines::Dropped);
            built.expect_err("refused").to_string()
        };
        assert_eq!(refused("a", 1), "a vocabulary of 1 words is too small: at least 2 are needed, <unk> and <eos>");
        assert_eq!(
            refused(" \n", 5),
            "the training text holds no words in its 2 bytes: a vocabulary needs at least one"
        );
    }
}
