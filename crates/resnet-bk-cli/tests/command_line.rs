//! The whole command line on a tiny text: compress, then every command that uses the result.

mod common;

use common::{Place, RECIPE, json, resnet_bk, stderr, stdout, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

#[test]
fn a_model_is_compressed_measured_and_used() {
    let place = Place::new();
    let output = place.compress("run", &[]);
    let table = stdout(&output, 0);
    for expected in ["1 train", "2 qat", "3 prune", "4 distill", "model.rbk", "unigram", "reached"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let progress = stderr(&output);
    assert!(progress.contains("stage 1 train: epoch 1/6, loss ") && !progress.contains('\u{1b}'), "{progress}");
    let run = place.path("run");
    for file in ["recipe.toml", "metrics.jsonl", "model.rbk", "summary.json", "report.html"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let events = || std::fs::read_dir(run.join("tensorboard")).expect("a folder").count();
    assert_eq!(events(), 1);
    let page = std::fs::read_to_string(run.join("report.html")).expect("a page");
    for section in ["class=\"treemap ", "class=\"heat\"", "class=\"histograms\"", "class=\"sample\"", "SHA-256"] {
        assert!(page.contains(section), "{section}");
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
    let entries = inspection["size_breakdown"]["entries"].as_array().expect("a size_breakdown");
    let sum: u64 = entries.iter().map(|entry| entry["bytes"].as_u64().expect("a number")).sum();
    assert_eq!((sum, inspection["bytes_file"].as_u64()), (length, Some(length)));
    assert!(stdout(&resnet_bk(&["inspect", &model]), 0).contains("vocabulary"));

    let suggestions = json(&["suggest", &model, "--prompt", "the old", "--top", "3", "--json"]);
    let suggestions = suggestions.as_array().expect("a list");
    assert_eq!(suggestions.len(), 3);
    assert!(suggestions[0]["word"].is_string() && suggestions[0]["probability"].as_f64() > Some(0.0));

    let suggestions = json(&["suggest", &model, "--prompt", "the old", "--prefix", "t", "--json"]);
    let suggestions = suggestions.as_array().expect("a list");
    assert!(suggestions.iter().all(|word| word["word"].as_str().is_some_and(|word| word.starts_with('t'))));
    let sum: f64 = suggestions.iter().map(|word| word["probability"].as_f64().expect("a number")).sum();
    assert!(!suggestions.is_empty() && sum < 1.0 + 1e-5, "{suggestions:?}");

    // Each line is a text of its own.
    let sentences = place.path("sentences.txt");
    std::fs::write(&sentences, "the cat sees the ball .\n\nball the sees cat the .\nxyzzy\n").expect("a text");
    let scores = json(&["score", &model, "--text", text(&sentences), "--json"]);
    let number = |line: usize, key: &str| scores[line][key].as_f64().expect("a number");
    assert!(number(0, "log_probability") > number(2, "log_probability"), "{scores}");
    assert_eq!([0, 1, 2, 3].map(|line| number(line, "tokens")), [7.0, 0.0, 7.0, 2.0]);
    assert_eq!((number(1, "log_probability"), number(3, "unknown_tokens")), (0.0, 1.0));
    assert_eq!(stdout(&resnet_bk(&["score", &model, "--text", text(&sentences)]), 0).lines().count(), 5);

    let generate =
        |seed| stdout(&resnet_bk(&["generate", &model, "--prompt", "the cat", "--tokens", "12", "--seed", seed]), 0);
    let generated = generate("3");
    assert!(generated.starts_with("the cat") && generated.ends_with('\n') && generated.len() > 12, "{generated}");
    assert_eq!(generated, generate("3"));

    // A checkpoint can be used like an artifact.
    let checkpoint = run.join("01-train/model.safetensors");
    let inspection = json(&["inspect", text(&checkpoint), "--json"]);
    assert_eq!(inspection["bytes_weights"], summary["stages"][0]["weights_bytes"]);
    let compressed = place.compress("again", &["--model", text(&checkpoint), "--set", "model.use_distillation=false"]);
    assert!(stdout(&compressed, 0).contains("model.rbk"));

    // So can an artifact, here a teacher in int8.
    let int8 = place.path("int8.rbk");
    let exported = stdout(&resnet_bk(&["export", text(&checkpoint), "--int8", "--out", text(&int8)]), 0);
    let bytes = std::fs::metadata(&int8).expect("a file").len();
    assert!(bytes < std::fs::metadata(&checkpoint).expect("a file").len() / 3, "{bytes}");
    assert!(exported.starts_with(text(&int8)) && exported.contains(" of them weights"), "{exported}");
    let perplexity = |model: &Path| {
        json(&["eval", text(model), "--corpus", text(&corpus), "--json"])["perplexity"].as_f64().expect("a number")
    };
    let (float, rounded) = (perplexity(&checkpoint), perplexity(&int8));
    assert!((rounded / float - 1.0).abs() < 0.02 && float != rounded, "{float} and {rounded}");
    let distilled = place.compress("distilled", &["--teacher", text(&int8), "--set", "stage.3.init=teacher"]);
    assert!(stdout(&distilled, 0).contains("int8.rbk"));
    let progress = stderr(&distilled);
    assert!(progress.contains("warning: "), "{progress}");
    assert!(progress.contains("int8.rbk is of a text that it does not record: "), "{progress}");
    assert!(progress.contains("the student begins with ") && progress.contains("of the energy"), "{progress}");
    let other = ["--model", text(&checkpoint), "--set", "stage.3.init=teacher", "--resume"];
    assert!(stderr(&place.compress("distilled", &other)).contains("began with another model"));
    let quantized = run.join("02-qat/model.safetensors");
    let other = place.path("other.rbk");
    let refused = resnet_bk(&["export", text(&quantized), "--int8", "--out", text(&other)]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains(
            "is quantized already

hint: leave out --int8"
        ),
        "{}",
        stderr(&refused)
    );
    let before = std::fs::read(&int8).expect("a file");
    let refused = resnet_bk(&["export", text(&checkpoint), "--out", text(&int8)]);
    assert_eq!(refused.status.code(), Some(2));
    let replaces_none = format!("{} exists, and export replaces no file\n\nhint: ", int8.display());
    assert!(stderr(&refused).contains(&replaces_none), "{}", stderr(&refused));
    assert_eq!(std::fs::read(&int8).expect("a file"), before);

    // The same folder again: refused, unless it is resumed.
    let refused = place.compress("run", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("hint: `--resume`"), "{}", stderr(&refused));
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a log");
    let resumed = place.compress("run", &["--resume"]);
    assert_eq!(stdout(&resumed, 0), table);
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a log");
    assert!(log == metrics, "a finished run logs nothing more: {:?}", log.strip_prefix(&metrics));
    assert_eq!(events(), 1);

    // The same model with a target that it cannot reach.
    let missed = place.compress("run", &["--resume", "--target", "1e6", "--max-loss", "1000%"]);
    assert!(stdout(&missed, 1).contains("missed"));
    assert!(stderr(&missed).contains("target missed: the ratio to the best float model is"), "{}", stderr(&missed));
}

#[test]
fn bidirectional_models_are_labeled_and_cannot_generate() {
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
fn runs_are_compared_in_one_page() {
    let place = tempfile::tempdir().expect("a folder");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run");
    let copy = place.path().join("smaller");
    std::fs::create_dir(&copy).expect("a folder");
    let summary = std::fs::read_to_string(data.join("summary.json")).expect("a summary");
    std::fs::write(copy.join("summary.json"), summary.replace("\"bytes_weights\": 166172", "\"bytes_weights\": 90000"))
        .expect("written");
    let out = place.path().join("pages/compared.html");
    let output = resnet_bk(&["report", "--compare", text(&data), text(&copy), "--out", text(&out)]);
    assert_eq!(stdout(&output, 0), "");
    let page = std::fs::read_to_string(&out).expect("a page");
    assert!(page.contains("2 runs compared") && page.contains("90,000") && page.contains("166,172"));
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 1);
    // Nothing is written to the runs.
    assert_eq!(std::fs::read_dir(&copy).expect("a folder").count(), 1);

    let refused = resnet_bk(&["report", "--compare", text(&data), text(place.path()), "--out", text(&out)]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is not the folder of a run: it has no summary.json"), "{}", stderr(&refused));
    let other = summary.replace(&"2".repeat(64), &"5".repeat(64));
    std::fs::write(copy.join("summary.json"), other).expect("written");
    let refused = resnet_bk(&["report", "--compare", text(&data), text(&copy), "--out", text(&out)]);
    assert!(stderr(&refused).contains("the second has another held-out text"), "{}", stderr(&refused));

    // An earlier comparison is replaced, nothing else is.
    std::fs::write(copy.join("summary.json"), &summary).expect("written");
    let compare = |out: &Path| resnet_bk(&["report", "--compare", text(&data), text(&copy), "--out", text(out)]);
    stdout(&compare(&out), 0);
    assert!(!std::fs::read_to_string(&out).expect("a page").contains("90,000"));
    let notes = place.path().join("notes.txt");
    std::fs::write(&notes, "mine\n").expect("written");
    for (path, message) in [
        (&notes, "notes.txt exists, and report replaces no file but an earlier comparison\n\nhint: "),
        (&copy.join("summary.json"), "summary.json exists, and report replaces no file"),
        (&copy, "smaller is a folder\n\nhint: choose another file for --out"),
        (&notes.join("page.html"), "\n\nhint: "),
    ] {
        let refused = compare(path);
        assert!(stderr(&refused).contains(message), "{}", stderr(&refused));
        assert_eq!(refused.status.code(), Some(2));
    }
    assert_eq!(std::fs::read_to_string(&notes).expect("a text"), "mine\n");
}

#[test]
fn bench_reports_what_it_measured() {
    for precision in ["bf16", "float32"] {
        let arguments =
            ["bench", "step", "--preset", "tiny", "--runs", "3", "--precision", precision, "--device", "cpu", "--json"];
        let report: Value = serde_json::from_str(&stdout(&resnet_bk(&arguments), 0)).expect("JSON");
        assert_eq!(report["step"]["runs"], 3);
        assert!(report["step"]["median_ms"].as_f64().expect("a number") > 0.0);
        let unit = report["head_products"].as_str().expect("a name");
        assert!(unit == "float32" || (precision == "bf16" && unit == "bf16 (AMX)"), "{precision} ran as {unit}");
    }
    let unknown = resnet_bk(&["bench", "step", "--preset", "huge"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("must be one of seed, memory, tiny"), "{}", stderr(&unknown));
    let missing = resnet_bk(&["bench", "step", "--recipe", "../../recipes/demo.toml", "--stage", "9"]);
    assert!(stderr(&missing).contains("no steps of stage 9"), "{}", stderr(&missing));
    let lengths = ["bench", "scaling", "--lengths", "16,64", "--runs", "1", "--device", "cpu", "--json"];
    let lines = stdout(&resnet_bk(&lengths), 0);
    let cases: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let described = |case: &Value| (case["mixer"].as_str().map(str::to_owned), case["length"].as_u64());
    assert_eq!(cases.len(), 4);
    assert_eq!(described(&cases[3]), (Some("propagator".to_owned()), Some(64)));
    assert!(cases.iter().all(|case| case["ns_per_token"].as_f64().is_some_and(|time| time > 0.0)));
}

#[test]
fn a_large_text_is_kept_in_the_cache_folder_and_nowhere_else() {
    let place = Place::new();
    let cache = place.path("cache");
    let compress = |out: &str, more: &[&str]| {
        let (corpus, out) = (place.path("corpus"), place.path(out));
        let run = ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
        Command::new(env!("CARGO_BIN_EXE_resnet-bk"))
            .args(run)
            .args(["--set", "corpus.data_limit=4000"])
            .args(more)
            .env("RESNET_BK_CACHE", &cache)
            .output()
            .expect("the command runs")
    };
    stdout(&compress("small", &[]), 0);
    assert!(!cache.exists(), "a small text is not kept");

    let train = place.path("corpus").join("train.txt");
    let lines = std::fs::read_to_string(&train).expect("a text");
    std::fs::write(&train, lines.repeat((17 << 20) / lines.len())).expect("a text");
    let file = std::fs::File::options().append(true).open(&train).expect("a text");
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("a time");
    let without = compress("without", &["--no-cache"]);
    stdout(&without, 0);
    assert!(stderr(&without).contains("without a cache folder, every start reads it"), "{}", stderr(&without));
    assert!(!cache.exists());
    for out in ["first", "second"] {
        let kept = compress(out, &[]);
        stdout(&kept, 0);
        assert!(stderr(&kept).contains(&format!("its tokens are kept in {}", cache.display())), "{}", stderr(&kept));
        let model = |out: &str| std::fs::read(place.path(out).join("model.rbk")).expect("a model");
        assert!(model(out) == model("without"), "{out}: the same model");
    }
    let names = |folder: &Path| {
        let names = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<BTreeSet<String>>()
    };
    let of = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(names(&cache), of(&["ngrams", "repeated-lines", "tokens", "vocabulary"]));
    assert_eq!(names(&place.path("corpus")), of(&["train.txt", "valid.txt", "test.txt"]));
}
