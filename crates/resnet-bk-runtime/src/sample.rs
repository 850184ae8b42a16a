//! Next-word suggestions and text generation from logits.
//!
//! ```text
//! suggest    p = softmax(logits);  the words with the largest p, without <unk> and <eos>
//! generate   repetition penalty r for the last 64 tokens:  x / r where the logit x > 0, else x r
//!            p = softmax(logits / temperature) over the top_k largest logits, without <unk>
//!            nucleus: the fewest of the most probable tokens whose p add up to top_p;  token ~ p
//!            temperature 0: the token with the largest logit after the penalty
//! ```
//!
//! `top_p` is nucleus sampling (Holtzman et al., "The curious case of neural text degeneration",
//! arXiv 1904.09751). The repetition penalty `r` is from CTRL (Keskar et al., arXiv 1909.05858,
//! section 4.1), which divides the logits of repeated tokens. Dividing a negative logit would make
//! its token more probable, so negative logits are multiplied, as in later implementations. The
//! last 64 tokens include those of the prompt and line breaks.

use crate::kernels::softmax_in_place;
use crate::model::{Model, ModelError, State};
use crate::tokenizer::Vocabulary;
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Deref;
use thiserror::Error;

/// Number of the last tokens that a repetition penalty applies to.
pub const PENALTY_WINDOW: usize = 64;

/// Why text cannot be generated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The temperature is negative, infinite or NaN.
    #[error("temperature is {value}, but must be finite and at least 0")]
    Temperature {
        /// The temperature given.
        value: f32,
    },
    /// `top_k` is 0, so there are no candidates.
    #[error("top_k is 0, but must be at least 1")]
    TopK,
    /// `top_p` is not above 0 and at most 1.
    #[error("top_p is {value}, but must be above 0 and at most 1")]
    TopP {
        /// The value given.
        value: f32,
    },
    /// The penalty is below 1, infinite or NaN. Below 1 it would reward repetition.
    #[error("repetition_penalty is {value}, but must be finite and at least 1")]
    RepetitionPenalty {
        /// The penalty given.
        value: f32,
    },
    /// The model cannot generate.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A suggested next word.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// The word.
    pub word: String,
    /// Its probability: among the whole vocabulary, including `<unk>` and `<eos>`, or among the
    /// words with the requested prefix.
    pub probability: f32,
}

/// The `top` most probable words after `prompt`, most probable first, ties by id. `<unk>` and
/// `<eos>` are omitted.
///
/// An empty prompt means the start of a line.
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

/// As [`suggest`], but only words that begin with `prefix`; see [`most_probable_with_prefix`].
///
/// # Errors
/// [`ModelError::NotCausal`] for a bidirectional model.
///
/// # Panics
/// If the vocabulary is not of the model's size.
pub fn suggest_with_prefix(
    model: &Model,
    vocabulary: &Vocabulary,
    prompt: &str,
    prefix: &str,
    top: usize,
) -> Result<Vec<Suggestion>, ModelError> {
    let logits = model.next_logits(&prompt_tokens(model, vocabulary, prompt), &mut model.start())?;
    Ok(most_probable_with_prefix(&logits, vocabulary, prefix, top))
}

/// The `top` most probable words for the given logits, in the form of [`suggest`]. Shapes: `logits`
/// `[V]`.
pub fn most_probable(logits: Vec<f32>, vocabulary: &Vocabulary, top: usize) -> Vec<Suggestion> {
    let mut probabilities = logits;
    softmax_in_place(&mut probabilities);
    let ids = words(vocabulary).collect();
    let suggestion = |id| Suggestion { word: vocabulary.word(id).to_owned(), probability: probabilities[id as usize] };
    largest(&probabilities, ids, top).into_iter().map(suggestion).collect()
}

/// The `top` most probable words that begin with `prefix`. Their probabilities are conditional on
/// the prefix: they are divided by the sum over all words with the prefix.
///
/// # Shapes
/// - `logits`: `[V]`
pub fn most_probable_with_prefix(logits: &[f32], vocabulary: &Vocabulary, prefix: &str, top: usize) -> Vec<Suggestion> {
    let ids: Vec<u32> = words(vocabulary).filter(|&id| vocabulary.word(id).starts_with(prefix)).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    // A softmax over these logits only. The sum of their probabilities over the full vocabulary may
    // be too small to divide by.
    let mut probabilities: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
    softmax_in_place(&mut probabilities);
    let indices = largest(&probabilities, (0..ids.len() as u32).collect(), top).into_iter().map(|index| index as usize);
    let word = |index: usize| vocabulary.word(ids[index]).to_owned();
    indices.map(|index| Suggestion { word: word(index), probability: probabilities[index] }).collect()
}

