//! MODEL on the command line: a checkpoint or an artifact.

use crate::failure::Failure;
use crate::run_folder::ARTIFACT;
use anyhow::{Context, Result};
use resnet_bk::export;
use resnet_bk_runtime::architecture::Causality;
use resnet_bk_runtime::artifact::Artifact;
use resnet_bk_runtime::model::ModelError;
use std::path::Path;

/// Reads a model.
pub fn load(path: &Path) -> Result<Artifact> {
    check(path)?;
    export::load(path).with_context(|| format!("can not load {}", path.display()))
}

/// Reads a model that is to predict the next word.
pub fn load_causal(path: &Path) -> Result<Artifact> {
    let artifact = load(path)?;
    if artifact.architecture.causality == Causality::Bidirectional {
        return Err(ModelError::NotCausal).with_context(|| path.display().to_string());
    }
    Ok(artifact)
}

/// Refuses a path that is no file, before anything slow begins.
pub fn check(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let packed = path.join(ARTIFACT);
    let failure = if packed.is_file() {
        Failure::new(format!("{} is a folder", path.display()), format!("pass {}", packed.display()))
    } else if path.is_dir() {
        Failure::new(
            format!("{} is a folder", path.display()),
            "pass an artifact (model.rbk) or a checkpoint (model.safetensors)",
        )
    } else {
        Failure::new(
            format!("there is no file {}", path.display()),
            "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)",
        )
    };
    Err(failure.into())
}
