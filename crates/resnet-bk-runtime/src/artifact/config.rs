//! The CONFIG section: compact JSON, `{"architecture":{...},"pretokenizer":"words"}`.

use super::error::ArtifactError;
use crate::architecture::Architecture;
use crate::tokenizer::Pretokenizer;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config<'a> {
    architecture: Cow<'a, Architecture>,
    pretokenizer: Pretokenizer,
}

pub(super) fn encode(architecture: &Architecture, pretokenizer: Pretokenizer) -> Result<Vec<u8>, ArtifactError> {
    // JSON has no NaN or infinity: only a valid architecture comes back as it was.
    architecture.validate()?;
    let config = Config { architecture: Cow::Borrowed(architecture), pretokenizer };
    serde_json::to_vec(&config).map_err(ArtifactError::Config)
}

pub(super) fn decode(bytes: &[u8]) -> Result<(Architecture, Pretokenizer), ArtifactError> {
    let config: Config<'static> = serde_json::from_slice(bytes).map_err(ArtifactError::Config)?;
    config.architecture.validate()?;
    Ok((config.architecture.into_owned(), config.pretokenizer))
}
