//! The trials of a planner that are done, kept in a file across an interruption, with the text that they
//! are of.

use super::candidates::Candidate;
use crate::checkpoint::CheckpointError;
use crate::corpus::TextFingerprint;
use crate::ranks::Ranks;
use crate::summary::Trial;
use crate::train::{Stage, TrainError};
use resnet_bk_runtime::internal::replace_file::replace_file;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// File with the trials, next to the stage's checkpoint. It is removed at the end of the stage.
pub(crate) const TRIALS: &str = "trials.json";

/// The trials of an interrupted search, and where to keep those of this one.
pub(super) struct Trials {
    /// `None` keeps nothing.
    file: Option<PathBuf>,
    text: Option<TextFingerprint>,
    done: Vec<Trial>,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Saved {
    text: Option<TextFingerprint>,
    /// In the order of the search.
    trials: Vec<Trial>,
}

impl Trials {
    /// Reads the trials that an interrupted search of this text has done.
    pub(super) fn restore(stage: &Stage, text: Option<&TextFingerprint>, ranks: &Ranks) -> Result<Self, TrainError> {
        let file = stage.save_to.as_ref().map(|path| path.with_file_name(TRIALS));
        let done = ranks.share_result(|| {
            // Trials that cannot be read run again.
            let saved = file.as_ref().and_then(|path| std::fs::read(path).ok());
            let saved = saved.and_then(|bytes| serde_json::from_slice::<Saved>(&bytes).ok());
            let of_text = saved.filter(|saved| saved.text.as_ref() == text);
            Ok::<_, TrainError>(of_text.map_or_else(Vec::new, |saved| saved.trials))
        })?;
        Ok(Self { file, text: text.cloned(), done })
    }

    /// The trial at `index` of the search, if it is done.
    pub(super) fn get(&self, index: usize, round: usize, candidate: &Candidate, tokens: usize) -> Option<Trial> {
        let is_of = |trial: &&Trial| {
            (trial.round, trial.tokens, trial.predicted_bytes) == (round, tokens, candidate.bytes() as u64)
                && trial.student == candidate.describe()
        };
        self.done.get(index).filter(is_of).cloned()
    }

    /// Saves the trials so far, on rank 0.
    pub(super) fn save(&self, trials: &[Trial], ranks: &Ranks) -> Result<(), TrainError> {
        let Some(path) = &self.file else { return Ok(()) };
        ranks.share_result(|| {
            let saved = Saved { text: self.text.clone(), trials: trials.to_vec() };
            let json = serde_json::to_vec(&saved).expect("trials are plain data");
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            let written = folder.and_then(|()| replace_file(path, &json));
            written.map_err(|source| CheckpointError::Write { path: path.clone(), source }.into())
        })
    }
}
