//! Packs a checkpoint into an artifact, and loads either.

use crate::checkpoint::{Checkpoint, CheckpointError, METADATA, ModelState};
use crate::original::{Fault, OriginalError, is_name_of_original, is_torch};
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::artifact::{self, Artifact, ArtifactError, SizeBreakdown, looks_like};
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use resnet_bk_runtime::internal::tensor_id::TensorId;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// First bytes of an artifact.
const ARTIFACT_MAGIC: &[u8] = b"\x89RBK";
/// Longest header of a safetensors file, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Number of bytes that identify a file type.
const START: u64 = 512;

/// Why a model cannot be loaded.
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
    /// The file is a damaged artifact.
    #[error("{path} is not a sound artifact")]
    Artifact {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArtifactError,
    },
    /// The file is a damaged checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file is a checkpoint of the original project, which cannot be loaded without a vocabulary.
    #[error(transparent)]
    Original(#[from] OriginalError),
    /// It is something else.
    #[error("{path} is neither an artifact (.rbk) nor a checkpoint (.safetensors, .pt): it {found}")]
    Neither {
        /// The file.
        path: PathBuf,
        /// What the file looks like.
        found: String,
    },
}

/// The type of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// A packed model.
    Artifact,
    /// A training checkpoint.
    Checkpoint,
    /// A checkpoint of the original project: see [`original`](crate::original).
    Original,
}

impl ModelFile {
    /// Detects the type by the first bytes, or else by the file's name, so that a damaged file is
    /// reported as what it should be.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::Neither`].
    pub fn of(path: &Path) -> Result<Self, LoadError> {
        let unread = |source| LoadError::Read { path: path.to_owned(), source };
        let mut start = Vec::new();
        let mut file = File::open(path).map_err(unread)?;
        (&mut file).take(START).read_to_end(&mut start).map_err(unread)?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (start.as_slice(), extension) {
            (bytes, _) if is_artifact(bytes) => Ok(Self::Artifact),
            (bytes, _) if is_torch(bytes) => Ok(Self::Original),
            (bytes, _) if is_safetensors(bytes) => of_header(file, start).map_err(unread),
            ([_, ..], Some("rbk")) => Ok(Self::Artifact),
            ([_, ..], Some("safetensors")) => Ok(Self::Checkpoint),
            ([_, ..], Some("pt" | "pth")) => Ok(Self::Original),
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

/// Whether a file begins as an artifact does.
pub(crate) fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(ARTIFACT_MAGIC)
}

/// A safetensors file: the length of the JSON header in 64 bits, then the header.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((length, header)) = start.split_first_chunk::<8>() else { return false };
    header.first() == Some(&b'{') && u64::from_le_bytes(*length) <= MAX_HEADER
}

/// Which of the two a safetensors file is. `start` is what was read of the file.
fn of_header(mut file: File, mut start: Vec<u8>) -> std::io::Result<ModelFile> {
    let length = start.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let left = (8 + length).saturating_sub(start.len() as u64);
    (&mut file).take(left).read_to_end(&mut start)?;
    let json = start.get(8..).and_then(|rest| rest.get(..length as usize)).unwrap_or_default();
    let is_own = serde_json::from_slice::<Header>(json).is_ok_and(|header| header.metadata.contains_key(METADATA));
    let names: BTreeMap<String, IgnoredAny> = serde_json::from_slice(json).unwrap_or_default();
    let is_original = !is_own && names.keys().any(|name| is_name_of_original(name));
    Ok(if is_original { ModelFile::Original } else { ModelFile::Checkpoint })
}

/// The part of a safetensors header that is not about tensors.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, IgnoredAny>,
}

/// Packs a model.
///
/// # Errors
/// If values are not finite.
pub fn pack(model: &ModelState) -> Result<Artifact, ArtifactError> {
    let architecture = model.parameters.architecture().clone();
    Artifact::quantize(architecture, Vocabulary::clone(&model.vocabulary), values(&model.parameters))
}

/// Rounds the matrices of a packed float model to int8: 255 levels, and a scale in half precision for
/// every 128 elements. Vectors stay in float32. Nothing is trained.
///
/// # Errors
/// If values are not finite.
///
/// # Panics
/// If the model already has quantizers.
pub fn int8(float: &Artifact) -> Result<Artifact, ArtifactError> {
    const BITS: Option<u8> = Some(8);
    assert!(float.architecture.quantization.is_none(), "a float model");
    let policy = QuantizationPolicy {
        embedding_bits: BITS,
        expert_bits: BITS,
        router_bits: BITS,
        mixer_bits: BITS,
        bias_bits: None,
        activation_bits: None,
        group_size: 128,
        learned: None,
    };
    let architecture = Architecture { quantization: Some(policy), ..float.architecture.clone() };
    let values = float.values();
    Artifact::quantize(architecture, float.vocabulary.clone(), |id| values.get(&id).map(Vec::as_slice))
}

/// Length of the weights section of the packed model, in bytes.
///
/// # Errors
/// If values are not finite.
pub fn weights_bytes(parameters: &Parameters) -> Result<u64, ArtifactError> {
    Ok(weights_breakdown(parameters)?.weights_bytes())
}

/// Bytes of each part of the weights section of the packed model.
///
/// # Errors
/// If values are not finite.
pub fn weights_breakdown(parameters: &Parameters) -> Result<SizeBreakdown, ArtifactError> {
    artifact::weights_breakdown(parameters.architecture(), values(parameters))
}

fn values<'a>(parameters: &'a Parameters) -> impl Fn(TensorId) -> Option<&'a [f32]> {
    |id| parameters.get(id).map(|parameter| parameter.values.as_slice())
}

/// Loads a model: an artifact, or a checkpoint, which is packed in memory. A checkpoint of the
/// original project needs a vocabulary besides: [`OriginalModel`](crate::original::OriginalModel).
///
/// # Errors
/// [`LoadError`], with the file.
pub fn load(path: &Path) -> Result<Artifact, LoadError> {
    let refused = |source| LoadError::Artifact { path: path.to_owned(), source };
    match ModelFile::of(path)? {
        ModelFile::Artifact => Artifact::read(path).map_err(refused),
        ModelFile::Checkpoint => pack(&Checkpoint::read(path)?.model).map_err(refused),
        ModelFile::Original => Err(Fault::NoVocabulary.at(path).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_types_are_detected_by_first_bytes_then_by_name() {
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
        let names = br#"{"model.token_embedding.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
        let original = [&(names.len() as u64).to_le_bytes()[..], names].concat();
        assert_eq!(kind("x.safetensors", &original), Ok(ModelFile::Original));
        assert_eq!(kind("m", b"PK\x03\x04\0\0"), Ok(ModelFile::Original));
        assert_eq!(kind("old.pt", b"\x80\x02\x8a\x0a"), Ok(ModelFile::Original));
        let neither = "is neither an artifact (.rbk) nor a checkpoint (.safetensors, .pt): it";
        assert_eq!(kind("README.md", b"# A title\n"), Err(format!("F/README.md {neither} looks like text")));
        assert_eq!(kind("empty.rbk", b""), Err(format!("F/empty.rbk {neither} is empty")));
        assert_eq!(kind("x.bin", &[0; 40]), Err(format!("F/x.bin {neither} starts as neither does")));
    }
}
