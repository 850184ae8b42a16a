//! Identity, shape and role of a tensor. Quantizers, optimizer and coder depend on them.

use crate::tensor_id::TensorId;
use serde::{Deserialize, Serialize};

/// The role of a tensor, which determines its quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Input embedding table (and head, where tied).
    Embedding,
    /// Projection from the width of a bin to that of the model.
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
    /// Norms, small biases and learned scalars. Only scale mode Learned quantizes them.
    Small,
    /// Calibrated scales of the activation quantizers: constants that are not trained by gradient.
    ActivationScale,
    /// Logarithms of learned quantizer scales.
    LogScale,
}

impl Role {
    /// Whether its tensors are matrices or tables, which magnitude pruning masks.
    pub fn is_matrix(self) -> bool {
        use Role::{Embedding, Expert, Head, Mixer, Projection, Router};
        matches!(self, Embedding | Projection | Head | Expert | Router | Mixer)
    }
}

/// Identity, shape and role of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Identity of the tensor. It is written as a dotted path such as
    /// `blocks.0.moe.experts.1.up.weight`.
    pub id: TensorId,
    /// Row-major shape. Matrices of linear maps are `[in, out]`; tables are `[V, D]`.
    pub shape: Vec<usize>,
    /// Role of the tensor.
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

    /// Whether the optimizer updates it.
    pub fn is_trained(&self) -> bool {
        self.role != Role::ActivationScale
    }
}
