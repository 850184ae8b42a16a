//! `resnet-bk runs`: the runs below a folder.

use crate::Outcome;
use crate::failure::Failure;
use crate::printer::{Printer, Table, grouped, note, perplexity, ratio};
use crate::run_folder::is_a_file;
use crate::runs::{RunEntry, Runs, State};
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

/// List the runs below a folder with their key figures, the newest last
///
/// A run is a folder that `train` or `compress` has written. Times are those of its files, in UTC.
#[derive(Args)]
pub struct RunsArguments {
    /// The folder
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Finds the runs and prints them.
pub fn run(arguments: &RunsArguments, printer: &mut Printer) -> Result<Outcome> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        let hint = "pass a folder that holds folders of runs, such as the parent of --out";
        if folder.is_file() {
            return Err(is_a_file(folder, hint).into());
        }
        return Err(Failure::new(format!("there is no folder {}", folder.display()), hint).into());
    }
    let found = Runs::find(folder);
    if arguments.json {
        printer.json(&found)?;
        return Ok(Outcome::Done);
    }
    for unreadable in &found.unreadable {
        note(&format!("warning: {} cannot be read: {}", unreadable.run.display(), unreadable.reason));
    }
    if found.runs.is_empty() {
        note(&format!("there are no runs in {}", folder.display()));
        return Ok(Outcome::Done);
    }
    printer.line(table(&found, folder))?;
    Ok(Outcome::Done)
}

fn table(found: &Runs, folder: &Path) -> Table {
    let mut table = Table::new([
        "run",
        "time (UTC)",
        "stages",
        "text",
        "float perplexity",
        "perplexity",
        "bytes",
        "ratio",
        "result",
    ]);
    for entry in &found.runs {
        let name = entry.run.strip_prefix(folder).unwrap_or(&entry.run).display().to_string();
        let stages: Vec<String> = entry.stages.iter().map(ToString::to_string).collect();
        let figures = entry.figures.as_ref();
        let figure = |value: Option<String>| value.unwrap_or_default();
        table.row([
            if name.is_empty() { ".".to_owned() } else { name },
            entry.time.get(..16).unwrap_or(&entry.time).replace('T', " "),
            stages.join(" "),
            figure(figures.map(|figures| figures.corpus.clone())),
            figure(figures.and_then(|figures| figures.float_perplexity).map(perplexity)),
            figure(figures.map(|figures| perplexity(figures.perplexity))),
            figure(figures.map(|figures| grouped(figures.bytes_total))),
            figure(figures.and_then(|figures| figures.ratio).map(ratio)),
            result(entry),
        ]);
    }
    table
}

/// The verdict of a complete run, or how far another has come.
fn result(entry: &RunEntry) -> String {
    let state = match entry.state {
        State::Complete => return entry.figures.as_ref().map_or("", |figures| figures.verdict).to_owned(),
        State::Running => "running",
        State::Interrupted => "interrupted",
    };
    entry.progress.as_ref().map_or_else(|| state.to_owned(), |progress| format!("{state}: {progress}"))
}
