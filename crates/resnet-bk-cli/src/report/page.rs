//! report.html: a single file without scripts, with embedded pictures and light and dark themes.

use super::canvas::Png;
use super::html::{escape, picture, table};
use super::warnings::warnings;
use super::{codes, continuations, experts, provenance, treemap};
use crate::printer::{Table, change, percent, perplexity, ratio};
use crate::tables::{comparison, facts, missed, reservations, size_breakdown, stages, trials};
use resnet_bk::summary::Removal;
use resnet_bk::summary::Summary;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// A picture in two formats.
pub struct Drawing {
    /// For a desktop.
    pub wide: Png,
    /// For a phone.
    pub narrow: Png,
}

/// The page's pictures.
pub struct Pictures {
    /// Loss of every step.
    pub losses: Drawing,
    /// Bytes against perplexity, from the baseline to the artifact.
    pub tradeoff: Drawing,
    /// Trials of the planner, if there was one.
    pub plan: Option<Drawing>,
}

/// The page.
pub fn render(summary: &Summary, recipe: Option<&str>, pictures: &Pictures) -> String {
    let title = match summary.ratio {
        Some(smaller) => format!("ResNet-BK: {} compressed {}", summary.corpus.name, ratio(smaller)),
        None => format!("ResNet-BK: {}", summary.corpus.name),
    };
    let mut body = format!("<h1>{}</h1>\n{}", escape(&title), verdict(summary));
    let warnings = warnings(summary);
    if !warnings.is_empty() {
        let items: String =
            warnings.iter().map(|warning| format!("<li>{}.</li>\n", escape(&sentence(warning)))).collect();
        let _ = write!(body, "<ul class=\"warnings\">\n{items}</ul>\n");
    }
    body += "<h2>Stages</h2>\n";
    body += &table(&stages(summary), &summary.stages);
    body += "<h2>Compared</h2>\n";
    body += &table(&comparison(summary), &[]);
    body += "<dl>\n";
    // Warnings are shown at the top, the environment has a section.
    let elsewhere = ["warning", "not causal", "made by"];
    for (name, fact) in facts(summary).into_iter().filter(|(name, _)| !elsewhere.contains(name)) {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", escape(&fact));
    }
    body += "</dl>\n<h2>Size against quality</h2>\n";
    body += &picture(&pictures.tradeoff, "Bytes of weights against valid perplexity: baselines, stages and artifact");
    if let Some((plan, drawing)) = summary.plan.as_ref().zip(pictures.plan.as_ref()) {
        body += "<h2>What the planner tried</h2>\n";
        body += &picture(drawing, "Bytes of weights against perplexity of the planner's trials, with the front");
        body += &table(&trials(plan), &[]);
    }
    body += "<h2>Training</h2>\n";
    body +=
        &picture(&pictures.losses, "Loss of every step, one stage after the other, in a panel for each kind of loss");
    body += "<h2>Where the bytes go</h2>\n";
    body += &treemap::render(&summary.artifact.size_breakdown);
    body += &table(&size_breakdown(&summary.artifact.size_breakdown), &[]);
    body += &experts::render(summary);
    if !summary.removals.is_empty() {
        body += "<h2>Removed experts</h2>\n";
        body += &table(&removals(&summary.removals), &[]);
    }
    body += &codes::render(summary);
    body += &continuations::render(summary);
    body += &provenance::render(summary);
    if let Some(recipe) = recipe {
        let _ = writeln!(body, "<details><summary>Recipe</summary><pre>{}</pre></details>", escape(recipe));
    }
    document(&title, &body)
}

/// A page without scripts.
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escape(title),
    )
}

/// Comparison of the artifact with the target's baseline, and whether the target was reached.
fn verdict(summary: &Summary) -> String {
    let against = summary.target.against;
    let found = perplexity(summary.artifact.valid_perplexity);
    let result = match (summary.ratio, summary.loss, summary.baselines.of(against).measured()) {
        (Some(smaller), Some(loss), Some(baseline)) => format!(
            "<p class=\"result\"><b>{}</b> fewer bytes of weights than {against} in float32, perplexity <b>{}</b> ({} to {found})</p>\n",
            ratio(smaller),
            escape(&change(loss)),
            perplexity(baseline.valid_perplexity),
        ),
        _ => format!("<p class=\"result\">Perplexity <b>{found}</b>; {against} was not measured on this text.</p>\n"),
    };
    // Why counting predicts as well is said among the warnings below.
    let failed = if summary.worse_than_ngrams().is_some() { "<p class=\"missed\">Failed.</p>\n" } else { "" };
    let missed = missed(summary);
    let target = match summary.target_reached {
        Some(true) => format!("<p class=\"reached\">Target reached{}.</p>\n", escape(&reservations(summary))),
        Some(false) if !missed.is_empty() => {
            format!("<p class=\"missed\">Target missed: {}.</p>\n", escape(&missed.join("; ")))
        }
        _ => String::new(),
    };
    result + failed + &target
}

