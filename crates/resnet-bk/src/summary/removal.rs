//! The record of a removed expert.

use serde::{Deserialize, Serialize};

/// An expert that was removed, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// The expert was removed before this step.
    pub step: usize,
    /// The block, from 0.
    pub block: usize,
    /// Index of the expert in its block at the beginning of the stage.
    pub expert: usize,
    /// Share of training tokens that were routed to it.
    pub usage: f64,
    /// Index of the expert that it was merged into, at the beginning of the stage.
    #[serde(default)]
    pub merged_into: Option<usize>,
    /// The rule that removed it.
    pub reason: String,
}
