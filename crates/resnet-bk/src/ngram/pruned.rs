//! Pruned trigram models, with a size that nobody has to encode: the entropy of their entries.
//!
//! ```text
//! kept        an n-gram with c(h w) >= cut of its order, whose context is kept
//! p(w | h)    as in the whole model; the whole count of a dropped n-gram is discounted mass
//!
//! size = sum over the orders, in bits, of the empirical entropies of
//!        the last word of each entry, less log2 m! for the m entries of a context (they have no order)
//!        the count of each entry
//!        m of each context of the order, and the dropped count of each that has entries
//! ```
//!
//! Counts, numbers of entries and dropped counts give exactly the probabilities that are measured, so
//! nothing is rounded. Tables of the entropy coder are not counted: a real file is larger.

use super::{Context, KneserNey, Level, NgramError, Ngrams, check, discount, perplexity};
use serde::Serialize;
use std::collections::BTreeMap;

/// A pruned trigram model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PrunedNgrams {
    /// Smallest count of a bigram, in distinct words before it.
    pub cut_pairs: u32,
    /// Smallest count of a trigram.
    pub cut_triples: u32,
    /// Kept bigrams and trigrams.
    pub entries: usize,
    /// Size by entropy, in bytes.
    pub bytes: u64,
    /// Perplexity of the valid stream.
    pub perplexity: f64,
}

/// Counts `train` once, prunes by each pair of cuts (bigrams, trigrams) and scores `valid`.
///
/// # Errors
/// If a stream has fewer than two tokens or a token that is not below `vocabulary`.
pub fn prune(
    train: &[u32],
    valid: &[u32],
    vocabulary: usize,
    cuts: &[(u32, u32)],
) -> Result<Vec<PrunedNgrams>, NgramError> {
    check(train, valid, vocabulary)?;
    let whole = KneserNey::count(train, vocabulary);
    let words = entropy(whole.words.counts.iter().map(|&count| u64::from(count)));
    let pruned = |&(cut_pairs, cut_triples): &(u32, u32)| {
        let pairs = Pruned::new(&whole.continued_pairs, &whole.bigrams, cut_pairs, |_| true);
        let triples = Pruned::new(&whole.triples, &whole.trigrams, cut_triples, |pair| pairs.kept[pair as usize]);
        let probability = |context: &[u32], word: u32| {
            let lower = whole.words.probability(0, Some(word), 1.0 / vocabulary as f64);
            let before = *context.last().expect("the first token is not scored");
            let lower = pairs.probability(before, whole.bigrams.find(before, word), lower);
            let pair = match context {
                [.., first, second] => whole.bigrams.find(*first, *second),
                _ => None,
            };
            pair.map_or(lower, |pair| triples.probability(pair, whole.trigrams.find(pair, word), lower))
        };
        PrunedNgrams {
            cut_pairs,
            cut_triples,
            entries: pairs.entries() + triples.entries(),
            bytes: ((words + pairs.bits() + triples.bits()) / 8.0).ceil() as u64,
            perplexity: perplexity(valid, probability),
        }
    };
    Ok(cuts.iter().map(pruned).collect())
}

/// One order of a pruned model.
struct Pruned<'a> {
    level: &'a Level,
    ngrams: &'a Ngrams,
    /// Whether each n-gram of the whole order is kept.
    kept: Vec<bool>,
    contexts: Vec<Context>,
    /// Of each context that is kept: its number of entries and the count of what was dropped.
    sizes: Vec<(u64, u64)>,
}

impl<'a> Pruned<'a> {
    fn new(level: &'a Level, ngrams: &'a Ngrams, cut: u32, is_kept: impl Fn(u32) -> bool) -> Self {
        let mut kept = vec![false; ngrams.list.len()];
        let mut contexts = vec![Context::default(); level.contexts.len()];
        let mut sizes = Vec::new();
        for context in (0..contexts.len() as u32).filter(|&context| is_kept(context)) {
            let of_context = ngrams.starts[context as usize] as usize..ngrams.starts[context as usize + 1] as usize;
            let (mut entries, mut dropped, mut discounted) = (0, 0, 0.0);
            for index in of_context {
                let count = level.counts[index];
                kept[index] = count >= cut && count > 0;
                if kept[index] {
                    entries += 1;
                    discounted += discount(&level.discounts, count);
                } else {
                    dropped += u64::from(count);
                }
            }
            if entries > 0 {
                let total = level.contexts[context as usize].total;
                contexts[context as usize] = Context { total, discounted: discounted + dropped as f64 };
            }
            sizes.push((entries, dropped));
        }
        Self { level, ngrams, kept, contexts, sizes }
    }

