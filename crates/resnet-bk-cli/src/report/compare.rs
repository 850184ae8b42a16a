//! The page that compares several runs: one table and one picture. It is of one held-out text, in the
//! same words, because other perplexities cannot be compared.

use super::canvas::Format;
use super::html::{escape, picture, table};
use super::marks::Role;
use super::page::{document, sentence};
use super::tradeoff::{self, Model, View};
use super::twice;
use crate::failure::Failure;
use crate::output::{self, refuse_others};
use crate::printer::{Table, change, grouped, perplexity, ratio, seconds};
use crate::run_folder::read_summary;
use crate::tables::{mark, ngrams};
use anyhow::Result;
use resnet_bk::summary::{Measured, Summary};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A finished run.
struct Run {
    name: String,
    summary: Summary,
}

/// Writes the page that compares these runs. Of existing files, it replaces only such a page.
pub fn write(folders: &[PathBuf], out: &Path) -> Result<()> {
    let hint = "choose another file for --out, such as compared.html";
    refuse_others(out, "report", "an earlier comparison", hint, is_comparison)?;
    let runs = read(folders)?;
    check(&runs)?;
    let page = render(&runs)?;
    output::write(out, page.as_bytes())
}

/// Title of the page.
fn title(runs: usize) -> String {
    format!("ResNet-BK: {runs} {COMPARED}")
}

/// Last words of the title, by which a page is recognized.
const COMPARED: &str = "runs compared";

/// Whether a file that begins like this is such a page.
fn is_comparison(start: &str) -> bool {
    let title = start.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.is_some_and(|(title, _)| title.starts_with("ResNet-BK: ") && title.ends_with(COMPARED))
}

/// The runs, named by their folders: by the last part of the path if that tells them apart.
fn read(folders: &[PathBuf]) -> Result<Vec<Run>> {
    let last = |folder: &PathBuf| folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_short = |folder: &PathBuf| folders.iter().filter(|other| last(other) == last(folder)).count() == 1;
    let run = |folder: &PathBuf| {
        let name = last(folder).filter(|_| is_short(folder)).unwrap_or_else(|| folder.display().to_string());
        Ok(Run { name, summary: read_summary(folder)? })
    };
    folders.iter().map(run).collect()
}

/// Checks that the perplexities can be compared.
fn check(runs: &[Run]) -> Result<(), Failure> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    for run in others {
        let (a, b) = (&first.summary, &run.summary);
        let texts = [&a.corpus.fingerprint, &b.corpus.fingerprint];
        let difference = if texts[0].valid != texts[1].valid && texts[0].vocabulary == texts[1].vocabulary {
            "another held-out text"
        } else if texts[0].vocabulary != texts[1].vocabulary {
            "another vocabulary"
        } else if texts[0].tokenizer != texts[1].tokenizer {
            "another tokenizer"
        } else if a.causality != b.causality {
            "another causality"
        } else {
            continue;
        };
        return Err(Failure::new(
            format!("{} and {} cannot be compared: the second has {difference}", first.name, run.name),
            "compare runs with one held-out text, one vocabulary and one model.causality; perplexities of others \
             measure different things",
        ));
    }
    Ok(())
}

/// Whether all runs were trained on one text, so that their n-gram baselines are equal.
fn have_one_training_text(runs: &[Run]) -> bool {
    runs.windows(2).all(|pair| {
        pair[0].summary.corpus.fingerprint.train == pair[1].summary.corpus.fingerprint.train
            && pair[0].summary.ngrams == pair[1].summary.ngrams
    })
}

fn render(runs: &[Run]) -> Result<String> {
    let title = title(runs.len());
    let corpus = &runs[0].summary.corpus;
    let mut body = format!(
        "<h1>{}</h1>\n<p>{}: {} held-out tokens in {} words.</p>\n",
        escape(&title),
        escape(&corpus.name),
        grouped(corpus.valid_tokens as u64),
        grouped(corpus.vocab_size as u64)
    );
    let warnings = warnings(runs);
    if !warnings.is_empty() {
        let items: String = warnings.iter().map(|text| format!("<li>{}.</li>\n", escape(&sentence(text)))).collect();
        let _ = write!(body, "<ul class=\"warnings\">\n{items}</ul>\n");
    }
    body += &table(&rows(runs), &[]);
    body += "<h2>Size against quality</h2>\n";
    let drawing = twice(|format| tradeoff::draw(&view(runs, format), format))?;
    body += &picture(&drawing, "Bytes of weights against valid perplexity: the artifacts and their best float models");
    Ok(document(&title, &body))
}

fn warnings(runs: &[Run]) -> Vec<String> {
    let worse = |run: &Run| Some(format!("{}: {}", run.name, run.summary.worse_than_ngrams()?));
    let mut warnings: Vec<String> = runs.iter().filter_map(worse).collect();
    if !have_one_training_text(runs) {
        warnings.push("the runs were not trained on one text; n-gram baselines are left out".to_owned());
    }
    warnings
}

