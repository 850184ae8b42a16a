//! The ids of a text, written as they are made.

use super::{IdsEntry, Key, write};
use crate::corpus::Tokens;
use crate::corpus::mapped_ids::MappedIds;
use crc32fast::Hasher;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Bytes to write or read at a time.
const BUFFER: usize = 1 << 20;
/// Beginning of the names of unfinished files.
const UNFINISHED: &str = ".unfinished-";
/// Age from which an unfinished file without a writer is deleted. A younger one may be about to be
/// locked.
const ABANDONED: Duration = Duration::from_secs(60);

/// The ids of an entry: mapped, if length and checksum are right.
pub(super) fn open(path: &Path, entry: &IdsEntry) -> io::Result<Option<Tokens>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != (entry.tokens * size_of::<u32>()) as u64 {
        return Ok(None);
    }
    // Read, not mapped: pages of the map would count as memory of the process.
    let mut checksum = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        checksum.update(&buffer[..read]);
    }
    if checksum.finalize() != entry.crc32 {
        return Ok(None);
    }
    MappedIds::map(&file).map(|ids| Some(Tokens::mapped(ids)))
}

/// Writes ids into an unfinished file, which is deleted unless it is finished.
pub(in crate::corpus) struct IdsWriter {
    file: NamedTempFile,
    /// Bytes that are not written yet.
    pending: Vec<u8>,
    checksum: Hasher,
}

impl IdsWriter {
    /// A new file in the folder of `key`. Deletes those whose writers have died.
    pub(in crate::corpus) fn create(cache: &Path, key: &Key) -> io::Result<Self> {
        let folder = cache.join(key.kind);
        fs::create_dir_all(&folder)?;
        delete_abandoned(&folder);
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file. The default of tempfile, 0o600, is for secrets.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(&folder)?;
        // On systems that cannot lock files, abandoned ones stay.
        let _ = file.as_file().lock();
        Ok(Self { file, pending: Vec::with_capacity(BUFFER), checksum: Hasher::new() })
    }

    pub(in crate::corpus) fn push(&mut self, id: u32) -> io::Result<()> {
        self.pending.extend_from_slice(&id.to_ne_bytes());
        if self.pending.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.checksum.update(&self.pending);
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Gives the file its name, writes the entry, and maps the ids.
    pub(in crate::corpus) fn finish(
        mut self,
        cache: &Path,
        key: &Key,
        (tokens, unknown, words_sha256): (usize, usize, String),
    ) -> io::Result<(IdsEntry, Tokens)> {
        self.flush()?;
        // Not synchronized with the disk: after a power failure, the checksum tells.
        let file = self.file.persist(key.path(cache, "ids"))?;
        let entry = IdsEntry { tokens, unknown, words_sha256, crc32: self.checksum.finalize() };
        write(cache, key, &entry)?;
        Ok((entry, Tokens::mapped(MappedIds::map(&file)?)))
    }
}

/// Deletes unfinished files that no process writes to. Failures do no harm.
fn delete_abandoned(folder: &Path) {
    let is_unfinished =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in paths.filter(is_unfinished) {
        let is_abandoned = File::open(&path).is_ok_and(|file| {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED));
            is_old && file.try_lock().is_ok()
        });
        if is_abandoned {
            let _ = fs::remove_file(&path);
        }
    }
}
