//! From logits to words: the most probable ones, and text drawn word by word.
//!
//! ```text
//! suggest    p = softmax(logits)                              the largest p, without <unk> and <eos>
//! generate   p = softmax(logits / temperature) of the top_k largest logits, without <unk>;     word ~ p
//!            temperature 0: the word with the largest logit
//! ```

use crate::kernels::softmax_in_place;
use crate::model::{Model, ModelError, State};
use crate::tokenizer::Vocabulary;
use serde::Serialize;
use thiserror::Error;

/// Why no text can be generated.
#[derive(Clone, Debug, PartialEq, Error)]
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
    /// The model cannot generate.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A word that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// The word.
    pub word: String,
    /// Its share of the full distribution, `<unk>` and `<eos>` included.
    pub probability: f32,
}

/// The `top` most probable words after `prompt`, most probable first, ties by id; `<unk>` and `<eos>` are left out.
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
    let mut probabilities = model.next_logits(&prompt_tokens(model, vocabulary, prompt), &mut model.start())?;
    softmax_in_place(&mut probabilities);
    let special = [vocabulary.unknown(), vocabulary.end_of_line()];
    let ids = (0..probabilities.len() as u32).filter(|id| !special.contains(id)).collect();
    let suggestion = |id| Suggestion { word: vocabulary.word(id).to_owned(), probability: probabilities[id as usize] };
    Ok(largest(&probabilities, ids, top).into_iter().map(suggestion).collect())
}

/// How [`generate`] draws words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Divides the logits: below 1 favours probable words, 0 takes the most probable one always (ties by id).
    pub temperature: f32,
    /// Draws from this many of the most probable words, at least 1; `None` draws from all.
    pub top_k: Option<usize>,
    /// Equal seeds draw equal words from equal logits.
    pub seed: u64,
}

impl Sampler {
    /// Checks that words can be drawn.
    ///
    /// # Errors
    /// [`SampleError::Temperature`] unless it is finite and at least 0, [`SampleError::TopK`] if that is 0.
    pub fn validate(&self) -> Result<(), SampleError> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(SampleError::Temperature { value: self.temperature });
        }
        if self.top_k == Some(0) {
            return Err(SampleError::TopK);
        }
        Ok(())
    }

    /// The next token; never `unknown`, of which there must be others.
    fn draw(&self, logits: &[f32], unknown: u32, random: &mut SplitMix64) -> u32 {
        let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|&id| id != unknown).collect();
        if self.temperature == 0.0 {
            return largest(logits, ids, 1)[0];
        }
        if let Some(top_k) = self.top_k {
            ids = largest(logits, ids, top_k);
        }
        let top = ids.iter().map(|&id| logits[id as usize]).fold(f32::NEG_INFINITY, f32::max);
        // Differences first: a small temperature would overflow the logits themselves.
        let mut probabilities: Vec<f32> =
            ids.iter().map(|&id| (logits[id as usize] - top) / self.temperature).collect();
        softmax_in_place(&mut probabilities);
        let mut left = random.uniform() * probabilities.iter().map(|&p| f64::from(p)).sum::<f64>();
        for (&id, &p) in ids.iter().zip(&probabilities) {
            left -= f64::from(p);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a rest after the last word.
        ids[ids.len() - 1]
    }
}

/// Draws the words that follow `prompt`, without end: take as many as are wanted.
///
/// An empty prompt stands for the start of a line. The prompt is read when the first word is asked for; from there each
/// word costs one step of the model, however many came before.
///
/// # Errors
/// A sampler that is not valid, and [`ModelError::NotCausal`] for a bidirectional model.
///
/// # Panics
/// If the vocabulary is not of the model's size.
pub fn generate<'a>(
    model: &'a Model,
    vocabulary: &Vocabulary,
    prompt: &str,
    sampler: Sampler,
) -> Result<Generation<'a>, SampleError> {
    sampler.validate()?;
    model.require_causal()?;
    Ok(Generation {
        model,
        state: model.start(),
        unread: prompt_tokens(model, vocabulary, prompt),
        unknown: vocabulary.unknown(),
        sampler,
        random: SplitMix64(sampler.seed),
    })
}

/// Endless iterator over generated token ids; see [`generate`].
#[derive(Clone, Debug)]
pub struct Generation<'a> {
    model: &'a Model,
    state: State,
    /// Tokens that the state does not know yet: the prompt, later the last word drawn.
    unread: Vec<u32>,
    unknown: u32,
    sampler: Sampler,
    random: SplitMix64,
}

impl Iterator for Generation<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let logits = self.model.logits_after(&self.unread, &mut self.state);
        let token = self.sampler.draw(&logits, self.unknown, &mut self.random);
        self.unread.clear();
        self.unread.push(token);
        Some(token)
    }
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
