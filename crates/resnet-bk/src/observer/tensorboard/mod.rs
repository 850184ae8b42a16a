//! Writes the numbers of a run's events for TensorBoard: `RUN/tensorboard/events.out.tfevents.*`.
//!
//! Each session of a run has a file of its own, named by its time, because TensorBoard reads the
//! files of a folder in the order of their names. The file of a resumed session begins with a
//! restart at its first step: TensorBoard then drops what the sessions before it wrote from that
//! step on, so no step is doubled.

mod record;

use super::numbers::Numbers;
use super::{Event, Observer};
use record::{Content, event, record};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folder of the event files in a run's folder.
pub const TENSORBOARD: &str = "tensorboard";
/// The version of the format.
const VERSION: &str = "brain.Event:2";

/// An event file. It is created at the first number, so a refused run leaves no file.
pub(super) struct TensorBoardLog {
    folder: PathBuf,
    numbers: Numbers,
    /// Whether the run has other files.
    is_resumed: bool,
    file: Option<BufWriter<File>>,
    failure: Option<io::Error>,
}

impl TensorBoardLog {
    /// The log of a new run.
    pub(super) fn create(folder: PathBuf) -> Self {
        Self { folder, numbers: Numbers::default(), is_resumed: false, file: None, failure: None }
    }

    /// The log of a resumed run. `numbers` have counted its steps so far.
    pub(super) fn resume(folder: PathBuf, numbers: Numbers) -> Self {
        Self { numbers, is_resumed: true, ..Self::create(folder) }
    }

    /// Writes the remaining data and returns the first error.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match (self.failure.take(), self.file.as_mut()) {
            (Some(error), _) => Err(error),
            (None, Some(file)) => file.flush(),
            (None, None) => Ok(()),
        }
    }

    fn write(&mut self, of: &Event) -> io::Result<()> {
        self.numbers.count(of);
        let scalars = self.numbers.of(of);
        if scalars.is_empty() {
            return Ok(());
        }
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, step) = (time.as_secs_f64(), self.numbers.step());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = BufWriter::new(create(&self.folder, time.as_secs())?);
                file.write_all(&record(&event(seconds, 0, &Content::FileVersion(VERSION))))?;
                if self.is_resumed {
                    file.write_all(&record(&event(seconds, step, &Content::Restart)))?;
                }
                none.insert(file)
            }
        };
        file.write_all(&record(&event(seconds, step, &Content::Scalars(&scalars))))?;
        // As in `metrics.jsonl`: steps are frequent and unimportant.
        if matches!(of, Event::Step { .. }) { Ok(()) } else { file.flush() }
    }
}

impl Observer for TensorBoardLog {
    fn event(&mut self, event: &Event) {
        // A log that cannot be written must not end a long training.
        if self.failure.is_none() {
            self.failure = self.write(event).err();
        }
    }
}

/// Creates the file of a session that began at this second since 1970.
fn create(folder: &Path, second: u64) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    // Another session may have begun in the same second.
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{second:010}.{number:03}"));
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 999 => number += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::tests::{started, step};
    use super::*;

    /// The messages of each file, in the order of their names.
    fn messages(folder: &Path) -> Vec<Vec<Vec<u8>>> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).expect("a file");
            let mut rest = bytes.as_slice();
            let mut messages = Vec::new();
            while let Some((length, _)) = rest.split_first_chunk() {
                let length = u64::from_le_bytes(*length) as usize;
                let message = &rest[12..12 + length];
                assert_eq!(rest[..16 + length], record(message), "checksums");
                messages.push(message.to_vec());
                rest = &rest[16 + length..];
            }
            messages
        };
        paths.iter().map(read).collect()
    }

    #[test]
    fn a_resumed_session_restarts_at_its_first_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = TensorBoardLog::create(folder.path().to_owned());
        let first = [started(1, 0), step(1, 0, 3.0), step(1, 1, 2.0)];
        first.iter().for_each(|event| log.event(event));
        log.finish().expect("written");
        let mut numbers = Numbers::default();
        first.iter().for_each(|event| numbers.count(event));
        let mut log = TensorBoardLog::resume(folder.path().to_owned(), numbers);
        [started(1, 1), step(1, 1, 2.5)].iter().for_each(|event| log.event(event));
        log.finish().expect("written");
        let files = messages(folder.path());
        assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        // After the time: step 1, and a session log with the status START.
        assert_eq!(files[1][1][9..], [0x10, 1, 0x3a, 2, 8, 1]);
    }

    #[test]
    fn events_without_numbers_create_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = TensorBoardLog::create(folder.path().join("tensorboard"));
        log.event(&Event::Warning { message: "the text is short".to_owned() });
        log.finish().expect("nothing to do");
        assert!(!folder.path().join("tensorboard").exists());
    }
}
