//! What counting alone achieves: perplexities that a language model must beat.
//!
//! ```text
//! unigram  p(w)     = (c(w) + 1) / (N + V)                                            add-one smoothing
//! bigram   p(w | h) = max(c(h w) - D, 0) / c(h .)  +  D n(h .) / c(h .) * p_cont(w)   interpolated Kneser-Ney
//!          p_cont(w) = max(n(. w) - D, 0) / n(. .)  +  D n(.) / n(. .) * 1 / V       so every word can occur
//!          D         = n_1 / (n_1 + 2 n_2)
//! ```
//!
//! c counts occurrences and n distinct pairs in the train stream, N is its length, V the vocabulary's; n(.) is the number of
//! words that follow another, n_k that of distinct pairs that occur k times. A word h that nothing follows in training predicts p_cont. Perplexity is
//! `exp(-mean ln p)` over every token of the valid stream but its first, which no model predicts.
//! Source: Kneser and Ney 1995; Chen and Goodman 1999.

/// Perplexities of the valid stream under counts of the train stream.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Floors {
    /// From the frequency of each word.
    pub unigram: f64,
    /// From the word before, by interpolated Kneser-Ney.
    pub bigram: f64,
}

/// Why no floor can be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FloorsError {
    /// A stream has no token that follows another.
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

impl Floors {
    /// Counts `train` and scores `valid`, both over a vocabulary of `vocabulary` words.
    ///
    /// # Errors
    ///
    /// If a stream has fewer than two tokens or a token that is not below `vocabulary`.
    pub fn measure(train: &[u32], valid: &[u32], vocabulary: usize) -> Result<Self, FloorsError> {
        for (split, stream) in [("train", train), ("valid", valid)] {
            if stream.len() < 2 {
                return Err(FloorsError::TooFewTokens { split, tokens: stream.len() });
            }
            if let Some(&token) = stream.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(FloorsError::OutsideVocabulary { split, token, vocabulary });
            }
        }
        let unigram = Unigram::count(train, vocabulary);
        let bigram = KneserNey::count(train, vocabulary);
        Ok(Self {
            unigram: perplexity(valid, |_, word| unigram.probability(word)),
            bigram: perplexity(valid, |history, word| bigram.probability(history, word)),
        })
    }
}

