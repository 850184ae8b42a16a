//! Replaces a file atomically: a reader sees either the old bytes or the new ones.
//!
//! ```text
//! folder/.tmpXXXXXX    create -> write -> fsync -> rename to folder/name -> fsync the folder
//! ```
//!
//! The temporary file is in the folder of the target, because a rename is atomic only within one
//! file system. If anything fails before the rename, the old file is unchanged and the temporary
//! file is removed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locked while a file is replaced.
static WRITING: Mutex<()> = Mutex::new(());

/// Waits until no file is being replaced, and blocks further replacements until the guard is
/// dropped.
///
/// A program that ends because of a signal takes the guard first, so that no temporary file is
/// left.
#[must_use = "writes go on when the guard is dropped"]
pub fn pause_writes() -> MutexGuard<'static, ()> {
    // The mutex protects no data, so a poisoned one is safe to use.
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `bytes` to `path`. An existing file is replaced atomically.
///
/// The permissions of a replaced file are kept. A new file has the default ones (`0o666` without
/// the bits of the umask, on Unix). A symbolic link is replaced, not followed.
///
/// # Errors
/// Any failure to create, write or rename. `path` is then unchanged, except if only the fsync of
/// the folder failed.
pub fn replace_file(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    replace(path.as_ref(), |file| file.write_all(bytes))
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // The parent of a plain file name is the empty path, which is not a folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _guard = pause_writes();
    let mut temporary = new_file(folder)?;
    write(temporary.as_file_mut())?;
    if let Some(permissions) = permissions_of(path)? {
        temporary.as_file().set_permissions(permissions)?;
    }
    // Sync before the rename. Otherwise, after a power failure, the name could refer to bytes that
    // were never written to the disk.
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(folder)
}

fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The default of tempfile, 0o600, is for secrets. The umask still applies.
        builder.permissions(Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// The permissions of the existing file, if there is one.
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

/// Other systems cannot open a folder as a file.
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
