//! `resnet-bk compress`: runs all stages of a recipe, then writes the artifact and the report.

use super::dry_run;
use crate::failure::Failure;
use crate::observers::{Progress, ProgressMode, TimeLeft, Warnings};
use crate::output::check_run_folder;
use crate::printer::{Printer, grouped};
use crate::recipe_changes::{explain, without_effect};
use crate::{Outcome, device, interrupt, model_file, original, report, tables};
use anyhow::Result;
use clap::{Args, ValueEnum};
use resnet_bk::config::{Against, Recipe, parse_loss};
use resnet_bk::corpus::{self, Cache, Corpus};
use resnet_bk::device::DeviceChoice;
use resnet_bk::export::ModelFile;
use resnet_bk::observer::{Fanout, RunLog, Silent};
use resnet_bk::pipeline::{self, GivenModel, RunRequest};
use resnet_bk::ranks::Ranks;
use resnet_bk_runtime::internal::architecture::Causality;
use std::path::{Path, PathBuf};

/// The default recipe.
const PLAN: &str = include_str!("../../../../recipes/plan.toml");

/// Train and compress: all stages of a recipe, then the packed model and the report
///
/// Without --recipe, a planner looks for the student that reaches --target or --bytes with the
/// least loss. Prints a table of the stages on stdout. Exits with 1 where the target was missed, or
/// where the model predicts no better than bigram counts. An interrupted run (Ctrl-C) loses no more
/// than the epoch it was in: the same command with --resume goes on.
#[derive(Args)]
pub struct Compress {
    #[command(flatten)]
    run: RunArguments,
    /// Start from this model instead of training one: a checkpoint, an artifact, the name of a shipped
    /// model, or a model.pt of Project ResNet-BK. It is the teacher of a recipe that goes on with
    /// distillation
    #[arg(long, visible_alias = "teacher", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The words of a model.pt, one a line, in the order of their ids; without it they are rebuilt from
    /// the training text
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// A float checkpoint to compare with, measured on this text; it takes the place of the
    /// recipe's first model
    #[arg(long, value_name = "CHECKPOINT")]
    baseline: Option<PathBuf>,
    /// What --target and --max-loss are measured against; overrides the recipe's
    #[arg(long, value_enum)]
    against: Option<AgainstArgument>,
    /// Float32 bytes of the baseline over bytes of the artifact's weights, at least; overrides the
    /// recipe's
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, allow_hyphen_values = true)]
    target: Option<f64>,
    /// Largest allowed increase of valid perplexity against the baseline: 15% or 0.15; overrides
    /// the recipe's
    #[arg(long, value_name = "LOSS", value_parser = parse_max_loss, allow_hyphen_values = true)]
    max_loss: Option<f64>,
    /// Length of the packed model, vocabulary included, at most: 60kB, 1.5MB or a number of bytes;
    /// overrides the recipe's
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, allow_hyphen_values = true)]
    bytes: Option<u64>,
}

/// Baselines, with their names in recipes.
#[derive(Clone, Copy, ValueEnum)]
enum AgainstArgument {
    /// The recipe's first model
    Baseline,
    /// The best float model of the run
    Best,
}

impl From<AgainstArgument> for Against {
    fn from(argument: AgainstArgument) -> Self {
        match argument {
            AgainstArgument::Baseline => Self::Baseline,
            AgainstArgument::Best => Self::Best,
        }
    }
}

/// Arguments of both `train` and `compress`.
#[derive(Args)]
pub struct RunArguments {
    /// The recipe, a TOML file
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// `embedded`, a folder with train.txt and valid.txt, or `wikitext-2`, `wikitext-103`,
    /// `openwebtext`
    #[arg(long)]
    corpus: String,
    /// Folder of the run: recipe.toml, metrics.jsonl, checkpoints, model.rbk, summary.json,
    /// report.html; only --dry-run does without
    #[arg(long, value_name = "RUN", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Go on with the run in that folder
    #[arg(long)]
    resume: bool,
    /// Keep nothing of a large text in the cache folder, and use nothing from there
    #[arg(long)]
    no_cache: bool,
    /// Where to train: auto takes a GPU if there is one; cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = device::parse)]
    device: DeviceChoice,
    /// Change a value of the recipe, such as model.d_model=32 or stage.0.schedule.epochs=1; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What stderr shows of the run; a bar where stderr is a terminal and lines elsewhere if it is not
    /// said
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressMode>,
    /// Check everything, take a few steps of each stage, and print what the run will be: stages, time,
    /// memory and sizes. Nothing is trained or written but the caches of texts
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Print the result of --dry-run as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
}

impl RunArguments {
    /// The run's folder. Without `--out`, one that does not exist, into which a dry run writes nothing.
    fn folder(&self) -> PathBuf {
        let unused = || std::env::temp_dir().join(format!("resnet-bk-dry-run-{}", std::process::id()));
        self.out.clone().unwrap_or_else(unused)
    }

