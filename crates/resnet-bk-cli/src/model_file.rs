//! The MODEL argument: an artifact, a checkpoint or the name of a shipped model.

use crate::failure::{Failure, system_message};
use crate::original::OriginalArguments;
use crate::printer::note;
use crate::shipped::{self, Shipped};
use anyhow::{Context, Result};
use resnet_bk::export::{self, LoadError, ModelFile};
use resnet_bk::memory::check_evaluation;
use resnet_bk::pipeline::{ARTIFACT, CHECKPOINT, GivenModel};
use resnet_bk_runtime::internal::architecture::{Architecture, Causality};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::model::ModelError;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the argument names.
enum Found {
    /// A model that is compiled in.
    Shipped(&'static Shipped),
    /// A model of this project.
    Own,
    /// A checkpoint of the original project.
    Original,
}

fn find(path: &Path) -> Result<Found> {
    if let Some(shipped) = shipped::find(path)? {
        return Ok(Found::Shipped(shipped));
    }
    Ok(match kind_of(path, &either(path))? {
        ModelFile::Original => Found::Original,
        ModelFile::Artifact | ModelFile::Checkpoint => Found::Own,
    })
}

/// Loads a model. The notice of a shipped one goes to stderr. One of the original project gets its
/// words from the options, or from the training text of `corpus`.
pub fn load(path: &Path, original: &OriginalArguments, corpus: Option<&str>) -> Result<Artifact> {
    let found = find(path)?;
    if let Found::Original = found {
        return original.load(path, corpus);
    }
    original.refuse(path)?;
    match found {
        Found::Shipped(shipped) => {
            note(shipped.notice());
            Artifact::from_bytes(shipped.bytes).with_context(|| format!("the shipped model {}", shipped.name))
        }
        _ => Ok(export::load(path)?),
    }
}

/// Length of a model's file in bytes.
pub fn bytes(path: &Path) -> Result<u64> {
    if let Some(shipped) = shipped::find(path)? {
        return Ok(shipped.bytes.len() as u64);
    }
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// The card of a shipped model.
pub fn card(path: &Path) -> Result<&'static str> {
    match shipped::find(path)? {
        Some(shipped) => Ok(shipped.card),
        None => Err(Failure::new(
            format!("{} is no shipped model: it has no card", path.display()),
            "leave out --card, or pass the name of a shipped model, such as demo",
        )
        .into()),
    }
}

/// Loads a model and checks that it is causal.
pub fn load_causal(path: &Path) -> Result<Artifact> {
    let not_causal = || Err(ModelError::NotCausal).with_context(|| path.display().to_string());
    // Models of the original project are all bidirectional. They are refused before words are asked for.
    if let Found::Original = find(path)? {
        return not_causal();
    }
    let artifact = load(path, &OriginalArguments::default(), None)?;
    if artifact.architecture.causality == Causality::Bidirectional { not_causal() } else { Ok(artifact) }
}

/// Refuses a prompt that needs more memory than is available, and warns of one that the model knows no
/// word of.
pub fn check_prompt(artifact: &Artifact, prompt: &str) -> Result<()> {
    let vocabulary = &artifact.vocabulary;
    let ids = vocabulary.encode_prompt(prompt);
    let is_known = |id: &u32| *id != vocabulary.unknown() && Some(*id) != vocabulary.end_of_line();
    if ids.contains(&vocabulary.unknown()) && !ids.iter().any(is_known) {
        note("warning: the model knows no word of the prompt");
    }
    let tokens = ids.len().max(1);
    // A prompt is processed as one window of its own length.
    let architecture = Architecture { n_seq: tokens, ..artifact.architecture.clone() };
    Ok(check_evaluation(&architecture, tokens, 1)?)
}

/// Refuses a file that is no model to train on, before any slow work begins. Returns which kind it is.
pub fn check_model(path: &Path) -> Result<ModelFile> {
    if shipped::find(path)?.is_some() { Ok(ModelFile::Artifact) } else { check_kind(path, &either(path)) }
}

/// The shipped model that a run is given by its name, if it is one. `say` shows its notice.
pub fn given(path: &Path, say: impl Fn(&str)) -> Result<Option<GivenModel>> {
    let Some(shipped) = shipped::find(path)? else { return Ok(None) };
    say(shipped.notice());
    Ok(Some(GivenModel::in_memory(path.to_owned(), shipped.bytes)))
}

/// The kind of a model's file, for a run to begin with. `accepted` is the hint where it is no model.
fn check_kind(path: &Path, accepted: &str) -> Result<ModelFile> {
    if let (true, Some(checkpoint)) = (path.is_dir(), last_checkpoint(path)) {
        let hint = format!("pass the checkpoint of a stage, such as {}", checkpoint.display());
        return Err(Failure::new(format!("{} is a folder", path.display()), hint).into());
    }
    kind_of(path, accepted)
}

/// The kind of a model's file.
fn kind_of(path: &Path, accepted: &str) -> Result<ModelFile> {
    check(path, accepted)?;
    ModelFile::of(path).map_err(|error| match error {
        LoadError::Neither { .. } => Failure::new(error.to_string(), accepted).into(),
        error => error.into(),
    })
}

/// Refuses what is not a checkpoint, before any slow work begins. Returns which kind it is.
pub fn check_checkpoint(path: &Path) -> Result<ModelFile> {
    let is_shipped = matches!(shipped::find(path), Ok(Some(_)));
    match if is_shipped { ModelFile::Artifact } else { check_kind(path, CHECKPOINT_ALONE)? } {
        kind @ (ModelFile::Checkpoint | ModelFile::Original) => Ok(kind),
        ModelFile::Artifact => {
            let run = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let hint = match last_checkpoint(run) {
                Some(checkpoint) => format!("pass the checkpoint of a stage, such as {}", checkpoint.display()),
                None => CHECKPOINT_ALONE.to_owned(),
            };
            Err(Failure::new(format!("{} is an artifact, but a checkpoint is needed", path.display()), hint).into())
        }
    }
}

/// The checkpoint of a run's last stage.
fn last_checkpoint(run: &Path) -> Option<PathBuf> {
    let stages = fs::read_dir(run).ok()?.flatten().map(|entry| entry.path().join(CHECKPOINT));
    stages.filter(|checkpoint| checkpoint.is_file()).max()
}

/// What to do where any model would be accepted: another file or folder may have the name of a shipped one.
fn either(path: &Path) -> String {
    let name = path.display();
    match shipped::is_hidden_by(path) {
        true => format!("{name} here hides the shipped model {name}: rename it, or run the command in another folder"),
        false => "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)".to_owned(),
    }
}

/// What to pass where it must be a checkpoint.
const CHECKPOINT_ALONE: &str = "pass the checkpoint of a stage, RUN/NN-stage/model.safetensors";

/// Refuses a path that is not a file or cannot be read. `accepted` is the hint where nothing better is
/// known.
fn check(path: &Path, accepted: &str) -> Result<()> {
    let name = path.display();
    let failure = match fs::metadata(path) {
        Ok(found) if found.is_file() => match fs::File::open(path) {
            Ok(_) => return Ok(()),
            Err(error) => {
                Failure::new(format!("cannot read {name}: {}", system_message(&error)), "check its permissions")
            }
        },
        Ok(found) if found.is_dir() => {
            let packed = path.join(ARTIFACT);
            let hint = match (packed.is_file(), last_checkpoint(path)) {
                (true, _) => format!("pass {}", packed.display()),
                (false, Some(checkpoint)) => format!("pass {}", checkpoint.display()),
                (false, None) => accepted.to_owned(),
            };
            Failure::new(format!("{name} is a folder"), hint)
        }
        Ok(_) => Failure::new(format!("{name} is not an ordinary file"), accepted),
        Err(error) if error.kind() == ErrorKind::NotFound => Failure::new(format!("there is no file {name}"), accepted),
        Err(error) => Failure::new(
            format!("cannot read {name}: {}", system_message(&error)),
            "check the path and the permissions of its folders",
        ),
    };
    Err(failure.into())
}
