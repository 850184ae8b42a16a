//! Configuration of the model: its sizes, and default settings of training and compression.

use crate::numerics::Gradient;
use resnet_bk_runtime::internal::architecture::{Architecture, Causality, Mixer, ResolventConstants};
use resnet_bk_runtime::internal::architecture_validation::{ArchitectureError, MAX_BLOCKS};
use resnet_bk_runtime::internal::embedding::EmbeddingBin;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use thiserror::Error;

/// Most columns of a model. Larger ones, more heads or more bins are refused on every device, because
/// the GPU's kernels have no room for them.
pub(crate) const MAX_D_MODEL: usize = 2048;
/// Most heads of a block.
pub(crate) const MAX_HEADS: usize = 1024;
/// Most bins of an embedding.
pub(crate) const MAX_BINS: usize = 16;

/// One value for every head, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PerHead {
    /// The same for every head.
    All(f32),
    /// One per head, `[H]`.
    Each(Vec<f32>),
}

/// Written by hand, because the derived implementation cannot say which value of a list is wrong.
impl<'de> Deserialize<'de> for PerHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;

        impl<'de> Visitor<'de> for OneOrList {
            type Value = PerHead;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number, or a list of a number for each head")
            }

            fn visit_f64<E>(self, value: f64) -> Result<PerHead, E> {
                Ok(PerHead::All(value as f32))
            }

            fn visit_i64<E>(self, value: i64) -> Result<PerHead, E> {
                Ok(PerHead::All(value as f32))
            }

            fn visit_u64<E>(self, value: u64) -> Result<PerHead, E> {
                Ok(PerHead::All(value as f32))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<PerHead, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(PerHead::Each)
            }
        }

        deserializer.deserialize_any(OneOrList)
    }
}

impl PerHead {
    fn expand(&self, heads: usize) -> Vec<f32> {
        match self {
            Self::All(value) => vec![*value; heads],
            Self::Each(values) => values.clone(),
        }
    }
}

/// Configuration of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Largest size `V` of the vocabulary; a text with fewer words gives a smaller one. `<unk>` and
    /// `<eos>` count.
    pub vocab_size: usize,
    /// Model width `D`.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Length `T` of a window, in tokens.
    pub n_seq: usize,
    /// Experts `E` of a block.
    pub num_experts: usize,
    /// Experts that a token is routed to.
    pub top_k: usize,
    /// Hidden width `F` of an expert.
    pub d_ff: usize,
    /// Dropout probability in the experts and, in propagator blocks, after the mixer.
    pub dropout: f32,
    /// Dropout probability of the embeddings.
    pub embedding_dropout: f32,
    /// Probability that a word of the vocabulary is dropped: in each training step, its embeddings
    /// are zero everywhere in the batch. The head keeps the word.
    #[serde(default)]
    pub word_dropout: f32,
    /// Dropout probability of the normalized hidden states before the head.
    #[serde(default)]
    pub head_dropout: f32,
    /// Dropout probability of the weights of the mixers' maps (DropConnect): one mask for a map in
    /// each training step.
    #[serde(default)]
    pub weight_dropout: f32,
    /// How a block mixes over time.
    pub mixer: Mixer,
    /// Which tokens a position can see. With the propagator mixer it must be `causal`.
    pub causality: Causality,
    /// Resolvent heads `H`.
    pub heads: usize,
    /// Gradient of the diagonal mixer's potential: exact, or the approximation of the followed
    /// project.
    pub gradient: Gradient,
    /// Constant part of the tridiagonal matrix's diagonal (diagonal mixer).
    pub a0: PerHead,
    /// Off-diagonal entries of the tridiagonal matrix (diagonal mixer).
    pub s: PerHead,
    /// Spectral shift: above 0 for the diagonal mixer, at least 0 for the propagator.
    pub eta: PerHead,
    /// Whether eta is trained.
    pub learned_eta: bool,
    /// Bound on the diagonal mixer's potential.
    pub v_max: f32,
    /// Bound on the diagonal mixer's features.
    pub feature_clamp: f32,
    /// Whether learned position embeddings are added.
    pub positions: bool,
    /// Whether the head shares the embedding table.
    pub tied_embeddings: bool,
    /// Frequency bins of the embedding table: rare words have narrow rows. The most frequent words
    /// come first; the last bin takes all words that are left. Empty for rows of full width. Bins
    /// need `tied_embeddings = true`. At most 16.
    #[serde(default)]
    pub embedding_bins: Vec<EmbeddingBin>,
    /// Knots of the bias curve, a smooth part of the head's bias over the words' frequency ranks; 0
    /// for none.
    #[serde(default)]
    pub bias_knots: usize,
    /// Largest global norm of the gradients; larger gradients are scaled down to it.
    pub grad_clip: f32,
    /// Weight of the load-balancing loss.
    pub load_balancing: f32,
    /// Scale of the Gumbel noise on router logits in training; 0 for none.
    pub gumbel_noise: f32,
    /// Whether `qat` stages run.
    pub use_quantization: bool,
    /// Bits of the embedding and head tables if a `qat` stage has no `quantization`; 32 for float.
    pub quantization_bits: u8,
    /// Whether `prune` stages run.
    pub use_pruning: bool,
    /// Experts with a smaller share of the training tokens are removed, if a `prune` stage has no
    /// `experts.threshold`.
    pub prune_threshold: f64,
    /// Whether `distill` and `plan` stages run.
    pub use_distillation: bool,
}

