//! Ctrl-C during a run: prints one line that says what is saved and how to resume, then exits.

use crate::observers::Bar;
use crate::printer::{last_note, note};
use resnet_bk::checkpoint::{Checkpoint, TrainingState};
use resnet_bk::pipeline::{CHECKPOINT, RECIPE};
use resnet_bk_runtime::internal::replace_file::pause_writes;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Exit code of a program ended by Ctrl-C: 128 plus the signal's number, as in shells.
#[cfg(unix)]
const INTERRUPTED: i32 = 130;
/// Exit code of an error.
#[cfg(unix)]
const ENDED: i32 = 2;

/// From now on, Ctrl-C ends the run in `out` between two writes. A second Ctrl-C ends it at once.
///
/// In a run of several processes, SIGTERM does so too: `mpirun` sends it when it is interrupted
/// itself, and when it has lost one of the processes.
#[cfg(unix)]
pub fn watch(out: PathBuf, bar: Bar, processes: usize) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    // Ends the process without the exit handlers of its libraries: those of the GPU's driver take it from
    // under the thread that trains.
    use signal_hook::low_level::exit;

    // A background job of a script must continue when the script is interrupted. Without a handler,
    // Ctrl-C has its usual effect.
    if is_ignored(SIGINT) {
        return;
    }
    let watched: &[i32] = if processes > 1 { &[SIGINT, SIGTERM] } else { &[SIGINT] };
    let Ok(mut signals) = Signals::new(watched) else { return };
    std::thread::spawn(move || {
        for count in 0.. {
            let Some(signal) = signals.forever().next() else { return };
            let code = if signal == SIGTERM { ENDED } else { INTERRUPTED };
            if count > 0 {
                exit(code);
            }
            let (out, bar) = (out.clone(), bar.clone());
            std::thread::spawn(move || {
                if signal == SIGTERM {
                    // `mpirun` leaves little time: the message must not wait for a write.
                    bar.clear();
                    note(&lost_message(&out, std::env::args_os(), processes));
                    let _paused = pause_writes();
                    exit(code);
                }
                let _paused = pause_writes();
                bar.clear();
                let _last = last_note(&message(&out, std::env::args_os()));
                exit(code);
            });
        }
    });
}

/// On other systems Ctrl-C ends the program as usual.
#[cfg(not(unix))]
pub fn watch(_: PathBuf, _: Bar, _: usize) {}

/// Whether the process was started with this signal ignored, if the system reports it.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// What is saved of a run, and the command to resume it.
fn message(out: &Path, command: impl Iterator<Item = OsString>) -> String {
    let begun = out.join(RECIPE).is_file();
    let kept = saved_progress(out).unwrap_or_else(|| NOTHING_KEPT.to_owned());
    format!("interrupted; {kept}; {}: {}", verb(begun), resume_command(command, begun))
}

const NOTHING_KEPT: &str = "nothing is kept: the first epoch was not done";

fn verb(begun: bool) -> &'static str {
    if begun { "go on with" } else { "begin again with" }
}

/// Why a run of several processes ends, and how to resume it.
fn lost_message(out: &Path, command: impl Iterator<Item = OsString>, processes: usize) -> String {
    let begun = out.join(RECIPE).is_file();
    let kept = if last_stage(out).is_some() { "what was done up to the last epoch is kept" } else { NOTHING_KEPT };
    let (verb, command) = (verb(begun), resume_command(command, begun));
    format!(
        "error: mpirun ends the run: one of its {processes} processes was lost, or it was interrupted; \
         {kept}; {verb}: mpirun -n {processes} {command} (any other number of processes can go on, too)"
    )
}

/// The folder of the last stage that has a checkpoint.
fn last_stage(out: &Path) -> Option<PathBuf> {
    let stages = fs::read_dir(out).ok()?.flatten().map(|entry| entry.path());
    stages.filter(|folder| folder.join(CHECKPOINT).is_file()).max()
}

/// The content of the last stage's file; `None` if no stage has one.
fn saved_progress(out: &Path) -> Option<String> {
    let last = last_stage(out)?;
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

/// The command as a line for a shell, with `--resume` if there is a run to resume.
fn resume_command(command: impl Iterator<Item = OsString>, resume: bool) -> String {
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
    fn the_resume_command_can_be_pasted_into_a_shell() {
        let command = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>().into_iter();
        let words = ["resnet-bk", "train", "--corpus", "my texts", "--set", "model.mixer=\"diagonal\""];
        let line = resume_command(command(&words), true);
        assert_eq!(line, "resnet-bk train --corpus 'my texts' --set 'model.mixer=\"diagonal\"' --resume");
        assert_eq!(resume_command(command(&["resnet-bk", "train", "--resume"]), true), "resnet-bk train --resume");
        assert_eq!(resume_command(command(&["resnet-bk", "it's", ""]), false), r"resnet-bk 'it'\''s' ''");
    }

    #[test]
    fn a_run_that_lost_a_process_says_how_to_go_on() {
        let out = tempfile::tempdir().expect("a folder");
        let command = || ["resnet-bk", "train"].iter().map(OsString::from);
        let message = lost_message(out.path(), command(), 4);
        assert!(message.contains("nothing is kept"), "{message}");
        assert!(message.contains("begin again with: mpirun -n 4 resnet-bk train ("), "{message}");
        fs::write(out.path().join(RECIPE), "").expect("written");
        let message = lost_message(out.path(), command(), 4);
        assert!(message.contains("go on with: mpirun -n 4 resnet-bk train --resume ("), "{message}");
    }

    #[test]
    fn a_run_without_a_completed_epoch_keeps_nothing() {
        let out = tempfile::tempdir().expect("a folder");
        let command = || ["resnet-bk", "train"].iter().map(OsString::from);
        let none = "interrupted; nothing is kept: the first epoch was not done; begin again with: resnet-bk train";
        assert_eq!(message(out.path(), command()), none);
        fs::write(out.path().join(RECIPE), "").expect("written");
        assert!(message(out.path(), command()).ends_with("go on with: resnet-bk train --resume"));
    }
}
