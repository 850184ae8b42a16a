//! The checkpoint file: a safetensors file in which checksums cover every byte.
//!
//! ```text
//! tensors    NAME                   F32  parameters; names and shapes of `Architecture::tensors`
//!            mask/NAME              U8   0 for a pruned weight, else 1; only for pruned parameters
//!            first/NAME second/NAME F32  Adam moments         only in an unfinished stage,
//!            steps/NAME             U64  optimizer steps [1]  after the parameter's first step
//!            average/NAME           F32  averaged weights, in an unfinished stage that has them
//!            auxiliary/NAME         F32  parameters of the running stage alone, with moments
//!            vocabulary             U8   the words as UTF-8, one per line
//!            metadata-crc32         U32  CRC-32 of the metadata's JSON, [1]
//! metadata   resnet-bk              JSON: `Metadata`, with the CRC-32 of each tensor by name
//! ```
//!
//! The rest of the header (names, types, shapes and offsets of the tensors) is compared with what
//! the architecture requires. So a file with any changed bit is refused.
//!
//! Version 1 had no checksums. Version 2 had other names of recipe keys and of scales. Version 3 had
//! no averages and is read. Files are replaced atomically, so an interruption leaves the previous checkpoint intact.

use super::agreement::check_agreement;
use super::error::ContentError;
use super::reader::Reader;
use super::{Checkpoint, CheckpointError, Compression, History, ModelState, Progress, TrainingState};
use crate::config::ModelConfig;
use crate::parameters::{Parameter, Parameters};
use crate::ranks::Ranks;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::replace_file::replace_file;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer, Vocabulary};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Key of the metadata.
pub(crate) const METADATA: &str = "resnet-bk";
/// Name of the tensor with the metadata's checksum. It is a tensor because the order of a second
/// metadata key would not be fixed.
pub(super) const METADATA_CHECKSUM: &str = "metadata-crc32";
/// Prefix of parameters that are not in the architecture.
pub(super) const AUXILIARY: &str = "auxiliary/";
/// Version of the format.
pub(super) const VERSION: u32 = 4;
/// The oldest version that is read.
pub(super) const OLDEST: u32 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    version: u32,
    config: ModelConfig,
    architecture: Architecture,
    pretokenizer: Pretokenizer,
    #[serde(default)]
    blank_lines: BlankLines,
    compression: Compression,
    #[serde(flatten)]
    history: History,
    progress: Option<Progress>,
    /// CRC-32 of the bytes of each tensor.
    checksums: BTreeMap<String, u32>,
}

