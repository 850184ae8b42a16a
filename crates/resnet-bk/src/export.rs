//! From a checkpoint to the artifact that runs.

use crate::checkpoint::{Checkpoint, CheckpointError};
use resnet_bk_runtime::artifact::{Artifact, ArtifactError};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// First bytes of an artifact.
const ARTIFACT_MAGIC: &[u8] = b"\x89RBK";

/// A model that can not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file can not be read.
    #[error("can not read the model {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is an artifact, but not a sound one.
    #[error("{path} is not a sound artifact")]
    Artifact {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArtifactError,
    },
    /// It is not a sound checkpoint either.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Packs a checkpoint's model.
///
/// # Errors
/// Values that are not finite.
pub fn pack(checkpoint: &Checkpoint) -> Result<Artifact, ArtifactError> {
    let parameters = &checkpoint.parameters;
    let values = |name: &str| parameters.get(name).map(|parameter| parameter.values.as_slice());
    Artifact::quantize(parameters.architecture().clone(), checkpoint.vocabulary.clone(), values)
}

/// Reads a model: an artifact, or a checkpoint, which is packed in memory.
///
/// # Errors
/// [`LoadError`], naming the file.
pub fn load(path: &Path) -> Result<Artifact, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let artifact = |source| LoadError::Artifact { path: path.to_owned(), source };
    if bytes.starts_with(ARTIFACT_MAGIC) || path.extension().is_some_and(|extension| extension == "rbk") {
        return Artifact::from_bytes(&bytes).map_err(artifact);
    }
    pack(&Checkpoint::read(path)?).map_err(artifact)
}
