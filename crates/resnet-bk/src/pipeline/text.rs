//! The tokens of a run: for training, for choices, and for the report.
//!
//! ```text
//! training tokens  [ trained on ....... | dev slice: the last 2 %, at most 50,000 ]
//! held-out tokens  [ valid: for the report; nothing is chosen by it ]
//! ```
//!
//! The dev slice exists only if the recipe chooses something by it. Its words are counted for the
//! vocabulary like those of all training tokens. So it would have words that nothing was learned about:
//! 1.6 % of the dev slice of WikiText-2. In a held-out text such words are unknown, so they are here too.

use super::RunError;
use crate::config::Recipe;
use crate::corpus::{Cache, Corpus, Key, TextFingerprint, Tokens, encode, repeated_lines, unspaced_words};
use crate::ngram::NgramBaselines;
use crate::observer::Observer;
use crate::summary::CorpusSummary;
use crate::train::TokenStreams;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;

/// Least number of held-out tokens to measure a perplexity on.
pub const MIN_HELD_OUT: usize = 100;
/// A perplexity of fewer held-out tokens is a rough figure.
pub const FEW_HELD_OUT: usize = 1_000;
/// With a larger share of unknown tokens, a perplexity says little about the text.
pub const MANY_UNKNOWN: f64 = 0.2;
/// With a larger share of held-out lines in the training text, the perplexity is not meaningful.
const MANY_REPEATED: f64 = 0.2;
/// Most training tokens that the n-gram baselines count if the recipe does not say how many.
const MOST_COUNTED: usize = 20_000_000;
/// The dev slice has one in this many training tokens.
const DEV_SHARE: usize = 50;
/// Longest dev slice in tokens.
const DEV_MOST: usize = 50_000;

/// The tokens of a run's text.
pub(super) struct Text {
    /// All training tokens, dev slice included.
    pub(super) tokens: Tokens,
    /// The token streams for the stages.
    pub(super) streams: TokenStreams,
    /// Description of the text for the summary.
    pub(super) summary: CorpusSummary,
    /// Mean length of the held-out words in characters, if they are of a script without spaces.
    unspaced: Option<f64>,
    /// Share of held-out lines that also occur in the training text.
    repeated: f64,
    /// Where the n-gram baselines are kept.
    cache: Cache,
}

impl Text {
    /// Encodes a corpus. Holds out a dev slice if the recipe chooses by it.
    pub(super) fn new(
        corpus: &Corpus,
        recipe: &Recipe,
        vocabulary: &Vocabulary,
        cache: &Cache,
        observer: &mut dyn Observer,
    ) -> Result<Self, RunError> {
        let train = encode(&corpus.train, vocabulary, recipe.corpus.data_limit, cache, observer)?;
        let valid = encode(&corpus.valid, vocabulary, None, cache, observer)?;
        if valid.tokens.len() < MIN_HELD_OUT {
            return Err(RunError::TinyHeldOut { tokens: valid.tokens.len() });
        }
        let (unknown_train, unknown_valid) = (train.unknown_share(), valid.unknown_share());
        let tokens = train.tokens;
        let mut streams = TokenStreams { train: tokens.clone(), dev: None, valid: valid.tokens };
        if recipe.holds_out_dev() {
            let dev = (tokens.len() / DEV_SHARE).min(DEV_MOST);
            if dev < MIN_HELD_OUT {
                return Err(RunError::TinyDev { tokens: tokens.len() });
            }
            let start = tokens.len() - dev;
            streams.train = tokens.part(0..start);
            streams.dev = Some(held_out(&streams.train, &tokens[start..], vocabulary).into());
        }
        let summary = CorpusSummary {
            name: corpus.name.clone(),
            train_tokens: streams.train.len(),
            dev_tokens: streams.dev.as_ref().map_or(0, |dev| dev.len()),
            valid_tokens: streams.valid.len(),
            vocab_size: vocabulary.len(),
            unknown_train,
            unknown_valid,
            fingerprint: TextFingerprint::of_hashes(train.words_sha256, valid.words_sha256, vocabulary),
        };
        let repeated = repeated_lines(&corpus.train, &corpus.valid, cache, observer)?;
        let unspaced = unspaced_words(&corpus.valid)?;
        Ok(Self { tokens, streams, summary, unspaced, repeated, cache: cache.for_texts(&[&corpus.train]) })
    }

    /// The n-gram baselines of the text. They count `most` training tokens, dev slice included, to
    /// be as strong as possible.
    pub(super) fn ngrams(&self, most: Option<usize>, observer: &mut dyn Observer) -> Result<NgramBaselines, RunError> {
        let most = most.unwrap_or(MOST_COUNTED);
        let TextFingerprint { train, valid, vocabulary, .. } = &self.summary.fingerprint;
        let key = || Key::new("ngrams", &format!("first {most} of {train}, valid {valid}, words {vocabulary}"));
        let measure =
            || NgramBaselines::measure_first(&self.tokens, most, &self.streams.valid, self.summary.vocab_size);
        Ok(self.cache.get_or_make(key, measure, observer)?)
    }

