//! The state of files: enough to tell whether they are still the ones that were read.

use super::CorpusError;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The coarsest clock of a file system (FAT). A file that changes twice within this time may show
/// the same time of modification.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// Paths, lengths and times of files. On Unix, also their inodes and the times of the last change
/// of the inode, which no program can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    files: Vec<FileStamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    /// Absolute, with links resolved.
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
    inode: [i64; 3],
}

impl Stamp {
    /// The present state of files.
    ///
    /// # Errors
    ///
    /// The first file that has no state, and the system's error.
    pub(super) fn of(files: &[impl AsRef<Path>]) -> Result<Self, (PathBuf, io::Error)> {
        let files = files.iter().map(|path| {
            let path = path.as_ref();
            FileStamp::of(path).map_err(|error| (path.to_owned(), error))
        });
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    /// Lengths of the files together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Checks that the files are unchanged.
    ///
    /// # Errors
    ///
    /// [`CorpusError::Changed`] with the first changed file.
    pub(super) fn check(&self) -> Result<(), CorpusError> {
        let changed = self.files.iter().find(|file| FileStamp::of(&file.path).ok().as_ref() != Some(file));
        changed.map_or(Ok(()), |file| Err(CorpusError::Changed { path: file.path.clone() }))
    }

    /// Whether any change from now on would change the stamp.
    pub(super) fn is_settled(&self) -> bool {
        let is_old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > COARSEST_CLOCK);
        self.files.iter().all(|file| is_old(file.modified))
    }
}

impl FileStamp {
    fn of(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = path.metadata()?;
        Ok(Self { bytes: metadata.len(), modified: metadata.modified()?, inode: inode(&metadata), path })
    }
}

/// Number of the inode, seconds and nanoseconds of its last change.
#[cfg(unix)]
fn inode(metadata: &Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    [metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()]
}

/// Other systems have no inodes.
#[cfg(not(unix))]
fn inode(_: &Metadata) -> [i64; 3] {
    [0; 3]
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for FileStamp { path, bytes, modified, inode } in &self.files {
            // Negative before 1970.
            let nanoseconds = match modified.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => since.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            write!(f, "{path:?} {bytes} bytes, modified {nanoseconds}, inode {inode:?}; ")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn every_change_changes_the_stamp() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        fs::write(&path, "abc").expect("written");
        let old = SystemTime::now() - Duration::from_secs(60);
        let set_time = |time| File::options().append(true).open(&path).and_then(|file| file.set_modified(time));
        set_time(old).expect("a time");
        let stamp = || Stamp::of(&[&path]).expect("a file");
        let first = stamp();
        assert!(first.check().is_ok() && first.is_settled());
        assert_eq!(first.bytes(), 3);
        assert_eq!(first.to_string(), stamp().to_string());

        // One nanosecond later; then another length with the same time of modification.
        set_time(old + Duration::from_nanos(1_000)).expect("a time");
        assert_ne!(first.to_string(), stamp().to_string());
        fs::write(&path, "abcd").and_then(|()| set_time(old)).expect("written");
        assert_ne!(first.to_string(), stamp().to_string());
        assert_eq!(
            first.check().expect_err("changed").to_string(),
            format!("{} changed while it was read", path.canonicalize().expect("a file").display())
        );
        // A text of the same length whose time of modification was put back.
        #[cfg(unix)]
        {
            fs::write(&path, "xyz").and_then(|()| set_time(old)).expect("written");
            assert_ne!(first, stamp(), "the inode's time has changed");
        }
        fs::write(&path, "abc").expect("written");
        assert!(!stamp().is_settled(), "it was written just now");
        set_time(SystemTime::now() + Duration::from_secs(60)).expect("a time");
        assert!(!stamp().is_settled(), "it is from the future");
        fs::remove_file(&path).expect("removed");
        assert!(first.check().is_err());
        assert_eq!(Stamp::of(&[&path]).expect_err("no file").0, path);
    }
}
