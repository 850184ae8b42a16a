//! The runs below a folder, with their key figures.

mod time;

use crate::run_folder::{StageLog, read_metrics, read_recipe, read_summary};
use crate::tables::missed;
use anyhow::Result;
use resnet_bk::config::{Recipe, StageKind};
use resnet_bk::observer::METRICS;
use resnet_bk::pipeline::{RECIPE, SUMMARY, is_run, is_running};
use resnet_bk::summary::Summary;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use time::shown_time;

/// What was found below a folder. Its JSON keys are a stable interface.
#[derive(Debug, Default, Serialize)]
pub struct Runs {
    /// The runs, the oldest first.
    pub runs: Vec<RunEntry>,
    /// Folders that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct RunEntry {
    /// Its folder.
    pub run: PathBuf,
    /// When its last file of results was written, in UTC.
    pub time: String,
    /// Whether it is complete.
    pub state: State,
    /// Kinds of its stages: of those that ran or, before its end, of the recipe's.
    pub stages: Vec<StageKind>,
    /// The last stage that has begun and its completed epochs, before the run's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Its result, at its end.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    #[serde(skip)]
    written: SystemTime,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has a summary.
    Complete,
    /// A process is writing to it.
    Running,
    /// It has no summary, and no process writes to it.
    Interrupted,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Name of the text.
    pub corpus: String,
    /// Perplexity of the float model that the target is measured against.
    pub float_perplexity: Option<f64>,
    /// Perplexity of the decoded artifact.
    pub perplexity: f64,
    /// Length of the artifact.
    pub bytes_total: u64,
    /// Length of its weights section.
    pub bytes_weights: u64,
    /// Float32 bytes of the float model over bytes of the weights section.
    pub ratio: Option<f64>,
    /// Whether the run reached what it should.
    pub verdict: &'static str,
}

/// A folder that cannot be read.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// The folder.
    pub run: PathBuf,
    /// Why.
    pub reason: String,
}

impl Runs {
    /// Finds the runs in a folder and below it. Hidden folders and links are not searched.
    pub fn find(folder: &Path) -> Self {
        let mut found = Self::default();
        found.search(folder);
        found.runs.sort_by(|a, b| (a.written, &a.run).cmp(&(b.written, &b.run)));
        found.unreadable.sort_by(|a, b| a.run.cmp(&b.run));
        found
    }

    fn search(&mut self, folder: &Path) {
        if is_run(folder) || folder.join(SUMMARY).is_file() {
            match read(folder) {
                Ok(entry) => self.runs.push(entry),
                Err(error) => self.cannot_read(folder, format!("{error:#}")),
            }
            // The folders of its stages hold no runs.
            return;
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.cannot_read(folder, crate::failure::system_message(&error)),
        };
        for entry in entries.flatten() {
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.search(&entry.path());
            }
        }
    }

    fn cannot_read(&mut self, folder: &Path, reason: String) {
        self.unreadable.push(Unreadable { run: folder.to_owned(), reason });
    }
}

fn read(folder: &Path) -> Result<RunEntry> {
    let is_complete = folder.join(SUMMARY).is_file();
    let (state, stages, progress, figures) = if is_complete {
        let summary = read_summary(folder)?;
        (State::Complete, summary.stages.iter().map(|stage| stage.kind).collect(), None, Some(figures(&summary)))
    } else {
        let recipe = Recipe::parse(&read_recipe(folder).unwrap_or_default(), RECIPE, &[])?;
        let progress = read_metrics(folder)?.last().map(progress);
        let state = if is_running(folder) { State::Running } else { State::Interrupted };
        (state, recipe.stages.iter().map(|stage| stage.kind()).collect(), progress, None)
    };
    let files: &[&str] = if is_complete { &[SUMMARY] } else { &[METRICS, RECIPE] };
    let times = files.iter().filter_map(|name| folder.join(name).metadata().and_then(|data| data.modified()).ok());
    let written = times.max().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(RunEntry { run: folder.to_owned(), time: shown_time(written), state, stages, progress, figures, written })
}

fn progress(log: &StageLog) -> String {
    let epochs = log.epochs.last().map_or(0, |&(epoch, _)| epoch);
    format!("stage {} {}, {epochs} epochs done", log.stage, log.kind)
}

fn figures(summary: &Summary) -> Figures {
    let baseline = summary.baselines.of(summary.target.against).measured();
    Figures {
        corpus: summary.corpus.name.clone(),
        float_perplexity: baseline.map(|baseline| baseline.valid_perplexity),
        perplexity: summary.artifact.valid_perplexity,
        bytes_total: summary.artifact.bytes_total,
        bytes_weights: summary.artifact.bytes_weights,
        ratio: summary.ratio,
        verdict: match (summary.worse_than_ngrams(), summary.target_reached) {
            (Some(_), _) if missed(summary).is_empty() => "no better than counts",
            (Some(_), _) => "missed; no better than counts",
            (None, Some(true)) => "reached",
            (None, Some(false)) => "missed",
            (None, None) => "no target",
        },
    }
}
