//! The CONFIG section: compact JSON, `{"architecture":{...},"pretokenizer":"words"}`, with
//! `"blank_lines":"kept"` where blank lines are kept.

use super::error::ArtifactError;
use crate::architecture::Architecture;
use crate::tokenizer::{BlankLines, Pretokenizer, Vocabulary};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config<'a> {
    architecture: Cow<'a, Architecture>,
    pretokenizer: Pretokenizer,
    #[serde(default, skip_serializing_if = "BlankLines::are_dropped")]
    blank_lines: BlankLines,
}

pub(super) fn encode(architecture: &Architecture, vocabulary: &Vocabulary) -> Result<Vec<u8>, ArtifactError> {
    // JSON has no NaN or infinity. Only a valid architecture round-trips.
    architecture.validate()?;
    let config = Config {
        architecture: Cow::Borrowed(architecture),
        pretokenizer: vocabulary.pretokenizer(),
        blank_lines: vocabulary.blank_lines(),
    };
    serde_json::to_vec(&config).map_err(ArtifactError::Config)
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Architecture, Pretokenizer, BlankLines), ArtifactError> {
    let config: Config<'static> = serde_json::from_slice(bytes).map_err(ArtifactError::Config)?;
    config.architecture.validate()?;
    Ok((config.architecture.into_owned(), config.pretokenizer, config.blank_lines))
}
