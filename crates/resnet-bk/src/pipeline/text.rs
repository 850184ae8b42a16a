//! The tokens of a run: what is trained on, what is chosen by, what is reported.
//!
//! ```text
//! training tokens  [ trained on ................................. | dev: the last 2 %, at most 50,000 ]   where something is chosen
//! held-out tokens  [ valid: reported, nothing is chosen by it ]
//! ```

use super::RunError;
use crate::batch::limit_tokens;
use crate::config::Recipe;
use crate::corpus::{Corpus, TextFingerprint};
use crate::summary::CorpusSummary;
use crate::train::TokenStreams;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use std::collections::HashSet;
use std::sync::Arc;

/// Fewest tokens of a text that a perplexity is measured of.
pub const MIN_HELD_OUT: usize = 100;
/// Tokens of a held-out text under which its perplexity is a rough figure.
pub const FEW_HELD_OUT: usize = 1_000;
/// Share of unknown tokens above which a perplexity says little about the text.
pub const MANY_UNKNOWN: f64 = 0.2;
/// Share of held-out lines that occur in the training text above which little is held out.
const MANY_REPEATED: f64 = 0.2;
/// One in so many training tokens is in the dev slice.
const DEV_SHARE: usize = 50;
/// Most tokens of the dev slice.
const DEV_MOST: usize = 50_000;

/// A run's text as tokens.
pub(super) struct Text {
    /// All training tokens, the dev slice included.
    pub(super) tokens: Arc<[u32]>,
    /// What stages see.
    pub(super) streams: TokenStreams,
    /// What it is.
    pub(super) summary: CorpusSummary,
    /// Share of the held-out lines that are lines of the training text too.
    repeated: f64,
}

impl Text {
    /// Encodes a corpus, and holds the dev slice out where the recipe chooses by it.
    pub(super) fn new(corpus: &Corpus, recipe: &Recipe, vocabulary: &Vocabulary) -> Result<Self, RunError> {
        let all = vocabulary.encode(&corpus.train);
        let tokens: Arc<[u32]> = limit_tokens(&all, recipe.corpus.data_limit).into();
        let valid: Arc<[u32]> = vocabulary.encode(&corpus.valid).into();
        if valid.len() < MIN_HELD_OUT {
            return Err(RunError::TinyHeldOut { tokens: valid.len() });
        }
        let mut streams = TokenStreams { train: tokens.clone(), dev: None, valid };
        if recipe.holds_out_dev() {
            let dev = (tokens.len() / DEV_SHARE).min(DEV_MOST);
            if dev < MIN_HELD_OUT {
                return Err(RunError::TinyDev { tokens: tokens.len() });
            }
            let (train, dev) = tokens.split_at(tokens.len() - dev);
            (streams.train, streams.dev) = (train.into(), Some(dev.into()));
        }
        let unknown = |tokens: &[u32]| {
            let count = tokens.iter().filter(|&&token| token == vocabulary.unknown()).count();
            count as f64 / tokens.len().max(1) as f64
        };
        let summary = CorpusSummary {
            name: corpus.name.clone(),
            train_tokens: streams.train.len(),
            dev_tokens: streams.dev.as_ref().map_or(0, |dev| dev.len()),
            valid_tokens: streams.valid.len(),
            vocab_size: vocabulary.len(),
            unknown_train: unknown(&tokens),
            unknown_valid: unknown(&streams.valid),
            fingerprint: TextFingerprint::of(&tokens, &streams.valid, vocabulary),
        };
        Ok(Self { tokens, streams, summary, repeated: repeated_lines(corpus) })
    }

    /// What a reader of its perplexities must know.
    pub(super) fn warnings(&self) -> Vec<String> {
        let CorpusSummary { valid_tokens, dev_tokens, unknown_train, unknown_valid, .. } = self.summary;
        let mut warnings = Vec::new();
        for (name, tokens) in [("held-out text", valid_tokens), ("dev slice", dev_tokens)] {
            if (1..FEW_HELD_OUT).contains(&tokens) {
                warnings.push(format!("the {name} has {tokens} tokens only: its perplexity is a rough figure"));
            }
        }
        if self.repeated > MANY_REPEATED {
            warnings.push(format!(
                "{:.1} % of the held-out lines are lines of the training text too: what is measured on them is not held out",
                100.0 * self.repeated,
            ));
        }
        for (name, unknown) in [("training", unknown_train), ("held-out", unknown_valid)] {
            if unknown > MANY_UNKNOWN {
                warnings.push(format!(
                    "{:.1} % of the {name} tokens are unknown words, which are easy to predict: perplexities say little about this text \
                     (model.vocab_size allows more words, corpus.pretokenizer = \"words\" takes punctuation off words)",
                    100.0 * unknown,
                ));
            }
        }
        warnings
    }
}

