//! Checkpoints of the original project as MODEL: they have no vocabulary, and their file does not hold
//! all settings.

use crate::failure::Failure;
use crate::printer::note;
use anyhow::Result;
use clap::Args;
use resnet_bk::checkpoint::{Checkpoint, ModelState};
use resnet_bk::corpus::{self, TextSource};
use resnet_bk::export::{ModelFile, pack};
use resnet_bk::original::{Fault, OriginalModel, OriginalSettings, OriginalWords};
use resnet_bk::pipeline::GivenModel;
use resnet_bk_runtime::internal::artifact::Artifact;
use std::path::{Path, PathBuf};

/// Options of commands that have no recipe.
#[derive(Args, Default)]
pub struct OriginalArguments {
    /// The words of a model.pt, which has none of its own: one a line, in the order of their ids
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// A setting of a model.pt: model.top_k, model.v_max or model.feature_clamp; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl OriginalArguments {
    /// Loads a checkpoint of the original project. Without `--vocabulary`, its words are rebuilt from
    /// the training text of `corpus`.
    pub fn load(&self, path: &Path, corpus: Option<&str>) -> Result<Artifact> {
        let mut settings = OriginalSettings::default();
        for assignment in &self.set {
            assign(&mut settings, assignment)?;
        }
        let corpus = corpus.filter(|_| self.vocabulary.is_none()).map(corpus::load).transpose()?;
        let text = corpus.as_ref().map(|corpus| &corpus.train);
        Ok(pack(&read(path, &settings, self.vocabulary.as_deref(), text, note)?)?)
    }

    /// Refuses the options for a model that has a vocabulary and settings of its own.
    pub fn refuse(&self, path: &Path) -> Result<()> {
        let option = if self.vocabulary.is_some() { "--vocabulary" } else { "--set" };
        if self.vocabulary.is_none() && self.set.is_empty() { Ok(()) } else { Err(needless(option, path)) }
    }
}

fn needless(option: &str, path: &Path) -> anyhow::Error {
    let message = format!("{option} is for checkpoints of Project ResNet-BK, but {} is none", path.display());
    Failure::new(message, format!("leave out {option}: the model has a vocabulary and settings of its own")).into()
}

/// Takes a `--set`, which must be one of the three settings.
fn assign(settings: &mut OriginalSettings, assignment: &str) -> Result<()> {
    let failure = match settings.assign(assignment) {
        Some(Ok(())) => return Ok(()),
        Some(Err(kind)) => Failure::new(format!("--set {assignment}: the value must be {kind}"), EXAMPLE),
        None => Failure::new(format!("--set {assignment}: there are only the keys {KEYS}"), EXAMPLE),
    };
    Err(failure.into())
}

const KEYS: &str = "model.top_k, model.v_max and model.feature_clamp";
const EXAMPLE: &str = "write --set model.top_k=2, for example; sizes come from the checkpoint";

/// The file of a model that a run is given, `--model` or `--baseline`. One of the original project gets
/// its words from `vocabulary`, or else from the run's training text, and settings from those of the run's
/// `--set` values that are meant for it; `say` shows what it is.
pub fn given(
    path: PathBuf,
    set: &[String],
    vocabulary: Option<&Path>,
    text: &TextSource,
    say: impl Fn(&str),
) -> Result<GivenModel> {
    if ModelFile::of(&path)? != ModelFile::Original {
        return Ok(path.into());
    }
    let model = read(&path, &OriginalSettings::among(set), vocabulary, Some(text), say)?;
    Ok(GivenModel::converted(path, &Checkpoint::new(model))?)
}

/// Reads the model and says what it is.
fn read(
    path: &Path,
    settings: &OriginalSettings,
    vocabulary: Option<&Path>,
    text: Option<&TextSource>,
    say: impl Fn(&str),
) -> Result<ModelState> {
    let model = OriginalModel::read(path, settings)?;
    let words = match (vocabulary, text) {
        (Some(file), _) => OriginalWords::File(file),
        (None, Some(text)) => OriginalWords::TrainingText(text),
        (None, None) => return Err(Fault::NoVocabulary.at(path).into()),
    };
    let name = path.display();
    say(&format!(
        "{name} is a model of Project ResNet-BK: bidirectional, so it sees the tokens that it should predict"
    ));
    if let OriginalWords::TrainingText(_) = words {
        say(&format!(
            "its vocabulary is rebuilt from the training text: <unk>, then the {} most frequent words",
            model.config.vocab_size - 1
        ));
    }
    Ok(model.with_words(words)?)
}
