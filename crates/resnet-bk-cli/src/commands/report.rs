//! `resnet-bk report`: page and pictures of a finished run.

use crate::printer::note;
use crate::{Outcome, report};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Draw a finished run: report.html and its pictures, from summary.json and metrics.jsonl
#[derive(Args)]
pub struct Report {
    /// Folder of the run
    run: PathBuf,
}

/// Writes the files.
pub fn run(arguments: &Report) -> Result<Outcome> {
    for path in report::write(&arguments.run)? {
        note(&format!("wrote {}", path.display()));
    }
    Ok(Outcome::Done)
}
