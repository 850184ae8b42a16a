//! `resnet-bk export`: packs a checkpoint into an artifact.

use crate::failure::Failure;
use crate::printer::{Printer, grouped};
use crate::{Outcome, model_file};
use anyhow::Result;
use clap::Args;
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::export::{int8, pack};
use std::path::PathBuf;

/// Pack a checkpoint into an artifact
///
/// Nothing is trained. An artifact of a float model can be the --model of another run: a teacher in
/// int8 takes less than a quarter of the bytes of its checkpoint.
#[derive(Args)]
pub struct Export {
    /// A checkpoint
    model: PathBuf,
    /// The artifact; an existing file is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Round the matrices of a float model to 255 levels, with a scale for every 128 elements
    #[arg(long)]
    int8: bool,
}

/// Writes the artifact and prints its size.
pub fn run(arguments: &Export, printer: &mut Printer) -> Result<Outcome> {
    let Export { model: path, out, .. } = arguments;
    model_file::check_checkpoint(path)?;
    let model = Checkpoint::read(path)?.model;
    let artifact = match (arguments.int8, &model.parameters.architecture().quantization) {
        (false, _) => pack(&model)?,
        (true, None) => int8(&model)?,
        (true, Some(_)) => {
            let message = format!("{} is quantized already", path.display());
            return Err(Failure::new(message, "leave out --int8, or pass the checkpoint of a `train` stage").into());
        }
    };
    artifact.write(out)?;
    let sizes = artifact.size_breakdown()?;
    printer.line(format_args!(
        "{}: {} bytes, {} of them weights",
        out.display(),
        grouped(sizes.total_bytes()),
        grouped(sizes.weights_bytes())
    ))?;
    Ok(Outcome::Done)
}
