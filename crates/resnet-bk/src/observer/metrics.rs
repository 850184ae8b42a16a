//! Writes `metrics.jsonl`: all events of a run, one per line.

use super::{Event, Observer};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

/// File name of a run's log.
pub const METRICS: &str = "metrics.jsonl";

/// Beginning of a step's line.
const STEP: &[u8] = b"{\"event\":\"step\"";

/// Writes events to a file. The file is opened at the first event, so a refused run leaves no file.
pub(super) struct MetricsLog {
    path: PathBuf,
    append: bool,
    file: Option<BufWriter<File>>,
    failure: Option<io::Error>,
}

impl MetricsLog {
    /// A new log at `path`.
    pub(super) fn create(path: PathBuf) -> Self {
        Self { path, append: false, file: None, failure: None }
    }

    /// A log that continues the log of an interrupted run. The steps of the interrupted epoch, which
    /// runs again, are dropped.
    pub(super) fn append(path: PathBuf) -> Self {
        Self { append: true, ..Self::create(path) }
    }

    /// Writes the remaining data and returns the first error of the log.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match (self.failure.take(), self.file.as_mut()) {
            (Some(error), _) => Err(error),
            (None, Some(file)) => file.flush(),
            (None, None) => Ok(()),
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(open(&self.path, self.append)?)),
        };
        serde_json::to_writer(&mut *file, event)?;
        file.write_all(b"\n")?;
        // Steps are frequent and unimportant. Other events are written at once, so that they
        // survive an interruption.
        if matches!(event, Event::Step { .. }) { Ok(()) } else { file.flush() }
    }
}

impl Observer for MetricsLog {
    fn event(&mut self, event: &Event) {
        // A log that cannot be written must not end a long training.
        if self.failure.is_none() {
            self.failure = self.write(event).err();
        }
    }
}

fn open(path: &std::path::Path, append: bool) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if !append {
        return File::create(path);
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // An interruption can leave an incomplete line, and steps of an epoch that runs again.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let last = lines.iter().rposition(|line| line.ends_with(b"\n") && !line.starts_with(STEP));
    let kept = last.map_or(0, |last| last + 1);
    file.set_len(lines[..kept].iter().map(|line| line.len() as u64).sum())?;
    file.seek(io::SeekFrom::End(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Event = Event::WeightsMasked { stage: 1, sparsity: 0.5 };

    fn step(step: usize) -> Event {
        let (loss, learning_rate, gradient_norm, tokens_per_second) = (1.0, 0.5, 0.1, 9.0);
        Event::Step { stage: 1, step, loss, learning_rate, gradient_norm, tokens_per_second }
    }

    #[test]
    fn a_step_that_runs_again_is_in_the_log_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::create(path.clone());
        [step(0), EVENT, step(1), step(2)].iter().for_each(|event| log.event(event));
        log.finish().expect("written");
        let mut log = MetricsLog::append(path.clone());
        [step(1), step(2), step(3)].iter().for_each(|event| log.event(event));
        log.finish().expect("written");
        let events: Vec<serde_json::Value> = std::fs::read_to_string(&path)
            .expect("a log")
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect();
        let steps: Vec<_> = events.iter().filter_map(|event| event["step"].as_u64()).collect();
        assert_eq!((steps, events.len()), (vec![0, 1, 2, 3], 5));
    }

    #[test]
    fn an_appended_log_drops_an_incomplete_line_and_continues() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/metrics.jsonl");
        let mut log = MetricsLog::create(path.clone());
        log.event(&EVENT);
        log.finish().expect("written");
        let line = std::fs::read_to_string(&path).expect("a log");
        std::fs::write(&path, format!("{line}{{\"event\":\"st")).expect("an interrupted log");
        let mut log = MetricsLog::append(path.clone());
        log.event(&EVENT);
        log.finish().expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a log"), format!("{line}{line}"));
    }

    #[test]
    fn without_events_no_file_is_created() {
        let folder = tempfile::tempdir().expect("a folder");
        MetricsLog::create(folder.path().join("metrics.jsonl")).finish().expect("nothing to do");
        assert!(!folder.path().join("metrics.jsonl").exists());
    }

    #[test]
    fn a_write_error_is_reported_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = MetricsLog::create(folder.path().to_owned());
        log.event(&EVENT);
        assert!(log.finish().is_err());
    }
}
