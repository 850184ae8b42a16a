//! Shipped models: each is found by its name, or by its path where it is not compiled in, and its card
//! says what its file is.

mod common;

use common::{json, resnet_bk, stderr, stdout, text};
use std::path::Path;
use std::process::Command;

/// The model that is not compiled in.
const TEACHER: &str = "teacher";

/// A shipped model as its card describes it.
struct Card {
    name: String,
    /// The MODEL argument for it.
    model: String,
    text: String,
}

impl Card {
    /// A cell of the card's tables: that after `| name |`.
    fn cell(&self, name: &str) -> &str {
        let row = self.text.lines().find_map(|line| line.strip_prefix(&format!("| {name} | ")));
        row.and_then(|row| row.strip_suffix(" |")).unwrap_or_else(|| panic!("{}.md has a row {name}", self.name))
    }

    /// A number of bytes in a cell such as `1,234 bytes`.
    fn bytes(&self, name: &str) -> u64 {
        let number = self.cell(name).strip_suffix(" bytes").expect("bytes").replace(',', "");
        number.parse().expect("a number")
    }

    /// Checks that a corpus's valid text has the card's perplexity, with its number of decimals.
    fn check_perplexity(&self, corpus: &str) {
        let evaluation = json(&["eval", &self.model, "--corpus", corpus, "--no-cache", "--json"]);
        let measured = evaluation["perplexity"].as_f64().expect("a number");
        assert_eq!(format!("{measured:.2}"), self.cell("valid perplexity"), "{}", self.name);
    }
}

fn cards() -> Vec<Card> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let files = std::fs::read_dir(models).expect("a folder").map(|entry| entry.expect("an entry").path());
    let of = |path: &Path| {
        let name = text(Path::new(path.file_stem().expect("a name"))).to_owned();
        let model = if name == TEACHER { text(path).to_owned() } else { name.clone() };
        Card { name, model, text: std::fs::read_to_string(path.with_extension("md")).expect("a card") }
    };
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rbk")).map(|path| of(&path)).collect()
}

#[test]
fn the_card_of_a_model_has_its_size() {
    assert!(cards().len() > 1);
    for card in cards() {
        let inspection = json(&["inspect", &card.model, "--json"]);
        assert_eq!(inspection["bytes_file"], card.bytes("file"), "{}", card.name);
        assert_eq!(inspection["bytes_total"], card.bytes("file"), "{}", card.name);
        assert_eq!(inspection["bytes_weights"], card.bytes("weights"), "{}", card.name);
    }
}

#[test]
fn every_model_that_is_compiled_in_is_used_by_its_name() {
    for card in cards().iter().filter(|card| card.name != TEACHER) {
        assert_eq!(stdout(&resnet_bk(&["inspect", &card.name, "--card"]), 0), card.text);

        let suggested = resnet_bk(&["suggest", &card.name, "--prompt", "I do not", "--json"]);
        let words: serde_json::Value = serde_json::from_str(&stdout(&suggested, 0)).expect("JSON");
        assert_eq!(words.as_array().expect("a list").len(), 5);
        let notice = card.text.lines().find_map(|line| line.strip_prefix("> ")).expect("a notice");
        assert_eq!(stderr(&suggested), format!("{notice}\n"));
        let generated = resnet_bk(&["generate", &card.name, "--prompt", "I do not", "--tokens", "5"]);
        assert!(stdout(&generated, 0).starts_with("I do not"));
    }
}

#[test]
fn models_of_the_embedded_corpus_have_the_perplexity_of_their_card() {
    for card in cards().iter().filter(|card| card.cell("corpus") == "`embedded`") {
        card.check_perplexity("embedded");
    }
}

#[test]
#[cfg_attr(not(has_corpora), ignore = "needs corpora: set RESNET_BK_CORPORA")]
fn models_of_other_corpora_have_the_perplexity_of_their_card() {
    for card in cards().iter().filter(|card| card.cell("corpus") != "`embedded`") {
        let corpora = std::env::var_os("RESNET_BK_CORPORA").expect("it was set when this test was compiled");
        card.check_perplexity(text(&Path::new(&corpora).join(card.cell("corpus").trim_matches('`'))));
    }
}

#[test]
fn a_file_with_the_name_of_a_model_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |name: &str| {
        let arguments = ["suggest", name, "--prompt", "the"];
        let command = Command::new(env!("CARGO_BIN_EXE_resnet-bk")).args(arguments).current_dir(&folder).output();
        command.expect("the command runs")
    };
    assert_eq!(run("demo").status.code(), Some(0));
    let unknown = run("demoo");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no shipped model demoo\n\nhint: shipped models: demo"), "{}", stderr(&unknown));
    std::fs::write(folder.path().join("demo"), "no model").expect("written");
    let hidden = stderr(&run("demo"));
    assert!(hidden.contains("demo is neither an artifact"), "{hidden}");
    assert!(hidden.contains("\n\nhint: demo here hides the shipped model demo: "), "{hidden}");
    let begin = ["compress", "--corpus", "embedded", "--model", "demo", "--dry-run"];
    let command = Command::new(env!("CARGO_BIN_EXE_resnet-bk")).args(begin).current_dir(&folder).output();
    let hidden = stderr(&command.expect("the command runs"));
    assert!(hidden.contains("\n\nhint: demo here hides the shipped model demo: "), "{hidden}");
}

#[test]
fn a_run_begins_with_a_shipped_model_by_its_name() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/demo.toml");
    let begin_with = |model, options: &[&str]| {
        let run = ["compress", "--recipe", text(&recipe), "--corpus", "embedded", "--model", model, "--dry-run"];
        resnet_bk(&[&run[..], options].concat())
    };
    let begin = |model| begin_with(model, &[]);
    let run = begin("demo");
    assert!(stdout(&run, 0).contains("demo takes the place of the recipe's first stage"), "{}", stdout(&run, 0));
    assert!(stdout(&run, 0).contains("demo is an artifact of 232837 bytes: ratios are against its decoded values"));
    assert!(stderr(&run).contains("demo: made from"), "{}", stderr(&run));
    // A program that reads events from stderr gets nothing else: no notice.
    let run = begin_with("demo", &["--progress", "json"]);
    assert!(stdout(&run, 0).contains("demo is of a text that it does not record"), "{}", stdout(&run, 0));
    let events = stderr(&run);
    let is_event =
        |line: &str| serde_json::from_str(line).is_ok_and(|event: serde_json::Value| event["event"].is_string());
    assert!(events.lines().all(is_event), "{events}");
    let unknown = begin("demoo");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("no shipped model demoo"), "{}", stderr(&unknown));
}

#[test]
fn what_the_model_does_not_know_is_said_on_stderr() {
    let none = resnet_bk(&["suggest", "demo", "--prompt", "I do", "--prefix", "zzzqq"]);
    assert_eq!(stdout(&none, 0), "");
    assert!(stderr(&none).contains("no word of the model begins with \"zzzqq\"\n"), "{}", stderr(&none));
    for command in ["suggest", "generate"] {
        let says = |prompt: &str| {
            let output = resnet_bk(&[command, "demo", "--prompt", prompt]);
            stdout(&output, 0);
            stderr(&output).contains("warning: the model knows no word of the prompt\n")
        };
        assert!(says("zzzqq xxyyzz") && says("zzzqq\nxxyyzz"), "{command}");
        assert!(!says("") && !says("the zzzqq") && !says("the"), "{command}");
    }
}
