//! The vocabulary of a text: its most frequent words.

use super::CorpusError;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use std::cmp::Reverse;
use std::collections::HashMap;

/// The `size - 1` most frequent words of `train_text`, after `<unk>` with id 0.
///
/// Words are in the order of their counts, the most frequent first, and in byte order where counts
/// are equal. `<eos>` is counted once for every line that is not blank, or for every line where
/// blank lines are kept; a `<unk>` in the text is not counted. A text with fewer distinct words
/// gives a smaller vocabulary. `<eos>` is always kept, in the last place if it is too rare.
///
/// # Errors
///
/// If `size` is below 2 or the text has no words.
pub fn build_vocabulary(
    train_text: &str,
    size: usize,
    pretokenizer: Pretokenizer,
    blank_lines: BlankLines,
) -> Result<Vocabulary, CorpusError> {
    if size < 2 {
        return Err(CorpusError::VocabularyTooSmall { size });
    }
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for line in train_text.lines() {
        let mut kept = false;
        for word in pretokenizer.split(line) {
            kept = true;
            *counts.entry(word).or_default() += 1;
        }
        if kept || blank_lines == BlankLines::Kept {
            *counts.entry(END_OF_LINE).or_default() += 1;
        }
    }
    // `<eos>` alone is no word.
    if counts.keys().all(|&word| word == END_OF_LINE) {
        return Err(CorpusError::NoWords { bytes: train_text.len() });
    }
    counts.remove(UNKNOWN);
    let mut ranked: Vec<(Reverse<u64>, &str)> =
        counts.into_iter().map(|(word, count)| (Reverse(count), word)).collect();
    ranked.sort_unstable();
    if let Some(rank) = ranked.iter().position(|&(_, word)| word == END_OF_LINE)
        && rank > size - 2
    {
        ranked.swap(rank, size - 2);
    }
    ranked.truncate(size - 1);
    let words = std::iter::once(UNKNOWN).chain(ranked.into_iter().map(|(_, word)| word)).map(str::to_owned).collect();
    Ok(Vocabulary::new(words, pretokenizer)?.with_blank_lines(blank_lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, size: usize) -> Vec<String> {
        build_vocabulary(text, size, Pretokenizer::Whitespace, BlankLines::Dropped).expect("sound").words().to_vec()
    }

    #[test]
    fn words_are_in_order_of_count_then_bytes() {
        let text = "b a\n\nc b <unk>\n<unk> <unk> <unk> a b B\n";
        assert_eq!(words(text, 100), ["<unk>", "<eos>", "b", "a", "B", "c"]);
        assert_eq!(words(text, 4), ["<unk>", "<eos>", "b", "a"]);
    }

    #[test]
    fn end_of_line_is_kept_however_rare() {
        assert_eq!(words("a a b b c", 3), ["<unk>", "a", "<eos>"]);
        assert_eq!(words("a a b b c", 2), ["<unk>", "<eos>"]);
    }

    #[test]
    fn raw_text_is_counted_without_its_punctuation() {
        let vocabulary =
            build_vocabulary("Yes, yes. Yes!", 100, Pretokenizer::Words, BlankLines::Dropped).expect("sound");
        assert_eq!(vocabulary.words(), ["<unk>", "Yes", "!", ",", ".", "<eos>", "yes"]);
        assert_eq!(vocabulary.pretokenizer(), Pretokenizer::Words);
    }

    #[test]
    fn impossible_requests_are_refused() {
        let refused = |text, size| {
            let built = build_vocabulary(text, size, Pretokenizer::Words, BlankLines::Dropped);
            built.expect_err("refused").to_string()
        };
        assert_eq!(refused("a", 1), "a vocabulary of 1 words is too small: at least 2 are needed, <unk> and <eos>");
        assert_eq!(
            refused(" \n", 5),
            "the training text holds no words in its 2 bytes: a vocabulary needs at least one"
        );
    }
}