/// The ids of all words except `<unk>` and `<eos>`.
fn words(vocabulary: &Vocabulary) -> impl Iterator<Item = u32> {
    let special = [Some(vocabulary.unknown()), vocabulary.end_of_line()];
    (0..vocabulary.len() as u32).filter(move |&id| !special.contains(&Some(id)))
}

/// How [`generate`] samples tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Divides the logits. Below 1, probable tokens become more probable. 0 always selects the most
    /// probable token, ties by id.
    pub temperature: f32,
    /// Samples from this many of the most probable tokens, at least 1. `None` samples from all.
    pub top_k: Option<usize>,
    /// Samples from the fewest most probable tokens whose probabilities, after temperature and
    /// `top_k`, add up to this value. Above 0, at most 1. `None` and 1 sample from all.
    pub top_p: Option<f32>,
    /// Penalty for the last [`PENALTY_WINDOW`] tokens: positive logits are divided by it, negative
    /// ones multiplied. At least 1, which has no effect.
    pub repetition_penalty: f32,
    /// Equal seeds give equal tokens for equal logits.
    pub seed: u64,
}

impl Default for Sampler {
    /// Samples every token with the probability that the model gives it.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampler {
    /// Checks that all options are within their ranges.
    ///
    /// # Errors
    /// [`SampleError::Temperature`] unless `temperature` is finite and at least 0,
    /// [`SampleError::TopK`] if `top_k` is 0, [`SampleError::TopP`] unless `top_p` is above 0 and
    /// at most 1, [`SampleError::RepetitionPenalty`] unless `repetition_penalty` is finite and at
    /// least 1.
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

    /// Applies the repetition penalty to the tokens of `recent`, once for each distinct token.
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

    /// Samples the next token. It is never `unknown`; [`Architecture::validate`] ensures that there are other tokens.
    fn draw(&self, logits: &[f32], unknown: u32, random: &mut SplitMix64) -> u32 {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|&id| id != unknown).collect();
        if self.temperature == 0.0 {
            return largest(logits, ids, 1)[0];
        }
        let nucleus = self.top_p.filter(|&p| p < 1.0);
        if self.top_k.is_some() || nucleus.is_some() {
            // A nucleus needs the tokens in order of probability.
            ids = largest(logits, ids, self.top_k.unwrap_or(usize::MAX));
        }
        let top = ids.iter().map(|&id| logits[id as usize]).fold(f32::NEG_INFINITY, f32::max);
        // The largest logit is subtracted before the division, because a small temperature would
        // overflow the logits themselves.
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
        // By rounding, a remainder may be left after the last token.
        ids[probabilities.len() - 1]
    }
}

/// Size of the nucleus: the smallest number of leading probabilities that add up to `mass`, at
/// least one. `probabilities` are in descending order.
fn nucleus_len(probabilities: &[f32], mass: f32) -> usize {
    let mut sum = 0.0;
    let reaches = |&p: &f32| {
        sum += f64::from(p);
        sum >= f64::from(mass)
    };
    probabilities.iter().position(reaches).map_or(probabilities.len(), |last| last + 1)
}

/// Generates tokens that follow `prompt`. The iterator is endless; take as many tokens as needed.
///
/// An empty prompt means the start of a line. The prompt is processed when the first token is
/// requested. From there each token costs one time step of the model, whatever the length of the
/// text.
///
/// # Errors
/// If the sampler is not valid, and [`ModelError::NotCausal`] for a bidirectional model.
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
    /// Tokens that the state does not contain yet: the prompt, later the last generated token.
    unread: Vec<u32>,
    /// The last tokens, at most [`PENALTY_WINDOW`].
    recent: VecDeque<u32>,
    unknown: u32,
    sampler: Sampler,
    random: SplitMix64,
}

impl<M: Deref<Target = Model>> Generation<M> {
    /// Continues from `state` with `unread`, at least one token that the state does not contain
    /// yet. `recent` are the last tokens, including `unread`, at most [`PENALTY_WINDOW`].
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

/// Appends `token` to the tokens that a repetition penalty applies to.
pub(crate) fn remember(recent: &mut VecDeque<u32>, token: u32) {
    if recent.len() == PENALTY_WINDOW {
        recent.pop_front();
    }
    recent.push_back(token);
}

/// The tokens of the prompt, or the one that stands before a text if there are none.
fn prompt_tokens(model: &Model, vocabulary: &Vocabulary, prompt: &str) -> Vec<u32> {
    assert_eq!(vocabulary.len(), model.architecture().vocab_size, "size of the vocabulary and vocab_size of the model");
    let tokens = vocabulary.encode_prompt(prompt);
    if tokens.is_empty() { vec![vocabulary.start()] } else { tokens }
}

/// The `count` ids with the largest `values`, largest first, ties by id.
fn largest(values: &[f32], mut ids: Vec<u32>, count: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}

/// The SplitMix64 generator (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, from 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
