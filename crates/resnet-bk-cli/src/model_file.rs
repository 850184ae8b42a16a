//! The MODEL argument: a checkpoint or an artifact.

use crate::failure::{Failure, system_message};
use crate::original::OriginalArguments;
use crate::run_folder::ARTIFACT;
use anyhow::{Context, Result};
use resnet_bk::export::{self, ModelFile};
use resnet_bk::memory::check_evaluation;
use resnet_bk::pipeline::CHECKPOINT;
use resnet_bk_runtime::internal::architecture::{Architecture, Causality};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::model::ModelError;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Loads a model. One of the original project gets its words from the options, or from the training
/// text of `corpus`.
pub fn load(path: &Path, original: &OriginalArguments, corpus: Option<&str>) -> Result<Artifact> {
    check(path)?;
    match ModelFile::of(path)? {
        ModelFile::Original => original.load(path, corpus),
        ModelFile::Artifact | ModelFile::Checkpoint => {
            original.refuse(path)?;
            Ok(export::load(path)?)
        }
    }
}

/// Loads a model and checks that it is causal.
pub fn load_causal(path: &Path) -> Result<Artifact> {
    check(path)?;
    // Models of the original project are all bidirectional.
    let artifact = match ModelFile::of(path)? {
        ModelFile::Original => None,
        ModelFile::Artifact | ModelFile::Checkpoint => Some(export::load(path)?),
    };
    let causal = artifact.filter(|artifact| artifact.architecture.causality == Causality::Causal);
    causal.ok_or(ModelError::NotCausal).with_context(|| path.display().to_string())
}

/// Refuses a prompt that needs more memory than is available.
pub fn check_prompt(artifact: &Artifact, prompt: &str) -> Result<()> {
    let tokens = artifact.vocabulary.encode_prompt(prompt).len().max(1);
    // A prompt is processed as one window of its own length.
    let architecture = Architecture { n_seq: tokens, ..artifact.architecture.clone() };
    Ok(check_evaluation(&architecture, tokens, 1)?)
}

/// Refuses a file that is not a checkpoint before any slow work begins. Returns which kind it is.
pub fn check_checkpoint(path: &Path) -> Result<ModelFile> {
    if let (true, Some(checkpoint)) = (path.is_dir(), last_checkpoint(path)) {
        let hint = format!("pass the checkpoint of a stage, such as {}", checkpoint.display());
        return Err(Failure::new(format!("{} is a folder", path.display()), hint).into());
    }
    check(path)?;
    match ModelFile::of(path)? {
        kind @ (ModelFile::Checkpoint | ModelFile::Original) => Ok(kind),
        ModelFile::Artifact => {
            let run = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let hint = match last_checkpoint(run) {
                Some(checkpoint) => format!("pass the checkpoint of a stage, such as {}", checkpoint.display()),
                None => "pass the checkpoint of a stage, RUN/NN-stage/model.safetensors".to_owned(),
            };
            let message = format!(
                "{} is an artifact: it is packed for use, and is no model to train or to compare with",
                path.display()
            );
            Err(Failure::new(message, hint).into())
        }
    }
}

/// The checkpoint of a run's last stage.
fn last_checkpoint(run: &Path) -> Option<PathBuf> {
    let stages = fs::read_dir(run).ok()?.flatten().map(|entry| entry.path().join(CHECKPOINT));
    stages.filter(|checkpoint| checkpoint.is_file()).max()
}

/// Refuses a path that is not a file or cannot be read.
fn check(path: &Path) -> Result<()> {
    let name = path.display();
    let either = "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)";
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
                (false, None) => "pass an artifact (model.rbk) or a checkpoint (model.safetensors)".to_owned(),
            };
            Failure::new(format!("{name} is a folder"), hint)
        }
        Ok(_) => Failure::new(format!("{name} is not an ordinary file"), either),
        Err(error) if error.kind() == ErrorKind::NotFound => Failure::new(format!("there is no file {name}"), either),
        Err(error) => Failure::new(
            format!("cannot read {name}: {}", system_message(&error)),
            "check the path and the permissions of its folders",
        ),
    };
    Err(failure.into())
}