    /// The given recipe, or the planner's, with the `--set` values.
    pub fn recipe(&self) -> Result<Recipe> {
        self.recipe_with(&self.set)
    }

    fn recipe_with(&self, set: &[String]) -> Result<Recipe> {
        Ok(match &self.recipe {
            Some(path) => Recipe::read(path, set)?,
            None => Recipe::parse(PLAN, "the planner's recipe", set)?,
        })
    }
}

/// Runs the stages and prints the summary.
pub fn run(arguments: &Compress, ranks: &Ranks, printer: &mut Printer) -> Result<Outcome> {
    let mut recipe = arguments.run.recipe()?;
    if arguments.run.recipe.is_none() && arguments.bytes.is_some() {
        // A budget of bytes replaces the target of the planner's recipe, but not one from `--set`.
        let is_set = |key: &str| arguments.run.set.iter().any(|set| set.split('=').next().map(str::trim) == Some(key));
        recipe.target.ratio = recipe.target.ratio.filter(|_| is_set("target.ratio"));
        recipe.target.max_loss = recipe.target.max_loss.filter(|_| is_set("target.max_loss"));
    }
    recipe.target.ratio = arguments.target.or(recipe.target.ratio);
    recipe.target.bytes = arguments.bytes.or(recipe.target.bytes);
    recipe.target.max_loss = arguments.max_loss.or(recipe.target.max_loss);
    recipe.target.against = arguments.against.map_or(recipe.target.against, Against::from);
    let kinds = [
        arguments.model.as_deref().map(model_file::check_model).transpose()?,
        arguments.baseline.as_deref().map(model_file::check_checkpoint).transpose()?,
    ];
    let takes_vocabulary = kinds.contains(&Some(ModelFile::Original));
    let (model, baseline) = (arguments.model.clone(), arguments.baseline.clone());
    let vocabulary = arguments.vocabulary.as_deref();
    if vocabulary.is_some() && !takes_vocabulary {
        let message = "--vocabulary is for a model.pt of Project ResNet-BK, but none is given";
        return Err(Failure::new(message, "leave out --vocabulary, or pass the model.pt to --model").into());
    }
    Run { recipe, arguments: &arguments.run, model, baseline, vocabulary }.execute(ranks, printer)
}

/// A run to execute.
pub struct Run<'a> {
    /// Its recipe.
    pub recipe: Recipe,
    /// Its arguments.
    pub arguments: &'a RunArguments,
    /// The model to start from.
    pub model: Option<PathBuf>,
    /// An additional float checkpoint to compare with.
    pub baseline: Option<PathBuf>,
    /// The words of a model that has none of its own.
    pub vocabulary: Option<&'a Path>,
}