    /// Warnings for readers of the perplexities.
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
        if let Some(length) = self.unspaced {
            warnings.push(format!(
                "the text is in a script without spaces, and its words have {length:.0} characters on average: whole clauses are \
                 words to the model. Separate the words by spaces (docs/troubleshooting.md, Languages without spaces)",
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

/// A dev slice, in which the words that do not occur in `train` are unknown.
fn held_out(train: &[u32], dev: &[u32], vocabulary: &Vocabulary) -> Vec<u32> {
    let mut seen = vec![false; vocabulary.len()];
    train.iter().for_each(|&id| seen[id as usize] = true);
    dev.iter().map(|&id| if seen[id as usize] { id } else { vocabulary.unknown() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::build_vocabulary;
    use crate::observer::Silent;
    use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};

    fn corpus(train: usize, valid: usize) -> Corpus {
        let text = |words: usize| (0..words).map(|word| format!("w{} ", word % 7)).collect::<String>();
        Corpus {
            name: "test".to_owned(),
            train: text(train).into(),
            valid: text(valid).into(),
            test: None,
            pretokenizer: Pretokenizer::Whitespace,
            license: None,
        }
    }

    fn read(corpus: &Corpus, words: usize, stage: &str) -> Result<Text, RunError> {
        let recipe = format!("seed = 1\n[model]\npreset = \"tiny\"\n[[stage]]\nkind = \"train\"\n{stage}");
        let recipe = Recipe::parse(&recipe, "test", &[]).expect("a recipe");
        let built = build_vocabulary(&corpus.train, words, corpus.pretokenizer, BlankLines::Dropped);
        Text::new(corpus, &recipe, &built.expect("a vocabulary"), &Cache::disabled(), &mut Silent)
    }

    #[test]
    fn the_dev_slice_is_the_end_of_the_training_text_if_needed() {
        let corpus = corpus(9_999, 2_000);
        let whole = read(&corpus, 100, "").expect("a text");
        assert_eq!((whole.streams.train.len(), whole.streams.dev), (10_000, None));
        let choosing = read(&corpus, 100, "schedule.keep_best_epoch = true").expect("a text");
        let dev = choosing.streams.dev.expect("a dev slice");
        assert_eq!((choosing.streams.train.len(), dev.len()), (9_800, 200));
        // The end of the only line is the last token.
        assert_eq!((&dev[..199], dev[199]), (&whole.tokens[9_800..9_999], 0));
        assert_eq!(choosing.summary.fingerprint, whole.summary.fingerprint);
    }

    #[test]
    fn a_word_that_only_the_dev_slice_has_is_unknown_there() {
        let mut corpus = corpus(9_999, 2_000);
        corpus.train = format!("{}new new w1\n", "w0 w1\n".repeat(3_333)).into();
        let text = read(&corpus, 100, "schedule.keep_best_epoch = true").expect("a text");
        let (dev, all) = (text.streams.dev.expect("a dev slice"), &text.tokens);
        let new = all[all.len() - 4];
        assert!(new != 0 && !text.streams.train.contains(&new), "id {new}");
        assert_eq!((dev[dev.len() - 4], dev[dev.len() - 3]), (0, 0), "the word is unknown");
        assert_eq!(dev[..dev.len() - 4], all[all.len() - dev.len()..all.len() - 4], "other words are known");
        assert_eq!(dev[dev.len() - 2..], all[all.len() - 2..]);
    }

    #[test]
    fn very_short_texts_are_refused_and_short_ones_give_a_warning() {
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
    fn held_out_lines_in_the_training_text_give_a_warning() {
        let mut corpus = corpus(9_999, 1_999);
        assert_eq!(read(&corpus, 100, "").expect("a text").warnings(), [""; 0]);
        corpus.valid = corpus.train.clone();
        let warnings = read(&corpus, 100, "").expect("a text").warnings();
        assert!(warnings[0].starts_with("100.0 % of the held-out lines"), "{warnings:?}");
    }

    #[test]
    fn many_unknown_words_give_a_warning() {
        let text = read(&corpus(9_999, 999), 4, "").expect("a text");
        // Two of the seven words and the one <eos> are known.
        assert!((text.summary.unknown_train - 5.0 / 7.0).abs() < 0.01, "{}", text.summary.unknown_train);
        assert_eq!(text.warnings().len(), 2);
        assert!(text.warnings()[0].contains("71.4 % of the training tokens"), "{:?}", text.warnings());
    }
}