fn perplexity(stream: &[u32], probability: impl Fn(u32, u32) -> f64) -> f64 {
    let surprise: f64 = stream.windows(2).map(|pair| -probability(pair[0], pair[1]).ln()).sum();
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

struct KneserNey {
    /// Distinct pairs in order, with their counts.
    pairs: Vec<(u64, u32)>,
    discount: f64,
    /// c(h .) of each word.
    followed: Vec<u32>,
    /// n(h .) of each word.
    followers: Vec<u32>,
    /// n(. w) of each word.
    preceders: Vec<u32>,
    /// n(.): words that something precedes.
    preceded: usize,
}

impl KneserNey {
    fn count(train: &[u32], vocabulary: usize) -> Self {
        let mut keys: Vec<u64> = train.windows(2).map(|pair| key(pair[0], pair[1])).collect();
        keys.sort_unstable();
        let pairs: Vec<(u64, u32)> = keys.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect();
        let [mut followed, mut followers, mut preceders] = [(); 3].map(|()| vec![0u32; vocabulary]);
        let mut pairs_counted = [0usize; 3];
        for &(pair, count) in &pairs {
            let (history, word) = ((pair >> 32) as usize, pair as u32 as usize);
            followed[history] += count;
            followers[history] += 1;
            preceders[word] += 1;
            if count <= 2 {
                pairs_counted[count as usize] += 1;
            }
        }
        let [_, once, twice] = pairs_counted;
        // With no pair seen once nothing is known of unseen ones; half a count is the customary guess.
        let discount = if once == 0 { 0.5 } else { once as f64 / (once + 2 * twice) as f64 };
        let preceded = preceders.iter().filter(|&&n| n > 0).count();
        Self { pairs, discount, followed, followers, preceders, preceded }
    }

    fn continuation(&self, word: u32) -> f64 {
        let (pairs, vocabulary) = (self.pairs.len() as f64, self.followed.len() as f64);
        let kept = (f64::from(self.preceders[word as usize]) - self.discount).max(0.0);
        (kept + self.discount * self.preceded as f64 / vocabulary) / pairs
    }

    fn probability(&self, history: u32, word: u32) -> f64 {
        let continuation = self.continuation(word);
        let followed = f64::from(self.followed[history as usize]);
        if followed == 0.0 {
            return continuation;
        }
        let pair = key(history, word);
        let count = self.pairs.binary_search_by_key(&pair, |&(pair, _)| pair).map_or(0, |at| self.pairs[at].1);
        let held_back = self.discount * f64::from(self.followers[history as usize]) / followed;
        (f64::from(count) - self.discount).max(0.0) / followed + held_back * continuation
    }
}

fn key(history: u32, word: u32) -> u64 {
    u64::from(history) << 32 | u64::from(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rounding of a sum of a few hundred doubles.
    const ROUNDING: f64 = 1e-12;

    fn stream(length: usize, vocabulary: u64, seed: u64) -> Vec<u32> {
        let mut random = Random::new(seed);
        // The smaller of two draws: a skewed distribution, with words that never occur.
        (0..length).map(|_| random.below(vocabulary).min(random.below(vocabulary)) as u32).collect()
    }

    #[test]
    fn probabilities_sum_to_one() {
        let vocabulary = 90;
        let train = stream(300, 80, 1);
        let unigram = Unigram::count(&train, vocabulary);
        let bigram = KneserNey::count(&train, vocabulary);
        let words = || 0..vocabulary as u32;
        assert!((words().map(|word| unigram.probability(word)).sum::<f64>() - 1.0).abs() < ROUNDING);
        for history in words() {
            let sum: f64 = words().map(|word| bigram.probability(history, word)).sum();
            assert!((sum - 1.0).abs() < ROUNDING, "history {history}: {sum}");
        }
    }

    #[test]
    fn matches_counting_by_hand() {
        // Pairs of 0 1 0 1 2: 01 twice, 10 once, 12 once. D = 2 / (2 + 2) = 0.5, V = 3, three distinct pairs.
        let bigram = KneserNey::count(&[0, 1, 0, 1, 2], 3);
        assert_eq!(bigram.discount, 0.5);
        // All three words follow another: 1.5 of the three pairs' counts are spread over them.
        let continuation = |n: f64| (n - 0.5 + 0.5 * 3.0 / 3.0) / 3.0;
        let expected = (2.0 - 0.5) / 2.0 + 0.5 * 1.0 / 2.0 * continuation(1.0);
        assert!((bigram.probability(0, 1) - expected).abs() < ROUNDING);
        let expected = 0.5 * 2.0 / 2.0 * continuation(1.0);
        assert!((bigram.probability(1, 1) - expected).abs() < ROUNDING);
        assert!((bigram.probability(2, 0) - continuation(1.0)).abs() < ROUNDING, "nothing follows 2");
        // Unigram: words 1 then 2 after the first token, counts 2, 2, 1 of 5.
        let floors = Floors::measure(&[0, 1, 0, 1, 2], &[0, 1, 2], 3).expect("sound streams");
        assert!((floors.unigram - (3.0f64 / 8.0 * (2.0 / 8.0)).powf(-0.5)).abs() < 1e-9);
    }

    #[test]
    fn a_text_with_a_known_next_word_has_a_bigram_floor_near_one() {
        let cycle: Vec<u32> = std::iter::successors(Some(0), |&w| Some((5 * w + 3) % 64)).take(6_400).collect();
        let floors = Floors::measure(&cycle, &cycle[..640], 64).expect("sound streams");
        assert!((floors.unigram - 64.0).abs() < 0.1, "{floors:?}");
        assert!(floors.bigram < 1.01, "{floors:?}");
    }

    #[test]
    fn independent_words_leave_nothing_to_the_bigram() {
        let floors = Floors::measure(&stream(200_000, 50, 3), &stream(20_000, 50, 4), 50).expect("sound streams");
        assert!((floors.bigram / floors.unigram - 1.0).abs() < 0.02, "{floors:?}");
    }

    #[test]
    fn unsound_streams_are_refused() {
        let error = Floors::measure(&[0, 1], &[0], 2).expect_err("one token").to_string();
        assert_eq!(error, "the valid stream has 1 tokens, at least 2 are needed");
        let error = Floors::measure(&[0, 7], &[0, 1], 2).expect_err("token 7").to_string();
        assert_eq!(error, "token 7 of the train stream is outside the vocabulary of 2 words");
    }
}
