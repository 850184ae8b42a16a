//! The size breakdown of an artifact: bytes by part. Every byte of the file is counted in exactly
//! one entry.

use super::container::{CRC_BYTES, HEADER_BYTES};
use super::section::Section;
use crate::tensor_spec::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the bytes of an entry contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeKind {
    /// Magic number, version and section table.
    Header,
    /// CRC-32 of the header and of every section.
    Checksums,
    /// Architecture and pretokenizer.
    Config,
    /// The coded words.
    Vocabulary,
    /// Codes of quantized tensors.
    Codes,
    /// Half-precision scales of quantized tensors.
    Scales,
    /// Float32 tensors.
    Floats,
}

impl SizeKind {
    /// Whether the bytes are in the weights section.
    pub fn is_weights(self) -> bool {
        matches!(self, SizeKind::Codes | SizeKind::Scales | SizeKind::Floats)
    }
}

/// Bytes of one kind in one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeEntry {
    /// Part of the model: `embedding`, `experts`, and so on; or `file`, `config`, `vocabulary` for
    /// bytes outside the weights section.
    pub part: String,
    /// What the bytes contain.
    pub kind: SizeKind,
    /// Number of bytes, at least one.
    pub bytes: u64,
}

/// The size breakdown of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeBreakdown {
    /// In the order of the file; parts of the weights in the order of [`Role`].
    pub entries: Vec<SizeEntry>,
}

/// Parts of the weights section, in the order of the size breakdown.
const PARTS: [(Role, &str); 10] = [
    (Role::Embedding, "embedding"),
    (Role::Projection, "embedding projections"),
    (Role::Positions, "positions"),
    (Role::Head, "head"),
    (Role::HeadBias, "head bias"),
    (Role::Expert, "experts"),
    (Role::Router, "routers"),
    (Role::Mixer, "mixers"),
    (Role::Small, "norms and small biases"),
    (Role::ActivationScale, "activation scales"),
];

impl SizeBreakdown {
    /// The size breakdown of a file with sections of the given lengths in bytes and the given parts
    /// of its weights.
    pub(super) fn new(config: u64, vocabulary: u64, weights: &[(Role, SizeKind, u64)]) -> Self {
        let checksums = (CRC_BYTES * (1 + Section::STORED.len())) as u64;
        let mut breakdown = SizeBreakdown { entries: Vec::new() };
        breakdown.push("file", SizeKind::Header, HEADER_BYTES as u64 - checksums);
        breakdown.push("file", SizeKind::Checksums, checksums);
        breakdown.push("config", SizeKind::Config, config);
        breakdown.push("vocabulary", SizeKind::Vocabulary, vocabulary);
        breakdown.entries.extend(Self::of_weights(weights).entries);
        breakdown
    }

    /// The size breakdown of a weights section alone.
    pub(super) fn of_weights(weights: &[(Role, SizeKind, u64)]) -> Self {
        let mut breakdown = SizeBreakdown { entries: Vec::new() };
        for (role, part) in PARTS {
            for kind in [SizeKind::Codes, SizeKind::Scales, SizeKind::Floats] {
                let entries = weights.iter().filter(|entry| (entry.0, entry.1) == (role, kind));
                breakdown.push(part, kind, entries.map(|entry| entry.2).sum());
            }
        }
        breakdown
    }

    /// The part that tensors of a role belong to.
    ///
    /// # Panics
    /// For learned scales, which are stored with their tensors.
    pub fn part(role: Role) -> &'static str {
        PARTS.iter().find(|(of, _)| *of == role).expect("a role of stored tensors").1
    }

    fn push(&mut self, part: &str, kind: SizeKind, bytes: u64) {
        if bytes > 0 {
            self.entries.push(SizeEntry { part: part.to_owned(), kind, bytes });
        }
    }

    /// Bytes of each part.
    pub fn by_part(&self) -> BTreeMap<String, u64> {
        let mut parts = BTreeMap::new();
        for entry in &self.entries {
            *parts.entry(entry.part.clone()).or_default() += entry.bytes;
        }
        parts
    }

    /// Length of the weights section, in bytes.
    pub fn weights_bytes(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.kind.is_weights()).map(|entry| entry.bytes).sum()
    }

    /// Length of the file, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }
}
