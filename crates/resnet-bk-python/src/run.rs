//! Making a model: a run whose events go to Python.

use crate::ALLOCATOR;
use crate::corpus::CorpusSource;
use crate::error::{argument, exception, new};
use crate::original::ModelSource;
use crate::recipe::RecipeSource;
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use resnet_bk::corpus::Cache;
use resnet_bk::device::DeviceChoice;
use resnet_bk::observer::{Event, Fanout, Observer, RunLog};
use resnet_bk::pipeline::{self, RunRequest};
use resnet_bk::ranks::Ranks;
use resnet_bk::summary::Summary;
use std::ffi::CString;
use std::path::PathBuf;

/// Stack level of the function that called `compress` or `train`.
const CALLER: i32 = 3;

/// What a run is given.
#[derive(FromPyObject)]
pub struct Request {
    recipe: RecipeSource,
    corpus: CorpusSource,
    out: PathBuf,
    /// Whether only the stages of kind `train` run.
    only_train: bool,
    callback: Option<Py<PyAny>>,
    resume: bool,
    /// `key=value`, as for `--set`.
    assignments: Vec<String>,
    model: Option<ModelSource>,
    baseline: Option<ModelSource>,
    device: String,
    cache: bool,
}

/// Executes a run, which leaves its results in its folder.
#[pyfunction]
pub fn execute(py: Python<'_>, request: Request) -> PyResult<()> {
    ALLOCATOR.keep_freed_memory();
    let Request { out, resume, .. } = request;
    let mut recipe = request.recipe.read(&request.assignments)?;
    if request.only_train {
        let none = || new("RecipeError", "the recipe has no stage of kind \"train\"", Some("compress runs all stages"));
        recipe = recipe.training_part().ok_or_else(none)?;
    }
    let choice: DeviceChoice = request.device.parse().map_err(|error: String| argument(&error))?;
    let (device, unusable) = py.detach(|| choice.open()).map_err(exception)?;
    if let Some(error) = unusable {
        warn(py, &format!("there is a GPU, but it cannot be used: {error}"))?;
    }
    let corpus = py.detach(|| request.corpus.load())?;
    let given = |model: ModelSource| py.detach(|| model.given(&request.assignments, &corpus.train));
    let model = request.model.map(given).transpose()?;
    let baseline = request.baseline.map(given).transpose()?;
    let cache = if request.cache { Cache::from_env() } else { Cache::disabled() };
    let mut log = RunLog::new(&out, resume);
    let mut python = PythonObserver { callback: request.callback, failure: None };
    let request = RunRequest { recipe, corpus, cache, out, resume, model, baseline, device, ranks: Ranks::alone() };
    let result = py.detach(|| pipeline::run(&request, &mut Fanout(vec![&mut log, &mut python])));
    // An exception of the callback, and Ctrl-C, are the cause of a run that was stopped.
    if let Some(failure) = python.failure {
        return Err(failure);
    }
    result.map_err(exception)?;
    if let Err(error) = log.finish() {
        warn(py, &error.to_string())?;
    }
    py.check_signals()
}

/// Whether a run succeeded, by the text of its `summary.json`.
#[pyfunction]
pub fn succeeded(summary: &str) -> PyResult<bool> {
    let summary: Summary = serde_json::from_str(summary)
        .map_err(|error| new("RunError", &format!("this is not the summary of a run: {error}"), None))?;
    Ok(summary.succeeded())
}

/// Sets the number of threads, once and before any work.
#[pyfunction]
pub fn use_threads(threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(argument("threads is 0, but must be at least 1"));
    }
    let started = resnet_bk::threads::use_threads(threads);
    started.map_err(|error| {
        let hint = "set the number once, before anything is computed";
        new("RunError", &format!("cannot start {threads} threads: {error}"), Some(hint))
    })
}

fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    let message = CString::new(message.replace('\0', "")).expect("no NUL is left");
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &message, CALLER)
}

/// Passes events to a Python function. An exception there, and Ctrl-C, stop the training.
struct PythonObserver {
    callback: Option<Py<PyAny>>,
    failure: Option<PyErr>,
}

impl PythonObserver {
    fn pass_on(&self, py: Python<'_>, event: &Event) -> PyResult<()> {
        if let Event::Warning { message } = event {
            warn(py, message)?;
        }
        if let Some(callback) = &self.callback {
            let text = serde_json::to_string(event).expect("plain data");
            callback.call1(py, (py.import("json")?.call_method1("loads", (text,))?,))?;
        }
        Ok(())
    }
}

impl Observer for PythonObserver {
    fn event(&mut self, event: &Event) {
        if self.failure.is_none() {
            self.failure = Python::attach(|py| self.pass_on(py, event)).err();
        }
    }

    fn stops(&mut self) -> bool {
        if self.failure.is_none() {
            self.failure = Python::attach(|py| py.check_signals()).err();
        }
        self.failure.is_some()
    }
}
