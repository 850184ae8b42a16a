//! A run's folder: whose it is, and who writes to it.

use super::RunError;
use crate::config::{Recipe, StageKind};
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Name of the resolved recipe in a run's folder. A folder with one that begins with a line of the
/// run's is a run's.
pub const RECIPE: &str = "recipe.toml";
/// First line of the resolved recipe.
const MARK: &str = "# The recipe of this run with all its values, written by resnet-bk.";

/// A run's folder, as a run finds it.
pub(super) struct Folder<'a> {
    /// Where it is.
    pub(super) path: &'a Path,
    /// The run's recipe.
    pub(super) recipe: &'a Recipe,
    /// SHA-256 of the model that the run begins with, where it is given one.
    pub(super) given: Option<&'a str>,
}

impl Folder<'_> {
    /// Checks that the folder is a new one, or holds a run that may be gone on with: nobody's files
    /// are overwritten.
    pub(super) fn check(&self, resume: bool) -> Result<(), RunError> {
        let path = self.path.join(RECIPE);
        let folder = || self.path.to_owned();
        let old = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text).filter(|text| text.starts_with(MARK)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // Not text: no recipe of ours.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
            Err(source) => return Err(RunError::File { path, source }),
        };
        match old {
            Some(_) if !resume => Err(RunError::Exists { path: folder() }),
            Some(text) if !Recipe::parse(&text, RECIPE, &[]).is_ok_and(|old| same_work(&old, self.recipe)) => {
                Err(RunError::OtherRecipe { path })
            }
            Some(text) if text.lines().nth(1) != Some(&self.origin()) => Err(RunError::OtherModel { path: folder() }),
            Some(_) => Ok(()),
            None if holds_something(self.path).map_err(|source| RunError::File { path: folder(), source })? => {
                Err(RunError::NotARun { path: folder() })
            }
            None if resume => Err(RunError::NothingToResume { path: folder() }),
            None => Ok(()),
        }
    }

    /// Makes the folder and locks it until the file is dropped, or the process ends in any way.
    /// Some systems do not lock folders; a run goes on there without.
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

    /// Writes the resolved recipe, which makes the folder a run's.
    pub(super) fn write_recipe(&self) -> Result<(), RunError> {
        let text = format!("{MARK}\n{}\n{}", self.origin(), self.recipe.to_toml());
        write(&self.path.join(RECIPE), text.as_bytes())
    }

    /// The second line of the resolved recipe: what the run begins with.
    fn origin(&self) -> String {
        match self.given {
            Some(digest) => format!("# It begins with the model of SHA-256 {digest}."),
            None => "# It begins with a fresh model.".to_owned(),
        }
    }
}

fn holds_something(folder: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.any(|entry| entry.is_ok_and(|entry| !is_temporary(&entry.file_name())))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file is half of one that a run was killed at: see `replace_file.rs` of the runtime.
fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".tmp")
}

/// Whether a run of the old recipe is a beginning of the new one's. A target may change.
fn same_work(old: &Recipe, new: &Recipe) -> bool {
    // A planner works towards the target.
    let target = if old.stages.iter().any(|stage| stage.kind() == StageKind::Plan) { old.target } else { new.target };
    // The dev slice cannot be held out of what was trained on already.
    old.holds_out_dev() == new.holds_out_dev()
        && new.stages.starts_with(&old.stages)
        && Recipe { target, stages: new.stages.clone(), ..old.clone() } == *new
}

/// Writes a file of the run in one step.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| replace_file(path, bytes));
    written.map_err(|source| RunError::File { path: path.to_owned(), source })
}
