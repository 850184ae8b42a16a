//! From a checkpoint to the artifact that runs.

use crate::checkpoint::{Checkpoint, CheckpointError, ModelState};
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::artifact::{self, Artifact, ArtifactError, looks_like};
use resnet_bk_runtime::internal::tensor_id::TensorId;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// First bytes of an artifact.
const ARTIFACT_MAGIC: &[u8] = b"\x89RBK";
/// Longest header that a safetensors file may have, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes by which a kind of file is told.
const START: u64 = 512;

/// A model that cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the model {path}")]
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
    /// It is a checkpoint, but not a sound one.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is something else.
    #[error("{path} is neither an artifact (.rbk) nor a checkpoint (.safetensors): it {found}")]
    Neither {
        /// The file.
        path: PathBuf,
        /// What shows of it.
        found: String,
    },
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// A packed model.
    Artifact,
    /// A model that training can go on from.
    Checkpoint,
}

impl ModelFile {
    /// By the file's first bytes, and where they are of no known kind by its name: a damaged file
    /// is reported as what it should be.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::Neither`].
    pub fn of(path: &Path) -> Result<Self, LoadError> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(START).read_to_end(&mut start))
            .map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (start.as_slice(), extension) {
            (bytes, _) if bytes.starts_with(ARTIFACT_MAGIC) => Ok(Self::Artifact),
            (bytes, _) if is_safetensors(bytes) => Ok(Self::Checkpoint),
            ([_, ..], Some("rbk")) => Ok(Self::Artifact),
            ([_, ..], Some("safetensors")) => Ok(Self::Checkpoint),
            (bytes, _) => {
                let found = match looks_like(bytes) {
                    Some(kind) => format!("looks like {kind}"),
                    None if bytes.is_empty() => "is empty".to_owned(),
                    None => "starts as neither does".to_owned(),
                };
                Err(LoadError::Neither { path: path.to_owned(), found })
            }
        }
    }
}

/// Length of the JSON header in 64 bits, then the header.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((length, header)) = start.split_first_chunk::<8>() else { return false };
    header.first() == Some(&b'{') && u64::from_le_bytes(*length) <= MAX_HEADER
}

/// Packs a model.
///
/// # Errors
/// Values that are not finite.
pub fn pack(model: &ModelState) -> Result<Artifact, ArtifactError> {
    let architecture = model.parameters.architecture().clone();
    Artifact::quantize(architecture, Vocabulary::clone(&model.vocabulary), values(&model.parameters))
}

/// Length of the section of weights that a model would be packed into, in bytes.
///
/// # Errors
/// Values that are not finite.
pub fn weights_bytes(parameters: &Parameters) -> Result<u64, ArtifactError> {
    artifact::weights_bytes(parameters.architecture(), values(parameters))
}

fn values<'a>(parameters: &'a Parameters) -> impl Fn(TensorId) -> Option<&'a [f32]> {
    |id| parameters.get(id).map(|parameter| parameter.values.as_slice())
}

/// Reads a model: an artifact, or a checkpoint, which is packed in memory.
///
/// # Errors
/// [`LoadError`], naming the file.
pub fn load(path: &Path) -> Result<Artifact, LoadError> {
    let refused = |source| LoadError::Artifact { path: path.to_owned(), source };
    match ModelFile::of(path)? {
        ModelFile::Artifact => Artifact::read(path).map_err(refused),
        ModelFile::Checkpoint => pack(&Checkpoint::read(path)?.model).map_err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes_and_then_by_their_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let kind = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            ModelFile::of(&path).map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "F"))
        };
        let checkpoint = [&2u64.to_le_bytes()[..], b"{}"].concat();
        assert_eq!(kind("a", b"\x89RBK\r\n\x1a\n"), Ok(ModelFile::Artifact));
        assert_eq!(kind("a.txt", &checkpoint), Ok(ModelFile::Checkpoint));
        assert_eq!(kind("cut.rbk", b"\x89RB"), Ok(ModelFile::Artifact));
        assert_eq!(kind("damaged.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff{}"), Ok(ModelFile::Checkpoint));
        let neither = "is neither an artifact (.rbk) nor a checkpoint (.safetensors): it";
        assert_eq!(kind("README.md", b"# A title\n"), Err(format!("F/README.md {neither} looks like text")));
        assert_eq!(kind("empty.rbk", b""), Err(format!("F/empty.rbk {neither} is empty")));
        assert_eq!(kind("x.bin", &[0; 40]), Err(format!("F/x.bin {neither} starts as neither does")));
        assert_eq!(kind("m.pt", b"PK\x03\x04\0\0"), Err(format!("F/m.pt {neither} looks like a PyTorch zip")));
    }
}
