//! A finished run as a page and two pictures. All of it comes from summary.json, metrics.jsonl and recipe.toml.

mod axis;
mod canvas;
mod labels;
mod losses;
mod page;
mod tradeoff;

use crate::run_folder::{read_metrics, read_recipe, read_summary};
use anyhow::{Context, Result};
use resnet_bk_runtime::atomic::write_atomically;
use std::path::{Path, PathBuf};

/// Loss of every step, one stage after the other.
const LOSSES: &str = "compression_training_losses.png";
/// Bytes against perplexity.
const TRADEOFF: &str = "compression_tradeoff.png";
/// Everything on one page.
const PAGE: &str = "report.html";

/// Writes the report of the run in a folder; the files that were written.
pub fn write(run: &Path) -> Result<Vec<PathBuf>> {
    let summary = read_summary(run)?;
    let stages = read_metrics(run)?;
    let losses = losses::draw(&stages, &summary)?;
    let tradeoff = tradeoff::draw(&summary)?;
    let page = page::render(&summary, read_recipe(run).as_deref(), &losses, &tradeoff);
    let files = [(LOSSES, losses.as_slice()), (TRADEOFF, tradeoff.as_slice()), (PAGE, page.as_bytes())];
    let write = |(name, bytes): (&str, &[u8])| {
        let path = run.join(name);
        write_atomically(&path, bytes).with_context(|| format!("can not write {}", path.display()))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}
