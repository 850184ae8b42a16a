//! The whole command line on a tiny text: compress, then everything that can be done with what comes out.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny.toml");

/// A folder with a corpus in it.
struct Place(tempfile::TempDir);

impl Place {
    /// Sentences of a small grammar: something to learn in a few steps.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        let corpus = place.path("corpus");
        std::fs::create_dir(&corpus).expect("a folder");
        for (name, lines, shift) in [("train.txt", 600, 0), ("valid.txt", 60, 1), ("test.txt", 60, 2)] {
            std::fs::write(corpus.join(name), sentences(lines, shift)).expect("a text");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn compress(&self, out: &str, more: &[&str]) -> Output {
        let (corpus, out) = (self.path("corpus"), self.path(out));
        let mut arguments = vec!["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
        arguments.extend(more);
        resnet_bk(&arguments)
    }
}

fn sentences(lines: usize, shift: usize) -> String {
    const SUBJECTS: [&str; 5] = ["the cat", "a dog", "the old man", "she", "my friend"];
    const VERBS: [&str; 4] = ["sees", "likes", "finds", "wants"];
    const OBJECTS: [&str; 6] = ["the ball", "a fish", "the house", "some tea", "a book", "the sea"];
    let line = |n: usize| {
        let n = 7 * n + 13 * shift + n / 11;
        format!("{} {} {} .\n", SUBJECTS[n % 5], VERBS[n / 5 % 4], OBJECTS[n / 3 % 6])
    };
    (0..lines).map(line).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn resnet_bk(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_resnet-bk")).args(arguments).output().expect("the command runs")
}

#[track_caller]
fn stdout(output: &Output, code: i32) -> String {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&resnet_bk(arguments), 0)).expect("JSON")
}

#[test]
fn a_model_is_compressed_measured_and_used() {
    let place = Place::new();
    let output = place.compress("run", &[]);
    let table = stdout(&output, 0);
    for expected in ["1 train", "2 qat", "3 prune", "4 distill", "model.rbk", "unigram", "reached"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let progress = stderr(&output);
    assert!(progress.contains("stage 1 train: epoch 1/1, loss ") && !progress.contains('\u{1b}'), "{progress}");
    let run = place.path("run");
    for file in ["recipe.toml", "metrics.jsonl", "model.rbk", "summary.json", "report.html"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).expect("a summary")).expect("JSON");

    let model = run.join("model.rbk");
    let length = std::fs::metadata(&model).expect("a file").len();
    let (model, corpus) = (text(&model).to_owned(), place.path("corpus"));
    let evaluation = json(&["eval", &model, "--corpus", text(&corpus), "--split", "valid", "--json"]);
    assert_eq!(evaluation["perplexity"], summary["artifact"]["valid_perplexity"]);
    assert_eq!((evaluation["bytes_total"].as_u64(), evaluation["causality"].as_str()), (Some(length), Some("causal")));
    let valid = corpus.join("valid.txt");
    assert_eq!(json(&["eval", &model, "--text", text(&valid), "--json"]), evaluation);
    assert!(
        stdout(&resnet_bk(&["eval", &model, "--corpus", text(&corpus), "--split", "test"]), 0).contains("perplexity")
    );
    let streaming = resnet_bk(&["eval", &model, "--text", text(&valid), "--streaming"]);
    assert!(stderr(&streaming).contains("position embeddings") && streaming.status.code() == Some(2));

    let inspection = json(&["inspect", &model, "--json"]);
    let entries = inspection["ledger"]["entries"].as_array().expect("a ledger");
    let sum: u64 = entries.iter().map(|entry| entry["bytes"].as_u64().expect("a number")).sum();
    assert_eq!((sum, inspection["bytes_file"].as_u64()), (length, Some(length)));
    assert!(stdout(&resnet_bk(&["inspect", &model]), 0).contains("vocabulary"));

    let suggestions = json(&["suggest", &model, "--prompt", "the old", "--top", "3", "--json"]);
    let suggestions = suggestions.as_array().expect("a list");
    assert_eq!(suggestions.len(), 3);
    assert!(suggestions[0]["word"].is_string() && suggestions[0]["probability"].as_f64() > Some(0.0));

    let generate =
        |seed| stdout(&resnet_bk(&["generate", &model, "--prompt", "the cat", "--tokens", "12", "--seed", seed]), 0);
    let generated = generate("3");
    assert!(generated.starts_with("the cat") && generated.ends_with('\n') && generated.len() > 12, "{generated}");
    assert_eq!(generated, generate("3"));

    // A checkpoint does everything that an artifact does.
    let checkpoint = run.join("01-train/model.safetensors");
    let inspection = json(&["inspect", text(&checkpoint), "--json"]);
    assert_eq!(inspection["bytes_weights"], summary["stages"][0]["weights_bytes"]);
    let compressed = place.compress("again", &["--model", text(&checkpoint), "--set", "model.use_distillation=false"]);
    assert!(stdout(&compressed, 0).contains("model.rbk"));

    // Once more into the same folder: refused, unless it is to go on.
    let refused = place.compress("run", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("hint: `--resume`"), "{}", stderr(&refused));
    let metrics = std::fs::read(run.join("metrics.jsonl")).expect("a log");
    let resumed = place.compress("run", &["--resume"]);
    assert_eq!(stdout(&resumed, 0), table);
    assert_eq!(std::fs::read(run.join("metrics.jsonl")).expect("a log"), metrics);

    // The same model against a target that it can not reach.
    let missed = place.compress("run", &["--resume", "--target", "1e6", "--max-loss", "1000%"]);
    assert!(stdout(&missed, 1).contains("missed"));
    assert!(stderr(&missed).contains("target missed: the ratio is"), "{}", stderr(&missed));
}

#[test]
fn bidirectional_models_are_labelled_and_can_not_generate() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    let output = resnet_bk(&[
        "train",
        "--recipe",
        RECIPE,
        "--corpus",
        text(&corpus),
        "--out",
        text(&out),
        "--set",
        "model.causality=bidirectional",
    ]);
    let table = stdout(&output, 0);
    assert!(table.contains("(not causal)") && !table.contains("2 qat"), "{table}");
    assert!(stderr(&output).contains("(not causal)"));
    let model = out.join("model.rbk");
    let evaluation = json(&["eval", text(&model), "--corpus", text(&corpus), "--json"]);
    assert_eq!(evaluation["note"], "not a causal perplexity");
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("not a causal perplexity"));
    for command in ["generate", "suggest"] {
        let refused = resnet_bk(&[command, text(&model), "--prompt", "the"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("hint: train a causal model"), "{}", stderr(&refused));
    }
    let streaming = resnet_bk(&["eval", text(&model), "--corpus", text(&corpus), "--streaming"]);
    assert!(stderr(&streaming).contains("bidirectional") && streaming.status.code() == Some(2));
}