/// An invalid configuration.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConfigError {
    /// A field is outside its range.
    #[error("{field} is {value}, but must be {allowed}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// The sizes do not fit together. The field has its name in a recipe.
    #[error(transparent)]
    Architecture(ArchitectureError),
    /// There is no such preset.
    #[error("there is no preset {0:?}; there are `seed`, `memory` and `tiny`")]
    Preset(String),
}

impl From<ArchitectureError> for ConfigError {
    fn from(error: ArchitectureError) -> Self {
        let renamed = RECIPE_KEYS.iter().find_map(|(path, key)| Some((key, error.field.strip_prefix(path)?)));
        let field = match renamed {
            // A recipe has one number for all blocks.
            Some((&"num_experts", _)) => "num_experts".to_owned(),
            Some((key, index)) => format!("{key}{index}"),
            None => error.field,
        };
        Self::Architecture(ArchitectureError { field, ..error })
    }
}

/// Fields of an architecture that have another name in `[model]`.
const RECIPE_KEYS: [(&str, &str); 4] =
    [("experts", "num_experts"), ("resolvent.diagonal", "a0"), ("resolvent.hopping", "s"), ("resolvent.eta", "eta")];

impl ConfigError {
    /// Keys of `[model]` that may have the wrong value, the most likely first.
    pub(super) fn fields(&self) -> impl Iterator<Item = String> {
        let fields: Vec<String> = match self {
            Self::Range { field, .. } => vec![(*field).to_owned()],
            Self::Architecture(error) => {
                let dotted = error.field.replace('[', ".").replace(']', "");
                let keys: &[&str] = match dotted.split('.').next().unwrap_or_default() {
                    "number of blocks" => &["n_layers"],
                    "sum of experts" => &["num_experts", "n_layers"],
                    "number of tensor elements" => &["vocab_size", "d_model"],
                    "number of embedding_bins" | "words of all embedding_bins" => &["embedding_bins"],
                    "a0" => &["a0", "heads"],
                    "s" => &["s", "heads"],
                    "eta" => &["eta", "learned_eta", "mixer", "heads"],
                    _ => &[dotted.as_str()],
                };
                keys.iter().copied().map(str::to_owned).collect()
            }
            Self::Preset(_) => vec!["preset".to_owned()],
        };
        fields.into_iter()
    }
}

impl ModelConfig {
    /// Names for [`preset`](Self::preset).
    pub const PRESETS: [&str; 3] = ["seed", "memory", "tiny"];

