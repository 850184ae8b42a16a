//! A tiny text and helpers to run commands.

#![allow(dead_code, reason = "each file of tests is a program of its own and uses a part of this")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny.toml");

/// A temporary folder with a corpus.
pub struct Place(pub tempfile::TempDir);

impl Place {
    /// Sentences of a small grammar, which a model learns in a few steps.
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        let corpus = place.path("corpus");
        std::fs::create_dir(&corpus).expect("a folder");
        for (name, lines, shift) in [("train.txt", 600, 0), ("valid.txt", 150, 1), ("test.txt", 60, 2)] {
            std::fs::write(corpus.join(name), sentences(lines, shift)).expect("a text");
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn compress(&self, out: &str, more: &[&str]) -> Output {
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

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub fn resnet_bk(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_resnet-bk")).args(arguments).output().expect("the command runs")
}

#[track_caller]
pub fn stdout(output: &Output, code: i32) -> String {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[track_caller]
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&resnet_bk(arguments), 0)).expect("JSON")
}
