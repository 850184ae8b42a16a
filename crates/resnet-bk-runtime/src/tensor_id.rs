//! Typed identity of a tensor. It is written as a dotted path in checkpoints and messages.
//!
//! Parameters, gradients, quantizers and the tensor list of the artifact are looked up by identity.
//! Paths are written here and never parsed.

use std::fmt;

/// Part of a linear map `y = x W + b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinearPart {
    /// `W`, `[in, out]`.
    Weight,
    /// `b`, `[out]`.
    Bias,
}

/// Part of a layer normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormPart {
    /// The gain, `[D]`.
    Gamma,
    /// The shift, `[D]`.
    Beta,
}

/// A linear map of a mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MixerMap {
    /// To the diagonal mixer's potential.
    Potential,
    /// To the propagator's hopping, which gates its memory.
    Hopping,
    /// To the propagator's barrier.
    Barrier,
    /// To the propagator's source.
    Source,
    /// To the gate of the propagator's output.
    Gate,
    /// From features back to the model's width.
    Output,
}

/// A linear map of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExpertMap {
    /// From the model's width to the expert's.
    Up,
    /// From the width of the expert back to that of the model.
    Down,
}

/// A tensor of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockTensor {
    /// The norm at the block's start.
    Norm(NormPart),
    /// A linear map of the mixer.
    Mixer(MixerMap, LinearPart),
    /// Factor of the diagonal mixer's output, `[1]`.
    MixerScale,
    /// Gain of the propagator's RMS norm, `[2H]`.
    MixerNorm,
    /// Logarithm of the spectral shift, `[H]`.
    LogEta,
    /// Calibrated scale of the potential's quantizer, `[1]`.
    PotentialScale,
    /// Calibrated scales of the features' quantizer, `[2H]`.
    FeatureScales,
    /// The norm before the experts of a propagator block.
    ExpertNorm(NormPart),
    /// The router.
    Router(LinearPart),
    /// A map of an expert.
    Expert(usize, ExpertMap, LinearPart),
}

/// A tensor that the model computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelTensor {
    /// The whole embedding table, `[V, D]`.
    Embedding,
    /// Rows of one frequency bin.
    BinRows(usize),
    /// Projection of a bin's narrow rows to the model's width.
    BinProjection(usize),
    /// Position embeddings.
    Positions,
    /// A tensor of one block.
    Block(usize, BlockTensor),
    /// The norm before the head.
    Norm(NormPart),
    /// The table of the head, where embeddings are not tied.
    Head,
    /// Bias of the head, one number for each token of the vocabulary.
    HeadBias,
    /// Knots of the bias curve of the head.
    HeadCurve,
    /// Projection of the features of a student to the width of its teacher, by block of the
    /// student. Only distillation has these.
    FeatureProjection(usize),
}

/// Identity of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorId {
    /// A tensor that the model computes with.
    Values(ModelTensor),
    /// Logarithms of the trained quantizer scales of a tensor.
    LogScales(ModelTensor),
}

impl TensorId {
    /// A tensor of block `block`.
    pub const fn block(block: usize, tensor: BlockTensor) -> Self {
        Self::Values(ModelTensor::Block(block, tensor))
    }

    /// A part of a linear map of block `block`'s mixer.
    pub const fn mixer(block: usize, map: MixerMap, part: LinearPart) -> Self {
        Self::block(block, BlockTensor::Mixer(map, part))
    }

    /// A part of block `block`'s router.
    pub const fn router(block: usize, part: LinearPart) -> Self {
        Self::block(block, BlockTensor::Router(part))
    }

    /// A part of a map of an expert in block `block`.
    pub const fn expert(block: usize, expert: usize, map: ExpertMap, part: LinearPart) -> Self {
        Self::block(block, BlockTensor::Expert(expert, map, part))
    }

    /// The identity of the log scales of this tensor. Log scales return their own identity.
    pub const fn log_scales(self) -> Self {
        match self {
            Self::Values(tensor) | Self::LogScales(tensor) => Self::LogScales(tensor),
        }
    }

    /// The tensor itself, or the tensor that the log scales belong to.
    pub const fn tensor(self) -> ModelTensor {
        match self {
            Self::Values(tensor) | Self::LogScales(tensor) => tensor,
        }
    }
}

impl From<ModelTensor> for TensorId {
    fn from(tensor: ModelTensor) -> Self {
        Self::Values(tensor)
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(tensor) => tensor.fmt(f),
            Self::LogScales(tensor) => write!(f, "{tensor}.log_scale"),
        }
    }
}

impl fmt::Display for ModelTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding.weight"),
            Self::BinRows(bin) => write!(f, "embedding.bins.{bin}.weight"),
            Self::BinProjection(bin) => write!(f, "embedding.bins.{bin}.projection"),
            Self::Positions => f.write_str("positions.weight"),
            Self::Block(block, tensor) => write!(f, "blocks.{block}.{tensor}"),
            Self::Norm(part) => write!(f, "norm.{part}"),
            Self::Head => f.write_str("head.weight"),
            Self::HeadBias => f.write_str("head.bias"),
            Self::HeadCurve => f.write_str("head.curve"),
            Self::FeatureProjection(block) => write!(f, "projection.{block}"),
        }
    }
}

impl fmt::Display for BlockTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Norm(part) => write!(f, "norm.{part}"),
            Self::Mixer(map, part) => write!(f, "mixer.{map}.{part}"),
            Self::MixerScale => f.write_str("mixer.scale"),
            Self::MixerNorm => f.write_str("mixer.norm.gamma"),
            Self::LogEta => f.write_str("mixer.log_eta"),
            Self::PotentialScale => f.write_str("mixer.potential_scale"),
            Self::FeatureScales => f.write_str("mixer.feature_scales"),
            Self::ExpertNorm(part) => write!(f, "moe_norm.{part}"),
            Self::Router(part) => write!(f, "moe.router.{part}"),
            Self::Expert(expert, map, part) => write!(f, "moe.experts.{expert}.{map}.{part}"),
        }
    }
}

impl fmt::Display for LinearPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        })
    }
}

impl fmt::Display for NormPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gamma => "gamma",
            Self::Beta => "beta",
        })
    }
}

impl fmt::Display for MixerMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Potential => "potential",
            Self::Hopping => "hopping",
            Self::Barrier => "barrier",
            Self::Source => "source",
            Self::Gate => "gate",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for ExpertMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}
