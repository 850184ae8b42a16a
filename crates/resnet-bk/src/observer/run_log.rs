//! The logs of a run: `metrics.jsonl`, and the same numbers for TensorBoard.

use super::numbers::Numbers;
use super::tensorboard::{TENSORBOARD, TensorBoardLog};
use super::{Event, METRICS, MetricsLog, Observer};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A log that could not be written to its end.
#[derive(Debug, Error)]
#[error("{path} is not complete: {source}")]
pub struct IncompleteLog {
    /// File or folder of the log.
    pub path: PathBuf,
    /// The first failure.
    pub source: io::Error,
}

/// Writes the logs of a run into its folder. They are created at the first event, so a refused run
/// leaves none.
pub struct RunLog {
    folder: PathBuf,
    metrics: MetricsLog,
    tensorboard: TensorBoardLog,
}

impl RunLog {
    /// The logs of a run in this folder. Those of a resumed run continue.
    pub fn new(folder: &Path, is_resumed: bool) -> Self {
        let (path, events) = (folder.join(METRICS), folder.join(TENSORBOARD));
        let (metrics, tensorboard) = if is_resumed {
            // Without an old log, steps are counted from the resumed stage on.
            let numbers = Numbers::after(&std::fs::read_to_string(&path).unwrap_or_default());
            (MetricsLog::append(path), TensorBoardLog::resume(events, numbers))
        } else {
            (MetricsLog::create(path), TensorBoardLog::create(events))
        };
        Self { folder: folder.to_owned(), metrics, tensorboard }
    }

    /// Writes the remaining data.
    ///
    /// # Errors
    /// [`IncompleteLog`] if an event could not be written.
    pub fn finish(self) -> Result<(), IncompleteLog> {
        let Self { folder, metrics, tensorboard } = self;
        let results = [(METRICS, metrics.finish()), (TENSORBOARD, tensorboard.finish())];
        results
            .into_iter()
            .try_for_each(|(name, result)| result.map_err(|source| IncompleteLog { path: folder.join(name), source }))
    }
}

impl Observer for RunLog {
    fn event(&mut self, event: &Event) {
        self.metrics.event(event);
        self.tensorboard.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::tests::{started, step};
    use super::*;

    #[test]
    fn the_failed_log_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        // A file in the place of the folder.
        std::fs::write(folder.path().join(TENSORBOARD), "").expect("written");
        let mut log = RunLog::new(folder.path(), false);
        [started(1, 0), step(1, 0, 2.0)].iter().for_each(|event| log.event(event));
        let error = log.finish().expect_err("no folder");
        assert_eq!(error.path, folder.path().join(TENSORBOARD));
        let lines = std::fs::read_to_string(folder.path().join(METRICS)).expect("a log").lines().count();
        assert_eq!(lines, 2, "the other log is complete");
    }
}