    fn probability(&self, context: u32, ngram: Option<u32>, lower: f64) -> f64 {
        let Context { total, discounted } = self.contexts[context as usize];
        if total == 0.0 {
            return lower;
        }
        let count =
            ngram.filter(|&index| self.kept[index as usize]).map_or(0, |index| self.level.counts[index as usize]);
        (f64::from(count) - discount(&self.level.discounts, count) + discounted * lower) / total
    }

    fn entries(&self) -> usize {
        self.kept.iter().filter(|&&kept| kept).count()
    }

    /// The size in bits by the rule above.
    fn bits(&self) -> f64 {
        let kept = || (0..self.kept.len()).filter(|&index| self.kept[index]);
        let orders = self.sizes.iter().map(|&(entries, _)| (1..=entries).map(|rank| (rank as f64).log2()).sum::<f64>());
        let with_entries = self.sizes.iter().filter(|(entries, _)| *entries > 0);
        entropy(kept().map(|index| u64::from(self.ngrams.list[index].1))) - orders.sum::<f64>()
            + entropy(kept().map(|index| u64::from(self.level.counts[index])))
            + entropy(self.sizes.iter().map(|&(entries, _)| entries))
            + entropy(with_entries.map(|&(_, dropped)| dropped))
    }
}

/// Bits of all symbols by their own frequencies: `sum -log2 (n / N)`.
fn entropy(symbols: impl Iterator<Item = u64>) -> f64 {
    let mut counts = BTreeMap::new();
    let mut all = 0u64;
    for symbol in symbols {
        *counts.entry(symbol).or_insert(0u64) += 1;
        all += 1;
    }
    counts.values().map(|&count| count as f64 * (all as f64 / count as f64).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngram::NgramBaselines;
    use crate::random::Random;

    const WORDS: usize = 12;

    fn stream(tokens: usize, seed: u64) -> Vec<u32> {
        let mut random = Random::new(seed);
        let mut word = 0;
        let mut next = || {
            word = (3 * word + 1 + random.below(4)) % WORDS as u64;
            word as u32
        };
        (0..tokens).map(|_| next()).collect()
    }

    #[test]
    fn cuts_of_one_give_the_whole_model_and_larger_ones_a_smaller_and_worse_one() {
        let (train, valid) = (stream(4_000, 1), stream(500, 2));
        let baseline = NgramBaselines::measure(&train, &valid, WORDS).expect("counted");
        let cuts = [(1, 1), (1, 20), (1, 1_000_000), (5, 1_000_000), (1_000_000, 1_000_000)];
        let pruned = prune(&train, &valid, WORDS, &cuts).expect("counted");
        assert!((pruned[0].perplexity / baseline.trigram - 1.0).abs() < 1e-12);
        assert!(pruned.is_sorted_by(|a, b| a.bytes > b.bytes && a.entries > b.entries), "{pruned:?}");
        assert_eq!(pruned[4].entries, 0);
        assert!(pruned[4].perplexity > 1.5 * pruned[0].perplexity, "{pruned:?}");
    }

    #[test]
    fn probabilities_of_all_words_add_up_to_one() {
        let train = stream(2_000, 3);
        let whole = KneserNey::count(&train, WORDS);
        let pairs = Pruned::new(&whole.continued_pairs, &whole.bigrams, 3, |_| true);
        let triples = Pruned::new(&whole.triples, &whole.trigrams, 9, |pair| pairs.kept[pair as usize]);
        assert!(pairs.entries() > 0 && triples.entries() > 0 && triples.kept.contains(&false));
        for pair in 0..whole.bigrams.list.len() as u32 {
            let sum: f64 = (0..WORDS as u32)
                .map(|word| {
                    let before = whole.bigrams.list[pair as usize].1;
                    let lower = whole.words.probability(0, Some(word), 1.0 / WORDS as f64);
                    let lower = pairs.probability(before, whole.bigrams.find(before, word), lower);
                    triples.probability(pair, whole.trigrams.find(pair, word), lower)
                })
                .sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
    }

    #[test]
    fn entropy_is_zero_for_one_symbol_and_one_bit_for_two() {
        assert_eq!(entropy([7, 7, 7].into_iter()), 0.0);
        assert_eq!(entropy([1, 2, 2, 1].into_iter()), 4.0);
        assert_eq!(entropy([].into_iter()), 0.0);
    }
}
