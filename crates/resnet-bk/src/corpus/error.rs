//! What can go wrong between the name of a corpus and its text.

use std::path::PathBuf;

/// Why a corpus cannot be loaded. Each message names the place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// Neither a known name nor a folder.
    #[error(
        "there is no corpus or folder {source_name:?}: use a folder with train.txt and valid.txt, or one of {known}{hint}"
    )]
    Unknown {
        /// What was asked for.
        source_name: String,
        /// The known names.
        known: String,
        /// Folders with a similar name; empty if there are none.
        hint: String,
    },
    /// A path which is not a folder.
    #[error("{path} is a file: pass the folder that holds it, with train.txt and valid.txt in it", path = path.display())]
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
    #[error("{path} is not UTF-8 at line {line}, byte {offset} (0x{byte:02X}): convert it to UTF-8", path = path.display())]
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
    #[error("{path} holds no words in its {bytes} bytes: put one sentence or paragraph a line", path = path.display())]
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
    #[error(
        "corpus {name} comes from the Hugging Face hub, which this build leaves out: build with `--features hub`, or {manual}"
    )]
    HubDisabled {
        /// The corpus.
        name: &'static str,
        /// How to do without the hub.
        manual: String,
    },
    /// No cache folder is known.
    #[error("no folder to keep downloads in: set HF_HOME to one (there is no home directory)")]
    NoCacheFolder,
    /// A file could not be downloaded.
    #[error("cannot download {file} of {dataset} from {endpoint}: {reason}; if you are offline, {manual}")]
    Download {
        /// The file within the data set.
        file: String,
        /// The data set on the hub.
        dataset: &'static str,
        /// Where the hub was looked for.
        endpoint: String,
        /// What the client said.
        reason: String,
        /// How to do without the hub.
        manual: String,
    },
    /// A split of a hub corpus holds no text.
    #[error("the {split} text of {name} is empty: take more rows of it")]
    NothingOnASide {
        /// The corpus.
        name: &'static str,
        /// `train`, `valid` or `test`.
        split: &'static str,
    },
    /// A downloaded file is not what it should be.
    #[error("{path} is not a Parquet file with a text column: {reason}; delete it to download it again", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
}
