//! From logits to words: the most probable ones, and text drawn word by word.
//!
//! ```text
//! suggest    p = softmax(logits)                              the largest p, without <unk> and <eos>
//! generate   logits of the last 64 tokens are penalized       x / r where x > 0, x r elsewhere
//!            p = softmax(logits / temperature) of the top_k largest logits, without <unk>
//!            the most probable words whose p add up to top_p                             word ~ p
//!            temperature 0: the word with the largest logit, penalties included
//! ```
//!
//! `top_p` is nucleus sampling (Holtzman et al., "The curious case of neural text degeneration",
//! arXiv 1904.09751). The penalty `r` is CTRL's (Keskar et al., arXiv 1909.05858, section 4.1),
//! which divides the logits of words that were there before. It divides positive ones alone: a
//! negative logit, divided, would make its word more probable, so it is multiplied, as
//! implementations since do. All tokens of the last 64 count, the prompt's and line breaks among
//! them.

use crate::kernels::softmax_in_place;
use crate::model::{Model, ModelError, State};
use crate::tokenizer::Vocabulary;
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Deref;
use thiserror::Error;

/// Tokens that a repetition penalty looks back on.
pub const PENALTY_WINDOW: usize = 64;

/// Why no text can be generated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The temperature is negative, infinite or NaN.
    #[error("temperature is {value}, but must be finite and at least 0")]
    Temperature {
        /// The temperature given.
        value: f32,
    },
    /// There is nothing to draw from.
    #[error("top_k is 0, but must be at least 1")]
    TopK,
    /// The nucleus is empty, or more than everything.
    #[error("top_p is {value}, but must be above 0 and at most 1")]
    TopP {
        /// The mass given.
        value: f32,
    },
    /// The penalty would reward repetition, or is infinite or NaN.
    #[error("repetition_penalty is {value}, but must be finite and at least 1")]
    RepetitionPenalty {
        /// The penalty given.
        value: f32,
    },
    /// The model cannot generate.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A word that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// The word.
    pub word: String,
    /// Its share of the words that were asked for: of the whole vocabulary, `<unk>` and `<eos>`
    /// included, or of those with a prefix.
    pub probability: f32,
}

/// The `top` most probable words after `prompt`, most probable first, ties by id; `<unk>` and
/// `<eos>` are left out.
///
/// An empty prompt stands for the start of a line.
///
/// # Errors
/// [`ModelError::NotCausal`] for a bidirectional model.
///
/// # Panics
/// If the vocabulary is not of the model's size.
pub fn suggest(
    model: &Model,
    vocabulary: &Vocabulary,
    prompt: &str,
    top: usize,
) -> Result<Vec<Suggestion>, ModelError> {
    let logits = model.next_logits(&prompt_tokens(model, vocabulary, prompt), &mut model.start())?;
    Ok(most_probable(logits, vocabulary, top))
}

/// The `top` most probable words by their logits, as [`suggest`] lists them. Shapes: `logits`
/// `[V]`.
pub fn most_probable(logits: Vec<f32>, vocabulary: &Vocabulary, top: usize) -> Vec<Suggestion> {
    let mut probabilities = logits;
    softmax_in_place(&mut probabilities);
    let ids = words(vocabulary).collect();
    let suggestion = |id| Suggestion { word: vocabulary.word(id).to_owned(), probability: probabilities[id as usize] };
    largest(&probabilities, ids, top).into_iter().map(suggestion).collect()
}

/// The `top` most probable of the words that begin with `prefix`, their probabilities divided by
/// the sum over all that do.
///
/// # Shapes
/// - `logits`: `[V]`
pub fn most_probable_with_prefix(logits: &[f32], vocabulary: &Vocabulary, prefix: &str, top: usize) -> Vec<Suggestion> {
    let ids: Vec<u32> = words(vocabulary).filter(|&id| vocabulary.word(id).starts_with(prefix)).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    // A softmax of these logits alone: their sum of probabilities may be too small to divide by.
    let mut probabilities: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
    softmax_in_place(&mut probabilities);
    let places = largest(&probabilities, (0..ids.len() as u32).collect(), top).into_iter().map(|place| place as usize);
    let word = |place: usize| vocabulary.word(ids[place]).to_owned();
    places.map(|place| Suggestion { word: word(place), probability: probabilities[place] }).collect()
}

