//! Files and folders whose names the user chooses: what is replaced, and checks before slow work.

use crate::failure::{Failure, system_message};
use anyhow::{Context, Result};
use resnet_bk::pipeline::{RunError, is_run};
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes at the start of a file that show who wrote it.
const START: u64 = 1024;

/// Refuses a path with something at it.
pub fn refuse_existing(path: &Path, command: &str, hint: &str) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(Failure::new(format!("{} exists, and {command} replaces no file", path.display()), hint)),
        Err(_) => Ok(()),
    }
}

/// Refuses a path with something at it that the command has not written itself. `is_own` recognizes
/// its files by their start; `own` says what they are.
pub fn refuse_others(
    path: &Path,
    command: &str,
    own: &str,
    hint: &str,
    is_own: impl FnOnce(&str) -> bool,
) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::new(format!("{} is a folder", path.display()), hint));
    }
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(START).read_to_end(&mut start));
    if fs::symlink_metadata(path).is_err() || (read.is_ok() && is_own(&String::from_utf8_lossy(&start))) {
        return Ok(());
    }
    Err(Failure::new(format!("{} exists, and {command} replaces no file but {own}", path.display()), hint))
}

/// Writes a file, and makes its folder if it does not exist.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    create_folder_of(path)?;
    replace_file(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the folder of a file if it does not exist.
pub fn create_folder_of(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
        }
        None => Ok(()),
    }
}

/// Checks that a run can begin in a folder: that there is none in it, unless one is resumed, and that
/// it can be written to. Leaves nothing behind.
pub fn check_run_folder(folder: &Path, resume: bool) -> Result<()> {
    if !resume && is_run(folder) {
        return Err(RunError::Exists { path: folder.to_owned() }.into());
    }
    let there = existing(folder);
    if !there.is_dir() {
        return Err(Failure::new(format!("{} is not a folder", there.display()), "choose another --out").into());
    }
    // Names that begin with `.tmp` do not count as files of the folder.
    let probe = there.join(format!(".tmp-resnet-bk-{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(|error| {
        let inside = if there == folder { String::new() } else { format!(", to make {} in it", folder.display()) };
        let message = format!("cannot write to {}{inside}: {}", there.display(), system_message(&error));
        Failure::new(message, "check the permissions of the folder, or choose another --out").into()
    })
}

/// The path itself, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    found.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_files_are_replaced() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("page.html");
        let check = || refuse_others(&path, "report", "its pages", "choose another", |start| start.starts_with("own"));
        assert!(check().is_ok(), "nothing is there");
        fs::write(&path, "own page").expect("written");
        assert!(check().is_ok());
        for other in [&b"my text, not its own"[..], b"", b"\x89RBK\r\n"] {
            fs::write(&path, other).expect("written");
            let message = check().expect_err("somebody else's").to_string();
            assert!(message.ends_with("page.html exists, and report replaces no file but its pages"), "{message}");
        }
        let folder = refuse_others(place.path(), "report", "its pages", "choose another", |_| true);
        assert!(folder.expect_err("a folder").to_string().ends_with("is a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_not_replaced() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("link");
        std::os::unix::fs::symlink(place.path().join("nowhere"), &path).expect("a link");
        assert!(refuse_existing(&path, "export", "choose another").is_err());
        assert!(refuse_others(&path, "report", "its pages", "choose another", |_| true).is_err());
    }

    #[test]
    fn the_check_of_a_folder_leaves_nothing_behind() {
        let place = tempfile::tempdir().expect("a folder");
        check_run_folder(&place.path().join("some/new/run"), false).expect("it can be made");
        check_run_folder(place.path(), false).expect("it can be written to");
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0);
        let file = place.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [file.clone(), file.join("run")] {
            let message = check_run_folder(&path, false).expect_err("a file").to_string();
            assert!(message.ends_with("file is not a folder"), "{message}");
        }
    }
}
