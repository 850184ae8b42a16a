//! The state of a text that is extended word by word.

use crate::error::{Error, InvalidOption};
use crate::generation::{GenerateOptions, Generation};
use crate::language_model::LanguageModel;
use crate::model;
use crate::sample::{self, Suggestion, most_probable, most_probable_with_prefix, remember};
use crate::score::CHUNK;
use crate::tokenizer::Detokenizer;
use std::collections::VecDeque;
use std::fmt;

/// The state of the model after a text that is extended word by word. It has a few kilobytes,
/// whatever the length of the text.
///
/// Each pushed word costs one time step of the model. [`LanguageModel::suggest`], in contrast,
/// processes its text from the start. A clone is independent, for example to compare several
/// continuations.
///
/// ```
/// use resnet_bk_runtime::LanguageModel;
///
/// let model = LanguageModel::open("tests/data/tiny-english.rbk")?;
/// let mut state = model.state()?;
/// for word in ["I", "want", "to"] {
///     state.push(word);
/// }
/// assert_eq!(state.suggest(3), model.suggest("I want to", 3)?);
/// # Ok::<(), resnet_bk_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct State {
    language_model: LanguageModel,
    /// The state after all tokens but the last one. The last token is processed when logits are
    /// computed.
    before_last: model::State,
    /// The last tokens, at most as many as a repetition penalty applies to. Empty at the start of a
    /// text.
    recent: VecDeque<u32>,
    detokenizer: Detokenizer,
}

impl State {
    /// The state of the empty text. `language_model` must be causal.
    pub(crate) fn new(language_model: &LanguageModel) -> Self {
        Self {
            before_last: language_model.model.start(),
            language_model: language_model.clone(),
            recent: VecDeque::new(),
            detokenizer: Detokenizer::START_OF_LINE,
        }
    }

    /// Appends the words of `text`. The text begins with a new word: a word that is divided between
    /// two calls becomes two words.
    ///
    /// Line breaks between words count. Line breaks at the end of `text` do not; use
    /// [`end_line`](Self::end_line) for them.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("I want to");
    /// state.push("go home");
    /// assert_eq!(state.tokens(), 5);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn push(&mut self, text: &str) {
        self.push_tokens(&self.language_model.vocabulary.encode_prompt(text));
    }

    /// Ends the line. The next word begins a new line. Nothing happens if the vocabulary has no
    /// `<eos>`.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("Where is he?");
    /// state.end_line();
    /// state.push("I");
    /// assert_eq!(state.suggest(3), model.suggest("Where is he?\nI", 3)?);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn end_line(&mut self) {
        self.push_tokens(self.language_model.vocabulary.end_of_line().as_slice());
    }

    /// The `k` most probable next words; see [`LanguageModel::suggest`].
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("I want");
    /// assert_eq!(state.suggest(1)[0].word, "to");
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn suggest(&self, k: usize) -> Vec<Suggestion> {
        most_probable(self.logits(), &self.language_model.vocabulary, k)
    }

    /// The `k` most probable next words that begin with `prefix`; see
    /// [`LanguageModel::suggest_with_prefix`].
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("I want");
    /// assert_eq!(state.suggest_with_prefix("t", 1)[0].word, "to");
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn suggest_with_prefix(&self, prefix: &str, k: usize) -> Vec<Suggestion> {
        most_probable_with_prefix(&self.logits(), &self.language_model.vocabulary, prefix, k)
    }

    /// Generates text that follows, in pieces; see [`LanguageModel::generate`]. The state does not
    /// change.
    ///
    /// ```
    /// use resnet_bk_runtime::GenerateOptions;
    ///
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("I want");
    /// let text: String = state.generate(GenerateOptions::default().temperature(0.0).max_tokens(1))?.collect();
    /// assert_eq!(text, " to");
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an option outside its range.
    pub fn generate(&self, options: GenerateOptions) -> Result<Generation, Error> {
        let LanguageModel { model, vocabulary, .. } = &self.language_model;
        let recent = if self.recent.is_empty() { VecDeque::from([self.last()]) } else { self.recent.clone() };
        let (state, unread) = (self.before_last.clone(), vec![self.last()]);
        let tokens =
            sample::Generation::new(model.clone(), state, unread, recent, vocabulary.unknown(), options.sampler)
                .map_err(|error| Error::InvalidOption(InvalidOption(error)))?;
        Ok(Generation::new(tokens.take(options.max_tokens), vocabulary.clone(), self.detokenizer))
    }

    /// Number of tokens so far: words, punctuation marks and line breaks.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// assert_eq!(state.tokens(), 0);
    /// state.push("Where is he?");
    /// assert_eq!(state.tokens(), 4);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn tokens(&self) -> usize {
        self.before_last.position() + usize::from(!self.recent.is_empty())
    }

    fn push_tokens(&mut self, tokens: &[u32]) {
        let Some((_, others)) = tokens.split_last() else { return };
        let LanguageModel { model, vocabulary, .. } = &self.language_model;
        if let Some(&before) = self.recent.back() {
            model.hidden(&[before], &mut self.before_last);
        }
        // In chunks, so that the memory does not grow with the length of the prompt.
        for chunk in others.chunks(CHUNK) {
            model.hidden(chunk, &mut self.before_last);
        }
        let mut shown = String::new();
        for &token in tokens {
            remember(&mut self.recent, token);
            shown.clear();
            self.detokenizer.push(vocabulary, token, &mut shown);
        }
    }

    /// The last token; for the empty text, the one that stands before a text.
    fn last(&self) -> u32 {
        self.recent.back().copied().unwrap_or(self.language_model.vocabulary.start())
    }

    /// Logits of the next word. Shapes: returns `[V]`.
    fn logits(&self) -> Vec<f32> {
        self.language_model.model.logits_after(&[self.last()], &mut self.before_last.clone())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("tokens", &self.tokens()).finish_non_exhaustive()
    }
}
