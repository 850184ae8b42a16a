//! The public interface: a model with its vocabulary.

use crate::artifact::{Artifact, section_lengths};
use crate::error::{Error, InvalidArtifact};
use crate::generation::{GenerateOptions, Generation};
use crate::model::Model;
use crate::sample::Suggestion;
use crate::score;
use crate::state::State;
use crate::tokenizer::Vocabulary;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Fewest tokens of a text that has a perplexity.
const FEWEST_TOKENS: usize = 2;

/// A language model: decoded weights and vocabulary.
///
/// Clones share the weights. Several threads may use one model at the same time.
///
/// Text is split into words and punctuation marks. `<unk>` replaces a word that is not in the
/// vocabulary, and `<eos>` a line break. Every text is accepted; words outside the vocabulary are
/// unknown words.
#[derive(Clone)]
pub struct LanguageModel {
    pub(crate) model: Arc<Model>,
    pub(crate) vocabulary: Arc<Vocabulary>,
    sizes: SectionSizes,
}

impl LanguageModel {
    /// Reads a model from an artifact, a `.rbk` file.
    ///
    /// ```
    /// use resnet_bk_runtime::LanguageModel;
    ///
    /// let model = LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// assert_eq!(model.vocabulary_size(), 1_500);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read. Otherwise as [`from_bytes`](Self::from_bytes).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Reads a model from the bytes of an artifact. The bytes may come from an untrusted source.
    ///
    /// ```
    /// use resnet_bk_runtime::LanguageModel;
    ///
    /// let model = LanguageModel::from_bytes(include_bytes!("../tests/data/tiny-english.rbk"))?;
    /// assert!(model.is_causal());
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArtifact`] if the bytes are not a valid artifact. It never panics, and the
    /// memory that it allocates is in proportion to the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = |error| Error::InvalidArtifact(InvalidArtifact(error));
        let artifact = Artifact::from_bytes(bytes).map_err(invalid)?;
        let [config, vocabulary, weights] = section_lengths(bytes).map_err(invalid)?;
        let header = bytes.len() as u64 - config - vocabulary - weights;
        Ok(Self {
            model: Arc::new(artifact.to_model()),
            vocabulary: Arc::new(artifact.vocabulary),
            sizes: SectionSizes { header, config, vocabulary, weights },
        })
    }

    /// The `k` most probable words after `text`, most probable first. There are fewer if the
    /// vocabulary is smaller.
    ///
    /// `<unk>` and `<eos>` are omitted. Probabilities are among all words, including those two. An
    /// empty text means the start of a line. White space at the end of the text, including line
    /// breaks, has no effect.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let words = model.suggest("I want", 3)?;
    /// assert_eq!(words[0].word, "to");
    /// assert!(words[0].probability > words[1].probability);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCausal`] for a bidirectional model.
    pub fn suggest(&self, text: &str, k: usize) -> Result<Vec<Suggestion>, Error> {
        Ok(self.state_after(text)?.suggest(k))
    }

    /// The `k` most probable words after `text` that begin with `prefix`. Their probabilities are
    /// divided by the sum over all words with the prefix. A keyboard, for example, knows the
    /// beginning of the next word.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let words = model.suggest_with_prefix("I want to", "s", 5)?;
    /// assert!(words.iter().all(|suggestion| suggestion.word.starts_with('s')));
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCausal`] for a bidirectional model.
    pub fn suggest_with_prefix(&self, text: &str, prefix: &str, k: usize) -> Result<Vec<Suggestion>, Error> {
        Ok(self.state_after(text)?.suggest_with_prefix(prefix, k))
    }

    /// Generates text that follows `prompt`, in pieces. Equal options give equal text.
    ///
    /// The pieces continue `prompt.trim_end()`. Each piece is a word, after a space where one is
    /// needed, or a line break. The prompt is processed in this call. From there each piece costs
    /// one time step of the model.
    ///
    /// ```
    /// use resnet_bk_runtime::{GenerateOptions, LanguageModel};
    ///
    /// let model = LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut text = String::from("I want");
    /// for piece in model.generate(&text, GenerateOptions::default().max_tokens(8).seed(3))? {
    ///     text.push_str(&piece);
    /// }
    /// assert!(text.starts_with("I want to "));
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an option outside its range. [`Error::NotCausal`] for a
    /// bidirectional model.
    pub fn generate(&self, prompt: &str, options: GenerateOptions) -> Result<Generation, Error> {
        self.state_after(prompt)?.generate(options)
    }

    /// The tokens of `text`: words and punctuation marks, `<unk>` for a word that is not in the
    /// vocabulary, and `<eos>` at the end of every line, including the last.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// assert_eq!(model.tokens("Where is he?"), ["Where", "is", "he", "?", "<eos>"]);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn tokens(&self, text: &str) -> Vec<String> {
        self.vocabulary.encode(text).iter().map(|&id| self.vocabulary.word(id).to_owned()).collect()
    }

    /// The tokens of `text` with their log probabilities, each after the tokens before it.
    ///
    /// `<eos>` ends every line, including the last, if the vocabulary has it. The first token is
    /// scored at the start of a line. The probabilities are those of [`State`]: the state is not
    /// reset, also in a text that is longer than [`window`](Self::window). The sum shows which of two
    /// texts is more probable.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let total = |text| -> Result<f32, resnet_bk_runtime::Error> {
    ///     Ok(model.log_probabilities(text)?.iter().map(|token| token.log_probability).sum())
    /// };
    /// assert!(total("I want to go home.")? > total("home to I go want.")?);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCausal`] for a bidirectional model.
    pub fn log_probabilities(&self, text: &str) -> Result<Vec<TokenScore>, Error> {
        self.require_causal()?;
        let tokens = self.vocabulary.encode(text);
        let scores = score::log_probabilities(&self.model, self.vocabulary.start(), &tokens);
        let token = |id: &u32| self.vocabulary.word(*id).to_owned();
        let score = |(id, log_probability)| TokenScore { token: token(id), log_probability };
        Ok(tokens.iter().zip(scores).map(score).collect())
    }

    /// Perplexity of `text`, as `resnet-bk eval` measures it: over every token but the first, in
    /// consecutive windows of [`window`](Self::window) tokens, with the state reset at each.
    ///
    /// The perplexity of a bidirectional model is not comparable with others, because the model
    /// depends on the tokens that it predicts.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let perplexity = model.perplexity("I want to go home.\nShe went to school yesterday.\n")?;
    /// // A uniform distribution has the size of the vocabulary as its perplexity: 1,500.
    /// assert!(perplexity < 150.0);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TextTooShort`] if the text has fewer than two tokens. A word and the end of its
    /// line are two tokens.
    pub fn perplexity(&self, text: &str) -> Result<f64, Error> {
        let tokens = self.vocabulary.encode(text);
        if tokens.len() < FEWEST_TOKENS {
            return Err(Error::TextTooShort { tokens: tokens.len(), needed: FEWEST_TOKENS });
        }
        Ok((score::nats(&self.model, &tokens) / (tokens.len() - 1) as f64).exp())
    }

    /// The state of an empty text, to which words can be appended; see [`State`].
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let mut state = model.state()?;
    /// state.push("I want");
    /// assert_eq!(state.suggest(5), model.suggest("I want", 5)?);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotCausal`] for a bidirectional model.
    pub fn state(&self) -> Result<State, Error> {
        self.require_causal()?;
        Ok(State::new(self))
    }

    /// Whether each prediction depends on earlier tokens only. A bidirectional model is not causal:
    /// only [`perplexity`](Self::perplexity) is available for it.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// assert!(model.is_causal());
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn is_causal(&self) -> bool {
        self.model.require_causal().is_ok()
    }

    /// Number of words in the vocabulary, including `<unk>` and `<eos>`.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// assert_eq!(model.vocabulary_size(), 1_500);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Length in tokens of the windows that the model was trained on.
    /// [`perplexity`](Self::perplexity) uses the same windows.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// assert_eq!(model.window(), 64);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn window(&self) -> usize {
        self.model.architecture().n_seq
    }

    /// Lengths of the sections of the artifact, in bytes.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let sizes = model.section_sizes();
    /// assert_eq!(sizes.total(), include_bytes!("../tests/data/tiny-english.rbk").len() as u64);
    /// assert!(sizes.weights > sizes.vocabulary);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn section_sizes(&self) -> SectionSizes {
        self.sizes
    }

    /// The state after `text`.
    fn state_after(&self, text: &str) -> Result<State, Error> {
        let mut state = self.state()?;
        state.push(text);
        Ok(state)
    }

    fn require_causal(&self) -> Result<(), Error> {
        if self.is_causal() { Ok(()) } else { Err(Error::NotCausal) }
    }
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LanguageModel");
        out.field("vocabulary_size", &self.vocabulary_size()).field("window", &self.window());
        out.field("is_causal", &self.is_causal()).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// A token of a text with its log probability.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenScore {
    /// The word; `<unk>` if it is not in the vocabulary, `<eos>` for the end of a line.
    pub token: String,
    /// Natural logarithm of its probability after the tokens before it, in nats.
    pub log_probability: f32,
}

/// Lengths of the sections of an artifact, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionSizes {
    /// Magic number, format version, section table and checksums.
    pub header: u64,
    /// Architecture and pretokenizer, as JSON.
    pub config: u64,
    /// The words of the vocabulary.
    pub vocabulary: u64,
    /// The weights.
    pub weights: u64,
}

impl SectionSizes {
    /// Length of the whole artifact, in bytes.
    ///
    /// ```
    /// # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
    /// let sizes = model.section_sizes();
    /// assert_eq!(sizes.total(), sizes.header + sizes.config + sizes.vocabulary + sizes.weights);
    /// # Ok::<(), resnet_bk_runtime::Error>(())
    /// ```
    pub fn total(&self) -> u64 {
        self.header + self.config + self.vocabulary + self.weights
    }
}
