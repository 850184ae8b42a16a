//! Groups of sentences that say almost the same, so that a split can keep each group on one side.
//!
//! Two sentences are near-duplicates if the sets of their words are alike:
//!
//! ```text
//! |A n B| / |A u B| >= 3/5        words in lower case, without punctuation and digits
//! ```
//!
//! One word of four may differ, or two of eight. A group is what a chain of near-duplicates
//! connects.
//!
//! All pairs are found, not a sample of them, by prefix filtering (Chaudhuri, Ganti, Kaushik 2006):
//! with words ordered from rare to common, two sets that are alike share one of their first few
//! words.

use std::collections::HashMap;

/// The least similarity of near-duplicates, as a fraction.
const SIMILARITY: (usize, usize) = (3, 5);

/// The words of a sentence that count for its similarity to others, in lower case.
pub(super) fn normalised_words(sentence: &str) -> Vec<String> {
    let parts = sentence.split(|c: char| !c.is_alphabetic() && c != '\'');
    let words = parts.map(|word| word.trim_matches('\'').to_lowercase());
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether two sets of words, each sorted and without repeats, are alike.
pub(super) fn alike<T: Ord>(a: &[T], b: &[T]) -> bool {
    let shared = shared(a, b);
    shared * SIMILARITY.1 >= (a.len() + b.len() - shared) * SIMILARITY.0
}

/// Size of the intersection of two sorted sets.
fn shared<T: Ord>(mut a: &[T], mut b: &[T]) -> usize {
    let mut shared = 0;
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        shared += usize::from(x == y);
        if x <= y {
            a = rest_a;
        }
        if y <= x {
            b = rest_b;
        }
    }
    shared
}

/// The group of each sentence, as the index of the group's first sentence.
pub(super) fn group(sentences: &[&str]) -> Vec<usize> {
    let sets = ranked_word_sets(sentences);
    let mut groups = Groups { parent: (0..sets.len()).collect() };

    // Equal sets first: one of them stands for all.
    let mut by_set: HashMap<&[u32], usize> = HashMap::new();
    for (sentence, set) in sets.iter().enumerate() {
        let first = *by_set.entry(set).or_insert(sentence);
        groups.join(first, sentence);
    }
    let mut distinct: Vec<usize> = by_set.into_values().collect();
    // From short to long, so that a candidate is never longer than the set which looks for it.
    distinct.sort_unstable_by_key(|&sentence| (sets[sentence].len(), sentence));

    let words = sets.iter().flatten().max().map_or(0, |&rank| rank as usize + 1);
    let mut with_prefix_word: Vec<Vec<Candidate>> = vec![Vec::new(); words];
    for sentence in distinct {
        let set = &sets[sentence];
        let this = Candidate { sentence: sentence as u32, length: set.len() as u32, signature: signature(set) };
        let least = (set.len() * SIMILARITY.0).div_ceil(SIMILARITY.1);
        for &word in &set[..prefix(set.len(), least)] {
            let candidates = &with_prefix_word[word as usize];
            let first = candidates.partition_point(|candidate| (candidate.length as usize) < least);
            for candidate in candidates[first..].iter().filter(|candidate| candidate.may_be_alike(&this)) {
                let other = candidate.sentence as usize;
                if groups.find(other) != groups.find(sentence) && alike(&sets[other], set) {
                    groups.join(other, sentence);
                }
            }
        }
        // A longer set which is like this one shares 2s/(1+s) of this one's words, so a shorter
        // prefix will do.
        let (numerator, denominator) = SIMILARITY;
        let least = (set.len() * 2 * numerator).div_ceil(numerator + denominator);
        for &word in &set[..prefix(set.len(), least)] {
            with_prefix_word[word as usize].push(this);
        }
    }
    (0..sets.len()).map(|sentence| groups.find(sentence)).collect()
}

/// How many of the first words of a set of `length` include one of any `least` of its words.
fn prefix(length: usize, least: usize) -> usize {
    if length == 0 { 0 } else { length - least + 1 }
}

