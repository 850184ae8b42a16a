//! The report of a finished run: a page and pictures, drawn from summary.json, metrics.jsonl and
//! recipe.toml.

mod area;
mod axis;
mod canvas;
mod codes;
mod compare;
mod continuations;
mod experts;
mod frame;
mod front;
mod html;
mod label_costs;
mod labels;
#[cfg(test)]
mod labels_tests;
mod losses;
mod marks;
mod objective;
mod page;
mod palette;
mod provenance;
mod series;
mod text;
mod tradeoff;
mod treemap;
mod warnings;

use crate::run_folder::{read_metrics, read_recipe, read_summary};
use anyhow::{Context, Result};
use canvas::{Format, NARROW, Png, WIDE};
pub use compare::write as write_comparison;
use objective::Objectives;
use page::{Drawing, Pictures};
use resnet_bk::config::Recipe;
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::path::{Path, PathBuf};

/// Loss of every step of all stages.
const LOSSES: &str = "compression_training_losses.png";
/// Bytes against perplexity.
const TRADEOFF: &str = "compression_tradeoff.png";
/// Trials of the planner.
const PLAN: &str = "compression_plan.png";
/// The page.
const PAGE: &str = "report.html";

/// Writes the report into the folder of a run and returns the written files.
pub fn write(run: &Path) -> Result<Vec<PathBuf>> {
    let summary = read_summary(run)?;
    let stages = read_metrics(run)?;
    let recipe = read_recipe(run);
    let parsed = recipe.as_deref().and_then(|text| Recipe::parse(text, "recipe.toml", &[]).ok());
    let objectives = Objectives::of(&summary.stages, parsed.as_ref());
    let pictures = Pictures {
        losses: twice(|format| losses::draw(&stages, &objectives, &summary, format))?,
        tradeoff: twice(|format| tradeoff::draw(&tradeoff::of_run(&summary, format), format))?,
        plan: summary.plan.as_ref().map(|plan| twice(|format| front::draw(plan, &summary, format))).transpose()?,
    };
    let page = page::render(&summary, recipe.as_deref(), &pictures);
    let mut files = vec![(LOSSES, pictures.losses.wide.file.as_slice()), (TRADEOFF, &pictures.tradeoff.wide.file)];
    files.extend(pictures.plan.as_ref().map(|plan| (PLAN, plan.wide.file.as_slice())));
    files.push((PAGE, page.as_bytes()));
    let write = |(name, bytes): (&str, &[u8])| {
        let path = run.join(name);
        replace_file(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// Draws a picture for desktops and for phones. A wide picture on a phone would have letters 6
/// pixels high, or would need scrolling. So it is drawn again in a narrow format with text of full
/// size.
fn twice(draw: impl Fn(Format) -> Result<Png>) -> Result<Drawing> {
    Ok(Drawing { wide: draw(WIDE)?, narrow: draw(NARROW)? })
}

#[cfg(test)]
mod tests {
    use resnet_bk::summary::Summary;

    /// The summary of the run in tests/data.
    pub fn summary() -> Summary {
        serde_json::from_str(include_str!("../../tests/data/run/summary.json")).expect("a summary")
    }
}
