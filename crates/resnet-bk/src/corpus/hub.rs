//! Corpora from the Hugging Face hub.
//!
//! ```text
//! <endpoint>/datasets/<data set>/resolve/main/<file>.parquet   column `text`: line or document
//! <cache>/datasets--<owner>--<name>/snapshots/<commit>/<file>  the cache, shared
//! ```
//!
//! A file in the cache is not requested again. The data sets are public, so no token is sent.

mod download;
mod partial;
mod repository;

use super::split::{Side, fingerprint, side};
use super::{Corpus, CorpusError, HUB_CORPORA, HubCorpus, IN_MEMORY, TextSource};
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use repository::Repository;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Documents per 1,000 that are held out for each of valid and test, if the hub only has a training
/// file.
const HELD_OUT: u64 = 5;
/// The Hugging Face hub.
const HUGGING_FACE: &str = "https://huggingface.co";
/// Rows read at a time.
const ROWS: usize = 1_024;

/// Address of the hub and folder of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Address of the hub; `None` for the Hugging Face hub.
    pub endpoint: Option<String>,
    /// Folder of the downloads.
    pub cache: PathBuf,
    /// Rows to use of each training file; `None` for all.
    pub row_limit: Option<usize>,
}

impl HubSettings {
    /// Reads `HF_ENDPOINT` and `HF_HOME`. The defaults are those of other hub clients: the Hugging
    /// Face hub and `~/.cache/huggingface`.
    ///
    /// # Errors
    ///
    /// If neither `HF_HOME` nor a home directory is set.
    pub fn from_env() -> Result<Self, CorpusError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = variable("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".cache").join("huggingface")))
            .ok_or(CorpusError::NoCacheFolder)?;
        let endpoint = variable("HF_ENDPOINT").map(|value| value.to_string_lossy().trim_end_matches('/').to_owned());
        Ok(Self { endpoint, cache: home.join("hub"), row_limit: None })
    }

    /// Loads `wikitext-2`, `wikitext-103` or `openwebtext`.
    ///
    /// For OpenWebText it uses the first of 80 shards (a download of 303 MB with 100,173
    /// documents). By a hash of the document, it holds out five of 1,000 documents for each of
    /// valid and test.
    ///
    /// # Errors
    ///
    /// If there is no such corpus, or a file is neither in the cache nor available at the endpoint.
    pub fn load(&self, name: &str) -> Result<Corpus, CorpusError> {
        match HUB_CORPORA.iter().find(|corpus| corpus.name == name) {
            Some(corpus) => load(corpus, self, IN_MEMORY),
            None => Err(CorpusError::Unknown {
                source_name: name.to_owned(),
                known: HUB_CORPORA.map(|corpus| corpus.name).to_vec(),
                similar: Vec::new(),
            }),
        }
    }
}

/// Downloads the files that are not in the cache. Texts whose files have at most `in_memory` bytes
/// are read; longer ones are read when they are needed.
pub(super) fn load(corpus: &HubCorpus, settings: &HubSettings, in_memory: u64) -> Result<Corpus, CorpusError> {
    let endpoint = settings.endpoint.as_deref();
    let repository = Repository::new(endpoint.unwrap_or(HUGGING_FACE), &settings.cache, corpus.dataset);
    let get = |file: &&str| {
        repository.get(file).map_err(|error| CorpusError::Download {
            file: (*file).to_owned(),
            origin: corpus.origin(),
            endpoint: endpoint.unwrap_or("the Hugging Face hub").to_owned(),
            reason: error.to_string(),
        })
    };
    let train = corpus.train.iter().map(get).collect::<Result<Vec<PathBuf>, _>>()?;
    let of_train = |side| Rows { files: train.clone(), limit: settings.row_limit, side };
    let [train, valid, test] = match corpus.held_out {
        Some([valid, test]) => {
            let whole = |file| Rows { files: vec![file], limit: None, side: None };
            [of_train(None), whole(get(&valid)?), whole(get(&test)?)]
        }
        None => [Side::Train, Side::Valid, Side::Test].map(|side| of_train(Some(side))),
    };
    let text = |split, rows| {
        let text = TextSource::rows(rows, in_memory)?;
        if has_words(&text)? { Ok(text) } else { Err(CorpusError::NothingOnASide { name: corpus.name, split }) }
    };
    Ok(Corpus {
        name: corpus.name.to_owned(),
        train: text("train", train)?,
        valid: text("valid", valid)?,
        test: Some(text("test", test)?),
        pretokenizer: corpus.pretokenizer,
        license: Some(corpus.license.to_owned()),
    })
}

/// Whether a text has words. Reads up to the first one.
fn has_words(text: &TextSource) -> Result<bool, CorpusError> {
    let mut found = false;
    text.for_each_line(|line| {
        found = !line.trim().is_empty();
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// The rows of Parquet files that are on one side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    files: Vec<PathBuf>,
    /// Rows to use of each file, both sides counted; `None` for all.
    limit: Option<usize>,
    /// `None` for all rows.
    side: Option<Side>,
}

impl Rows {
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Which rows of the files are used, for a key of the cache.
    pub(super) fn selection(&self) -> String {
        format!("{:?} of {HELD_OUT} in 1000, limit {:?}", self.side, self.limit)
    }

    /// Calls `visit` for every line of every row until it breaks. A row ends with a line break,
    /// whether it has one or not.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is not a Parquet file with a text column.
    pub(super) fn for_each_line(&self, mut visit: impl FnMut(&str) -> ControlFlow<()>) -> Result<(), CorpusError> {
        for path in &self.files {
            let flow = for_each_text(path, self.limit, |text| {
                if self.side.is_some_and(|wanted| side(fingerprint(text), HELD_OUT) != wanted) {
                    return ControlFlow::Continue(());
                }
                let text = text.strip_suffix('\n').unwrap_or(text);
                text.split('\n').try_for_each(|line| visit(line.strip_suffix('\r').unwrap_or(line)))
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Calls `visit` with the `text` column of the first `limit` rows until it breaks.
fn for_each_text(
    path: &Path,
    limit: Option<usize>,
    visit: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, CorpusError> {
    let file = File::open(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
    read_text_column(file, limit.unwrap_or(usize::MAX), visit)
        .map_err(|error| CorpusError::Parquet { path: path.to_owned(), reason: error.to_string() })
}

fn read_text_column(
    file: File,
    limit: usize,
    mut visit: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| column.path().string() == "text");
    let column = column.ok_or_else(|| ParquetError::General("there is no column `text`".to_owned()))?;
    let mut left = limit;
    let (mut values, mut definition_levels) = (Vec::new(), Vec::new());
    for row_group in 0..reader.num_row_groups() {
        let row_group = reader.get_row_group(row_group)?;
        let ColumnReader::ByteArrayColumnReader(mut rows) = row_group.get_column_reader(column)? else {
            return Err(ParquetError::General("the column `text` is not made of strings".to_owned()));
        };
        while left > 0 {
            let (read, _, _) = rows.read_records(left.min(ROWS), Some(&mut definition_levels), None, &mut values)?;
            if read == 0 {
                break;
            }
            left -= read;
            // A null text has a definition level but no value.
            for value in values.drain(..) {
                if visit(value.as_utf8()?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            definition_levels.clear();
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests;