/// A set which a longer one may be alike, with what is needed to rule it out quickly.
#[derive(Clone, Copy)]
struct Candidate {
    sentence: u32,
    length: u32,
    signature: u64,
}

impl Candidate {
    /// False only if the two sets are not alike: each bit in which the signatures differ is a word
    /// that one of them lacks.
    fn may_be_alike(&self, other: &Self) -> bool {
        let apart = (self.signature ^ other.signature).count_ones();
        let total = self.length + other.length;
        let shared = (total - apart) / 2;
        shared as usize * SIMILARITY.1 >= (total - shared) as usize * SIMILARITY.0
    }
}

/// One of 64 bits for each word.
fn signature(set: &[u32]) -> u64 {
    set.iter().fold(0, |bits, &word| bits | 1 << (word.wrapping_mul(0x9E37_79B1) >> 26))
}

/// The words of each sentence as ranks, the rarest word of all sentences having rank 0; sorted,
/// without repeats.
fn ranked_word_sets(sentences: &[&str]) -> Vec<Vec<u32>> {
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut sets: Vec<Vec<u32>> = Vec::with_capacity(sentences.len());
    for sentence in sentences {
        let words = normalised_words(sentence).into_iter();
        let set = words.map(|word| {
            let next = counts.len() as u32;
            let id = *ids.entry(word).or_insert(next);
            if id == next {
                counts.push(0);
            }
            counts[id as usize] += 1;
            id
        });
        sets.push(set.collect());
    }
    let mut order: Vec<u32> = (0..counts.len() as u32).collect();
    order.sort_unstable_by_key(|&id| (counts[id as usize], id));
    let mut ranks = vec![0; order.len()];
    for (rank, &id) in order.iter().enumerate() {
        ranks[id as usize] = rank as u32;
    }
    for set in &mut sets {
        for word in set.iter_mut() {
            *word = ranks[*word as usize];
        }
        set.sort_unstable();
        set.dedup();
    }
    sets
}

/// Disjoint groups of numbers; a group's name is its smallest number.
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn find(&mut self, mut member: usize) -> usize {
        while self.parent[member] != member {
            // Halving the path keeps the trees flat.
            self.parent[member] = self.parent[self.parent[member]];
            member = self.parent[member];
        }
        member
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn sentences_that_differ_by_a_word_are_grouped() {
        let sentences = [
            "He is very friendly to her.",
            "The weather turned bad.",
            "He is very kind to her!",
            "he is very KIND to her, 2",
            "She is very kind to him.",
            "The weather turned fine yesterday evening.",
        ];
        // 4 is tied to 2 by 4 words of 8 only.
        assert_eq!(group(&sentences), [0, 1, 0, 0, 4, 5]);
    }

    #[test]
    fn chains_join_and_wordless_sentences_are_one_group() {
        assert_eq!(group(&["a b c d", "e b c d", "e f c d", "", "100 %!", "x"]), [0, 0, 0, 3, 3, 5]);
        assert_eq!(group(&[]), [0usize; 0]);
    }

    #[test]
    fn words_are_normalised() {
        assert_eq!(normalised_words("'Don't!' said 2 MEN—twice."), ["don't", "said", "men", "twice"]);
    }

    #[test]
    fn filtering_finds_the_groups_of_all_pairs() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let sentences: Vec<String> = (0..150)
                .map(|_| {
                    let words = (0..random.below(14)).map(|_| {
                        format!(
                            "{} ",
                            ('a'..='z').nth(random.below(26).min(random.below(26)) as usize).expect("a letter")
                        )
                    });
                    words.collect()
                })
                .collect();
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            let sets = ranked_word_sets(&sentences);
            let mut slow = Groups { parent: (0..sets.len()).collect() };
            for a in 0..sets.len() {
                for b in 0..a {
                    if alike(&sets[a], &sets[b]) {
                        slow.join(a, b);
                    }
                }
            }
            let slow: Vec<usize> = (0..sets.len()).map(|sentence| slow.find(sentence)).collect();
            assert_eq!(group(&sentences), slow, "seed {seed}");
            assert!((10..145).contains(&slow.iter().collect::<std::collections::BTreeSet<_>>().len()));
        }
    }
}
