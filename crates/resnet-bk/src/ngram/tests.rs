use super::*;
use crate::random::Random;
use std::collections::{HashMap, HashSet};

/// Rounding of sums of a few hundred doubles.
const ROUNDING: f64 = 1e-12;

fn stream(length: usize, vocabulary: u64, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    // The smallest of three draws: a skewed distribution, with words that never occur.
    let mut draw = || random.below(vocabulary);
    (0..length).map(|_| draw().min(draw()).min(draw()) as u32).collect()
}

/// The slow twin: the formulas of the module's header over hash maps, for any order.
struct Oracle {
    /// c of the n-grams of each order, from 1.
    counts: Vec<HashMap<Vec<u32>, usize>>,
    vocabulary: usize,
}

impl Oracle {
    fn count(train: &[u32], order: usize, vocabulary: usize) -> Self {
        let mut counts = vec![HashMap::new(); order];
        for ngram in train.windows(order) {
            *counts[order - 1].entry(ngram.to_vec()).or_insert(0) += 1;
        }
        for lower in 1..order {
            let distinct: HashSet<&[u32]> = train.windows(lower + 1).collect();
            for ngram in distinct {
                *counts[lower - 1].entry(ngram[1..].to_vec()).or_insert(0) += 1;
            }
        }
        Self { counts, vocabulary }
    }

    fn number(&self, order: usize, k: usize) -> f64 {
        self.counts[order - 1].values().filter(|&&count| count == k).count() as f64
    }

    fn discount(&self, order: usize, count: usize) -> f64 {
        let [n1, n2, n3, n4] = [1, 2, 3, 4].map(|k| self.number(order, k));
        let y = n1 / (n1 + 2.0 * n2);
        let [d1, d2, d3] = [1.0 - 2.0 * y * n2 / n1, 2.0 - 3.0 * y * n3 / n2, 3.0 - 4.0 * y * n4 / n3];
        let in_range = (0.0..=1.0).contains(&d1) && (0.0..=2.0).contains(&d2) && (0.0..=3.0).contains(&d3);
        let [d1, d2, d3] =
            if n1 == 0.0 || n2 == 0.0 || n3 == 0.0 || !in_range { [0.5, 1.0, 1.5] } else { [d1, d2, d3] };
        match count {
            0 => 0.0,
            1 => d1,
            2 => d2,
            _ => d3,
        }
    }

    /// `context` is at most as long as the order allows.
    fn probability(&self, context: &[u32], word: u32) -> f64 {
        let lower =
            || if context.is_empty() { 1.0 / self.vocabulary as f64 } else { self.probability(&context[1..], word) };
        let order = context.len() + 1;
        let after: Vec<(&Vec<u32>, usize)> = self.counts[order - 1]
            .iter()
            .filter(|(ngram, _)| ngram[..context.len()] == *context)
            .map(|(ngram, &count)| (ngram, count))
            .collect();
        let total: usize = after.iter().map(|(_, count)| count).sum();
        if total == 0 {
            return lower();
        }
        let number =
            |least: usize, most: usize| after.iter().filter(|(_, count)| (least..=most).contains(count)).count() as f64;
        let taken = self.discount(order, 1) * number(1, 1)
            + self.discount(order, 2) * number(2, 2)
            + self.discount(order, 3) * number(3, usize::MAX);
        let count = after.iter().find(|(ngram, _)| ngram.last() == Some(&word)).map_or(0, |(_, count)| *count);
        (count as f64 - self.discount(order, count)) / total as f64 + taken / total as f64 * lower()
    }

    fn perplexity(&self, valid: &[u32]) -> f64 {
        let longest = self.counts.len() - 1;
        let surprise: f64 =
            (1..valid.len()).map(|at| -self.probability(&valid[at.saturating_sub(longest)..at], valid[at]).ln()).sum();
        (surprise / (valid.len() - 1) as f64).exp()
    }
}

