//! report.html: one file, no scripts, pictures inside, light or dark as the reader's system is.

use crate::printer::{Table, change, percent, perplexity, ratio};
use crate::tables::{NOT_CAUSAL, comparison, facts, ledger, missed, stages, trials};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use resnet_bk::observer::Removal;
use resnet_bk::summary::Summary;
use resnet_bk_runtime::architecture::Causality;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The page's pictures, PNG files.
pub struct Pictures {
    /// Loss of every step.
    pub losses: Vec<u8>,
    /// The way from the baseline to the artifact.
    pub tradeoff: Vec<u8>,
    /// The planner's trials, where there was one.
    pub plan: Option<Vec<u8>>,
}

/// The page.
pub fn render(summary: &Summary, recipe: Option<&str>, pictures: &Pictures) -> String {
    let title = match summary.ratio {
        Some(found) => format!("ResNet-BK: {} compressed {}", summary.corpus.name, ratio(found)),
        None => format!("ResNet-BK: {}", summary.corpus.name),
    };
    let mut body = format!("<h1>{}</h1>\n{}", escape(&title), verdict(summary));
    if summary.causality == Causality::Bidirectional {
        let _ = writeln!(body, "<p class=\"missed\">Bidirectional model: every perplexity here is {NOT_CAUSAL}.</p>");
    }
    body += "<h2>Stages</h2>\n";
    body += &table(&stages(summary));
    body += "<h2>Compared</h2>\n";
    body += &table(&comparison(summary));
    body += "<dl>\n";
    for (name, fact) in facts(summary) {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", escape(&fact));
    }
    body += "</dl>\n<h2>Size against quality</h2>\n";
    body +=
        &picture(&pictures.tradeoff, "Bytes of weights against valid perplexity, from the baseline to the artifact");
    if let Some((plan, png)) = summary.plan.as_ref().zip(pictures.plan.as_deref()) {
        body += "<h2>What the planner tried</h2>\n";
        body += &picture(png, "Bytes of weights against perplexity of the planner's trials, with the front");
        body += &table(&trials(plan));
    }
    body += "<h2>Training</h2>\n";
    body += &picture(&pictures.losses, "Loss of every step, one stage after the other");
    body += "<h2>Where the bytes go</h2>\n";
    body += &table(&ledger(&summary.artifact.ledger));
    if !summary.removals.is_empty() {
        body += "<h2>Experts that went</h2>\n";
        body += &table(&removals(&summary.removals));
    }
    if let Some(recipe) = recipe {
        let _ = writeln!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(recipe));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escape(&title),
    )
}

fn verdict(summary: &Summary) -> String {
    let against = summary.target.against;
    let baseline = summary.baselines.of(against).measured();
    let result = match (summary.ratio, summary.loss, baseline) {
        (Some(smaller), Some(loss), Some(baseline)) => format!(
            "<p class=\"result\"><b>{}</b> fewer bytes of weights than {against} in float32, perplexity <b>{}</b> ({} to {})</p>\n",
            ratio(smaller),
            change(loss),
            perplexity(baseline.valid_perplexity),
            perplexity(summary.artifact.valid_perplexity),
        ),
        _ => format!(
            "<p class=\"result\">perplexity <b>{}</b>; {against} was not measured on this text</p>\n",
            perplexity(summary.artifact.valid_perplexity),
        ),
    };
    if let Some(sentence) = summary.worse_than_counting() {
        return result + &format!("<p class=\"missed\">Failed: {}.</p>\n", escape(&sentence));
    }
    let target = match summary.target_reached {
        None => String::new(),
        Some(true) => "<p class=\"reached\">Target reached.</p>\n".to_owned(),
        Some(false) => format!("<p class=\"missed\">Target missed: {}.</p>\n", escape(&missed(summary).join("; "))),
    };
    result + &target
}

fn removals(removals: &[Removal]) -> Table {
    let mut table = Table::new(["stage", "step", "block", "expert", "used", "merged into", "reason"]);
    for removal in removals {
        table.row([
            removal.stage.to_string(),
            removal.step.to_string(),
            removal.block.to_string(),
            removal.expert.to_string(),
            percent(removal.usage),
            removal.merged_into.map_or(String::new(), |other| other.to_string()),
            removal.reason.clone(),
        ]);
    }
    table
}

fn table(table: &Table) -> String {
    let mut html = "<div class=\"wide\"><table>\n".to_owned();
    for (index, row) in table.rows().iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html + "</table></div>\n"
}

fn picture(png: &[u8], description: &str) -> String {
    let data = STANDARD.encode(png);
    format!("<img alt=\"{description}\" width=\"1600\" height=\"900\" src=\"data:image/png;base64,{data}\">\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(escape("<b a=\"x\"> & co"), "&lt;b a=&quot;x&quot;&gt; &amp; co");
    }
}
