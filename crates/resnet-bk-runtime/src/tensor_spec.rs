//! Shape and role of a tensor: what its quantizer, its optimizer and its coder go by.

use crate::tensor_id::TensorId;
use serde::{Deserialize, Serialize};

/// What part a tensor plays, which decides how it may be quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Input embedding table (and head, where tied).
    Embedding,
    /// Matrix that widens a bin's rows.
    Projection,
    /// Position embeddings.
    Positions,
    /// Output head table.
    Head,
    /// Output head bias.
    HeadBias,
    /// An expert's weight matrix.
    Expert,
    /// A router's weight matrix.
    Router,
    /// A mixer's weight matrix.
    Mixer,
    /// Norms, small biases and learned scalars; only trained quantizers round them.
    Small,
    /// Calibrated scales of the activation quantizers: constants, not trained by gradient.
    ActivationScale,
    /// Logarithms of learned quantizer scales.
    LogScale,
}

/// Identity, shape and part of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Which tensor; written, a dotted path such as `blocks.0.moe.experts.1.up.weight`.
    pub id: TensorId,
    /// Row-major shape. Matrices of linear maps are `[in, out]`; tables are `[V, D]`.
    pub shape: Vec<usize>,
    /// The part it plays.
    pub role: Role,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of a matrix or table; 1 for a vector.
    pub fn columns(&self) -> usize {
        if self.shape.len() == 2 { self.shape[1] } else { 1 }
    }

    /// Whether gradient steps change it.
    pub fn is_trained(&self) -> bool {
        self.role != Role::ActivationScale
    }
}
