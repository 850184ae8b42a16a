//! What is recorded of an expert that goes.

use serde::{Deserialize, Serialize};

/// An expert that was removed, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// The stage's number, from 1.
    pub stage: usize,
    /// The step before which it went.
    pub step: usize,
    /// Its block.
    pub block: usize,
    /// Its index among the block's experts at that time.
    pub expert: usize,
    /// Share of training tokens that were routed to it.
    pub usage: f64,
    /// The expert that it was merged into, by its index at that time.
    #[serde(default)]
    pub merged_into: Option<usize>,
    /// The rule that removed it.
    pub reason: String,
}
