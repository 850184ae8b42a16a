//! Tests of wrong or unusual use of the commands.

mod common;

use common::{Place, RECIPE, json, resnet_bk, stderr, stdout, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A run with one stage of training, and its artifact.
fn trained(place: &Place, more: &[&str]) -> PathBuf {
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    let mut arguments = vec!["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
    arguments.extend(more);
    let output = resnet_bk(&arguments);
    assert!(out.join("model.rbk").is_file(), "{}", stderr(&output));
    out
}

#[track_caller]
fn refused(arguments: &[&str], parts: &[&str]) {
    let output = resnet_bk(arguments);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    for part in parts {
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resnet-bk"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Output of a command whose stdout is closed before it prints.
fn with_closed_stdout(arguments: &[&str]) -> Output {
    let mut child = command(arguments).spawn().expect("the command runs");
    drop(child.stdout.take());
    child.wait_with_output().expect("it ends")
}

#[cfg(target_os = "linux")]
fn with_full_stdout(arguments: &[&str]) -> Output {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    command(arguments).stdout(full).output().expect("the command runs")
}

#[test]
fn a_closed_or_full_stdout_changes_neither_files_nor_exit_code() {
    let place = Place::new();
    let (corpus, closed) = (place.path("corpus"), place.path("closed"));
    let run = |out: &Path| {
        ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--target", "1e6", "--out", text(out)]
            .map(str::to_owned)
    };
    let arguments = run(&closed);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = with_closed_stdout(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("target missed: "), "{}", stderr(&output));
    for file in ["model.rbk", "summary.json", "report.html"] {
        assert!(closed.join(file).is_file(), "{file}");
    }
    let model = closed.join("model.rbk");
    let generate = ["generate", text(&model), "--prompt", "the", "--tokens", "100000000"];
    assert_eq!(with_closed_stdout(&generate).status.code(), Some(0), "it ends when nobody reads");
    assert_eq!(with_closed_stdout(&["--help"]).status.code(), Some(0));

    #[cfg(target_os = "linux")]
    {
        std::fs::remove_file(closed.join("report.html")).expect("removed");
        let mut arguments = arguments.clone();
        arguments.push("--resume");
        for arguments in [&arguments[..], &["suggest", text(&model), "--prompt", "the"], &["--help"]] {
            let output = with_full_stdout(arguments);
            let errors = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{errors}");
            assert!(errors.contains("error: cannot write to stdout: no space left on device\n\nhint: "), "{errors}");
        }
        assert!(closed.join("report.html").is_file());
    }
}

#[test]
fn the_requested_number_of_threads_is_used() {
    for threads in ["1", "3"] {
        let before = ["--threads", threads, "bench", "step", "--preset", "tiny", "--runs", "1", "--json"];
        let after = ["bench", "step", "--preset", "tiny", "--runs", "1", "--json", "--threads", threads];
        for arguments in [before, after] {
            assert_eq!(json(&arguments)["threads"].to_string(), threads);
        }
    }
    for wrong in ["0", "-1", "1025", "two"] {
        refused(&["inspect", "x", "--threads", wrong], &["--threads <N>"]);
    }
    let place = Place::new();
    let run = trained(&place, &["--threads", "1"]);
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).expect("a summary")).expect("JSON");
    assert_eq!(summary["environment"]["threads"], 1, "{summary}");
    let model = run.join("model.rbk");
    for command in ["eval", "generate", "suggest", "inspect"] {
        let rest = match command {
            "eval" => vec!["--corpus", "embedded"],
            "inspect" => vec![],
            _ => vec!["--prompt", "the"],
        };
        let arguments = [vec![command, text(&model), "--threads", "1"], rest].concat();
        stdout(&resnet_bk(&arguments), 0);
    }
}

#[test]
#[cfg(not(feature = "mpi"))]
fn several_processes_without_mpi_are_refused() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    for name in ["train", "compress"] {
        for (rank, launcher) in [("0", "OMPI_COMM_WORLD"), ("1", "PMI")] {
            let arguments = [name, "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
            let mut command = command(&arguments);
            command.env(format!("{launcher}_SIZE"), "2").env(format!("{launcher}_RANK"), rank);
            let output = command.output().expect("the command runs");
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
            for part in ["error: 2 processes were started, but this resnet-bk was built without MPI", "--features mpi"]
            {
                assert!(stderr(&output).contains(part), "{}", stderr(&output));
            }
        }
    }
    assert!(!out.exists());
}

#[test]
fn one_process_trains_on_one_gpu() {
    let arguments = ["train", "--recipe", RECIPE, "--corpus", "x", "--out", "y", "--device", "cuda:0,1"];
    refused(&arguments, &["'0,1' is not the number of one GPU; each process trains on one, and mpirun starts several"]);
}

#[test]
fn files_that_are_not_models_are_described_in_errors() {
    let place = Place::new();
    let run = trained(&place, &[]);
    let (artifact, checkpoint) = (run.join("model.rbk"), run.join("01-train/model.safetensors"));
    let neither = "is neither an artifact (.rbk) nor a checkpoint (.safetensors, .pt): it";
    let write = |name: &str, bytes: &[u8]| {
        let path = place.path(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let (readme, empty) = (write("README.md", b"# A model\n"), write("empty.rbk", b""));
    for command in ["inspect", "eval", "suggest", "generate"] {
        let rest: &[&str] = match command {
            "inspect" => &[],
            "eval" => &["--corpus", "embedded"],
            _ => &["--prompt", "the"],
        };
        let of = |path: &Path, parts: &[&str]| refused(&[&[command, text(path)], rest].concat(), parts);
        of(&readme, &["README.md", neither, "looks like text", "hint: pass an artifact"]);
        of(&empty, &["empty.rbk", neither, "is empty"]);
        of(&run, &["is a folder", &format!("hint: pass {}", artifact.display())]);
        of(&place.path("missing.rbk"), &["there is no file"]);
        of(Path::new("/dev/null"), &["is not an ordinary file"]);
        of(&artifact.join("x"), &["cannot read", "not a directory"]);
    }
    let compress = |path: &Path, parts: &[&str]| {
        let (corpus, out) = (place.path("corpus"), place.path("other"));
        let fixed = ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
        refused(&[&fixed[..], &["--model", text(path)]].concat(), parts);
        assert!(!out.exists());
    };
    compress(&run, &["is a folder", &format!("such as {}\n", checkpoint.display())]);
    let damaged = write("damaged.rbk", &std::fs::read(&artifact).expect("an artifact")[..300]);
    compress(&damaged, &["damaged.rbk is not a sound artifact", "hint: the file was changed"]);
    // A baseline is a checkpoint. So is what is packed.
    let alone = write("alone.rbk", &std::fs::read(&artifact).expect("an artifact"));
    let stage = "hint: pass the checkpoint of a stage, RUN/NN-stage/model.safetensors";
    for (path, hint) in [(&artifact, format!("such as {}\n", checkpoint.display()).as_str()), (&alone, stage)] {
        let needed = ["is an artifact, but a checkpoint is needed", hint];
        let compress = ["compress", "--recipe", RECIPE, "--corpus", "embedded", "--out", "x", "--baseline", text(path)];
        refused(&compress, &needed);
        refused(&["export", text(path), "--out", "x.rbk"], &needed);
    }
    // The folder is made.
    let packed = place.path("some/new/packed.rbk");
    stdout(&resnet_bk(&["export", text(&checkpoint), "--out", text(&packed)]), 0);
    assert!(packed.is_file());
    // Neither hint names an artifact.
    for path in [&place.path("missing"), &readme] {
        let compress = ["compress", "--recipe", RECIPE, "--corpus", "embedded", "--out", "x", "--baseline", text(path)];
        refused(&compress, &[stage]);
        refused(&["export", text(path), "--out", "x.rbk"], &[stage]);
    }
    // A damaged start is no other kind of file.
    for at in [0, 1, 5] {
        let mut bytes = std::fs::read(&artifact).expect("an artifact");
        bytes[at] ^= 1;
        let damaged = write("start.rbk", &bytes);
        refused(&["inspect", text(&damaged)], &["is not a sound artifact", "hint: the start of the file was changed"]);
    }
    refused(&["export", "demo", "--out", "x.rbk"], &["demo is an artifact, but a checkpoint is needed"]);
    compress(&readme, &[neither]);
    compress(&run, &["is a folder"]);
}

#[test]
fn values_of_a_recipe_that_change_nothing_or_too_much_are_named() {
    let place = Place::new();
    let run = trained(&place, &[]);
    let corpus = place.path("corpus");
    let train = ["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&run)];
    refused(
        &[&train[..], &["--resume", "--set", "stage.0.schedule.epochs=7"]].concat(),
        &["holds a run of another recipe: ", "stage.0.schedule.epochs is 7, and the run has ", "\n\nhint: choose"],
    );
    let own = place.path("own.toml");
    let recipe = "seed = 1\n[model]\npreset = \"tiny\"\n[[stage]]\nkind = \"train\"\nschedule.epochs = 1\n";
    std::fs::write(&own, recipe).expect("written");
    let dry = ["train", "--recipe", text(&own), "--corpus", text(&corpus), "--dry-run", "--set", "schedule.epochs=9"];
    let output = resnet_bk(&dry);
    let errors = stderr(&output);
    assert!(errors.contains("warning: --set schedule.epochs=9 changes nothing: "), "{errors}");
    assert!(errors.contains("set stage.0.schedule.epochs\n"), "{errors}");
    let binary = place.path("binary.toml");
    std::fs::write(&binary, b"\x89RBK\r\n").expect("written");
    let recipe = ["train", "--recipe", text(&binary), "--corpus", text(&corpus), "--out", text(&run)];
    refused(&recipe, &["cannot read the recipe", "it is not a text in UTF-8\n\nhint: "]);
    std::fs::remove_file(corpus.join("valid.txt")).expect("removed");
    refused(
        &dry,
        &[
            "valid.txt is missing",
            "hint: put the text into train.txt, one sentence or paragraph a line, and about a tenth",
        ],
    );
}

#[test]
fn errors_about_files_and_folders_have_a_hint() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("README.md");
    std::fs::write(&file, "# Text\n").expect("written");
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run");
    let (file, inside) = (text(&file).to_owned(), file.join("inside"));
    let inside = text(&inside);
    let hint = "\n\nhint: ";
    refused(&["report", &file], &["README.md is a file, but a folder is needed", hint]);
    refused(&["runs", &file], &["README.md is a file, but a folder is needed", hint]);
    refused(&["report", "--compare", run, run, "--out", inside], &["cannot make the folder", hint]);
    refused(&["man", "--out", &file], &["cannot make the folder", hint]);
    refused(&["export", "demo", "--safetensors", inside], &["cannot make the folder", hint]);
    refused(&["inspect", inside], &["cannot read", hint]);
    if cfg!(target_os = "linux") {
        refused(&["report", "--compare", run, run, "--out", "/proc/page.html"], &["cannot write", hint]);
        refused(&["man", "--out", "/proc/man"], &["cannot make the folder /proc/man", hint]);
        refused(&["export", "demo", "--safetensors", "/proc/x.safetensors"], &["cannot write", hint]);
    }
}

#[test]
fn invalid_numbers_are_refused_with_plain_messages() {
    let place = Place::new();
    let run = trained(&place, &[]);
    let model = run.join("model.rbk");
    let model = text(&model);
    let at_least_1 = "it must be at least 1";
    for wrong in ["0", "-3"] {
        refused(&["suggest", model, "--prompt", "the", "--top", wrong], &["'--top <K>'", at_least_1]);
        refused(&["generate", model, "--prompt", "the", "--tokens", wrong], &["'--tokens <N>'", at_least_1]);
        refused(&["generate", model, "--prompt", "the", "--top-k", wrong], &["'--top-k <K>'", at_least_1]);
        refused(&["bench", "step", "--runs", wrong], &["'--runs <RUNS>'", "it must be from 1 to 1000000"]);
    }
    refused(&["bench", "step", "--runs", "99999999999999999999"], &["it must be from 1 to 1000000"]);
    refused(&["suggest", model, "--prompt", "the", "--top", "ten"], &["write a whole number such as 1"]);
    refused(&["generate", model, "--prompt", "the", "--seed", "-1"], &["it must be at least 0"]);
    refused(
        &["generate", model, "--prompt", "the", "--top-p", "0"],
        &["top_p is 0, but must be above 0 and at most 1"],
    );
    refused(
        &["generate", model, "--prompt", "the", "--repetition-penalty", "0.5"],
        &["repetition_penalty is 0.5, but must be finite and at least 1"],
    );
    let all = json(&["suggest", model, "--prompt", "the", "--top", "18446744073709551615", "--json"]);
    let words = json(&["inspect", model, "--json"])["words"].as_u64().expect("a number");
    assert_eq!(all.as_array().expect("a list").len() as u64, words - 2, "all but <unk> and <eos>");
    let sampled =
        ["generate", model, "--prompt", "the", "--top-p", "0.9", "--repetition-penalty", "1.3", "--seed", "4"];
    let drawn = stdout(&resnet_bk(&sampled), 0);
    assert_eq!(drawn, stdout(&resnet_bk(&sampled), 0));
    for wrong in ["-3", "0", "inf"] {
        refused(&["compress", "--target", wrong, "--corpus", "embedded", "--out", "x"], &["'--target <RATIO>'"]);
    }
}

#[test]
fn sizes_that_do_not_fit_in_memory_are_refused_before_they_are_allocated() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    let train = ["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out)];
    // Within the limits of a model, but about 0.6 TB of activations.
    let sizes = [
        "--set",
        "model.heads=1024",
        "--set",
        "model.eta=1.0",
        "--set",
        "model.n_layers=256",
        "--set",
        "model.d_model=4",
        "--set",
        "schedule.batch_size=12800",
        "--set",
        "model.num_experts=1",
    ];
    let start = std::time::Instant::now();
    refused(
        &[&train[..], &sizes].concat(),
        &[
            "stage 1 (train) needs at least ",
            " bytes of memory, but ",
            " are available: it grows most with ",
            "heads (1,024)",
            "hint: ",
        ],
    );
    assert!(start.elapsed().as_secs() < 60, "it is refused at once");
    assert!(!out.exists());
    refused(
        &[&train[..], &["--set", "model.heads=1000000000000"]].concat(),
        &["heads is 1000000000000", "from 1 to 1,024"],
    );
}

#[test]
fn control_characters_in_names_are_escaped_on_stderr() {
    let named = "no\u{1b}[31msuch\u{202e}file\u{7f}";
    let shown = r"no\u{1b}[31msuch\u{202e}file\u{7f}";
    let set = format!("{named}=1");
    for arguments in [
        vec!["inspect", named],
        vec!["report", named],
        vec!["compress", "--recipe", named, "--corpus", "embedded", "--out", "x"],
        vec!["compress", "--recipe", RECIPE, "--corpus", named, "--out", "x"],
        vec!["compress", "--recipe", RECIPE, "--corpus", "embedded", "--out", "x", "--set", &set],
        vec!["compress", named],
        vec![named],
    ] {
        let errors = stderr(&resnet_bk(&arguments));
        assert!(!errors.contains(['\u{1b}', '\u{202e}', '\u{7f}']), "{arguments:?}: {errors}");
        // Debug output escapes the same characters in its own way.
        assert!(errors.contains(shown), "{arguments:?}: {errors}");
    }
}

#[test]
fn eval_reads_standard_input_and_warns_about_unreliable_figures() {
    let place = Place::new();
    let run = trained(&place, &[]);
    let (model, corpus) = (run.join("model.rbk"), place.path("corpus"));
    let valid = std::fs::read_to_string(corpus.join("valid.txt")).expect("a text");
    let eval = |input: &str| {
        let mut child =
            command(&["eval", text(&model), "--text", "-", "--json"]).stdin(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    };
    let from_file = json(&["eval", text(&model), "--text", text(&corpus.join("valid.txt")), "--json"]);
    let from_input = eval(&valid);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&from_input, 0)).expect("JSON"), from_file);
    assert_eq!(stderr(&from_input), "");
    let some: String = valid.lines().take(60).map(|line| format!("{line}\n")).collect();
    let rough = eval(&some);
    assert!(stderr(&rough).contains("warning: standard input has 420 tokens only"), "{}", stderr(&rough));
    // A byte-order mark is not part of the first word.
    assert_eq!(stdout(&eval(&format!("\u{feff}{valid}")), 0), stdout(&from_input, 0));

    let short = eval("the cat sees a fish .\n");
    assert!(stdout(&short, 0).contains("\"tokens\": 6"));
    assert!(stderr(&short).contains("warning: standard input has 7 tokens only"), "{}", stderr(&short));
    let unknown = eval(&"strange words everywhere the cat\n".repeat(300));
    assert!(stderr(&unknown).contains("% of the tokens of standard input are unknown words"), "{}", stderr(&unknown));
    for nothing in ["", "\n \n"] {
        let refused = eval(nothing);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("standard input has 0 tokens, but at least 2 are needed"));
    }
    // The text of a corpus must be long enough for a measurement.
    let tiny = place.path("tiny-corpus");
    std::fs::create_dir(&tiny).expect("a folder");
    for name in ["train.txt", "valid.txt"] {
        std::fs::write(tiny.join(name), "the cat sees a fish .\n").expect("written");
    }
    refused(&["eval", text(&model), "--corpus", text(&tiny)], &["has 7 tokens, but at least 100 are needed"]);
    std::fs::write(place.path("latin.txt"), b"caf\xe9\n").expect("written");
    refused(&["eval", text(&model), "--text", text(&place.path("latin.txt"))], &["is not UTF-8 at line 1, byte 3"]);
    refused(&["eval", text(&model), "--text", text(&corpus)], &["cannot read", "is a directory"]);
}

/// Reads stderr until a line contains `part`, then continues to read in the background.
#[cfg(unix)]
fn wait_for(child: &mut Child, part: &str) -> std::thread::JoinHandle<String> {
    let mut reader = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut seen = String::new();
    while !seen.contains(part) {
        assert!(reader.read_line(&mut seen).expect("UTF-8") > 0, "{part:?} never came: {seen}");
    }
    std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("UTF-8");
        rest
    })
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_says_what_is_saved_and_how_to_resume() {
    let place = Place::new();
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    // Thousands of epochs: it runs until it is interrupted.
    let endless =
        ["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out), "--set", "schedule.epochs=20000"];
    let mut child = command(&endless).spawn().expect("it runs");
    let rest = wait_for(&mut child, "epoch 2/");
    interrupt(&child);
    let status = child.wait().expect("it ends");
    let rest = rest.join().expect("read");
    assert_eq!(status.code(), Some(130), "{rest}");
    let last = rest.lines().last().expect("a line");
    assert!(last.starts_with("interrupted; stage 1 train is kept up to epoch "), "{rest}");
    assert!(last.contains("; go on with: ") && last.ends_with("schedule.epochs=20000 --resume"), "{rest}");
    let epoch: usize =
        last.split("epoch ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
    assert!(epoch >= 1);
    let names: Vec<String> = std::fs::read_dir(out.join("01-train"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["model.safetensors"], "no half-written file is left");

    // The file that the message names exists: the run can be resumed from it.
    let resumed = [&endless[..], &["--resume"]].concat();
    let mut child = command(&resumed).spawn().expect("it runs");
    let mut first = String::new();
    let mut reader = BufReader::new(child.stderr.take().expect("a pipe"));
    while !first.contains("goes on from step") {
        assert!(reader.read_line(&mut first).expect("UTF-8") > 0, "{first}");
    }
    let steps: usize =
        first.split(" epochs of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
    let from: usize =
        first.split("goes on from step ").nth(1).and_then(|rest| rest.trim().parse().ok()).expect("a number");
    assert_eq!(from, epoch * steps, "{first}");
    interrupt(&child);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_the_first_epoch_says_that_nothing_is_saved() {
    let place = Place::new();
    // A slow epoch: a longer text and one window per step.
    let valid = std::fs::read_to_string(place.path("corpus/train.txt")).expect("a text");
    std::fs::write(place.path("corpus/train.txt"), valid.repeat(20)).expect("written");
    let (corpus, out) = (place.path("corpus"), place.path("run"));
    let slow =
        ["train", "--recipe", RECIPE, "--corpus", text(&corpus), "--out", text(&out), "--set", "schedule.batch_size=1"];
    let mut child = command(&slow).spawn().expect("it runs");
    let rest = wait_for(&mut child, "stage 1 train: ");
    interrupt(&child);
    let status = child.wait().expect("it ends");
    let rest = rest.join().expect("read");
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.ends_with("schedule.batch_size=1 --resume\n"), "{rest}");
    assert!(rest.contains("interrupted; nothing is kept: the first epoch was not done; go on with: "), "{rest}");
}
