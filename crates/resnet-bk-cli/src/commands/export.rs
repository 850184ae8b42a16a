//! `resnet-bk export`: a model as an artifact, or as files for other programs.

use crate::failure::Failure;
use crate::original::OriginalArguments;
use crate::output::{create_folder_of, refuse_existing, write};
use crate::printer::{Printer, grouped, note};
use crate::{Outcome, model_file};
use anyhow::Result;
use clap::{ArgGroup, Args};
use resnet_bk::export::int8;
use resnet_bk::plain_files::{CONFIG, PlainFiles, VOCABULARY};
use resnet_bk_runtime::internal::artifact::Artifact;
use std::path::{Path, PathBuf};

/// Write a model as an artifact, or as safetensors for other programs
///
/// Nothing is trained, and no file is replaced. An artifact of a float model can be the --model of
/// another run: a teacher in int8 takes less than a quarter of the bytes of its checkpoint.
#[derive(Args)]
#[command(group(ArgGroup::new("written").required(true).args(["out", "safetensors"])))]
pub struct Export {
    /// A checkpoint; for --safetensors also an artifact or the name of a shipped model
    model: PathBuf,
    /// Pack the checkpoint into this artifact
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Round the matrices of a float model to 255 levels, with a scale for every 128 elements
    #[arg(long, conflicts_with = "safetensors")]
    int8: bool,
    /// Write the weights to this file in float32, those of an artifact decoded; beside it, config.json
    /// holds the architecture and vocabulary.txt the words
    #[arg(long, value_name = "FILE")]
    safetensors: Option<PathBuf>,
    #[command(flatten)]
    original: OriginalArguments,
    /// Rebuild the words of a model.pt from the training text of this corpus
    #[arg(long, conflicts_with = "vocabulary")]
    corpus: Option<String>,
}

/// Writes the files.
pub fn run(arguments: &Export, printer: &mut Printer) -> Result<Outcome> {
    if let Some(out) = &arguments.out {
        write_artifact(arguments, out, printer)?;
    }
    if let Some(weights) = &arguments.safetensors {
        write_plain_files(arguments, weights)?;
    }
    Ok(Outcome::Done)
}

/// Packs the checkpoint and prints the artifact's size.
fn write_artifact(arguments: &Export, out: &Path, printer: &mut Printer) -> Result<()> {
    refuse_existing(out, "export", "choose another path for --out")?;
    model_file::check_checkpoint(&arguments.model)?;
    let packed = arguments.load()?;
    let artifact = match (arguments.int8, &packed.architecture.quantization) {
        (false, _) => packed,
        (true, None) => int8(&packed)?,
        (true, Some(_)) => {
            let message = format!("{} is quantized already", arguments.model.display());
            return Err(Failure::new(message, "leave out --int8, or pass the checkpoint of a `train` stage").into());
        }
    };
    create_folder_of(out)?;
    artifact.write(out)?;
    let sizes = artifact.size_breakdown()?;
    printer.line(format_args!(
        "{}: {} bytes, {} of them weights",
        out.display(),
        grouped(sizes.total_bytes()),
        grouped(sizes.weights_bytes())
    ))?;
    Ok(())
}

/// Writes weights, configuration and words.
fn write_plain_files(arguments: &Export, weights: &Path) -> Result<()> {
    let paths = [weights.with_file_name(VOCABULARY), weights.with_file_name(CONFIG), weights.to_owned()];
    for path in &paths {
        refuse_existing(path, "export", "choose another folder for --safetensors")?;
    }
    if paths[..2].iter().any(|path| path == weights) {
        let message = format!("{} is the name of a file beside the weights", weights.display());
        return Err(Failure::new(message, "choose another name, such as model.safetensors").into());
    }
    let files = PlainFiles::new(&arguments.load()?)?;
    for (path, bytes) in paths.iter().zip([files.vocabulary.as_bytes(), files.config.as_bytes(), &files.weights]) {
        write(path, bytes)?;
    }
    let [vocabulary, config, weights] = paths.map(|path| path.display().to_string());
    note(&format!("written: {weights}, {config}, {vocabulary}"));
    Ok(())
}

impl Export {
    fn load(&self) -> Result<Artifact> {
        model_file::load(&self.model, &self.original, self.corpus.as_deref())
    }
}
