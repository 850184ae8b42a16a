//! A finished run as a page and pictures. All of it comes from summary.json, metrics.jsonl and recipe.toml.

mod axis;
mod canvas;
mod front;
mod labels;
mod losses;
mod page;
mod tradeoff;

use crate::run_folder::{read_metrics, read_recipe, read_summary};
use anyhow::{Context, Result};
use page::Pictures;
use resnet_bk_runtime::atomic::write_atomically;
use std::path::{Path, PathBuf};

/// Loss of every step, one stage after the other.
const LOSSES: &str = "compression_training_losses.png";
/// Bytes against perplexity.
const TRADEOFF: &str = "compression_tradeoff.png";
/// The planner's trials.
const PLAN: &str = "compression_plan.png";
/// Everything on one page.
const PAGE: &str = "report.html";

/// Writes the report of the run in a folder; the files that were written.
pub fn write(run: &Path) -> Result<Vec<PathBuf>> {
    let summary = read_summary(run)?;
    let stages = read_metrics(run)?;
    let pictures = Pictures {
        losses: losses::draw(&stages, &summary)?,
        tradeoff: tradeoff::draw(&summary)?,
        plan: summary.plan.as_ref().map(front::draw).transpose()?,
    };
    let page = page::render(&summary, read_recipe(run).as_deref(), &pictures);
    let mut files = vec![(LOSSES, pictures.losses.as_slice()), (TRADEOFF, pictures.tradeoff.as_slice())];
    files.extend(pictures.plan.as_deref().map(|png| (PLAN, png)));
    files.push((PAGE, page.as_bytes()));
    let write = |(name, bytes): (&str, &[u8])| {
        let path = run.join(name);
        write_atomically(&path, bytes).with_context(|| format!("can not write {}", path.display()))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}