#[test]
fn a_report_is_drawn_from_the_files_of_a_run_alone() {
    let place = tempfile::tempdir().expect("a folder");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run");
    for file in ["summary.json", "metrics.jsonl", "recipe.toml"] {
        std::fs::copy(data.join(file), place.path().join(file)).expect("copied");
    }
    let output = resnet_bk(&["report", text(place.path())]);
    assert_eq!(stdout(&output, 0), "");
    for name in ["compression_training_losses.png", "compression_tradeoff.png"] {
        let png = std::fs::read(place.path().join(name)).expect("a picture");
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}: {} bytes", png.len());
    }
    let page = std::fs::read_to_string(place.path().join("report.html")).expect("a page");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 2);
    assert!(page.contains("Target missed") && page.contains("278.30") && !page.contains("<script"));

    std::fs::write(place.path().join("summary.json"), "{\"corpus\": 3}").expect("written");
    let damaged = resnet_bk(&["report", text(place.path())]);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(stderr(&damaged).contains("summary.json is not a sound summary"), "{}", stderr(&damaged));
    std::fs::remove_file(place.path().join("summary.json")).expect("removed");
    assert!(stderr(&resnet_bk(&["report", text(place.path())])).contains("is not finished"));
}

#[test]
fn bench_reports_what_it_measured() {
    for precision in ["bf16", "float32"] {
        let arguments = ["bench", "step", "--preset", "tiny", "--runs", "3", "--precision", precision, "--json"];
        let report: Value = serde_json::from_str(&stdout(&resnet_bk(&arguments), 0)).expect("JSON");
        assert_eq!(report["step"]["runs"], 3);
        assert!(report["step"]["median_ms"].as_f64().expect("a number") > 0.0);
        let unit = report["head_products"].as_str().expect("a name");
        assert!(unit == "float32" || (precision == "bf16" && unit == "bf16 (AMX)"), "{precision} ran as {unit}");
    }
    let unknown = resnet_bk(&["bench", "step", "--preset", "huge"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no preset"), "{}", stderr(&unknown));
}
