//! `resnet-bk export`: a model as files for other programs.

use crate::failure::Failure;
use crate::original::OriginalArguments;
use crate::printer::note;
use crate::{Outcome, model_file};
use anyhow::{Context, Result};
use clap::Args;
use resnet_bk::plain_files::{CONFIG, PlainFiles, VOCABULARY};
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::path::PathBuf;

/// Write a model as safetensors, for other programs
///
/// Beside the file, config.json holds the architecture and vocabulary.txt the words. All weights are
/// float32; those of an artifact are decoded.
#[derive(Args)]
pub struct Export {
    /// An artifact or a checkpoint
    model: PathBuf,
    /// The file to write, in a folder without a config.json or vocabulary.txt
    #[arg(long, value_name = "OUT")]
    safetensors: PathBuf,
    #[command(flatten)]
    original: OriginalArguments,
    /// Rebuild the words of a model.pt from the training text of this corpus
    #[arg(long, conflicts_with = "vocabulary")]
    corpus: Option<String>,
}

/// Writes the files.
pub fn run(arguments: &Export) -> Result<Outcome> {
    let weights = &arguments.safetensors;
    let paths = [weights.with_file_name(VOCABULARY), weights.with_file_name(CONFIG), weights.clone()];
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        let message = format!("{} exists, and export replaces no file", path.display());
        return Err(Failure::new(message, "choose another folder for --safetensors").into());
    }
    if paths[..2].contains(weights) {
        let message = format!("{} is the name of a file beside the weights", weights.display());
        return Err(Failure::new(message, "choose another name, such as model.safetensors").into());
    }
    let artifact = model_file::load(&arguments.model, &arguments.original, arguments.corpus.as_deref())?;
    let files = PlainFiles::new(&artifact)?;
    for (path, bytes) in paths.iter().zip([files.vocabulary.as_bytes(), files.config.as_bytes(), &files.weights]) {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| replace_file(path, bytes));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let [vocabulary, config, weights] = paths.map(|path| path.display().to_string());
    note(&format!("written: {weights}, {config}, {vocabulary}"));
    Ok(Outcome::Done)
}