/// A tensor to write.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Checkpoint {
    /// Replaces the file atomically.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; an existing file is then unchanged.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let written = self.to_bytes().and_then(|bytes| {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            replace_file(path, &bytes)
        });
        written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`CheckpointError`] if the file is missing, damaged, or not a checkpoint.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(&read_bytes(path)?, path)
    }

    /// Reads a file of rank 0 on every rank.
    ///
    /// # Errors
    /// As [`read`](Self::read), on rank 0; on the others [`CheckpointError::Leader`] then.
    pub fn read_on(ranks: &Ranks, path: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(&ranks.share_bytes(|| read_bytes(path))?, path)
    }

    /// Replaces the file atomically, on rank 0. The others wait.
    ///
    /// # Errors
    /// As [`write`](Self::write), on rank 0; on the others [`CheckpointError::Leader`] then.
    pub fn write_on_rank_0(&self, path: &Path) -> Result<(), CheckpointError> {
        self.model.parameters.ranks().share_result(|| self.write(path))
    }

    /// Writes the file of an unfinished stage, on rank 0.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(crate) fn write_progress(&mut self, path: &Path, progress: &Progress) -> Result<(), CheckpointError> {
        self.training.progress = Some(progress.clone());
        let written = self.write_on_rank_0(path);
        self.training.progress = None;
        written
    }

    /// Reads the bytes of a file. `path` names it in errors.
    pub(crate) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let format = |source| CheckpointError::Format { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
        let metadata = read_metadata(header.metadata().as_ref(), &tensors).map_err(|error| error.at(path))?;
        Self::from_tensors(&tensors, metadata).map_err(|error| error.at(path))
    }

    /// The bytes of the file.
    pub(crate) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let tensors = self.tensors();
        let json = serde_json::to_string(&self.metadata(&tensors))?;
        assemble(&json, &tensors)
    }

    pub(super) fn metadata(&self, tensors: &[Tensor]) -> Metadata {
        Metadata {
            version: VERSION,
            config: self.model.config.clone(),
            architecture: self.model.parameters.architecture().clone(),
            pretokenizer: self.model.vocabulary.pretokenizer(),
            blank_lines: self.model.vocabulary.blank_lines(),
            compression: self.model.compression.clone(),
            history: self.history.clone(),
            progress: self.training.progress.clone(),
            checksums: tensors.iter().map(|tensor| (tensor.name.clone(), crc32fast::hash(&tensor.bytes))).collect(),
        }
    }

    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let is_unfinished = self.training.progress.is_some();
        let mut tensors = Vec::new();
        let mut push = |name: String, dtype, shape: &[usize], bytes| {
            tensors.push(Tensor { name, dtype, shape: shape.to_vec(), bytes });
        };
        let float = |values: &[f32]| {
            let mut bytes = vec![0; 4 * values.len()];
            bytes.as_chunks_mut().0.iter_mut().zip(values).for_each(|(bytes, x)| *bytes = x.to_le_bytes());
            bytes
        };
        let mut push_parameter = |prefix: &str, parameter: &Parameter| {
            let Parameter { spec, values, mask, moments, average } = parameter;
            let name = format!("{prefix}{}", spec.id);
            push(name.clone(), Dtype::F32, &spec.shape, float(values));
            if is_unfinished && !moments.is_empty() {
                push(format!("first/{name}"), Dtype::F32, &spec.shape, float(&moments.first));
                push(format!("second/{name}"), Dtype::F32, &spec.shape, float(&moments.second));
                push(format!("steps/{name}"), Dtype::U64, &[1], moments.step_count().to_le_bytes().to_vec());
            }
            if is_unfinished && !average.is_empty() {
                push(format!("average/{name}"), Dtype::F32, &spec.shape, float(average));
            }
            if let Some(mask) = mask {
                push(format!("mask/{name}"), Dtype::U8, &spec.shape, mask.iter().map(|&keep| u8::from(keep)).collect());
            }
        };
        self.model.parameters.iter().for_each(|parameter| push_parameter("", parameter));
        let auxiliary = self.training.auxiliary.iter().filter(|_| is_unfinished);
        auxiliary.for_each(|parameter| push_parameter(AUXILIARY, parameter));
        let words = self.model.vocabulary.words().join("\n").into_bytes();
        push("vocabulary".to_owned(), Dtype::U8, &[words.len()], words);
        tensors
    }

    fn from_tensors(tensors: &SafeTensors, metadata: Metadata) -> Result<Self, ContentError> {
        metadata.architecture.validate()?;
        check_agreement(&metadata.config, &metadata.architecture)?;
        let mut reader = Reader::new(tensors, &metadata.checksums)?;
        let is_unfinished = metadata.progress.is_some();
        let mut failure = None;
        let parameters = Parameters::from_found(metadata.architecture, |spec| {
            reader.parameter("", spec, is_unfinished).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let parameters = parameters?;
        let mut auxiliary = Vec::new();
        if is_unfinished {
            for spec in reader.feature_projections(parameters.architecture().n_layers()) {
                auxiliary.extend(reader.parameter(AUXILIARY, &spec, true)?);
            }
        }
        let words = reader.words(parameters.architecture().vocab_size)?;
        reader.finish()?;
        let vocabulary = Vocabulary::new(words, metadata.pretokenizer)?.with_blank_lines(metadata.blank_lines);
        Ok(Self {
            model: ModelState {
                config: metadata.config,
                parameters,
                vocabulary: Arc::new(vocabulary),
                compression: metadata.compression,
            },
            training: TrainingState { auxiliary, progress: metadata.progress },
            history: metadata.history,
        })
    }
}

/// The bytes of a checkpoint's file.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })
}

/// Serializes tensors with a metadata JSON that holds their checksums.
pub(super) fn assemble(json: &str, tensors: &[Tensor]) -> std::io::Result<Vec<u8>> {
    let checksum = Tensor {
        name: METADATA_CHECKSUM.to_owned(),
        dtype: Dtype::U32,
        shape: vec![1],
        bytes: crc32fast::hash(json.as_bytes()).to_le_bytes().to_vec(),
    };
    let views = tensors
        .iter()
        .chain([&checksum])
        .map(|tensor| Ok((&tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()
        .map_err(std::io::Error::other)?;
    safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), json.to_owned())])))
        .map_err(std::io::Error::other)
}

fn read_metadata(found: Option<&HashMap<String, String>>, tensors: &SafeTensors) -> Result<Metadata, ContentError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let json = found.and_then(|map| map.get(METADATA)).ok_or(ContentError::NoMetadata)?;
    let checksum = tensors.tensor(METADATA_CHECKSUM).ok();
    if checksum.as_ref().is_some_and(|view| view.data() != crc32fast::hash(json.as_bytes()).to_le_bytes()) {
        return Err(ContentError::Checksum("the metadata".to_owned()));
    }
    let Version { version } = serde_json::from_str(json)?;
    if version > VERSION {
        return Err(ContentError::Newer(version));
    }
    if version < OLDEST {
        return Err(ContentError::Older(version));
    }
    if checksum.is_none() {
        return Err(ContentError::NoChecksum);
    }
    Ok(serde_json::from_str(json)?)
}