    /// A named configuration.
    ///
    /// - `seed`: the configuration of the followed project, 4,146,120 parameters
    /// - `memory`: with the propagator, which can remember content
    /// - `tiny`: for tests
    ///
    /// # Errors
    /// [`ConfigError::Preset`] for any other name.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        match name {
            "seed" => Ok(Self::seed()),
            "memory" => Ok(Self::memory()),
            "tiny" => Ok(Self::tiny()),
            other => Err(ConfigError::Preset(other.to_owned())),
        }
    }

    fn seed() -> Self {
        Self {
            vocab_size: 30_000,
            d_model: 64,
            n_layers: 4,
            n_seq: 128,
            num_experts: 4,
            top_k: 1,
            d_ff: 128,
            dropout: 0.1,
            embedding_dropout: 0.1,
            word_dropout: 0.0,
            head_dropout: 0.0,
            weight_dropout: 0.0,
            mixer: Mixer::Diagonal,
            causality: Causality::Causal,
            heads: 1,
            gradient: Gradient::Exact,
            a0: PerHead::All(-2.0),
            s: PerHead::All(1.0),
            eta: PerHead::All(1.0),
            learned_eta: false,
            v_max: 3.0,
            feature_clamp: 10.0,
            positions: true,
            tied_embeddings: false,
            embedding_bins: Vec::new(),
            bias_knots: 0,
            grad_clip: 1.0,
            load_balancing: 0.01,
            gumbel_noise: 0.0,
            use_quantization: true,
            quantization_bits: 4,
            use_pruning: true,
            prune_threshold: 0.05,
            use_distillation: true,
        }
    }

    fn memory() -> Self {
        Self {
            mixer: Mixer::Propagator,
            heads: 64,
            n_layers: 3,
            num_experts: 2,
            eta: PerHead::All(0.0),
            positions: false,
            tied_embeddings: true,
            ..Self::seed()
        }
    }

    fn tiny() -> Self {
        Self { vocab_size: 64, d_model: 16, n_layers: 2, n_seq: 16, num_experts: 2, d_ff: 32, heads: 2, ..Self::seed() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range, with the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        fn require(
            holds: bool,
            field: &'static str,
            value: impl Display,
            allowed: &'static str,
        ) -> Result<(), ConfigError> {
            if holds { Ok(()) } else { Err(ConfigError::Range { field, value: value.to_string(), allowed }) }
        }
        for (field, value) in [
            ("dropout", self.dropout),
            ("embedding_dropout", self.embedding_dropout),
            ("word_dropout", self.word_dropout),
            ("head_dropout", self.head_dropout),
            ("weight_dropout", self.weight_dropout),
        ] {
            require((0.0..1.0).contains(&value), field, value, "at least 0 and below 1")?;
        }
        // The lists are expanded below, so check their lengths first.
        require((1..=MAX_HEADS).contains(&self.heads), "heads", self.heads, "from 1 to 1,024")?;
        require((1..=MAX_D_MODEL).contains(&self.d_model), "d_model", self.d_model, "from 1 to 2,048")?;
        let bins = self.embedding_bins.len();
        require(bins <= MAX_BINS, "number of embedding_bins", bins, "at most 16")?;
        require((1..=MAX_BLOCKS).contains(&self.n_layers), "n_layers", self.n_layers, "from 1 to 256")?;
        require(self.vocab_size >= 2, "vocab_size", self.vocab_size, "at least 2: `<unk>` and `<eos>`")?;
        require(self.num_experts >= 1, "num_experts", self.num_experts, "at least 1")?;
        require((1..=self.num_experts).contains(&self.top_k), "top_k", self.top_k, "from 1 to num_experts")?;
        // JSON cannot represent infinity, so a checkpoint could not store it.
        for (field, value) in
            [("grad_clip", self.grad_clip), ("v_max", self.v_max), ("feature_clamp", self.feature_clamp)]
        {
            require(value.is_finite() && value > 0.0, field, value, "finite and above 0")?;
        }
        for (field, value) in [("load_balancing", self.load_balancing), ("gumbel_noise", self.gumbel_noise)] {
            require(value.is_finite() && value >= 0.0, field, value, "finite and at least 0")?;
        }
        let bits = self.quantization_bits;
        require([4, 8, 16, 32].contains(&bits), "quantization_bits", bits, "4, 8, 16 or 32")?;
        let threshold = self.prune_threshold;
        require((0.0..=1.0).contains(&threshold), "prune_threshold", threshold, "from 0 to 1")?;
        if let Gradient::Blended(blend) = self.gradient {
            require((0.0..=1.0).contains(&blend), "gradient.blended", blend, "from 0 to 1")?;
            require(self.mixer == Mixer::Diagonal, "gradient", "blended", "exact where the mixer is the propagator")?;
            require(
                !self.learned_eta,
                "gradient",
                "blended",
                "exact where eta is learned: the blended one has none for it",
            )?;
        }
        Ok(self.architecture().validate()?)
    }

    /// This model with the training and compression settings of another configuration.
    pub fn with_settings_of(&self, other: &Self) -> Self {
        Self {
            dropout: other.dropout,
            embedding_dropout: other.embedding_dropout,
            word_dropout: other.word_dropout,
            head_dropout: other.head_dropout,
            weight_dropout: other.weight_dropout,
            gradient: other.gradient,
            grad_clip: other.grad_clip,
            load_balancing: other.load_balancing,
            gumbel_noise: other.gumbel_noise,
            use_quantization: other.use_quantization,
            quantization_bits: other.quantization_bits,
            use_pruning: other.use_pruning,
            prune_threshold: other.prune_threshold,
            use_distillation: other.use_distillation,
            ..self.clone()
        }
    }

    /// The bins, limited to the vocabulary.
    fn fitted_bins(&self) -> Vec<EmbeddingBin> {
        let mut left = self.vocab_size;
        let mut bins: Vec<EmbeddingBin> = Vec::new();
        for (index, bin) in self.embedding_bins.iter().enumerate() {
            let is_last = index + 1 == self.embedding_bins.len();
            let words = if is_last { left } else { bin.words.min(left) };
            left -= words;
            bins.extend((words > 0).then_some(EmbeddingBin { words, ..*bin }));
        }
        bins
    }

    /// The float model's architecture.
    pub fn architecture(&self) -> Architecture {
        Architecture {
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            n_seq: self.n_seq,
            d_ff: self.d_ff,
            experts: vec![self.num_experts; self.n_layers],
            top_k: self.top_k,
            mixer: self.mixer,
            causality: self.causality,
            heads: self.heads,
            positions: self.positions,
            tied_embeddings: self.tied_embeddings,
            embedding_bins: self.fitted_bins(),
            bias_knots: self.bias_knots,
            resolvent: ResolventConstants {
                diagonal: self.a0.expand(self.heads),
                hopping: self.s.expand(self.heads),
                eta: self.eta.expand(self.heads),
            },
            learned_eta: self.learned_eta,
            v_max: self.v_max,
            feature_clamp: self.feature_clamp,
            quantization: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_the_seed_has_its_parameters() {
        for name in ["seed", "memory", "tiny"] {
            ModelConfig::preset(name).unwrap().validate().unwrap();
        }
        let seed = ModelConfig::preset("seed").unwrap().architecture();
        assert_eq!(seed.parameter_count(), 4_146_120);
        assert!(ModelConfig::preset("large").unwrap_err().to_string().contains("`memory`"));
    }

    #[test]
    fn wrong_values_are_refused_with_field_and_range() {
        let refuse = |change: fn(&mut ModelConfig), message: &str| {
            let mut config = ModelConfig::tiny();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        };
        refuse(|c| c.top_k = 3, "top_k is 3, but must be from 1 to num_experts");
        refuse(|c| c.d_model = 2049, "d_model is 2049, but must be from 1 to 2,048");
        refuse(|c| c.heads = 1025, "heads is 1025, but must be from 1 to 1,024");
        let bin = EmbeddingBin { words: 1, width: 1 };
        let mut binned = ModelConfig { embedding_bins: vec![bin; MAX_BINS + 1], ..ModelConfig::tiny() };
        binned.vocab_size = MAX_BINS + 1;
        let message = binned.validate().unwrap_err().to_string();
        assert_eq!(message, "number of embedding_bins is 17, but must be at most 16");
        refuse(|c| c.top_k = 0, "top_k is 0, but must be from 1 to num_experts");
        refuse(|c| c.dropout = 1.0, "dropout is 1, but must be at least 0 and below 1");
        refuse(|c| c.head_dropout = 1.0, "head_dropout is 1, but must be at least 0 and below 1");
        refuse(|c| c.weight_dropout = 2.0, "weight_dropout is 2, but must be at least 0 and below 1");
        refuse(|c| c.word_dropout = -0.1, "word_dropout is -0.1, but must be at least 0 and below 1");
        refuse(|c| c.quantization_bits = 5, "quantization_bits is 5, but must be 4, 8, 16 or 32");
        refuse(|c| c.grad_clip = 0.0, "grad_clip is 0, but must be finite and above 0");
        refuse(|c| c.grad_clip = f32::INFINITY, "grad_clip is inf, but must be finite and above 0");
        refuse(|c| c.heads = usize::MAX, "heads is 18446744073709551615, but must be from 1 to 1,024");
        refuse(|c| c.n_layers = 0, "n_layers is 0, but must be from 1 to 256");
        refuse(|c| c.prune_threshold = f64::NAN, "prune_threshold is NaN, but must be from 0 to 1");
        refuse(|c| c.gradient = Gradient::Blended(2.0), "gradient.blended is 2, but must be from 0 to 1");
        let mut config = ModelConfig::tiny();
        config.eta = PerHead::All(0.0);
        assert!(config.validate().unwrap_err().to_string().contains("eta"));
    }
}
