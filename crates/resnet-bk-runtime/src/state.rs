//! What a text that grows carries from word to word.

use crate::error::{Error, InvalidOption};
use crate::generation::{GenerateOptions, Generation};
use crate::language_model::LanguageModel;
use crate::model;
use crate::sample::{self, Suggestion, most_probable, most_probable_with_prefix, remember};
use crate::score::PART;
use crate::tokenizer::Detokenizer;
use std::collections::VecDeque;
use std::fmt;

/// A text that grows, as the model remembers it: a few kilobytes, however long it is.
///
/// Each word that is pushed costs one step of the model, while [`LanguageModel::suggest`] reads its
/// text from the start. A clone goes its own way, such as for each of several continuations that
/// are compared.
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
    /// After all tokens but the last one, whose step makes the logits of the next.
    before_last: model::State,
    /// The last tokens, at most as many as a repetition penalty looks back on; none at the start.
    recent: VecDeque<u32>,
    detokenizer: Detokenizer,
}

impl State {
    /// The empty text; `language_model` is causal.
    pub(crate) fn new(language_model: &LanguageModel) -> Self {
        Self {
            before_last: language_model.model.start(),
            language_model: language_model.clone(),
            recent: VecDeque::new(),
            detokenizer: Detokenizer::START_OF_LINE,
        }
    }

    /// Adds the words of `text`, which begins with a word of its own: one that two pushes hold the
    /// halves of is two words.
    ///
    /// Line breaks between words count, those at the end of the text do not: see
    /// [`end_line`](Self::end_line).
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

    /// Ends the line: what comes next begins a new one.
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
        self.push_tokens(&[self.language_model.vocabulary.end_of_line()]);
    }

    /// The `k` most probable words to come next; see [`LanguageModel::suggest`].
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

    /// The `k` most probable of the words that begin with `prefix`; see
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

    /// Text that follows, in pieces; see [`LanguageModel::generate`]. The state stays where it is.
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
        // In parts: a prompt of any length takes the memory of one.
        for part in others.chunks(PART) {
            model.hidden(part, &mut self.before_last);
        }
        let mut shown = String::new();
        for &token in tokens {
            remember(&mut self.recent, token);
            shown.clear();
            self.detokenizer.push(vocabulary, token, &mut shown);
        }
    }

    /// The last token; `<eos>` at the start.
    fn last(&self) -> u32 {
        self.recent.back().copied().unwrap_or(self.language_model.vocabulary.end_of_line())
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
