//! What can go wrong between the name of a corpus and its text.

use super::HubFolder;
use std::path::PathBuf;

/// Why a corpus cannot be loaded. Each message names the place.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// Neither a known name nor a folder.
    #[error("there is no corpus or folder {source_name:?}")]
    Unknown {
        /// What was asked for.
        source_name: String,
        /// The known names.
        known: Vec<&'static str>,
        /// Known names and corpus folders that are like it.
        similar: Vec<String>,
    },
    /// A path which is not a folder.
    #[error("{path} is a file, but a corpus is a folder", path = path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A folder without one of its files.
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
        /// What the system said.
        source: std::io::Error,
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
    /// A file holds no text.
    #[error("{path} holds no words in its {bytes} bytes", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A text whose vocabulary was asked for holds no words.
    #[error("the training text holds no words in its {bytes} bytes: a vocabulary needs at least one")]
    NoWords {
        /// Its length.
        bytes: usize,
    },
    /// A vocabulary too small for the two words that every vocabulary has.
    #[error("a vocabulary of {size} words is too small: at least 2 are needed, <unk> and <eos>")]
    VocabularyTooSmall {
        /// The size.
        size: usize,
    },
    /// The words of a text do not make a vocabulary.
    #[error(transparent)]
    Vocabulary(#[from] resnet_bk_runtime::internal::tokenizer::VocabularyError),
    /// The build leaves the hub out.
    #[error("corpus {name} comes from the Hugging Face hub, which this build leaves out (feature `hub`)")]
    HubDisabled {
        /// The corpus.
        name: &'static str,
        /// Where the hub has it.
        origin: HubFolder,
    },
    /// No cache folder is known.
    #[error("no folder to keep downloads in: HF_HOME is not set, and there is no home directory")]
    NoCacheFolder,
    /// A file could not be downloaded.
    #[error("cannot download {file} of {} from {endpoint}: {reason}", origin.dataset)]
    Download {
        /// The file within the data set.
        file: String,
        /// Where the hub has it.
        origin: HubFolder,
        /// Where the hub was looked for.
        endpoint: String,
        /// What the client said.
        reason: String,
    },
    /// A split of a hub corpus holds no text: of a training file, perhaps too few rows were taken.
    #[error("the {split} text of {name} is empty")]
    NothingOnASide {
        /// The corpus.
        name: &'static str,
        /// `train`, `valid` or `test`.
        split: &'static str,
    },
    /// A downloaded file is not what it should be.
    #[error("{path} is not a Parquet file with a text column: {reason}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
}
