//! Errors of loading a corpus.

use super::HubFolder;
use std::path::PathBuf;

/// Why a corpus cannot be loaded. Each message names the place.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The source is neither a known name nor a folder.
    #[error("there is no corpus or folder {source_name:?}")]
    Unknown {
        /// The requested source.
        source_name: String,
        /// The known names.
        known: Vec<&'static str>,
        /// Known names and corpus folders with similar names.
        similar: Vec<String>,
    },
    /// The path is not a folder.
    #[error("{path} is a file, but a corpus is a folder", path = path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder lacks a file.
    #[error("{path} is missing: a corpus folder holds train.txt, valid.txt and optionally test.txt", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// A file is another one than when the corpus was loaded.
    #[error("{path} changed while it was read", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file is not UTF-8.
    #[error("{path} is not UTF-8 at line {line}, byte {offset} (0x{byte:02X})", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first invalid byte, from 1.
        line: usize,
        /// Its offset in the file, from 0.
        offset: usize,
        /// Its value.
        byte: u8,
    },
    /// A file contains no words.
    #[error("{path} holds no words in its {bytes} bytes", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The training text contains no words.
    #[error("the training text holds no words in its {bytes} bytes: a vocabulary needs at least one")]
    NoWords {
        /// Its length.
        bytes: u64,
    },
    /// The requested vocabulary is too small for `<unk>` and `<eos>`.
    #[error("a vocabulary of {size} words is too small: at least 2 are needed, <unk> and <eos>")]
    VocabularyTooSmall {
        /// The size.
        size: usize,
    },
    /// The words do not form a valid vocabulary.
    #[error(transparent)]
    Vocabulary(#[from] resnet_bk_runtime::internal::tokenizer::VocabularyError),
    /// This build has no support for the hub.
    #[error("corpus {name} comes from the Hugging Face hub, which this build leaves out (feature `hub`)")]
    HubDisabled {
        /// The corpus.
        name: &'static str,
        /// Its origin on the hub.
        origin: HubFolder,
    },
    /// There is no folder for downloads.
    #[error("no folder to keep downloads in: HF_HOME is not set, and there is no home directory")]
    NoCacheFolder,
    /// A file could not be downloaded.
    #[error("cannot download {file} of {} from {endpoint}: {reason}", origin.dataset)]
    Download {
        /// The file within the data set.
        file: String,
        /// Its origin on the hub.
        origin: HubFolder,
        /// Address of the hub.
        endpoint: String,
        /// Error of the client.
        reason: String,
    },
    /// A split of a hub corpus contains no text. Perhaps the row limit is too small.
    #[error("the {split} text of {name} is empty")]
    NothingOnASide {
        /// The corpus.
        name: &'static str,
        /// `train`, `valid` or `test`.
        split: &'static str,
    },
    /// A downloaded file is not a valid Parquet file.
    #[error("{path} is not a Parquet file with a text column: {reason}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Error of the reader.
        reason: String,
    },
}
