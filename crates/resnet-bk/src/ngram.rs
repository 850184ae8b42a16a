//! n-gram baselines: perplexities of count-based models, which a trained model must beat.
//!
//! ```text
//! unigram   p(w) = (c(w) + 1) / (N + V)                               add-one smoothing
//!
//! bigram and trigram: interpolated modified Kneser-Ney, one level per order
//!
//! p(w | h)  = (c(h w) - D(c(h w))) / c(h .)  +  b(h) p(w | h')      h' is h without its first word
//! b(h)      = (D1 n1(h .) + D2 n2(h .) + D3 n3(h .)) / c(h .)       the discounted mass of h
//! D(0) = 0    D(1) = D1 = 1 - 2 Y n_2 / n_1    D(2) = D2 = 2 - 3 Y n_3 / n_2
//!             D(3 or more) = D3 = 3 - 4 Y n_4 / n_3                 Y = n_1 / (n_1 + 2 n_2)
//! ```
//!
//! In the highest order, c counts occurrences in the training stream. In the lower orders it counts
//! distinct preceding words: c(h w) is the number of words v for which v h w occurs. n_k is the
//! number of n-grams of an order with c = k. n1(h .), n2(h .) and n3(h .) are the numbers of words
//! after h with c = 1, c = 2 and c of at least 3. If nothing follows a context, c(h .) = 0, then
//! p(w | h) = p(w | h'). The empty context interpolates with the uniform 1 / V, so every word has a
//! probability above 0. N is the length of the training stream and V the size of the vocabulary.
//!
//! In a small text, discounts may be undefined: n_1, n_2 or n_3 of an order is zero, or a D_k is
//! not between 0 and k. That order then uses 0.5, 1 and 1.5, like KenLM with `--discount_fallback`.
//!
//! A stream is one sequence without sentence boundaries; `<eos>` is a normal word. Perplexity is
//! `exp(-mean ln p)` over every token of the valid stream but the first. The context is as long as
//! the order and the stream allow; it is never reset. Our models start every window of `n_seq`
//! tokens without context, so the comparison favors the n-grams.
//!
//! Sources: Chen and Goodman, An empirical study of smoothing techniques for language modeling,
//! 1999, equations 25 and 26; Heafield and others, Scalable modified Kneser-Ney language model
//! estimation, 2013 (KenLM). `tests/wikitext.rs` compares with KenLM.

mod pruned;
#[cfg(test)]
mod tests;

pub use pruned::{PrunedNgrams, prune};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Trigrams whose suffixes are found at a time.
const SUFFIXES: usize = 1 << 20;
/// Discounts of an order whose counts do not define them.
const FALLBACK: [f64; 3] = [0.5, 1.0, 1.5];

/// Perplexities of the valid stream for counts from the training stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NgramBaselines {
    /// From the word's frequency, with add-one smoothing.
    pub unigram: f64,
    /// From the previous word, by modified Kneser-Ney.
    pub bigram: f64,
    /// From the two previous words, by modified Kneser-Ney.
    pub trigram: f64,
    /// How many training tokens were counted, if not all: more would give lower perplexities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<usize>,
}

/// Why n-gram baselines cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NgramError {
    /// A stream is too short.
    #[error("the {split} stream has {tokens} tokens, at least 2 are needed")]
    TooFewTokens {
        /// `train` or `valid`.
        split: &'static str,
        /// Its length.
        tokens: usize,
    },
    /// A token is not in the vocabulary.
    #[error("token {token} of the {split} stream is outside the vocabulary of {vocabulary} words")]
    OutsideVocabulary {
        /// `train` or `valid`.
        split: &'static str,
        /// The token.
        token: u32,
        /// V.
        vocabulary: usize,
    },
}

impl NgramBaselines {
    /// Counts `train` and scores `valid`, both over a vocabulary of `vocabulary` words.
    ///
    /// # Errors
    ///
    /// If a stream has fewer than two tokens or a token that is not below `vocabulary`.
    pub fn measure(train: &[u32], valid: &[u32], vocabulary: usize) -> Result<Self, NgramError> {
        check(train, valid, vocabulary)?;
        let (unigram, kneser_ney) =
            rayon::join(|| Unigram::count(train, vocabulary), || KneserNey::count(train, vocabulary));
        Ok(Self {
            unigram: perplexity(valid, |_, word| unigram.probability(word)),
            bigram: perplexity(valid, |context, word| kneser_ney.bigram(context, word)),
            trigram: perplexity(valid, |context, word| kneser_ney.trigram(context, word)),
            counted: None,
        })
    }