/// The ids of all words but `<unk>` and `<eos>`.
fn words(vocabulary: &Vocabulary) -> impl Iterator<Item = u32> {
    let special = [vocabulary.unknown(), vocabulary.end_of_line()];
    (0..vocabulary.len() as u32).filter(move |id| !special.contains(id))
}

/// How [`generate`] draws words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Divides the logits: below 1 favours probable words, 0 takes the most probable one always
    /// (ties by id).
    pub temperature: f32,
    /// Draws from this many of the most probable words, at least 1; `None` draws from all.
    pub top_k: Option<usize>,
    /// Draws from the fewest of the most probable words whose probabilities, after temperature and
    /// `top_k`, add up to this; above 0, at most 1. `None` and 1 draw from all.
    pub top_p: Option<f32>,
    /// What the logits of the last [`PENALTY_WINDOW`] tokens are divided by, or multiplied with
    /// where they are negative; at least 1, which leaves them alone.
    pub repetition_penalty: f32,
    /// Equal seeds draw equal words from equal logits.
    pub seed: u64,
}

impl Default for Sampler {
    /// As the model says: every word with its probability.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampler {
    /// Checks that words can be drawn.
    ///
    /// # Errors
    /// [`SampleError::Temperature`] unless it is finite and at least 0, [`SampleError::TopK`] if
    /// that is 0, [`SampleError::TopP`] unless it is above 0 and at most 1,
    /// [`SampleError::RepetitionPenalty`] unless it is finite and at least 1.
    pub fn validate(&self) -> Result<(), SampleError> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(SampleError::Temperature { value: self.temperature });
        }
        if self.top_k == Some(0) {
            return Err(SampleError::TopK);
        }
        if let Some(value) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(SampleError::TopP { value });
        }
        let penalty = self.repetition_penalty;
        if !(penalty.is_finite() && penalty >= 1.0) {
            return Err(SampleError::RepetitionPenalty { value: penalty });
        }
        Ok(())
    }

    /// Makes the words of `recent` less probable, each once.
    fn penalize(&self, logits: &mut [f32], recent: impl Iterator<Item = u32>) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut recent: Vec<u32> = recent.collect();
        recent.sort_unstable();
        recent.dedup();
        for id in recent {
            let logit = &mut logits[id as usize];
            *logit = if *logit > 0.0 { *logit / self.repetition_penalty } else { *logit * self.repetition_penalty };
        }
    }

    /// The next token; never `unknown`, of which there must be others.
    fn draw(&self, logits: &[f32], unknown: u32, random: &mut SplitMix64) -> u32 {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|&id| id != unknown).collect();
        if self.temperature == 0.0 {
            return largest(logits, ids, 1)[0];
        }
        let nucleus = self.top_p.filter(|&p| p < 1.0);
        if self.top_k.is_some() || nucleus.is_some() {
            // A nucleus is cut from words in their order.
            ids = largest(logits, ids, self.top_k.unwrap_or(usize::MAX));
        }
        let top = ids.iter().map(|&id| logits[id as usize]).fold(f32::NEG_INFINITY, f32::max);
        // Differences first: a small temperature would overflow the logits themselves.
        let mut probabilities: Vec<f32> =
            ids.iter().map(|&id| (logits[id as usize] - top) / self.temperature).collect();
        softmax_in_place(&mut probabilities);
        if let Some(mass) = nucleus {
            probabilities.truncate(nucleus_len(&probabilities, mass));
        }
        let mut left = random.uniform() * probabilities.iter().map(|&p| f64::from(p)).sum::<f64>();
        for (&id, &p) in ids.iter().zip(&probabilities) {
            left -= f64::from(p);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a rest after the last word.
        ids[probabilities.len() - 1]
    }
}

