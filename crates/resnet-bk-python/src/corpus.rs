//! The text of a run: the name or folder of a corpus, or texts of Python.

use crate::error::exception;
use pyo3::prelude::*;
use resnet_bk::corpus::{self, Corpus, TextSource};
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;

/// How a text is given.
#[derive(FromPyObject)]
pub enum CorpusSource {
    /// A name or a folder.
    Place(String),
    /// Texts with one document a line.
    Texts(Texts),
}

/// The parts of a text.
#[derive(FromPyObject)]
pub struct Texts {
    train: String,
    valid: String,
    test: Option<String>,
}

impl CorpusSource {
    /// The corpus. Texts of Python are split into words and punctuation marks, unless the recipe says
    /// otherwise.
    pub fn load(self) -> PyResult<Corpus> {
        match self {
            Self::Place(place) => corpus::load(&place).map_err(exception),
            Self::Texts(texts) => Ok(Corpus {
                name: "texts of Python".to_owned(),
                train: texts.train.into(),
                valid: texts.valid.into(),
                test: texts.test.map(TextSource::from),
                pretokenizer: Pretokenizer::Words,
                license: None,
            }),
        }
    }
}