    /// As [`measure`](Self::measure), but counts at most the first `most` tokens of `train`.
    ///
    /// # Errors
    ///
    /// As `measure`.
    pub fn measure_first(train: &[u32], most: usize, valid: &[u32], vocabulary: usize) -> Result<Self, NgramError> {
        let first = &train[..train.len().min(most)];
        let counted = (first.len() < train.len()).then_some(first.len());
        Ok(Self { counted, ..Self::measure(first, valid, vocabulary)? })
    }
}

/// Checks lengths and tokens of the two streams.
fn check(train: &[u32], valid: &[u32], vocabulary: usize) -> Result<(), NgramError> {
    for (split, stream) in [("train", train), ("valid", valid)] {
        if stream.len() < 2 {
            return Err(NgramError::TooFewTokens { split, tokens: stream.len() });
        }
        if let Some(&token) = stream.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(NgramError::OutsideVocabulary { split, token, vocabulary });
        }
    }
    Ok(())
}

/// Perplexity of every token but the first. `probability` gets all previous tokens as context.
fn perplexity(stream: &[u32], probability: impl Fn(&[u32], u32) -> f64 + Sync) -> f64 {
    let surprises = (1..stream.len()).into_par_iter().map(|at| -probability(&stream[..at], stream[at]).ln());
    // In the order of the stream, so that the sum does not depend on the threads.
    let surprise: f64 = surprises.collect::<Vec<f64>>().iter().sum();
    (surprise / (stream.len() - 1) as f64).exp()
}

struct Unigram {
    counts: Vec<u32>,
    total: usize,
}

impl Unigram {
    fn count(train: &[u32], vocabulary: usize) -> Self {
        let mut counts = vec![0; vocabulary];
        for &word in train {
            counts[word as usize] += 1;
        }
        Self { counts, total: train.len() }
    }

    fn probability(&self, word: u32) -> f64 {
        (f64::from(self.counts[word as usize]) + 1.0) / (self.total + self.counts.len()) as f64
    }
}

/// The bigram and the trigram model of one stream. They share the lowest level.
struct KneserNey {
    bigrams: Ngrams,
    trigrams: Ngrams,
    /// Words, counted by distinct previous words.
    words: Level,
    /// Bigrams, counted by occurrences: the highest level of the bigram model.
    pairs: Level,
    /// Bigrams, counted by distinct previous words: the middle level of the trigram model.
    continued_pairs: Level,
    /// Trigrams, counted by occurrences.
    triples: Level,
    vocabulary: usize,
}

impl KneserNey {
    fn count(train: &[u32], vocabulary: usize) -> Self {
        let pairs = train.par_windows(2).map(|words| (words[0], words[1])).collect();
        let (bigrams, pair_counts) = Ngrams::count(pairs, vocabulary);
        let triple = |words: &[u32]| (bigrams.find(words[0], words[1]).expect("the bigram occurs"), words[2]);
        let triples = train.par_windows(3).map(triple).collect();
        let (trigrams, triple_counts) = Ngrams::count(triples, bigrams.list.len());
        let mut word_counts = vec![0; vocabulary];
        for &(_, word) in &bigrams.list {
            word_counts[word as usize] += 1;
        }
        let mut continued_counts = vec![0; bigrams.list.len()];
        let suffix = |&(before, word): &(u32, u32)| {
            bigrams.find(bigrams.list[before as usize].1, word).expect("the bigram occurs")
        };
        for trigrams in trigrams.list.chunks(SUFFIXES) {
            for bigram in trigrams.par_iter().map(suffix).collect::<Vec<u32>>() {
                continued_counts[bigram as usize] += 1;
            }
        }
        let ((words, pairs), (continued_pairs, triples)) = rayon::join(
            || (Level::new(word_counts, |_| 0, 1), Level::new(pair_counts, |index| bigrams.list[index].0, vocabulary)),
            || {
                rayon::join(
                    || Level::new(continued_counts, |index| bigrams.list[index].0, vocabulary),
                    || Level::new(triple_counts, |index| trigrams.list[index].0, bigrams.list.len()),
                )
            },
        );
        Self { words, pairs, continued_pairs, triples, bigrams, trigrams, vocabulary }
    }

    /// Probability of a word given the last word of a context.
    fn bigram(&self, context: &[u32], word: u32) -> f64 {
        self.two_words(&self.pairs, context, word)
    }

