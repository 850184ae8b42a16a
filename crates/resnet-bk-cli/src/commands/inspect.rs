//! `resnet-bk inspect`: a model's configuration and its size breakdown.

use crate::original::OriginalArguments;
use crate::printer::{Printer, grouped};
use crate::{Outcome, model_file, tables};
use anyhow::{Context, Result};
use clap::Args;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::artifact::SizeBreakdown;
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use serde::Serialize;
use std::path::PathBuf;

/// Show a model's configuration and where its bytes go
///
/// The bytes of an artifact add up to the length of its file; those of a checkpoint are what it
/// would take packed.
#[derive(Args)]
pub struct Inspect {
    /// An artifact, a checkpoint or the name of a shipped model
    model: PathBuf,
    #[command(flatten)]
    original: OriginalArguments,
    /// Rebuild the words of a model.pt from the training text of this corpus
    #[arg(long, conflicts_with = "vocabulary")]
    corpus: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the card of a shipped model: its text and license, its figures, how it was made
    #[arg(long, conflicts_with = "json")]
    card: bool,
}

#[derive(Serialize)]
struct Inspection<'a> {
    parameters: usize,
    bytes_file: u64,
    bytes_total: u64,
    bytes_weights: u64,
    words: usize,
    pretokenizer: Pretokenizer,
    architecture: &'a Architecture,
    size_breakdown: SizeBreakdown,
}

/// Reads the model and prints the result.
pub fn run(arguments: &Inspect, printer: &mut Printer) -> Result<Outcome> {
    let path = &arguments.model;
    if arguments.card {
        printer.stream(model_file::card(path)?)?;
        return Ok(Outcome::Done);
    }
    let artifact = model_file::load(path, &arguments.original, arguments.corpus.as_deref())?;
    let size_breakdown = artifact.size_breakdown().with_context(|| format!("cannot pack {}", path.display()))?;
    let bytes_file = model_file::bytes(path)?;
    let inspection = Inspection {
        parameters: artifact.architecture.parameter_count(),
        bytes_file,
        bytes_total: size_breakdown.total_bytes(),
        bytes_weights: size_breakdown.weights_bytes(),
        words: artifact.vocabulary.len(),
        pretokenizer: artifact.vocabulary.pretokenizer(),
        architecture: &artifact.architecture,
        size_breakdown,
    };
    if arguments.json {
        printer.json(&inspection)?;
    } else {
        print(&inspection, printer)?;
    }
    Ok(Outcome::Done)
}

fn print(inspection: &Inspection, printer: &mut Printer) -> Result<()> {
    let architecture = serde_json::to_value(inspection.architecture)?;
    let name = |key: &str| architecture[key].as_str().unwrap_or_default().to_owned();
    let Architecture { d_model, n_seq, d_ff, experts, top_k, heads, .. } = inspection.architecture;
    let experts: Vec<String> = experts.iter().map(usize::to_string).collect();
    let switch = |on: bool| if on { "yes" } else { "no" };
    let rows = [
        ("parameters", grouped(inspection.parameters as u64)),
        ("words", grouped(inspection.words as u64)),
        ("mixer", format!("{}, {}, {heads} heads", name("mixer"), name("causality"))),
        ("width", d_model.to_string()),
        ("window", format!("{n_seq} tokens")),
        ("experts", format!("{} in the blocks, {top_k} a token, width {d_ff}", experts.join(" + "))),
        ("positions", switch(inspection.architecture.positions).to_owned()),
        ("tied head", switch(inspection.architecture.tied_embeddings).to_owned()),
        ("quantized", switch(inspection.architecture.quantization.is_some()).to_owned()),
    ];
    for (name, value) in rows {
        printer.line(format_args!("{name:<10}  {value}"))?;
    }
    if inspection.bytes_file != inspection.bytes_total {
        printer.line(format_args!(
            "{:<10}  {} bytes; packed, as follows",
            "checkpoint",
            grouped(inspection.bytes_file)
        ))?;
    }
    printer.line("")?;
    printer.line(tables::size_breakdown(&inspection.size_breakdown))?;
    Ok(())
}
