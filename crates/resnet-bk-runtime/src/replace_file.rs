//! Replacing a file so that a reader sees the old bytes or the new ones, never a part of either.
//!
//! ```text
//! folder/.tmpXXXXXX    create -> write -> fsync -> rename to folder/name -> fsync the folder
//! ```
//!
//! The temporary file lives in the target's folder because a rename is atomic within one file
//! system only. Whatever fails before the rename leaves the old file as it was and removes the
//! temporary one.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held while a file is replaced.
static WRITING: Mutex<()> = Mutex::new(());

/// Waits until no file is being replaced; none is, as long as the guard lives.
///
/// A program that is about to end for a signal ends between two writes with it, and leaves no
/// temporary file.
#[must_use = "writes go on when the guard is dropped"]
pub fn pause_writes() -> MutexGuard<'static, ()> {
    // A writer that panicked has left nothing that a later one could trip over.
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `bytes` to `path`, replacing a file that is there in one step.
///
/// A replaced file passes its permissions on; a new one gets those of any new file (`0o666` less
/// the umask on Unix). A symbolic link is replaced, not followed.
///
/// # Errors
/// Any failure to create, write or rename; `path` is then unchanged, except if only the folder's
/// fsync failed.
pub fn replace_file(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    replace(path.as_ref(), |file| file.write_all(bytes))
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // The parent of a bare file name is the empty path, which names no folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _alone = pause_writes();
    let mut temporary = new_file(folder)?;
    write(temporary.as_file_mut())?;
    if let Some(permissions) = permissions_of(path)? {
        temporary.as_file().set_permissions(permissions)?;
    }
    // Before the rename: after a power cut the name must not point at bytes that never reached the
    // disk.
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(folder)
}

fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The default, 0o600, is for secrets. The umask still applies.
        builder.permissions(Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// The permissions of the file to be replaced, if there is one.
fn permissions_of(path: &Path) -> io::Result<Option<Permissions>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.permissions())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Only Unix opens folders as files.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn creates_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.rbk");
        replace_file(&path, b"first, and longer").unwrap();
        replace_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names_in(folder.path()), ["model.rbk"]);
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.rbk");
        replace_file(&path, b"old").unwrap();
        let failure = replace(&path, |file| {
            file.write_all(b"half of the new by")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failure.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(folder.path()), ["model.rbk"]);
    }

    #[test]
    fn no_file_is_replaced_while_writes_are_paused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.rbk");
        let paused = pause_writes();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || replace_file(&path, b"new")
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(names_in(folder.path()).is_empty(), "not even a temporary file");
        drop(paused);
        writer.join().unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.rbk");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"kept").unwrap();
        assert!(replace_file(&path, b"new").is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
        assert_eq!(names_in(folder.path()), ["model.rbk"]);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let failure = replace_file(folder.path().join("missing/model.rbk"), b"new").unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::NotFound);
        assert!(names_in(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_the_replaced_file_or_of_any_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let (ordinary, path) = (folder.path().join("ordinary"), folder.path().join("model.rbk"));
        fs::write(&ordinary, b"").unwrap();
        replace_file(&path, b"first").unwrap();
        assert_eq!(mode(&path), mode(&ordinary));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace_file(&path, b"second").unwrap();
        assert_eq!(mode(&path), 0o640);
    }
}