    /// Probability of a word given the last two words of a context, or the only one.
    fn trigram(&self, context: &[u32], word: u32) -> f64 {
        let lower = self.two_words(&self.continued_pairs, context, word);
        let before = match context {
            [.., first, second] => self.bigrams.find(*first, *second),
            _ => None,
        };
        before.map_or(lower, |before| self.triples.probability(before, self.trigrams.find(before, word), lower))
    }

    fn two_words(&self, level: &Level, context: &[u32], word: u32) -> f64 {
        let lower = self.words.probability(0, Some(word), 1.0 / self.vocabulary as f64);
        let before = *context.last().expect("the first token is not scored");
        level.probability(before, self.bigrams.find(before, word), lower)
    }
}

/// The distinct n-grams of one order, sorted. An n-gram is the index of its context in the next
/// lower order and its last word.
struct Ngrams {
    list: Vec<(u32, u32)>,
    /// Where the n-grams of each context start in the list, and at last its length.
    starts: Vec<u32>,
}

impl Ngrams {
    /// The distinct n-grams among all of a stream, and their numbers of occurrences. `contexts` is
    /// the number of n-grams of the next lower order.
    fn count(mut all: Vec<(u32, u32)>, contexts: usize) -> (Self, Vec<u32>) {
        all.par_sort_unstable();
        let counts = all.chunk_by(|a, b| a == b).map(|same| same.len() as u32).collect();
        // In place: all n-grams of a stream are the largest part of the memory.
        all.dedup();
        all.shrink_to_fit();
        let mut starts = vec![0; contexts + 1];
        for (context, _) in &all {
            starts[*context as usize + 1] += 1;
        }
        let mut start = 0;
        for after in &mut starts {
            start += *after;
            *after = start;
        }
        (Self { list: all, starts }, counts)
    }

    /// Index of an n-gram.
    fn find(&self, context: u32, word: u32) -> Option<u32> {
        let start = self.starts[context as usize];
        let end = self.starts[context as usize + 1];
        let of_context = &self.list[start as usize..end as usize];
        of_context.binary_search_by_key(&word, |&(_, word)| word).ok().map(|index| start + index as u32)
    }
}

/// One level of the interpolation: the counts of one order and the mass left to the lower level.
struct Level {
    /// c(h w) of each n-gram.
    counts: Vec<u32>,
    /// D1, D2, D3.
    discounts: [f64; 3],
    contexts: Vec<Context>,
}

#[derive(Clone, Copy, Default)]
struct Context {
    /// c(h .)
    total: f64,
    /// b(h) c(h .)
    discounted: f64,
}

impl Level {
    fn new(counts: Vec<u32>, context_of: impl Fn(usize) -> u32, contexts: usize) -> Self {
        let discounts = discounts(&counts);
        let mut contexts = vec![Context::default(); contexts];
        for (index, &count) in counts.iter().enumerate() {
            let context = &mut contexts[context_of(index) as usize];
            context.total += f64::from(count);
            context.discounted += discount(&discounts, count);
        }
        Self { counts, discounts, contexts }
    }

    /// p(w | h), with p(w | h') from the level below.
    fn probability(&self, context: u32, ngram: Option<u32>, lower: f64) -> f64 {
        let Context { total, discounted } = self.contexts[context as usize];
        if total == 0.0 {
            return lower;
        }
        let count = ngram.map_or(0, |index| self.counts[index as usize]);
        (f64::from(count) - discount(&self.discounts, count) + discounted * lower) / total
    }
}

/// D(c)
fn discount(discounts: &[f64; 3], count: u32) -> f64 {
    if count == 0 { 0.0 } else { discounts[count.min(3) as usize - 1] }
}

/// D1, D2 and D3 for the counts of an order.
fn discounts(counts: &[u32]) -> [f64; 3] {
    // n[k] is the number of n-grams with count k.
    let mut n = [0.0; 5];
    for &count in counts.iter().filter(|&&count| count <= 4) {
        n[count as usize] += 1.0;
    }
    let y = n[1] / (n[1] + 2.0 * n[2]);
    let estimated = [1, 2, 3].map(|k| k as f64 - (k + 1) as f64 * y * n[k + 1] / n[k]);
    let sound = |(k, discount): (usize, &f64)| n[k + 1] > 0.0 && (0.0..=(k + 1) as f64).contains(discount);
    if estimated.iter().enumerate().all(sound) { estimated } else { FALLBACK }
}
