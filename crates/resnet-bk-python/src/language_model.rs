//! Using a model.

use crate::array::{array, reshaped};
use crate::error::{exception, new};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use resnet_bk::export::{self, ModelFile};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::{GenerateOptions, Suggestion};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A language model. Its methods may be called from several threads.
#[pyclass(frozen, module = "resnet_bk")]
pub struct LanguageModel {
    model: resnet_bk_runtime::LanguageModel,
    /// The artifact, for its size breakdown.
    bytes: Arc<[u8]>,
}

/// The bytes of an artifact: of a file, of `bytes`, or of a file object. A checkpoint is packed.
fn artifact_bytes(source: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = source.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if source.hasattr("read")? {
        return source.call_method0("read")?.extract();
    }
    let path: PathBuf = source.extract()?;
    source.py().detach(|| read(&path))
}

fn read(path: &Path) -> PyResult<Vec<u8>> {
    let unreadable = |source| exception(resnet_bk_runtime::Error::Read { path: path.to_owned(), source });
    match ModelFile::of(path) {
        Ok(ModelFile::Checkpoint) => export::load(path).map_err(exception)?.to_bytes().map_err(exception),
        Ok(ModelFile::Original) => {
            let message = format!("{} is a checkpoint of Project ResNet-BK, which has no vocabulary", path.display());
            Err(new(
                "ModelError",
                &message,
                Some("resnet_bk.load_original(path, vocabulary=FILE).pack() makes a model of it"),
            ))
        }
        Ok(ModelFile::Artifact) => std::fs::read(path).map_err(unreadable),
        Err(error) => Err(exception(error)),
    }
}

impl LanguageModel {
    /// The model of an artifact.
    pub fn of_artifact(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Self> {
        let model = py.detach(|| resnet_bk_runtime::LanguageModel::from_bytes(&bytes)).map_err(exception)?;
        Ok(Self { model, bytes: bytes.into() })
    }
}

#[pymethods]
impl LanguageModel {
    #[new]
    fn new(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::of_artifact(source.py(), artifact_bytes(source)?)
    }

    #[pyo3(signature = (text, k=5, prefix=""))]
    fn suggest<'py>(&self, py: Python<'py>, text: &str, k: usize, prefix: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let words = py.detach(|| match prefix {
            "" => self.model.suggest(text, k),
            prefix => self.model.suggest_with_prefix(text, prefix, k),
        });
        suggestions(py, words.map_err(exception)?)
    }

    #[pyo3(signature = (prompt, *, max_tokens=50, temperature=0.8, top_k=None, top_p=None, repetition_penalty=1.0, seed=1))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &str,
        max_tokens: usize,
        temperature: f32,
        top_k: Option<usize>,
        top_p: Option<f32>,
        repetition_penalty: f32,
        seed: u64,
    ) -> PyResult<Generation> {
        let options = options(max_tokens, temperature, top_k, top_p, repetition_penalty, seed);
        Ok(Generation(py.detach(|| self.model.generate(prompt, options)).map_err(exception)?))
    }

    fn tokens(&self, py: Python<'_>, text: &str) -> Vec<String> {
        py.detach(|| self.model.tokens(text))
    }

    fn log_probabilities<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        let scores = py.detach(|| self.model.log_probabilities(text)).map_err(exception)?;
        array(py, &scores.iter().map(|token| token.log_probability).collect::<Vec<f32>>())
    }

    fn perplexity(&self, py: Python<'_>, text: &str) -> PyResult<f64> {
        py.detach(|| self.model.perplexity(text)).map_err(exception)
    }

    fn state(&self) -> PyResult<State> {
        self.model.state().map(State).map_err(exception)
    }

    fn size_breakdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let sizes = py.detach(|| Artifact::from_bytes(&self.bytes)?.size_breakdown()).map_err(exception)?;
        let text = serde_json::to_string(&sizes.entries).expect("plain data");
        py.import("json")?.call_method1("loads", (text,))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    fn int8(&self, py: Python<'_>) -> PyResult<Self> {
        let float = py.detach(|| Artifact::from_bytes(&self.bytes)).map_err(exception)?;
        if float.architecture.quantization.is_some() {
            let hint = "round the checkpoint of a `train` stage";
            return Err(new("ModelError", "the model is quantized already", Some(hint)));
        }
        let bytes = py.detach(|| export::int8(&float)?.to_bytes()).map_err(exception)?;
        Self::of_artifact(py, bytes)
    }

    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let artifact = py.detach(|| Artifact::from_bytes(&self.bytes)).map_err(exception)?;
        let values = artifact.values();
        let tensors = PyDict::new(py);
        for spec in artifact.architecture.tensors() {
            // Learned scales are part of the decoded values.
            if let Some(values) = values.get(&spec.id) {
                tensors.set_item(spec.id.to_string(), reshaped(py, values, &spec.shape)?)?;
            }
        }
        Ok(tensors)
    }

    #[getter]
    fn words(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let artifact = py.detach(|| Artifact::from_bytes(&self.bytes)).map_err(exception)?;
        Ok(artifact.vocabulary.words().to_vec())
    }

    #[getter]
    fn is_causal(&self) -> bool {
        self.model.is_causal()
    }

    #[getter]
    fn vocabulary_size(&self) -> usize {
        self.model.vocabulary_size()
    }

    #[getter]
    fn window(&self) -> usize {
        self.model.window()
    }

    #[getter]
    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }

    fn __repr__(&self) -> String {
        format!("LanguageModel({} words, {} bytes)", self.vocabulary_size(), self.bytes_total())
    }
}