/// Capitalizes the first letter.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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

#[cfg(test)]
mod tests {
    use super::super::palette::tests::{TEXT_CONTRAST, contrast};
    use super::*;
    use plotters::style::RGBColor;

    /// Value of a CSS variable in its light or dark block.
    fn variable(name: &str, block: &str) -> RGBColor {
        let (_, value) = block.split_once(&format!("--{name}: #")).unwrap_or_else(|| panic!("{name} in {block}"));
        let digits: Vec<char> = value.chars().take_while(char::is_ascii_hexdigit).collect();
        let byte = |at: usize| match digits.len() {
            3 => u8::from_str_radix(&digits[at].to_string().repeat(2), 16).expect("a digit"),
            6 => u8::from_str_radix(&digits[2 * at..2 * at + 2].iter().collect::<String>(), 16).expect("two digits"),
            _ => panic!("--{name} is no color"),
        };
        RGBColor(byte(0), byte(1), byte(2))
    }

    #[test]
    fn text_has_enough_contrast_in_both_themes() {
        let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").expect("two themes");
        for (theme, block) in [("light", light), ("dark", dark)] {
            let page = variable("page", block);
            for name in ["ink", "faint", "good", "bad"] {
                let contrast = contrast(variable(name, block), page);
                assert!(contrast >= TEXT_CONTRAST, "--{name}, {theme}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn text_on_colors_has_enough_contrast_in_both_themes() {
        let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").expect("two themes");
        for (theme, block) in [("light", light), ("dark", dark)] {
            for name in ["codes", "scales", "floats", "vocabulary", "rest", "heat"] {
                let contrast = contrast(variable("ink", block), variable(name, block));
                assert!(contrast >= TEXT_CONTRAST, "ink on --{name}, {theme}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn no_text_is_smaller_than_twelve_pixels() {
        for rule in STYLE.split(['{', ';', '}']).map(str::trim).filter(|rule| rule.starts_with("font-size:")) {
            let value = rule.trim_start_matches("font-size:").trim();
            let pixels = match value.strip_suffix("rem") {
                Some(number) => 16.0 * number.parse::<f64>().expect("a number"),
                None => value.strip_suffix("px").expect("rem or px").parse().expect("a number"),
            };
            assert!(pixels >= 12.0, "{rule}");
        }
    }

    #[test]
    fn the_verdict_names_its_baseline_and_requires_beating_ngrams() {
        let mut summary = super::super::tests::summary();
        assert!(verdict(&summary).contains("than the best float model in float32"), "{}", verdict(&summary));
        summary.target_reached = Some(true);
        assert!(verdict(&summary).contains("Target reached"));
        // The run then misses its target, whatever its size.
        summary.ngrams.bigram = 200.0;
        summary.target_reached = Some(false);
        assert!(!verdict(&summary).contains("reached"), "{}", verdict(&summary));
        for reason in ["Failed.", "Target missed: the ratio"] {
            assert!(verdict(&summary).contains(reason), "{}", verdict(&summary));
        }
    }

    #[test]
    fn baselines_of_a_part_of_the_text_are_labeled() {
        let mut summary = super::super::tests::summary();
        let of_all = comparison(&summary).to_string();
        assert!(of_all.contains("bigram baseline  ") && !of_all.contains("tokens)"), "{of_all}");
        summary.ngrams.counted = Some(12_000);
        let table = comparison(&summary).to_string();
        assert!(table.contains("bigram baseline (first 12,000 tokens)"), "{table}");
        let fact = facts(&summary).into_iter().find(|(name, _)| *name == "n-grams").expect("a fact").1;
        assert!(fact.contains("of the first 12,000 training tokens only") && fact.contains("better"), "{fact}");
    }

    #[test]
    fn text_colors_come_only_from_variables() {
        let rules = STYLE.lines().filter(|line| !line.trim_start().starts_with(":root"));
        let colors = rules.flat_map(|line| line.split([';', '{'])).filter(|rule| rule.trim().starts_with("color:"));
        for rule in colors {
            assert!(rule.trim().starts_with("color: var(--"), "{rule}");
        }
    }
}
