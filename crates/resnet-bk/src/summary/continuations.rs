//! Sample continuations of held-out text by two models.

use serde::{Deserialize, Serialize};

/// Continuations by the best float model and by the artifact, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuations {
    /// Name of the float model.
    pub baseline: String,
    /// Temperature of sampling.
    pub temperature: f32,
    /// Number of the most probable words that are drawn from.
    pub top_k: usize,
    /// Seed of the first sample, the same for both models; each further sample has the next one.
    pub seed: u64,
    /// The samples.
    pub samples: Vec<Continuation>,
}

/// A beginning of held-out text and how it goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuation {
    /// The beginning.
    pub prompt: String,
    /// How the text goes on.
    pub text: String,
    /// How the float model goes on.
    pub baseline: String,
    /// How the artifact goes on.
    pub artifact: String,
}
