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
use super::{Corpus, CorpusError, HUB_CORPORA, HubCorpus};
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use repository::Repository;
use std::fs::File;
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
            Some(corpus) => load(corpus, self),
            None => Err(CorpusError::Unknown {
                source_name: name.to_owned(),
                known: HUB_CORPORA.map(|corpus| corpus.name).to_vec(),
                similar: Vec::new(),
            }),
        }
    }
}

/// Downloads the files that are not in the cache and joins the rows.
pub(super) fn load(corpus: &HubCorpus, settings: &HubSettings) -> Result<Corpus, CorpusError> {
    let endpoint = settings.endpoint.as_deref();
    let repository = Repository::new(endpoint.unwrap_or(HUGGING_FACE), &settings.cache, corpus.dataset);
    let get = |file: &str| {
        repository.get(file).map_err(|error| CorpusError::Download {
            file: file.to_owned(),
            origin: corpus.origin(),
            endpoint: endpoint.unwrap_or("the Hugging Face hub").to_owned(),
            reason: error.to_string(),
        })
    };
    let [mut train, mut valid, mut test] = [const { String::new() }; 3];
    for file in corpus.train {
        for_each_text(&get(file)?, settings.row_limit, |text| {
            let part = match corpus.held_out {
                Some(_) => &mut train,
                None => match side(fingerprint(text), HELD_OUT) {
                    Side::Train => &mut train,
                    Side::Valid => &mut valid,
                    Side::Test => &mut test,
                },
            };
            push_lines(part, text);
        })?;
    }
    for (file, part) in corpus.held_out.into_iter().flatten().zip([&mut valid, &mut test]) {
        for_each_text(&get(file)?, None, |text| push_lines(part, text))?;
    }
    for (split, text) in [("train", &train), ("valid", &valid), ("test", &test)] {
        if text.trim().is_empty() {
            return Err(CorpusError::NothingOnASide { name: corpus.name, split });
        }
    }
    Ok(Corpus {
        name: corpus.name.to_owned(),
        train,
        valid,
        test: Some(test),
        pretokenizer: corpus.pretokenizer,
        license: Some(corpus.license.to_owned()),
    })
}

fn push_lines(part: &mut String, text: &str) {
    part.push_str(text);
    if !text.ends_with('\n') {
        part.push('\n');
    }
}

/// Calls `visit` with the `text` column of the first `limit` rows.
fn for_each_text(path: &Path, limit: Option<usize>, visit: impl FnMut(&str)) -> Result<(), CorpusError> {
    let file = File::open(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
    read_text_column(file, limit.unwrap_or(usize::MAX), visit)
        .map_err(|error| CorpusError::Parquet { path: path.to_owned(), reason: error.to_string() })
}

fn read_text_column(file: File, limit: usize, mut visit: impl FnMut(&str)) -> Result<(), ParquetError> {
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
                visit(value.as_utf8()?);
            }
            definition_levels.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
