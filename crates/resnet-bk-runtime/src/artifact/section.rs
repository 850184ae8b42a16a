//! The sections of a file.

use std::fmt;

/// The bytes are the content itself.
const ENCODING_PLAIN: u16 = 0;
/// The bytes are entropy-coded (coding/mod.rs).
const ENCODING_CODED: u16 = 1;

/// A section of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Magic number, version and section table.
    Header = 0,
    /// Architecture and pretokenizer, as JSON.
    Config = 1,
    /// Words in the order of their ids.
    Vocabulary = 2,
    /// Scales, codes and floats of every tensor.
    Weights = 3,
}

impl Section {
    /// The sections in the section table, in order.
    pub(super) const STORED: [Section; 3] = [Section::Config, Section::Vocabulary, Section::Weights];

    pub(super) fn kind(self) -> u16 {
        self as u16
    }

    /// The encoding of the section in this format.
    pub(super) fn encoding(self) -> u16 {
        match self {
            Section::Vocabulary | Section::Weights => ENCODING_CODED,
            Section::Header | Section::Config => ENCODING_PLAIN,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Header => "header",
            Section::Config => "config section",
            Section::Vocabulary => "vocabulary section",
            Section::Weights => "weights section",
        })
    }
}
