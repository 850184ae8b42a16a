//! The corpus that is compiled in: the English sentences of the Tanaka Corpus.
//!
//! About 139,000 different sentences of a collection made for learners of English and Japanese,
//! compressed in `data/tanaka`; its README says where they come from, and holds their license and
//! the Japanese sentences. Many differ by a word or two, so the split is made between groups of
//! near-duplicates, by a hash of each group. The sentences stand in a fixed order that is drawn
//! once: in the original order a sentence's neighbours repeat its words, which would reward a model
//! for copying across lines that have nothing to do with each other.

use super::Corpus;
use super::near_duplicates;
use super::split::{Side, fingerprint, side};
use crate::random::Random;
use flate2::read::GzDecoder;
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use std::collections::{HashMap, HashSet};
use std::io::Read;

/// One English sentence a line, in the order of the collection.
const ENGLISH: &[u8] = include_bytes!("../../data/tanaka/english.txt.gz");

/// What the corpus is loaded as.
pub(super) const NAME: &str = "embedded";

/// Groups of 1,000 held out for each of valid and test.
const HELD_OUT: u64 = 50;
/// Sentences of the largest group that may be held out: one big family of sentences would not be a
/// sample of the language.
const LARGEST_HELD_OUT_GROUP: usize = 50;

/// Groups, splits and joins the sentences.
pub(super) fn load() -> Corpus {
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
    Corpus {
        name: NAME.to_owned(),
        train,
        valid,
        test: Some(test),
        pretokenizer: Pretokenizer::Words,
        licence: Some(
            "CC BY 2.0 FR: Tanaka Corpus, Yasuhito Tanaka, and contributors of the Tatoeba Project".to_owned(),
        ),
    }
}

/// The text of a file that is compiled in.
fn decompress(file: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("a test reads every compiled-in file");
    text
}

/// Every different sentence of a text, in the order of this corpus.
fn sentences(text: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    let mut sentences: Vec<&str> = text
        .lines()
        .map(str::trim)
        // A few translations hold remarks in Japanese.
        .filter(|sentence| !sentence.is_empty() && sentence.chars().all(|c| c < '\u{2E80}'))
        .filter(|sentence| seen.insert(*sentence))
        .collect();
    sentences.sort_by_cached_key(|sentence| (Random::keyed(&[fingerprint(sentence)]).next_u64(), *sentence));
    sentences
}

/// The side of each sentence: that of its group of near-duplicates.
fn sides(sentences: &[&str]) -> Vec<Side> {
    let groups = near_duplicates::group(sentences);
    // The least fingerprint names a group whatever the order of its sentences.
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

    static CORPUS: LazyLock<Corpus> = LazyLock::new(load);

    #[test]
    fn the_files_hold_what_their_readme_says() {
        let japanese = decompress(include_bytes!("../../data/tanaka/japanese.txt.gz"));
        let english = decompress(ENGLISH);
        let readme = include_str!("../../data/tanaka/README.md");
        for (name, text) in [("english", &english), ("japanese", &japanese)] {
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}.txt.gz`"))).expect("a row");
            assert!(row.contains(&sha256(text.as_bytes())), "{name}: {}", sha256(text.as_bytes()));
        }
        assert_eq!([&english, &japanese].map(|text| text.lines().count()), [147_893; 2]);
        // Sentences of the same number are translations of each other.
        let number = english.lines().position(|line| line == "Is he busy?").expect("a sentence of the corpus");
        assert_eq!(japanese.lines().nth(number), Some("彼は忙しいですか。"));
    }

    #[test]
    fn the_split_is_stable() {
        let test = CORPUS.test.as_deref().expect("a test text");
        let measured = [&CORPUS.train, &CORPUS.valid, test].map(|text| (text.lines().count(), fingerprint(text)));
        let expected = [
            (126_382, 2_844_643_624_940_263_549),
            (6_522, 6_715_093_817_887_932_600),
            (6_573, 14_929_132_245_767_694_805),
        ];
        assert_eq!(measured, expected, "lines and fingerprints of train, valid and test");
    }

    #[test]
    fn a_million_words_nine_tenths_of_them_to_train_on() {
        let words = |text: &str| text.split_whitespace().count() as f64;
        let test = CORPUS.test.as_deref().expect("a test text");
        let all = words(&CORPUS.train) + words(&CORPUS.valid) + words(test);
        assert!(all > 1e6, "{all}");
        for held_out in [&CORPUS.valid, test] {
            let share = words(held_out) / all;
            assert!((0.04..0.06).contains(&share), "{share}");
        }
    }

    #[test]
    fn no_near_duplicate_straddles_the_split() {
        // The slow twin: a sample of held-out sentences against every sentence of the other sides,
        // without any filter.
        let sets = |text: &'static str| -> Vec<(Vec<String>, &'static str)> {
            let lines = text.lines().map(|line| {
                let mut words = near_duplicates::normalised_words(line);
                words.sort_unstable();
                words.dedup();
                (words, line)
            });
            lines.collect()
        };
        let test = CORPUS.test.as_deref().expect("a test text");
        let [train, valid, test] = [&CORPUS.train, &CORPUS.valid, test].map(sets);
        for (name, held_out, others) in [("valid", &valid, [&train, &test]), ("test", &test, [&train, &valid])] {
            for (words, line) in held_out.iter().step_by(151) {
                for (other_words, other) in others.into_iter().flatten() {
                    assert!(!near_duplicates::alike(words, other_words), "{name}: {line:?} is like {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_text_is_english_and_one_sentence_a_line() {
        assert!(CORPUS.train.lines().all(|line| !line.is_empty() && line.trim() == line && !line.contains("#ID")));
        assert!(CORPUS.train.contains("\nHe gave her a piece of advice.\n"));
        assert!(CORPUS.licence.as_deref().is_some_and(|licence| licence.starts_with("CC BY 2.0 FR")));
    }

    #[test]
    fn the_ngram_baselines_are_real_ones() {
        let vocabulary =
            build_vocabulary(&CORPUS.train, 8_000, CORPUS.pretokenizer, BlankLines::Dropped).expect("a vocabulary");
        let [train, valid] = [&CORPUS.train, &CORPUS.valid].map(|text| vocabulary.encode(text));
        let unknown = valid.iter().filter(|&&id| id == vocabulary.unknown()).count() as f64 / valid.len() as f64;
        assert!(unknown < 0.03, "{unknown}");
        let measured = NgramBaselines::measure(&train, &valid, vocabulary.len()).expect("sound streams");
        // Measured for this split; sentences that leak into it would lower the bigram and the
        // trigram.
        let is_near = |measured: f64, expected: f64| (measured / expected - 1.0).abs() < 0.001;
        assert!(is_near(measured.unigram, 360.37), "{measured:?}");
        assert!(is_near(measured.bigram, 62.187) && is_near(measured.trigram, 46.610), "{measured:?}");
    }
}
