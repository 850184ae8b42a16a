//! The folder of a run: checks that it belongs to the run, and locks it.

use super::RunError;
use crate::config::{Recipe, StageKind};
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Name of the resolved recipe in a run's folder. Its first line marks the folder as a run's.
pub const RECIPE: &str = "recipe.toml";
/// First line of the resolved recipe.
const MARK: &str = "# The recipe of this run with all its values, written by resnet-bk.";

/// The folder of a run.
pub(super) struct Folder<'a> {
    /// Its path.
    pub(super) path: &'a Path,
    /// The run's recipe.
    pub(super) recipe: &'a Recipe,
    /// SHA-256 of the model file that the run begins with, if one is given.
    pub(super) given: Option<&'a str>,
}

impl Folder<'_> {
    /// Checks that the folder is new or holds a run that may be resumed. Other files are never
    /// overwritten.
    pub(super) fn check(&self, resume: bool) -> Result<(), RunError> {
        let path = self.path.join(RECIPE);
        let folder = || self.path.to_owned();
        let old = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text).filter(|text| text.starts_with(MARK)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // Not UTF-8, so not a recipe written by a run.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
            Err(source) => return Err(RunError::File { path, source }),
        };
        match old {
            Some(_) if !resume => Err(RunError::Exists { path: folder() }),
            Some(text) if !Recipe::parse(&text, RECIPE, &[]).is_ok_and(|old| can_resume(&old, self.recipe)) => {
                Err(RunError::OtherRecipe { path })
            }
            Some(text) if text.lines().nth(1) != Some(&self.origin()) => Err(RunError::OtherModel { path: folder() }),
            Some(_) => Ok(()),
            None if is_not_empty(self.path).map_err(|source| RunError::File { path: folder(), source })? => {
                Err(RunError::NotARun { path: folder() })
            }
            None if resume => Err(RunError::NothingToResume { path: folder() }),
            None => Ok(()),
        }
    }

    /// Creates the folder and locks it until the file is dropped or the process ends. On systems
    /// that cannot lock folders, the run continues without a lock.
    pub(super) fn lock(&self) -> Result<Option<File>, RunError> {
        std::fs::create_dir_all(self.path).map_err(|source| RunError::File { path: self.path.to_owned(), source })?;
        let Ok(file) = File::open(self.path) else {
            return Ok(None);
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(RunError::Busy { path: self.path.to_owned() }),
            _ => Ok(Some(file)),
        }
    }

    /// Writes the resolved recipe, which marks the folder as a run's.
    pub(super) fn write_recipe(&self) -> Result<(), RunError> {
        let text = format!("{MARK}\n{}\n{}", self.origin(), self.recipe.to_toml());
        write(&self.path.join(RECIPE), text.as_bytes())
    }

    /// The second line of the resolved recipe: the model that the run begins with.
    fn origin(&self) -> String {
        match self.given {
            Some(digest) => format!("# It begins with the model of SHA-256 {digest}."),
            None => "# It begins with a fresh model.".to_owned(),
        }
    }
}

/// Whether a folder has been written by a run: its recipe begins with the mark.
pub fn is_run(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join(RECIPE)).is_ok_and(|text| text.starts_with(MARK))
}

/// Whether a run is writing to a folder now. Always false on systems that cannot lock folders.
pub fn is_running(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn is_not_empty(folder: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.any(|entry| entry.is_ok_and(|entry| !is_temporary(&entry.file_name())))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this is a partial file left by an interrupted write; see `replace_file.rs` of the
/// runtime.
fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".tmp")
}

/// Whether a run of the new recipe can continue one of the old recipe. The target may differ.
fn can_resume(old: &Recipe, new: &Recipe) -> bool {
    // Unless a planner works toward it: then the targets must be equal.
    let target = if old.stages.iter().any(|stage| stage.kind() == StageKind::Plan) { old.target } else { new.target };
    // A dev slice cannot be held out of text that was already trained on.
    old.holds_out_dev() == new.holds_out_dev()
        && new.stages.starts_with(&old.stages)
        && Recipe { target, stages: new.stages.clone(), ..old.clone() } == *new
}

/// Replaces a file of the run atomically.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| replace_file(path, bytes));
    written.map_err(|source| RunError::File { path: path.to_owned(), source })
}
