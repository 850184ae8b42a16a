//! `--dry-run`: what it prints is what the run then does, and it leaves nothing behind.

mod common;

use common::{Place, RECIPE, json, resnet_bk, stderr, stdout, text};
use serde_json::Value;

#[test]
fn a_dry_run_knows_the_steps_of_the_run_and_writes_nothing() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    let run = ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
    let forecast = json(&[&run[..], &["--dry-run", "--json"]].concat());
    let table = stdout(&resnet_bk(&[&run[..], &["--dry-run"]].concat()), 0);
    for expected in ["1 train", "2 qat", "3 prune", "4 distill", "text        ", "memory      ", "time        about "] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert!(!out.exists());
    let without_out = json(&["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--dry-run", "--json"]);
    assert_eq!(without_out["corpus"], forecast["corpus"]);
    assert!(stderr(&resnet_bk(&run[..5])).contains("required arguments were not provided:\n  --out <RUN>"));

    stdout(&resnet_bk(&run), 0);
    let log = std::fs::read_to_string(out.join("metrics.jsonl")).expect("a log");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let started: Vec<&Value> = events.iter().filter(|event| event["event"] == "stage_started").collect();
    let stages = forecast["stages"].as_array().expect("stages");
    assert_eq!((started.len(), stages.len()), (4, 4));
    for (stage, event) in stages.iter().zip(started) {
        let number = |value: &Value, key: &str| value[key].as_u64().expect("a number");
        assert_eq!((&stage["stage"], &stage["kind"]), (&event["stage"], &event["kind"]));
        assert_eq!(number(stage, "steps"), number(event, "epochs") * number(event, "steps_per_epoch"));
        assert_eq!(number(stage, "float32_bytes"), 4 * number(stage, "parameters"));
        assert!(stage["seconds"].as_f64() > Some(0.0) && number(stage, "memory_bytes") > 0, "{stage}");
        if event["kind"] != "qat" && event["kind"] != "prune" {
            assert_eq!(stage["parameters"], event["parameters"]);
        }
    }
    // A ratio of 2 to the first model.
    let float = stages[0]["float32_bytes"].as_u64().expect("a number");
    assert_eq!(forecast["target_weights_bytes"].as_u64(), Some(float / 2));

    // What the run would refuse is refused.
    let refused = resnet_bk(&[&run[..], &["--dry-run"]].concat());
    assert!(stderr(&refused).contains("already holds a run") && refused.status.code() == Some(2));
    assert!(!stderr(&refused).contains("timing"), "it is refused at once: {}", stderr(&refused));
    for wrong in [&["--dry-run", "--resume"][..], &["--json"]] {
        assert_eq!(resnet_bk(&[&run[..], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_dry_run_refuses_a_folder_that_the_run_could_not_write_to() {
    let place = Place::new();
    let corpus = place.path("corpus");
    let file = place.path("file");
    std::fs::write(&file, "").expect("written");
    let mut places = vec![(file.clone(), "file is not a folder"), (file.join("run"), "file is not a folder")];
    if cfg!(target_os = "linux") {
        places.push(("/proc/run".into(), "cannot write to /proc, to make /proc/run in it: "));
        places.push(("/dev/null/run".into(), "/dev/null is not a folder"));
    }
    for (out, message) in places {
        let run = ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
        for more in [&[][..], &["--dry-run"]] {
            let refused = resnet_bk(&[&run[..], more].concat());
            let errors = stderr(&refused);
            assert!(errors.contains(message) && errors.contains("\n\nhint: "), "{errors}");
            assert!(refused.status.code() == Some(2) && !errors.contains("timing"), "{errors}");
        }
    }
    // A folder that can be made is not made.
    let out = place.path("some/new/run");
    let run = ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out), "--dry-run"];
    let table = stdout(&resnet_bk(&[&run[..], &["--bytes", "100"]].concat()), 0);
    assert!(table.contains("a file of at most 100 bytes") && table.contains("that cannot be met"), "{table}");
    assert!(!place.path("some").exists());
}

#[test]
fn a_dry_run_counts_the_trials_of_a_planner() {
    let place = Place::new();
    let out = place.path("run");
    let fixed = ["compress", "--corpus", "embedded", "--out", text(&out), "--target", "20", "--dry-run", "--json"];
    let sizes = ["--set", "corpus.data_limit=20000", "--set", "model.vocab_size=400", "--set", "model.n_layers=1"];
    let forecast = json(&[&fixed[..], &sizes].concat());
    let plan = &forecast["stages"][1];
    assert_eq!(plan["kind"], "plan");
    let trials = plan["trials"].as_u64().expect("a number");
    // The text has fewer tokens than a trial of the first round may have, so there is no second.
    assert!(
        trials >= 3 && plan["trial_tokens"].as_u64() == forecast["corpus"]["train_tokens"].as_u64().map(|n| n * trials)
    );
    let float = forecast["stages"][0]["float32_bytes"].as_u64().expect("a number");
    assert_eq!(plan["weights_bytes"].as_u64(), Some(float / 20));
    assert!(!out.exists());
}
