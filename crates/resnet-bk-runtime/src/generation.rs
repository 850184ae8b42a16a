//! Text that a model makes, word by word.

use crate::model::Model;
use crate::sample::{self, Sampler};
use crate::tokenizer::{Detokenizer, Vocabulary};
use std::fmt;
use std::iter::{FusedIterator, Take};
use std::sync::Arc;

/// How text is generated. Every option has a default, and is checked when text is asked for.
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
    /// 50 tokens at temperature 0.8 from all words, without a repetition penalty, from seed 1: as
    /// `resnet-bk generate`.
    fn default() -> Self {
        Self { max_tokens: 50, sampler: Sampler { temperature: 0.8, seed: 1, ..Sampler::default() } }
    }
}

impl GenerateOptions {
    /// Tokens to draw: words, punctuation marks and line breaks. [`usize::MAX`] stands for text
    /// without end.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// Divides the logits, at least 0: below 1 favors probable words, 0 always takes the most
    /// probable one.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.sampler.temperature = temperature;
        self
    }

    /// Draws from this many of the most probable words only, at least 1.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.sampler.top_k = Some(top_k);
        self
    }

    /// Draws from the fewest most probable words whose probabilities, after temperature and
    /// [`top_k`](Self::top_k), add up to this; above 0, at most 1 (nucleus sampling).
    #[must_use]
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.sampler.top_p = Some(top_p);
        self
    }

    /// Divides the logits of the last 64 tokens, the prompt's among them, where they are positive,
    /// and multiplies them where they are negative; at least 1, which changes nothing. Above 1,
    /// text repeats itself less.
    #[must_use]
    pub fn repetition_penalty(mut self, repetition_penalty: f32) -> Self {
        self.sampler.repetition_penalty = repetition_penalty;
        self
    }

    /// Equal seeds draw equal words.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.sampler.seed = seed;
        self
    }
}

/// Iterator over the pieces of a text that is being made; see
/// [`LanguageModel::generate`](crate::LanguageModel::generate).
#[derive(Clone)]
pub struct Generation {
    tokens: Take<sample::Generation<Arc<Model>>>,
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
}

impl Generation {
    /// Text of `tokens`, which follow a text that `detokenizer` has seen.
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