impl Run<'_> {
    /// Runs the stages, writes the report and prints the table. Several processes run one recipe
    /// together, and rank 0 speaks for them.
    pub fn execute(self, ranks: &Ranks, printer: &mut Printer) -> Result<Outcome> {
        let RunArguments { resume, no_cache, .. } = self.arguments;
        let out = self.arguments.folder();
        ranks.share_result(|| check_run_folder(&out, *resume))?;
        let shown = ProgressMode::resolve(self.arguments.progress);
        let device = device::open_on(ranks, self.arguments.device, shown)?;
        // The first one downloads a text for the others.
        let corpus = ranks.in_turns(|| corpus::load(&self.arguments.corpus))?;
        let cache = if *no_cache { Cache::disabled() } else { Cache::from_env() };
        if !ranks.leads() {
            let Self { recipe, model, baseline, .. } = self;
            // Rank 0's models count.
            let [model, baseline] = [model, baseline].map(|path| path.map(GivenModel::from));
            let (resume, ranks) = (*resume, ranks.clone());
            let request = RunRequest { recipe, corpus, cache, out, resume, model, baseline, device, ranks };
            match self.arguments.dry_run {
                true => drop(pipeline::forecast(&request, &mut Silent)?),
                false => drop(pipeline::run(&request, &mut Silent)?),
            }
            return Ok(Outcome::Done);
        }
        for warning in without_effect(&self.arguments.set, |set| self.arguments.recipe_with(set)) {
            shown.warning(&warning);
        }
        if let Some(license) = &corpus.license {
            shown.fact(&format!("text: {license}"));
        }
        if !ranks.are_alone() {
            shown.fact(&format!("processes: {}, each with batches of the recipe's size", ranks.count()));
        }
        let Self { recipe, arguments, model, baseline, vocabulary } = self;
        let is_original = |path: &PathBuf| ModelFile::of(path).is_ok_and(|kind| kind == ModelFile::Original);
        // Models of the original project are bidirectional, whatever the recipe's would be.
        let begins_bidirectional = model.as_ref().is_some_and(is_original);
        let causality = if begins_bidirectional { Causality::Bidirectional } else { recipe.model.causality };
        let say = |fact: &str| shown.fact(fact);
        let given = |path: PathBuf| match model_file::given(&path, say)? {
            Some(shipped) => Ok(shipped),
            None => original::given(path, &arguments.set, vocabulary, &corpus.train, say),
        };
        let (model, baseline) = (model.map(given).transpose()?, baseline.map(given).transpose()?);
        if corpus.train.is_on_disk() {
            shown.fact(&large_text(&corpus, &cache));
        }
        let is_on_cpu = device.cuda().is_none();
        let (resume, ranks) = (*resume, ranks.clone());
        let request = RunRequest { recipe, corpus, cache, out: out.clone(), resume, model, baseline, device, ranks };
        if arguments.dry_run {
            shown.fact("checking the run, then timing a few steps of each stage");
            let forecast = pipeline::forecast(&request, &mut Warnings(shown))?;
            return dry_run::print(&forecast, arguments.json, printer);
        }
        let RunRequest { recipe, model, ranks, .. } = &request;
        let time_left = TimeLeft::new(pipeline::work(recipe, model.is_some()), model.is_some(), ranks.count());
        let mut progress = Progress::new(shown, causality, time_left, is_on_cpu);
        interrupt::watch(out.clone(), progress.bar(), ranks.count());
        let mut log = RunLog::new(&out, resume);
        let result = pipeline::run(&request, &mut Fanout(vec![&mut progress, &mut log]));
        drop(progress);
        let logged = log.finish();
        let summary = result.map_err(|error| explain(error, &request.recipe))?;
        if let Err(error) = logged {
            shown.warning(&error.to_string());
        }
        // Write the files first, because printing can fail.
        if let Err(error) = report::write(&out) {
            shown.warning(&format!("the report was not written: {error:#}"));
        }
        if let Some(sentence) = summary.worse_than_ngrams() {
            shown.verdict(&format!("failed: {sentence}"));
        }
        for missed in tables::missed(&summary) {
            shown.verdict(&format!("target missed: {missed}"));
        }
        printer.line(tables::stages(&summary))?;
        printer.line("")?;
        printer.line(tables::comparison(&summary))?;
        printer.line("")?;
        for (name, fact) in tables::facts(&summary) {
            printer.line(format_args!("{name:<16}  {fact}"))?;
        }
        printer.flush()?;
        Ok(if summary.succeeded() { Outcome::Done } else { Outcome::TargetMissed })
    }
}

/// What happens to a text that is not read into memory.
fn large_text(corpus: &Corpus, cache: &Cache) -> String {
    let bytes = grouped(corpus.train.bytes());
    match cache.folder() {
        Some(folder) => format!(
            "text: {bytes} bytes to train on; its tokens are kept in {}, so only the first start reads it",
            folder.display()
        ),
        None => format!("text: {bytes} bytes to train on; without a cache folder, every start reads it"),
    }
}

/// `100` or `100x`.
fn parse_ratio(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix(['x', 'X']).unwrap_or(text);
    let ratio = number.trim().parse().map_err(|_| "write a number such as 100".to_owned())?;
    if f64::is_finite(ratio) && ratio > 0.0 { Ok(ratio) } else { Err("it must be finite and above 0".to_owned()) }
}

/// `15%` or `0.15`.
fn parse_max_loss(text: &str) -> Result<f64, String> {
    parse_loss(text).map_err(|allowed| format!("it must be {allowed}; write 15% or 0.15, for example"))
}

/// `60000`, `60kB` or `1.5MB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let form = || "write a number of bytes such as 60000, 60kB or 1.5MB".to_owned();
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        _ => return Err(form()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| form())?;
    let bytes = number * unit;
    if unit == 1.0 && number.fract() != 0.0 {
        return Err(form());
    }
    // TOML integers end at i64::MAX.
    if (1.0..i64::MAX as f64).contains(&bytes) { Ok(bytes as u64) } else { Err(form()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_have_a_unit() {
        let parsed = ["60000", "60kB", "1.5 MB", "7b", "1.1kB"].map(parse_bytes);
        assert_eq!(parsed, [Ok(60_000), Ok(60_000), Ok(1_500_000), Ok(7), Ok(1_100)]);
        for wrong in ["", "kB", "-1", "0", "1.5", "3 GB", "NaN", "many", "99999999999999999999", "1e300"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_planners_recipe_is_valid() {
        let recipe = Recipe::parse(PLAN, "plan.toml", &[]).expect("a recipe");
        assert_eq!(recipe.target.ratio, Some(100.0));
    }

    #[test]
    fn a_ratio_may_end_with_x() {
        assert_eq!([parse_ratio("100"), parse_ratio("99.5x")], [Ok(100.0), Ok(99.5)]);
        for wrong in ["0", "-3", "inf", "ten"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