#[test]
fn the_fast_one_equals_the_formulas() {
    let mut fallbacks = 0;
    for (seed, (length, words)) in
        [(2, 2), (3, 2), (4, 3), (9, 3), (30, 4), (60, 50), (150, 12), (400, 12), (600, 30)].into_iter().enumerate()
    {
        let vocabulary = words as usize + 3;
        let train = stream(length, words, seed as u64);
        let valid = stream(40, vocabulary as u64, 100 + seed as u64);
        let (bigram, trigram) = (Oracle::count(&train, 2, vocabulary), Oracle::count(&train, 3, vocabulary));
        let fast = KneserNey::count(&train, vocabulary);
        fallbacks += usize::from(fast.triples.discounts == FALLBACK);
        for (order, level) in [(1, &fast.words), (2, &fast.continued_pairs), (3, &fast.triples)] {
            for count in 0..5 {
                let expected = trigram.discount(order, count as usize);
                assert!((discount(&level.discounts, count) - expected).abs() < ROUNDING, "order {order}, seed {seed}");
            }
        }
        // Every context of one word and a sample of those of two, seen and unseen.
        for word in 0..vocabulary as u32 {
            for second in 0..vocabulary as u32 {
                let near = |a: f64, b: f64| assert!((a - b).abs() < ROUNDING, "seed {seed}: {a} and {b}");
                near(fast.bigram(&[second], word), bigram.probability(&[second], word));
                near(fast.trigram(&[second], word), trigram.probability(&[second], word));
                let first = (7 * word + 3 * second) % vocabulary as u32;
                near(fast.trigram(&[first, second], word), trigram.probability(&[first, second], word));
            }
        }
        let measured = NgramBaselines::measure(&train, &valid, vocabulary).expect("sound streams");
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < ROUNDING;
        assert!(near(measured.bigram, bigram.perplexity(&valid)), "seed {seed}: {measured:?}");
        assert!(near(measured.trigram, trigram.perplexity(&valid)), "seed {seed}: {measured:?}");
    }
    assert!((1..9).contains(&fallbacks), "{fallbacks} of 9 streams have no discounts of their own");
}

#[test]
fn probabilities_sum_to_one() {
    let vocabulary = 60;
    // The last word occurs once, at the end: a context that nothing follows.
    let train: Vec<u32> = stream(300, 50, 1).into_iter().chain([55]).collect();
    let unigram = Unigram::count(&train, vocabulary);
    let fast = KneserNey::count(&train, vocabulary);
    let words = || 0..vocabulary as u32;
    let assert_one = |sum: f64, context: &[u32]| assert!((sum - 1.0).abs() < ROUNDING, "{context:?}: {sum}");
    assert_one(words().map(|word| unigram.probability(word)).sum(), &[]);
    for first in words() {
        assert_one(words().map(|word| fast.bigram(&[first], word)).sum(), &[first]);
        assert_one(words().map(|word| fast.trigram(&[first], word)).sum(), &[first]);
        for second in words() {
            let context = [first, second];
            assert_one(words().map(|word| fast.trigram(&context, word)).sum(), &context);
        }
    }
    let seen = fast.triples.contexts.iter().filter(|context| context.total > 0.0).count();
    assert!(seen > 50 && seen < vocabulary * vocabulary / 2, "{seen} contexts of two words occur");
    assert_eq!(fast.pairs.contexts[55].total, 0.0);
}