fn best(run: &Run) -> Option<&Measured> {
    run.summary.baselines.best.measured()
}

/// One row per run.
fn rows(runs: &[Run]) -> Table {
    let mut table = Table::new([
        "run",
        "bytes of weights",
        "valid perplexity",
        "best float model",
        "ratio (fp32)",
        "against it",
        "bytes of the file",
        "target",
        "stages",
        "seconds",
    ]);
    for run in runs {
        let Run { name, summary } = run;
        let artifact = &summary.artifact;
        let of_best = |write: &dyn Fn(&Measured) -> String| best(run).map_or_else(|| "not measured".to_owned(), write);
        let stages: Vec<String> = summary.stages.iter().map(|stage| stage.kind.to_string()).collect();
        let target = match summary.target_reached {
            None => "none",
            Some(true) => "reached",
            Some(false) => "missed",
        };
        table.row([
            name.clone(),
            grouped(artifact.bytes_weights),
            format!("{}{}", perplexity(artifact.valid_perplexity), mark(summary.causality)),
            of_best(&|best| format!("{}, {}", grouped(best.weights_bytes), perplexity(best.valid_perplexity))),
            of_best(&|best| ratio(best.weights_bytes as f64 / artifact.bytes_weights as f64)),
            of_best(&|best| change(artifact.valid_perplexity / best.valid_perplexity - 1.0)),
            grouped(artifact.bytes_total),
            target.to_owned(),
            stages.join(", "),
            seconds(summary.seconds),
        ]);
    }
    table
}

/// The artifacts, and the float models that they come from.
fn view(runs: &[Run], format: Format) -> View {
    let mut floats: Vec<(&Measured, Vec<&str>)> = Vec::new();
    for (best, run) in runs.iter().filter_map(|run| Some((best(run)?, run))) {
        let figures = |measured: &Measured| (measured.weights_bytes, measured.valid_perplexity);
        match floats.iter_mut().find(|(other, _)| figures(other) == figures(best)) {
            Some((_, names)) => names.push(&run.name),
            None => floats.push((best, vec![&run.name])),
        }
    }
    let float = |(best, names): &(&Measured, Vec<&str>)| {
        let name = if names.len() == runs.len() {
            "best float".to_owned()
        } else {
            format!("best float of {}", names.join(", "))
        };
        Model::new(Role::Best, &name, best.weights_bytes, best.valid_perplexity, format)
    };
    let artifact = |(index, run): (usize, &Run)| {
        let artifact = &run.summary.artifact;
        Model::new(Role::Run(index + 1), &run.name, artifact.bytes_weights, artifact.valid_perplexity, format)
    };
    let models = floats.iter().map(float).chain(runs.iter().enumerate().map(artifact)).collect();
    View {
        title: format!("{} runs on {}", runs.len(), runs[0].summary.corpus.name),
        notes: Vec::new(),
        mark: mark(runs[0].summary.causality),
        models,
        ngrams: if have_one_training_text(runs) { ngrams(&runs[0].summary).to_vec() } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    fn run(name: &str, bytes_weights: u64) -> Run {
        let mut summary = summary();
        summary.artifact.bytes_weights = bytes_weights;
        Run { name: name.to_owned(), summary }
    }

    #[test]
    fn each_run_has_a_row_and_equal_float_models_one_mark() {
        let runs = [run("a", 166_172), run("b", 90_000)];
        let table = rows(&runs);
        assert_eq!(table.rows()[2][..3], ["b", "90,000", "297.60"].map(str::to_owned));
        assert_eq!([4, 8].map(|column| &*table.rows()[2][column]), ["184.3x", "train, qat, prune, distill"]);
        let page = render(&runs).expect("a page");
        assert!(page.contains("2 runs compared") && !page.contains("class=\"warnings\""), "{page}");
        assert_eq!(view(&runs, super::super::canvas::WIDE).models.len(), 3);
    }

    #[test]
    fn runs_of_other_texts_are_refused_and_other_training_texts_warned_of() {
        let mut runs = [run("a", 1_000), run("b", 900)];
        assert!(check(&runs).is_ok());
        runs[1].summary.corpus.fingerprint.train = "0".to_owned();
        assert!(check(&runs).is_ok() && warnings(&runs)[0].contains("not trained on one text"));
        assert!(view(&runs, super::super::canvas::WIDE).ngrams.is_empty());
        runs[1].summary.corpus.fingerprint.valid = "0".to_owned();
        let failure = check(&runs).expect_err("another text").to_string();
        assert!(failure.contains("a and b cannot be compared: the second has another held-out text"), "{failure}");
    }
}
