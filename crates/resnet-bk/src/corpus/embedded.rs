//! The embedded corpus: English sentences of the Tanaka Corpus.
//!
//! It has about 139,000 distinct sentences of a collection for learners of English and Japanese,
//! compressed in `data/tanaka`. The README there names the source and the license, and documents
//! the Japanese sentences.
//!
//! Many sentences differ by a word or two. So groups of near-duplicates are split between training
//! and held-out text, by a hash of each group. The sentences are in a fixed shuffled order: in the
//! original order, neighbors share words, which would favor models that copy between unrelated
//! lines.

use super::near_duplicates;
use super::split::{Side, fingerprint, side};
use super::{Corpus, TextSource};
use crate::random::Random;
use flate2::read::GzDecoder;
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use std::collections::{HashMap, HashSet};
use std::io::Read;

/// One English sentence per line, in the order of the collection.
const ENGLISH: &[u8] = include_bytes!("../../data/tanaka/english.txt.gz");

/// Name of the corpus.
pub(super) const NAME: &str = "embedded";

/// Groups per 1,000 that are held out for each of valid and test.
const HELD_OUT: u64 = 50;
/// Size of the largest group that may be held out. A larger family of similar sentences would not
/// be a representative sample.
const LARGEST_HELD_OUT_GROUP: usize = 50;

/// The corpus.
pub(super) fn load() -> Corpus {
    let [train, valid, test] = texts().map(TextSource::from);
    Corpus {
        name: NAME.to_owned(),
        train,
        valid,
        test: Some(test),
        pretokenizer: Pretokenizer::Words,
        license: Some(
            "CC BY 2.0 FR: Tanaka Corpus, Yasuhito Tanaka, and contributors of the Tatoeba Project".to_owned(),
        ),
    }
}

/// Groups, shuffles and splits the sentences into train, valid and test.
fn texts() -> [String; 3] {
    let text = decompress(ENGLISH);
    let sentences = sentences(&text);
    let [mut train, mut valid, mut test] = [const { String::new() }; 3];
    for (sentence, side) in sentences.iter().zip(sides(&sentences)) {
        let text = match side {
            Side::Train => &mut train,
            Side::Valid => &mut valid,
            Side::Test => &mut test,
        };
        text.push_str(sentence);
        text.push('\n');
    }
    [train, valid, test]
}

/// Decompresses an embedded file.
fn decompress(file: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("a test reads every compiled-in file");
    text
}

/// All distinct sentences of a text, in the order of this corpus.
fn sentences(text: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    let mut sentences: Vec<&str> = text
        .lines()
        .map(str::trim)
        // A few translations contain remarks in Japanese.
        .filter(|sentence| !sentence.is_empty() && sentence.chars().all(|c| c < '\u{2E80}'))
        .filter(|sentence| seen.insert(*sentence))
        .collect();
    sentences.sort_by_cached_key(|sentence| (Random::keyed(&[fingerprint(sentence)]).next_u64(), *sentence));
    sentences
}

