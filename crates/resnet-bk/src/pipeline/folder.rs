//! A run's folder: whose it is, and who writes to it.

use super::RunError;
use crate::config::{Recipe, StageKind};
use resnet_bk_runtime::atomic::write_atomically;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Name of the resolved recipe. A folder with one that begins with [`MARK`] is a run's.
const RECIPE: &str = "recipe.toml";
/// First line of the resolved recipe.
const MARK: &str = "# The recipe of this run with all its values, written by resnet-bk.";

/// Checks that the folder is a new one, or holds a run that may be gone on with: nobody's files are overwritten.
pub(super) fn check(folder: &Path, recipe: &Recipe, resume: bool) -> Result<(), RunError> {
    let path = folder.join(RECIPE);
    let file = |source| RunError::File { path: path.clone(), source };
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text).filter(|text| text.starts_with(MARK)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        // Not text: no recipe of ours.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
        Err(source) => return Err(file(source)),
    };
    match old {
        Some(_) if !resume => Err(RunError::Exists { path: folder.to_owned() }),
        Some(text) => {
            let same = Recipe::parse(&text, RECIPE, &[]).is_ok_and(|old| same_work(&old, recipe));
            if same { Ok(()) } else { Err(RunError::OtherRecipe { path }) }
        }
        None if holds_something(folder).map_err(|source| RunError::File { path: folder.to_owned(), source })? => {
            Err(RunError::NotARun { path: folder.to_owned() })
        }
        None if resume => Err(RunError::NothingToResume { path: folder.to_owned() }),
        None => Ok(()),
    }
}

fn holds_something(folder: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a run of the old recipe is a beginning of the new one's, or the other way round. A target may change.
fn same_work(old: &Recipe, new: &Recipe) -> bool {
    let shorter = old.stages.len().min(new.stages.len());
    // A planner works towards the target.
    let target = if old.stages.iter().any(|stage| stage.kind() == StageKind::Plan) { old.target } else { new.target };
    // The dev slice cannot be held out of what was trained on already.
    old.holds_out_dev() == new.holds_out_dev()
        && old.stages[..shorter] == new.stages[..shorter]
        && Recipe { target, stages: new.stages.clone(), ..old.clone() } == *new
}

/// Makes the run's folder and locks it until the file is dropped, or the process ends in any way. Some systems do not lock folders; a
/// run goes on there without.
pub(super) fn lock(folder: &Path) -> Result<Option<File>, RunError> {
    std::fs::create_dir_all(folder).map_err(|source| RunError::File { path: folder.to_owned(), source })?;
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RunError::Busy { path: folder.to_owned() }),
        _ => Ok(Some(file)),
    }
}

/// Writes the resolved recipe, which makes the folder a run's.
pub(super) fn write_recipe(folder: &Path, recipe: &Recipe) -> Result<(), RunError> {
    write(&folder.join(RECIPE), format!("{MARK}\n{}", recipe.to_toml()).as_bytes())
}

/// Writes a file of the run in one step.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write_atomically(path, bytes));
    written.map_err(|source| RunError::File { path: path.to_owned(), source })
}
