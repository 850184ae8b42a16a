//! Ctrl-C during a run: one line that says what is kept and how to go on, then the end.

use crate::observers::Bar;
use crate::printer::last_note;
use resnet_bk::checkpoint::{Checkpoint, TrainingState};
use resnet_bk::pipeline::{CHECKPOINT, RECIPE};
use resnet_bk_runtime::internal::replace_file::pause_writes;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Exit code of a program that Ctrl-C ended: 128 and the signal's number, as shells count.
#[cfg(unix)]
const INTERRUPTED: i32 = 130;

/// From now on, Ctrl-C ends the run in `out` between two writes. A second one ends it at once.
#[cfg(unix)]
pub fn watch(out: PathBuf, bar: Bar) {
    use signal_hook::consts::SIGINT;
    use signal_hook::iterator::Signals;

    // A job in the background of a script goes on when the script is interrupted; without a
    // handler, Ctrl-C ends the program as it always does.
    if is_ignored(SIGINT) {
        return;
    }
    let Ok(mut signals) = Signals::new([SIGINT]) else { return };
    std::thread::spawn(move || {
        for count in 0.. {
            if signals.forever().next().is_none() {
                return;
            }
            if count > 0 {
                std::process::exit(INTERRUPTED);
            }
            let (out, bar) = (out.clone(), bar.clone());
            std::thread::spawn(move || {
                let _paused = pause_writes();
                bar.clear();
                let _last = last_note(&message(&out, std::env::args_os()));
                std::process::exit(INTERRUPTED);
            });
        }
    });
}

/// Elsewhere Ctrl-C ends the program as it always does.
#[cfg(not(unix))]
pub fn watch(_: PathBuf, _: Bar) {}

/// Whether the process was started with a signal ignored, as far as the system tells.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// What is kept of a run, and the command that goes on with it.
fn message(out: &Path, command: impl Iterator<Item = OsString>) -> String {
    let begun = out.join(RECIPE).is_file();
    let kept = kept(out).unwrap_or_else(|| "nothing is kept: the first epoch was not done".to_owned());
    let verb = if begun { "go on with" } else { "begin again with" };
    format!("interrupted; {kept}; {verb}: {}", again(command, begun))
}

/// What the last stage's file holds; `None` where no stage has one.
fn kept(out: &Path) -> Option<String> {
    let mut stages: Vec<PathBuf> = fs::read_dir(out).ok()?.flatten().map(|entry| entry.path()).collect();
    stages.retain(|folder| folder.join(CHECKPOINT).is_file());
    stages.sort();
    let last = stages.last()?;
    let name = last.file_name()?.to_string_lossy().into_owned();
    let (number, kind) = name.split_once('-')?;
    let stage = format!("stage {} {kind}", number.trim_start_matches('0'));
    Some(match Checkpoint::read(&last.join(CHECKPOINT)) {
        Ok(Checkpoint { training: TrainingState { progress: Some(progress), .. }, .. }) => {
            match progress.epochs.len() {
                0 => format!("the planner's choice of {stage} is kept in {}", out.display()),
                epochs => format!("{stage} is kept up to epoch {epochs} in {}", out.display()),
            }
        }
        Ok(_) => format!("all up to the end of {stage} is kept in {}", out.display()),
        Err(_) => format!("{} is kept", last.join(CHECKPOINT).display()),
    })
}

/// The command as a line for a shell, with `--resume` where there is a run to go on with.
fn again(command: impl Iterator<Item = OsString>, resume: bool) -> String {
    let mut words: Vec<String> = command.map(|word| word.to_string_lossy().into_owned()).collect();
    if resume && !words.iter().any(|word| word == "--resume") {
        words.push("--resume".to_owned());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_goes_on_and_can_be_pasted() {
        let command = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>().into_iter();
        let words = ["resnet-bk", "train", "--corpus", "my texts", "--set", "model.mixer=\"diagonal\""];
        let line = again(command(&words), true);
        assert_eq!(line, "resnet-bk train --corpus 'my texts' --set 'model.mixer=\"diagonal\"' --resume");
        assert_eq!(again(command(&["resnet-bk", "train", "--resume"]), true), "resnet-bk train --resume");
        assert_eq!(again(command(&["resnet-bk", "it's", ""]), false), r"resnet-bk 'it'\''s' ''");
    }

    #[test]
    fn nothing_is_kept_of_a_run_without_an_epoch() {
        let out = tempfile::tempdir().expect("a folder");
        let command = || ["resnet-bk", "train"].iter().map(OsString::from);
        let none = "interrupted; nothing is kept: the first epoch was not done; begin again with: resnet-bk train";
        assert_eq!(message(out.path(), command()), none);
        fs::write(out.path().join(RECIPE), "").expect("written");
        assert!(message(out.path(), command()).ends_with("go on with: resnet-bk train --resume"));
    }
}