/// Share of the lines of the held-out text that stand in the training text, word for word. Short
/// ones, headings above all, do not count.
fn repeated_lines(corpus: &Corpus) -> f64 {
    const SHORT: usize = 5;
    let long = |line: &&str| line.split_whitespace().count() > SHORT;
    let train: HashSet<&str> = corpus.train.lines().map(str::trim).filter(long).collect();
    let (mut all, mut repeated) = (0usize, 0usize);
    for line in corpus.valid.lines().map(str::trim).filter(long) {
        all += 1;
        repeated += usize::from(train.contains(line));
    }
    repeated as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::build_vocabulary;
    use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};

    fn corpus(train: usize, valid: usize) -> Corpus {
        let text = |words: usize| (0..words).map(|word| format!("w{} ", word % 7)).collect::<String>();
        Corpus {
            name: "test".to_owned(),
            train: text(train),
            valid: text(valid),
            test: None,
            pretokenizer: Pretokenizer::Whitespace,
            licence: None,
        }
    }

    fn read(corpus: &Corpus, words: usize, stage: &str) -> Result<Text, RunError> {
        let recipe = format!("seed = 1\n[model]\npreset = \"tiny\"\n[[stage]]\nkind = \"train\"\n{stage}");
        let recipe = Recipe::parse(&recipe, "test", &[]).expect("a recipe");
        let built = build_vocabulary(&corpus.train, words, corpus.pretokenizer, BlankLines::Dropped);
        Text::new(corpus, &recipe, &built.expect("a vocabulary"))
    }

    #[test]
    fn the_dev_slice_is_the_end_of_the_training_text_and_only_there_where_it_is_needed() {
        let corpus = corpus(9_999, 2_000);
        let whole = read(&corpus, 100, "").expect("a text");
        assert_eq!((whole.streams.train.len(), whole.streams.dev), (10_000, None));
        let choosing = read(&corpus, 100, "schedule.keep_best_epoch = true").expect("a text");
        let dev = choosing.streams.dev.expect("a dev slice");
        assert_eq!((choosing.streams.train.len(), dev.len()), (9_800, 200));
        assert_eq!(dev[..], whole.tokens[9_800..]);
        assert_eq!(choosing.summary.fingerprint, whole.summary.fingerprint);
    }

    #[test]
    fn texts_too_short_to_measure_are_refused_and_short_ones_are_warned_of() {
        assert!(matches!(read(&corpus(9_999, 98), 100, ""), Err(RunError::TinyHeldOut { tokens: 99 })));
        let few = read(&corpus(9_999, 99), 100, "").expect("long enough");
        assert!(few.warnings()[0].contains("held-out text has 100 tokens only"), "{:?}", few.warnings());
        let enough = read(&corpus(9_999, 999), 100, "").expect("long enough");
        assert_eq!(enough.warnings(), [""; 0]);
        let choosing = "schedule.keep_best_epoch = true";
        assert!(matches!(read(&corpus(4_998, 999), 100, choosing), Err(RunError::TinyDev { tokens: 4_999 })));
        assert!(read(&corpus(4_999, 999), 100, choosing).expect("long enough").warnings()[0].contains("dev slice"));
    }

    #[test]
    fn a_held_out_text_that_was_trained_on_is_warned_of() {
        let mut corpus = corpus(9_999, 1_999);
        assert_eq!(read(&corpus, 100, "").expect("a text").warnings(), [""; 0]);
        corpus.valid = corpus.train.clone();
        let warnings = read(&corpus, 100, "").expect("a text").warnings();
        assert!(warnings[0].starts_with("100.0 % of the held-out lines"), "{warnings:?}");
    }

    #[test]
    fn many_unknown_words_are_warned_of() {
        let text = read(&corpus(9_999, 999), 4, "").expect("a text");
        // Two of seven words and the one <eos> are known.
        assert!((text.summary.unknown_train - 5.0 / 7.0).abs() < 0.01, "{}", text.summary.unknown_train);
        assert_eq!(text.warnings().len(), 2);
        assert!(text.warnings()[0].contains("71.4 % of the training tokens"), "{:?}", text.warnings());
    }
}