/// How many of the probabilities, the largest first, add up to `mass`: the fewest that do, at least
/// one.
fn nucleus_len(probabilities: &[f32], mass: f32) -> usize {
    let mut sum = 0.0;
    let reaches = |&p: &f32| {
        sum += f64::from(p);
        sum >= f64::from(mass)
    };
    probabilities.iter().position(reaches).map_or(probabilities.len(), |last| last + 1)
}

/// Draws the words that follow `prompt`, without end: take as many as are wanted.
///
/// An empty prompt stands for the start of a line. The prompt is read when the first word is asked
/// for; from there each word costs one step of the model, however many came before.
///
/// # Errors
/// A sampler that is not valid, and [`ModelError::NotCausal`] for a bidirectional model.
///
/// # Panics
/// If the vocabulary is not of the model's size.
pub fn generate<M: Deref<Target = Model>>(
    model: M,
    vocabulary: &Vocabulary,
    prompt: &str,
    sampler: Sampler,
) -> Result<Generation<M>, SampleError> {
    let unread = prompt_tokens(&model, vocabulary, prompt);
    let recent = unread[unread.len().saturating_sub(PENALTY_WINDOW)..].iter().copied().collect();
    let state = model.start();
    Generation::new(model, state, unread, recent, vocabulary.unknown(), sampler)
}

/// Endless iterator over generated token ids; see [`generate`].
#[derive(Clone, Debug)]
pub struct Generation<M> {
    model: M,
    state: State,
    /// Tokens that the state does not know yet: the prompt, later the last word drawn.
    unread: Vec<u32>,
    /// The last tokens, at most as many as a penalty looks back on.
    recent: VecDeque<u32>,
    unknown: u32,
    sampler: Sampler,
    random: SplitMix64,
}

impl<M: Deref<Target = Model>> Generation<M> {
    /// Goes on from `state` with at least one token that it does not know yet; `recent` are the
    /// last [`PENALTY_WINDOW`] tokens at most, those among them.
    ///
    /// # Errors
    /// As [`generate`].
    pub fn new(
        model: M,
        state: State,
        unread: Vec<u32>,
        recent: VecDeque<u32>,
        unknown: u32,
        sampler: Sampler,
    ) -> Result<Self, SampleError> {
        sampler.validate()?;
        model.require_causal()?;
        Ok(Self { model, state, unread, recent, unknown, sampler, random: SplitMix64(sampler.seed) })
    }
}

impl<M: Deref<Target = Model>> Iterator for Generation<M> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mut logits = self.model.logits_after(&self.unread, &mut self.state);
        self.sampler.penalize(&mut logits, self.recent.iter().copied());
        let token = self.sampler.draw(&logits, self.unknown, &mut self.random);
        self.unread.clear();
        self.unread.push(token);
        remember(&mut self.recent, token);
        Some(token)
    }
}

/// Appends `token` to the tokens that a penalty looks back on.
pub(crate) fn remember(recent: &mut VecDeque<u32>, token: u32) {
    if recent.len() == PENALTY_WINDOW {
        recent.pop_front();
    }
    recent.push_back(token);
}

/// The tokens to start from, at least one.
fn prompt_tokens(model: &Model, vocabulary: &Vocabulary, prompt: &str) -> Vec<u32> {
    assert_eq!(vocabulary.len(), model.architecture().vocab_size, "words of the vocabulary and of the model");
    let tokens = vocabulary.encode_prompt(prompt);
    if tokens.is_empty() { vec![vocabulary.end_of_line()] } else { tokens }
}

/// The `count` of `ids` with the largest `values`, largest first, ties by id.
fn largest(values: &[f32], mut ids: Vec<u32>, count: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 inclusive to 1 exclusive, 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
