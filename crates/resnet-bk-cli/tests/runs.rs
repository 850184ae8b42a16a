//! The list of runs.

mod common;

use common::{Place, RECIPE, json, resnet_bk, stderr, stdout, text};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

fn entry<'a>(found: &'a Value, name: &str) -> &'a Value {
    let runs = found["runs"].as_array().expect("a list");
    let is_named = |run: &&Value| run["run"].as_str().is_some_and(|path| Path::new(path).ends_with(name));
    runs.iter().find(is_named).unwrap_or_else(|| panic!("{name}: {found}"))
}

#[test]
fn runs_are_listed_with_their_figures() {
    let place = Place::new();
    stdout(&place.compress("runs/done", &[]), 0);
    let summary = std::fs::read_to_string(place.path("runs/done/summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    // A run that fails at its second stage, and one that is not a run any more.
    let broken = ["--set", "stage.1.schedule.learning_rate=1e30", "--set", "stage.1.schedule.warmup=0"];
    assert_eq!(place.compress("runs/nested/half", &broken).status.code(), Some(2));
    let damaged = place.path("runs/damaged");
    std::fs::create_dir(&damaged).expect("a folder");
    std::fs::write(damaged.join("summary.json"), "{}").expect("written");
    std::fs::create_dir_all(place.path("runs/.hidden")).expect("a folder");
    std::fs::write(place.path("runs/.hidden/summary.json"), "{}").expect("written");

    let runs = place.path("runs");
    let found = json(&["runs", text(&runs), "--json"]);
    let done = entry(&found, "done");
    assert_eq!((&done["state"], &done["verdict"]), (&"complete".into(), &"reached".into()));
    assert_eq!(done["stages"], serde_json::json!(["train", "qat", "prune", "distill"]));
    assert_eq!(done["perplexity"], summary["artifact"]["valid_perplexity"]);
    assert_eq!(done["float_perplexity"], summary["baselines"]["best"]["valid_perplexity"]);
    assert_eq!((&done["bytes_total"], &done["ratio"]), (&summary["artifact"]["bytes_total"], &summary["ratio"]));
    let half = entry(&found, "nested/half");
    assert_eq!((&half["state"], &half["progress"]), (&"interrupted".into(), &"stage 2 qat, 0 epochs done".into()));
    assert!(half["perplexity"].is_null());
    let unreadable = found["unreadable"].as_array().expect("a list");
    assert_eq!(unreadable.len(), 1, "{found}");
    assert!(unreadable[0]["reason"].as_str().is_some_and(|reason| reason.contains("is not a sound summary")));

    let output = resnet_bk(&["runs", text(&runs)]);
    let table = stdout(&output, 0);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("done ") && lines[2].starts_with("nested/half "), "sorted by time: {table}");
    assert!(lines[1].ends_with("reached") && lines[2].ends_with("interrupted: stage 2 qat, 0 epochs done"), "{table}");
    assert!(stderr(&output).contains("damaged cannot be read: "), "{}", stderr(&output));
    // A run itself is a folder of one run.
    assert_eq!(stdout(&resnet_bk(&["runs", text(&runs.join("done"))]), 0).lines().count(), 2);

    let empty = resnet_bk(&["runs", text(&place.path("corpus"))]);
    assert!(stderr(&empty).contains("there are no runs in ") && stdout(&empty, 0).is_empty());
    let missing = resnet_bk(&["runs", text(&place.path("missing"))]);
    assert!(stderr(&missing).contains("there is no folder ") && missing.status.code() == Some(2));
}

#[cfg(unix)]
#[test]
fn a_run_that_is_written_to_is_running() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("runs/now"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_resnet-bk"))
        .args(["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)])
        .args(["--set", "schedule.epochs=20000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let state = || entry(&json(&["runs", text(&place.path("runs")), "--json"]), "now")["state"].clone();
    while !out.join("metrics.jsonl").is_file() {
        assert!(child.try_wait().expect("a process").is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(state(), "running");
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    assert_eq!(state(), "interrupted");
}