/// The side of each sentence, which is the side of its group.
fn sides(sentences: &[&str]) -> Vec<Side> {
    let groups = near_duplicates::group(sentences);
    // The least hash identifies a group independently of the order of its sentences.
    let mut names: HashMap<usize, (u64, usize)> = HashMap::new();
    for (sentence, &group) in sentences.iter().zip(&groups) {
        let (least, size) = names.entry(group).or_insert((u64::MAX, 0));
        *least = fingerprint(sentence).min(*least);
        *size += 1;
    }
    let side_of = |group| match names[group] {
        (_, size) if size > LARGEST_HELD_OUT_GROUP => Side::Train,
        (least, _) => side(least, HELD_OUT),
    };
    groups.iter().map(side_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{build_vocabulary, sha256};
    use crate::ngram::NgramBaselines;
    use resnet_bk_runtime::internal::tokenizer::BlankLines;
    use std::sync::LazyLock;

    /// Train, valid and test.
    static TEXTS: LazyLock<[String; 3]> = LazyLock::new(texts);

    #[test]
    fn the_files_match_their_readme() {
        let japanese = decompress(include_bytes!("../../data/tanaka/japanese.txt.gz"));
        let english = decompress(ENGLISH);
        let readme = include_str!("../../data/tanaka/README.md");
        for (name, text) in [("english", &english), ("japanese", &japanese)] {
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}.txt.gz`"))).expect("a row");
            assert!(row.contains(&sha256(text.as_bytes())), "{name}: {}", sha256(text.as_bytes()));
        }
        assert_eq!([&english, &japanese].map(|text| text.lines().count()), [147_893; 2]);
        // Sentences with the same line number are translations of each other.
        let number = english.lines().position(|line| line == "Is he busy?").expect("a sentence of the corpus");
        assert_eq!(japanese.lines().nth(number), Some("彼は忙しいですか。"));
    }

    #[test]
    fn the_split_is_stable() {
        let measured = TEXTS.each_ref().map(|text| (text.lines().count(), fingerprint(text)));
        let expected = [
            (126_382, 2_844_643_624_940_263_549),
            (6_522, 6_715_093_817_887_932_600),
            (6_573, 14_929_132_245_767_694_805),
        ];
        assert_eq!(measured, expected, "lines and fingerprints of train, valid and test");
    }

    #[test]
    fn the_corpus_has_a_million_words_and_nine_tenths_are_training_text() {
        let words = |text: &str| text.split_whitespace().count() as f64;
        let [train, valid, test] = TEXTS.each_ref().map(|text| words(text));
        let all = train + valid + test;
        assert!(all > 1e6, "{all}");
        for held_out in [valid, test] {
            let share = held_out / all;
            assert!((0.04..0.06).contains(&share), "{share}");
        }
    }

    #[test]
    fn no_near_duplicate_is_on_both_sides_of_the_split() {
        // Slow reference: a sample of held-out sentences against every sentence of the other sides,
        // without filtering.
        let sets = |text: &'static str| -> Vec<(Vec<String>, &'static str)> {
            let lines = text.lines().map(|line| {
                let mut words = near_duplicates::normalized_words(line);
                words.sort_unstable();
                words.dedup();
                (words, line)
            });
            lines.collect()
        };
        let [train, valid, test] = TEXTS.each_ref().map(|text| sets(text));
        for (name, held_out, others) in [("valid", &valid, [&train, &test]), ("test", &test, [&train, &valid])] {
            for (words, line) in held_out.iter().step_by(151) {
                for (other_words, other) in others.into_iter().flatten() {
                    assert!(!near_duplicates::are_similar(words, other_words), "{name}: {line:?} is like {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_text_is_english_with_one_sentence_per_line() {
        let train = &TEXTS[0];
        assert!(train.lines().all(|line| !line.is_empty() && line.trim() == line && !line.contains("#ID")));
        assert!(train.contains("\nHe gave her a piece of advice.\n"));
        assert!(load().license.as_deref().is_some_and(|license| license.starts_with("CC BY 2.0 FR")));
    }

    #[test]
    fn the_ngram_baselines_have_the_measured_values() {
        let vocabulary =
            build_vocabulary(&load().train, 8_000, Pretokenizer::Words, BlankLines::Dropped).expect("a vocabulary");
        let [train, valid, _] = TEXTS.each_ref().map(|text| vocabulary.encode(text));
        let unknown = valid.iter().filter(|&&id| id == vocabulary.unknown()).count() as f64 / valid.len() as f64;
        assert!(unknown < 0.03, "{unknown}");
        let measured = NgramBaselines::measure(&train, &valid, vocabulary.len()).expect("valid streams");
        // Measured for this split. Leaked sentences would lower bigram and trigram.
        let is_near = |measured: f64, expected: f64| (measured / expected - 1.0).abs() < 0.001;
        assert!(is_near(measured.unigram, 360.37), "{measured:?}");
        assert!(is_near(measured.bigram, 62.187) && is_near(measured.trigram, 46.610), "{measured:?}");
    }
}
