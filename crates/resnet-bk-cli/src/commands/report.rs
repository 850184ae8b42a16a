//! `resnet-bk report`: page and pictures of a finished run, or a comparison of several.

use crate::printer::note;
use crate::{Outcome, report};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Draw a finished run: report.html and its pictures, from summary.json and metrics.jsonl
#[derive(Args)]
#[command(override_usage = "resnet-bk report <RUN>\n       resnet-bk report --compare <RUN> <RUN>... --out <FILE>")]
pub struct Report {
    /// Folder of the run
    #[arg(required_unless_present = "compare")]
    run: Option<PathBuf>,
    /// Compare these runs instead, in one table and one picture
    #[arg(long, value_name = "RUN", num_args = 2.., requires = "out", conflicts_with = "run")]
    compare: Vec<PathBuf>,
    /// The page that compares them; of existing files, only such a page is replaced
    #[arg(long, value_name = "FILE", requires = "compare")]
    out: Option<PathBuf>,
}

/// Writes the files.
pub fn run(arguments: &Report) -> Result<Outcome> {
    if let Some(out) = &arguments.out {
        report::write_comparison(&arguments.compare, out)?;
        note(&format!("wrote {}", out.display()));
    }
    if let Some(run) = &arguments.run {
        for path in report::write(run)? {
            note(&format!("wrote {}", path.display()));
        }
    }
    Ok(Outcome::Done)
}
