//! Checkpoints of Project ResNet-BK.

use crate::array::{elements, reshaped};
use crate::corpus::CorpusSource;
use crate::error::{argument, exception};
use crate::language_model::LanguageModel;
use pyo3::prelude::*;
use resnet_bk::checkpoint::{Checkpoint, ModelState};
use resnet_bk::corpus::TextSource;
use resnet_bk::export::{ModelFile, pack};
use resnet_bk::original::{self, Fault, OriginalSettings, OriginalWords};
use resnet_bk::pipeline::GivenModel;
use std::path::PathBuf;

/// A model of the original project, with its words where they are known.
#[pyclass(frozen, module = "resnet_bk")]
pub struct OriginalModel {
    model: original::OriginalModel,
    /// The model with words. Its rows may be in another order: `<unk>` is the first.
    state: Option<ModelState>,
}

/// Reads a checkpoint. Its words come from `vocabulary`, or else from the training text of `corpus`.
#[pyfunction]
#[pyo3(signature = (path, vocabulary, corpus, top_k, v_max, feature_clamp))]
pub fn load_original(
    py: Python<'_>,
    path: PathBuf,
    vocabulary: Option<PathBuf>,
    corpus: Option<CorpusSource>,
    top_k: Option<usize>,
    v_max: Option<f32>,
    feature_clamp: Option<f32>,
) -> PyResult<OriginalModel> {
    py.detach(|| {
        let settings = OriginalSettings { top_k, v_max, feature_clamp };
        let model = original::OriginalModel::read(&path, &settings).map_err(exception)?;
        let corpus = corpus.map(CorpusSource::load).transpose()?;
        let words = match (&vocabulary, &corpus) {
            (Some(_), Some(_)) => {
                return Err(argument("vocabulary and corpus are both given, but words have one source"));
            }
            (Some(file), None) => Some(OriginalWords::File(file)),
            (None, Some(corpus)) => Some(OriginalWords::TrainingText(&corpus.train)),
            (None, None) => None,
        };
        let state = words.map(|words| model.clone().with_words(words)).transpose().map_err(exception)?;
        Ok(OriginalModel { model, state })
    })
}

/// Ids as an array of Python: `u32` in row-major order, the length of a sequence, and the shape.
fn ids(array: &Bound<'_, PyAny>) -> PyResult<(Vec<u32>, usize, Vec<usize>)> {
    let (ids, shape) = elements::<i64>(array)?;
    let length = *shape.last().ok_or_else(|| argument("ids are one number, but must be an array [..., T]"))?;
    let negative = |_| argument("ids are indices of words: none may be negative or above 4294967295");
    Ok((ids.into_iter().map(u32::try_from).collect::<Result<_, _>>().map_err(negative)?, length, shape))
}

#[pymethods]
impl OriginalModel {
    fn logits<'py>(&self, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (ids, length, shape) = ids(array)?;
        let logits = array.py().detach(|| self.model.logits(&ids, length)).map_err(exception)?;
        reshaped(array.py(), &logits, &[shape, vec![self.vocabulary_size()]].concat())
    }

    fn features<'py>(&self, array: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (ids, length, shape) = ids(array)?;
        let blocks = array.py().detach(|| self.model.features(&ids, length)).map_err(exception)?;
        let shape = [shape, vec![2]].concat();
        blocks.iter().map(|features| reshaped(array.py(), features, &shape)).collect()
    }

    fn pack(&self, py: Python<'_>) -> PyResult<LanguageModel> {
        let state = self.state.as_ref().ok_or_else(|| exception(Fault::NoVocabulary.at(&self.model.path)))?;
        let bytes = py.detach(|| pack(state)?.to_bytes()).map_err(exception)?;
        LanguageModel::of_artifact(py, bytes)
    }

    #[getter]
    fn words(&self) -> Option<Vec<String>> {
        self.state.as_ref().map(|state| state.vocabulary.words().to_vec())
    }

    #[getter]
    fn vocabulary_size(&self) -> usize {
        self.model.config.vocab_size
    }

    #[getter]
    fn d_model(&self) -> usize {
        self.model.config.d_model
    }

    #[getter]
    fn n_layers(&self) -> usize {
        self.model.config.n_layers
    }

    #[getter]
    fn window(&self) -> usize {
        self.model.config.n_seq
    }

    #[getter]
    fn experts(&self) -> Vec<usize> {
        self.model.parameters.architecture().experts.clone()
    }

    #[getter]
    fn top_k(&self) -> usize {
        self.model.config.top_k
    }

    #[getter]
    fn v_max(&self) -> f32 {
        self.model.config.v_max
    }

    #[getter]
    fn feature_clamp(&self) -> f32 {
        self.model.config.feature_clamp
    }

    fn __repr__(&self) -> String {
        let [words, width, blocks] = [self.vocabulary_size(), self.d_model(), self.n_layers()];
        format!("OriginalModel({words} words, width {width}, {blocks} blocks, windows of {} tokens)", self.window())
    }
}

/// A model that a run is given: the path of one, or a loaded one of the original project.
#[derive(FromPyObject)]
pub enum ModelSource {
    /// A loaded one.
    Original(Py<OriginalModel>),
    /// A path.
    Path(PathBuf),
}

impl ModelSource {
    /// The model of a run on this training text. One of the original project without words gets those
    /// of the text; where it is given by its path, settings come from `assignments`.
    pub fn given(self, assignments: &[String], text: &TextSource) -> PyResult<GivenModel> {
        let (model, state) = match self {
            Self::Original(loaded) => {
                let OriginalModel { model, state } = loaded.get();
                (model.clone(), state.clone())
            }
            Self::Path(path) => match ModelFile::of(&path).map_err(exception)? {
                ModelFile::Original => (read(path, assignments)?, None),
                ModelFile::Artifact | ModelFile::Checkpoint => return Ok(path.into()),
            },
        };
        let path = model.path.clone();
        let state = match state {
            Some(state) => state,
            None => model.with_words(OriginalWords::TrainingText(text)).map_err(exception)?,
        };
        GivenModel::converted(path, &Checkpoint::new(state)).map_err(exception)
    }
}

/// Reads a checkpoint with those of a run's values that are meant for it.
fn read(path: PathBuf, assignments: &[String]) -> PyResult<original::OriginalModel> {
    original::OriginalModel::read(&path, &OriginalSettings::among(assignments)).map_err(exception)
}