fn options(
    max_tokens: usize,
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    repetition_penalty: f32,
    seed: u64,
) -> GenerateOptions {
    let options = GenerateOptions::default()
        .max_tokens(max_tokens)
        .temperature(temperature)
        .repetition_penalty(repetition_penalty)
        .seed(seed);
    let options = top_k.map_or(options, |top_k| options.top_k(top_k));
    top_p.map_or(options, |top_p| options.top_p(top_p))
}

/// Named tuples of Python.
fn suggestions<'py>(py: Python<'py>, words: Vec<Suggestion>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let class = py.import("resnet_bk.types")?.getattr("Suggestion")?;
    words.into_iter().map(|word| class.call1((word.word, word.probability))).collect()
}

/// The state of a text that is extended word by word.
#[pyclass(module = "resnet_bk")]
pub struct State(resnet_bk_runtime::State);

#[pymethods]
impl State {
    fn push(&mut self, py: Python<'_>, text: &str) {
        py.detach(|| self.0.push(text));
    }

    fn end_line(&mut self) {
        self.0.end_line();
    }

    #[pyo3(signature = (k=5, prefix=""))]
    fn suggest<'py>(&self, py: Python<'py>, k: usize, prefix: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let words = py.detach(|| match prefix {
            "" => self.0.suggest(k),
            prefix => self.0.suggest_with_prefix(prefix, k),
        });
        suggestions(py, words)
    }

    #[pyo3(signature = (*, max_tokens=50, temperature=0.8, top_k=None, top_p=None, repetition_penalty=1.0, seed=1))]
    fn generate(
        &self,
        max_tokens: usize,
        temperature: f32,
        top_k: Option<usize>,
        top_p: Option<f32>,
        repetition_penalty: f32,
        seed: u64,
    ) -> PyResult<Generation> {
        let options = options(max_tokens, temperature, top_k, top_p, repetition_penalty, seed);
        self.0.generate(options).map(Generation).map_err(exception)
    }

    fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    fn __copy__(&self) -> Self {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> Self {
        self.copy()
    }

    fn __len__(&self) -> usize {
        self.0.tokens()
    }

    fn __repr__(&self) -> String {
        format!("State({} tokens)", self.0.tokens())
    }
}

/// Iterator over the pieces of generated text.
#[pyclass(module = "resnet_bk")]
pub struct Generation(resnet_bk_runtime::Generation);

#[pymethods]
impl Generation {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        py.detach(|| self.0.next()).map(|piece| PyString::new(py, &piece))
    }
}
