//! What `train` and `compress` show on stderr.

mod common;

use common::{Place, resnet_bk, stderr, stdout, text};

#[test]
fn json_is_the_log_and_nothing_else() {
    let place = Place::new();
    let output = place.compress("run", &["--progress", "json"]);
    assert!(stdout(&output, 0).contains("model.rbk"));
    let log = std::fs::read_to_string(place.path("run").join("metrics.jsonl")).expect("a log");
    assert_eq!(stderr(&output), log);
    assert!(
        log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()) && log.lines().count() > 99
    );

    // What keeps a run from its target is an event too, and an error is a message.
    let missed = place.compress("run", &["--resume", "--target", "1e6", "--progress", "json"]);
    stdout(&missed, 1);
    let last: serde_json::Value =
        serde_json::from_str(stderr(&missed).lines().last().expect("a line")).expect("an event");
    assert_eq!(last["event"], "warning");
    assert!(last["message"].as_str().is_some_and(|message| message.starts_with("target missed: ")), "{last}");
    let refused = place.compress("run", &["--progress", "json"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).starts_with("error: "), "{}", stderr(&refused));
}

#[test]
fn none_shows_warnings_alone_and_the_result_is_the_same() {
    let place = Place::new();
    let (none, lines) = (place.compress("none", &["--progress", "none"]), place.compress("lines", &[]));
    assert!(stderr(&none).lines().all(|line| line.starts_with("warning: ")), "{}", stderr(&none));
    assert!(stderr(&lines).contains("device: ") && stderr(&lines).contains("stage 1 train: epoch 1/6, loss "));
    let model = |run: &str| std::fs::read(place.path(run).join("model.rbk")).expect("a model");
    assert!(model("none") == model("lines"));
    let missed = place.compress("none", &["--resume", "--target", "1e6", "--progress", "none"]);
    assert!(stderr(&missed).starts_with("target missed: ") && missed.status.code() == Some(1), "{}", stderr(&missed));
}

#[test]
fn a_bar_is_only_for_a_terminal() {
    let place = Place::new();
    let output = place.compress("run", &["--progress", "bar"]);
    assert!(stderr(&output).contains("stage 1 train: epoch 1/6") && !stderr(&output).contains("steps,"));
    let (corpus, out) = (place.path("corpus"), place.path("other"));
    let unknown = resnet_bk(&["train", "--corpus", text(&corpus), "--out", text(&out), "--progress", "dots"]);
    assert!(stderr(&unknown).contains("[possible values: bar, lines, json, none]"), "{}", stderr(&unknown));
}
