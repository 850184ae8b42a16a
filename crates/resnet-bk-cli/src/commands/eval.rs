//! `resnet-bk eval`: perplexity of a model on a text.

use crate::failure::Failure;
use crate::observers::{ProgressMode, Warnings};
use crate::original::OriginalArguments;
use crate::printer::{Printer, grouped, note, percent, perplexity};
use crate::tables::{NOT_CAUSAL, mark};
use crate::text_file::read_text;
use crate::{Outcome, device, model_file};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use resnet_bk::corpus::{self, Cache, TextSource, encode};
use resnet_bk::device::{Device, DeviceChoice};
use resnet_bk::evaluate::{evaluate_artifact, evaluate_streaming};
use resnet_bk::memory::check_evaluation;
use resnet_bk::pipeline::{FEW_HELD_OUT, MANY_UNKNOWN, MIN_HELD_OUT};
use resnet_bk::threads::threads;
use resnet_bk_runtime::internal::architecture::{Architecture, Causality};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Measure the perplexity of a text
///
/// Over every token but the first, in windows as long as those of training, the state reset at
/// each.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["text", "corpus"])))]
pub struct Eval {
    /// An artifact, a checkpoint or the name of a shipped model
    model: PathBuf,
    /// A text file, one sentence or paragraph a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// A corpus: `embedded`, a folder, or a name as for `compress`
    #[arg(long)]
    corpus: Option<String>,
    /// Which text of the corpus
    #[arg(long, value_enum, default_value_t = Split::Valid, conflicts_with = "text")]
    split: Split,
    /// Measure it also with the state carried from window to window
    #[arg(long)]
    streaming: bool,
    #[command(flatten)]
    original: OriginalArguments,
    /// Keep nothing of a large text in the cache folder, and use nothing from there
    #[arg(long)]
    no_cache: bool,
    /// Where to measure: cpu (the runtime), auto, cuda or cuda:N
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Split {
    Train,
    Valid,
    Test,
}

/// The measurement. Its JSON keys are a stable interface.
#[derive(Serialize)]
struct Measurement {
    perplexity: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    streaming_perplexity: Option<f64>,
    tokens: usize,
    unknown_tokens: usize,
    bytes_total: u64,
    bytes_weights: u64,
    causality: Causality,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// Measures and prints the result.
pub fn run(arguments: &Eval, printer: &mut Printer) -> Result<Outcome> {
    let artifact = model_file::load(&arguments.model, &arguments.original, arguments.corpus.as_deref())?;
    let architecture = &artifact.architecture;
    if arguments.streaming {
        check_streaming(&arguments.model, architecture)?;
    }
    let (text, source) = arguments.text()?;
    let cache = if arguments.no_cache { Cache::disabled() } else { Cache::from_env() };
    let tokens = encode(&text, &artifact.vocabulary, None, &cache, &mut Warnings(ProgressMode::Lines))?.tokens;
    // A given text may be short; the text of a corpus must be long enough for a measurement.
    let fewest = if arguments.text.is_some() { 2 } else { MIN_HELD_OUT };
    if tokens.len() < fewest {
        return Err(Failure::new(
            format!("{source} has {} tokens, but at least {fewest} are needed", tokens.len()),
            "pass a longer text",
        )
        .into());
    }
    check_evaluation(architecture, tokens.len(), threads())?;
    let unknown = artifact.vocabulary.unknown();
    let size_breakdown =
        artifact.size_breakdown().with_context(|| format!("cannot pack {}", arguments.model.display()))?;
    let evaluation = match arguments.device {
        DeviceChoice::Cpu => evaluate_artifact(&artifact, &tokens, &Device::Cpu)?,
        choice => evaluate_artifact(&artifact, &tokens, &device::open(choice)?)?,
    };
    let measurement = Measurement {
        perplexity: evaluation.perplexity(),
        streaming_perplexity: arguments
            .streaming
            .then(|| evaluate_streaming(&artifact.to_model(), &tokens).perplexity()),
        tokens: evaluation.tokens,
        unknown_tokens: tokens[1..].iter().filter(|&&token| token == unknown).count(),
        bytes_total: size_breakdown.total_bytes(),
        bytes_weights: size_breakdown.weights_bytes(),
        causality: architecture.causality,
        note: (architecture.causality == Causality::Bidirectional).then_some(NOT_CAUSAL),
    };
    for warning in warnings(&measurement, tokens.len(), &source) {
        note(&format!("warning: {warning}"));
    }
    if arguments.json {
        printer.json(&measurement)?;
    } else {
        print(&measurement, printer)?;
    }
    Ok(Outcome::Done)
}

impl Eval {
    /// The text and its name.
    fn text(&self) -> Result<(TextSource, String)> {
        if let Some(path) = &self.text {
            let (text, name) = read_text(path)?;
            return Ok((text.into(), name));
        }
        let corpus = corpus::load(self.corpus.as_deref().unwrap_or_default())?;
        let text = match self.split {
            Split::Train => corpus.train,
            Split::Valid => corpus.valid,
            Split::Test => corpus.test.ok_or_else(|| {
                Failure::new(format!("{} has no test text", corpus.name), "measure its valid text: --split valid")
            })?,
        };
        Ok((text, corpus.name))
    }
}

/// Warnings about the perplexity.
fn warnings(measurement: &Measurement, tokens: usize, source: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if tokens < FEW_HELD_OUT {
        warnings.push(format!("{source} has {tokens} tokens only: its perplexity is a rough figure"));
    }
    let unknown = measurement.unknown_share();
    if unknown > MANY_UNKNOWN {
        warnings.push(format!(
            "{:.1} % of the tokens of {source} are unknown words, which are easy to predict: the perplexity says little about this text",
            100.0 * unknown,
        ));
    }
    warnings
}

impl Measurement {
    fn unknown_share(&self) -> f64 {
        self.unknown_tokens as f64 / self.tokens as f64
    }
}

fn check_streaming(path: &Path, architecture: &Architecture) -> Result<()> {
    let reason = if architecture.causality == Causality::Bidirectional {
        "sees each window as a whole (bidirectional)"
    } else if architecture.positions {
        "has position embeddings, which end with the window"
    } else {
        return Ok(());
    };
    Err(Failure::new(
        format!("--streaming carries the state across windows, but {} {reason}", path.display()),
        "measure it without --streaming, or train a model with model.causality=causal and model.positions=false",
    )
    .into())
}

fn print(measurement: &Measurement, printer: &mut Printer) -> Result<()> {
    let mark = mark(measurement.causality);
    printer.line(format_args!("perplexity  {}{mark}", perplexity(measurement.perplexity)))?;
    if let Some(streaming) = measurement.streaming_perplexity {
        printer.line(format_args!("streaming   {}, the state carried across windows", perplexity(streaming)))?;
    }
    let unknown = measurement.unknown_share();
    printer.line(format_args!("tokens      {}, {} unknown", grouped(measurement.tokens as u64), percent(unknown)))?;
    printer.line(format_args!(
        "bytes       {}, {} of them weights",
        grouped(measurement.bytes_total),
        grouped(measurement.bytes_weights),
    ))?;
    if let Some(note) = measurement.note {
        printer.line(format_args!("note        {note}: the model sees the tokens that it should predict"))?;
    }
    Ok(())
}