#[test]
fn matches_counting_by_hand() {
    // 0 1 0 1 2 of three words. Bigrams: 01 twice, 10 once, 12 once. Trigrams: 010, 101 and 012
    // once.
    let model = KneserNey::count(&[0, 1, 0, 1, 2], 3);
    let near = |measured: f64, expected: f64| assert!((measured - expected).abs() < ROUNDING, "{measured} {expected}");
    // No order has an n-gram that counts three: all discounts are 0.5, 1, 1.5.
    // Each word follows one other word: (1 - 0.5) / 3, and 3 * 0.5 / 3 of the uniform 1 / 3.
    let word = 0.5 / 3.0 + 0.5 / 3.0;
    // Bigram: 01 loses 1 of 2; 10 and 12 lose 0.5 each of 1 + 1; nothing follows 2.
    near(model.bigram(&[0], 1), 0.5 + 0.5 * word);
    near(model.bigram(&[0], 2), 0.5 * word);
    near(model.bigram(&[1], 0), 0.25 + 0.5 * word);
    near(model.bigram(&[2], 0), word);
    // In the middle of the trigram model 01 counts once, for 1 comes before it both times that
    // anything does; 10 and 12 follow 0.
    let [after_0, after_1] = [0.5 + 0.5 * word, 0.25 + 0.5 * word];
    near(model.trigram(&[0], 1), after_0);
    near(model.trigram(&[1, 0], 1), 0.5 + 0.5 * after_0);
    // After 01 come 0 and 2, once each.
    near(model.trigram(&[0, 1], 2), 0.25 + 0.5 * after_1);
    near(model.trigram(&[0, 1], 1), 0.5 * (0.5 * word));
    // 12 is followed by nothing, and 20 does not occur.
    near(model.trigram(&[1, 2], 0), word);
    near(model.trigram(&[2, 0], 1), after_0);
    // Words 1 and 2 are scored, the first with one word of context.
    let measured = NgramBaselines::measure(&[0, 1, 0, 1, 2], &[0, 1, 2], 3).expect("sound streams");
    near(measured.trigram, (after_0 * (0.25 + 0.5 * after_1)).powf(-0.5));
    // Unigram: counts 2, 2, 1 of 5.
    near(measured.unigram, (3.0f64 / 8.0 * (2.0 / 8.0)).powf(-0.5));
}

#[test]
fn discounts_are_those_of_chen_and_goodman() {
    // n_1 = 8, n_2 = 4, n_3 = 2, n_4 = 1: Y = 8 / 16.
    let counts: Vec<u32> = [[1; 8].as_slice(), &[2; 4], &[3; 2], &[4], &[9, 0]].concat();
    assert_eq!(discounts(&counts), [1.0 - 0.5, 2.0 - 0.75, 3.0 - 1.0]);
    // No n-gram that counts four: D3 is 3, as KenLM has it. No n-gram that counts three: none is
    // estimated.
    assert_eq!(discounts(&[1, 1, 1, 1, 2, 2, 3])[2], 3.0);
    assert_eq!(discounts(&[1, 1, 1, 1, 2, 2, 4]), FALLBACK);
    // D2 = 2 - 3 * (1 / 3) * 3 < 0.
    assert_eq!(discounts(&[1, 2, 3, 3, 3, 4]), FALLBACK);
    assert_eq!(discounts(&[]), FALLBACK);
}

#[test]
fn a_text_with_a_known_next_word_has_a_bigram_baseline_near_one() {
    let cycle: Vec<u32> = std::iter::successors(Some(0), |&w| Some((5 * w + 3) % 64)).take(6_400).collect();
    let measured = NgramBaselines::measure(&cycle, &cycle[..640], 64).expect("sound streams");
    assert!((measured.unigram - 64.0).abs() < 0.1, "{measured:?}");
    assert!(measured.bigram < 1.02 && measured.trigram < 1.02, "{measured:?}");
}

#[test]
fn two_words_of_context_tell_more_than_one() {
    // The next word is the sum of the last two, and one in eight is random.
    let mut random = Random::new(5);
    let mut text = vec![0, 1];
    for at in 2..20_000 {
        let next = if random.below(8) == 0 { random.below(32) as u32 } else { (text[at - 2] + text[at - 1]) % 32 };
        text.push(next);
    }
    let (train, valid) = text.split_at(18_000);
    let measured = NgramBaselines::measure(train, valid, 32).expect("sound streams");
    assert!(measured.bigram > 25.0 && measured.trigram < 4.0, "{measured:?}");
}

#[test]
fn independent_words_leave_nothing_to_the_context() {
    let measured = NgramBaselines::measure(&stream(200_000, 50, 3), &stream(20_000, 50, 4), 50).expect("sound streams");
    assert!((measured.bigram / measured.unigram - 1.0).abs() < 0.02, "{measured:?}");
    assert!(measured.trigram / measured.unigram > 0.99, "{measured:?}");
}

#[test]
fn unsound_streams_are_refused() {
    let error = NgramBaselines::measure(&[0, 1], &[0], 2).expect_err("one token").to_string();
    assert_eq!(error, "the valid stream has 1 tokens, at least 2 are needed");
    let error = NgramBaselines::measure(&[0, 7], &[0, 1], 2).expect_err("token 7").to_string();
    assert_eq!(error, "token 7 of the train stream is outside the vocabulary of 2 words");
}
