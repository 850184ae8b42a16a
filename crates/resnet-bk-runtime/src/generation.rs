//! Text generation, piece by piece.

use crate::model::Model;
use crate::sample::{self, Sampler};
use crate::tokenizer::{Detokenizer, Vocabulary};
use std::fmt;
use std::iter::{FusedIterator, Take};
use std::sync::Arc;

/// Options of text generation. Every option has a default. Ranges are checked when generation
/// starts.
///
/// ```
/// use resnet_bk_runtime::GenerateOptions;
///
/// let options = GenerateOptions::default().max_tokens(20).temperature(0.7).top_k(40).seed(7);
/// let same = GenerateOptions::default().seed(7).top_k(40).temperature(0.7).max_tokens(20);
/// assert_eq!(options, same);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerateOptions {
    pub(crate) max_tokens: usize,
    pub(crate) sampler: Sampler,
}

impl Default for GenerateOptions {
    /// 50 tokens at temperature 0.8, sampled from all words, without a repetition penalty, with
    /// seed 1. The same as in `resnet-bk generate`.
    fn default() -> Self {
        Self { max_tokens: 50, sampler: Sampler { temperature: 0.8, seed: 1, ..Sampler::default() } }
    }
}

impl GenerateOptions {
    /// Number of tokens to generate: words, punctuation marks and line breaks. [`usize::MAX`] means
    /// without end.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// Divides the logits; at least 0. Below 1, probable words become more probable. 0 always
    /// selects the most probable word.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.sampler.temperature = temperature;
        self
    }

    /// Samples from this many of the most probable words only; at least 1.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.sampler.top_k = Some(top_k);
        self
    }

    /// Nucleus sampling: samples from the fewest most probable words whose probabilities, after
    /// temperature and [`top_k`](Self::top_k), add up to this value. Above 0, at most 1.
    #[must_use]
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.sampler.top_p = Some(top_p);
        self
    }

    /// Lowers the logits of the last 64 tokens, including the prompt: positive logits are divided
    /// by the penalty, negative ones multiplied. At least 1, which has no effect. Above 1, text
    /// repeats itself less.
    #[must_use]
    pub fn repetition_penalty(mut self, repetition_penalty: f32) -> Self {
        self.sampler.repetition_penalty = repetition_penalty;
        self
    }

    /// Seed of the sampling. Equal seeds give equal text.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.sampler.seed = seed;
        self
    }
}

/// Iterator over the pieces of generated text; see
/// [`LanguageModel::generate`](crate::LanguageModel::generate).
#[derive(Clone)]
pub struct Generation {
    tokens: Take<sample::Generation<Arc<Model>>>,
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
}

impl Generation {
    /// The text of `tokens`. `detokenizer` has the state of the text before them.
    pub(crate) fn new(
        tokens: Take<sample::Generation<Arc<Model>>>,
        vocabulary: Arc<Vocabulary>,
        detokenizer: Detokenizer,
    ) -> Self {
        Self { tokens, vocabulary, detokenizer }
    }
}

impl Iterator for Generation {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.next()?;
        let mut piece = String::new();
        self.detokenizer.push(&self.vocabulary, token, &mut piece);
        Some(piece)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.tokens.size_hint()
    }
}

impl FusedIterator for Generation {}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").finish_non_exhaustive()
    }
}
