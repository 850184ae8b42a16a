//! The cache folder: what is made of large texts, so that it is made once.
//!
//! ```text
//! <cache>/vocabulary/<key>.json       words of a text
//! <cache>/tokens/<key>.json           number of tokens, hash of their words, checksum of the ids
//! <cache>/tokens/<key>.ids            ids of 32 bits, in the byte order of the machine
//! <cache>/repeated-lines/<key>.json   share of held-out lines that were trained on
//! <cache>/ngrams/<key>.json           perplexities of n-gram baselines
//! ```
//!
//! A key is the SHA-256 of everything that determines the content: paths, lengths and times of the
//! text's files, settings of the tokenizer, words, limits, and the version of this format. The
//! first line of a `.json` file has the version, the key and the SHA-256 of the rest. A file that
//! does not match in any of them is not used. Files appear under their names when they are
//! complete, by a rename, and are not changed afterwards.
//!
//! Nothing depends on the cache: a failure to write it is a warning, and it may be deleted at any
//! time.

mod ids;
#[cfg(test)]
mod tests;

pub(super) use ids::IdsWriter;

use super::{TextSource, Tokens, sha256};
use crate::observer::{Event, Observer};
use resnet_bk_runtime::internal::replace_file::replace_file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Version of the entries. A change of the tokenizer, of a hash or of the format needs a new one.
const VERSION: u32 = 1;

/// The cache folder, or none.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
    /// Whether a write has failed. Then no other one is tried.
    failed: Arc<AtomicBool>,
}

impl Cache {
    /// Keeps nothing.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// A cache in `folder`, which is created when something is kept.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), failed: Arc::default() }
    }

    /// The cache in the folder `RESNET_BK_CACHE`. Without that variable, in the folder `resnet-bk`
    /// among the user's caches: `XDG_CACHE_HOME` or `~/.cache`, on macOS `~/Library/Caches`, on
    /// Windows `LOCALAPPDATA`. Disabled if there is no home directory.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        folder_by(variable).map_or_else(Self::disabled, Self::at)
    }

    /// The folder; `None` if the cache is disabled.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The cache for what is made of `texts`: disabled if all of them are in memory, where making
    /// it again takes no time, or if a later change of one could not be told by its times.
    pub(crate) fn for_texts(&self, texts: &[&TextSource]) -> Self {
        let is_useful = texts.iter().any(|text| text.is_on_disk()) && texts.iter().all(|text| text.is_settled());
        if is_useful { self.clone() } else { Self::disabled() }
    }

    /// The entry of a key, which is made and kept if it is not there.
    ///
    /// # Errors
    ///
    /// Those of `make`.
    pub(crate) fn get_or_make<T: Serialize + DeserializeOwned, E>(
        &self,
        key: impl FnOnce() -> Key,
        make: impl FnOnce() -> Result<T, E>,
        observer: &mut dyn Observer,
    ) -> Result<T, E> {
        let Some(folder) = &self.folder else { return make() };
        let key = key();
        if let Some(found) = read(folder, &key) {
            return Ok(found);
        }
        let made = make()?;
        self.keep(observer, |folder| write(folder, &key, &made));
        Ok(made)
    }

    /// Calls `write`, unless a write has failed before. A failure is a warning.
    pub(super) fn keep<T>(&self, observer: &mut dyn Observer, write: impl FnOnce(&Path) -> io::Result<T>) -> Option<T> {
        let folder = self.folder.as_ref().filter(|_| !self.failed.load(Ordering::Relaxed))?;
        let written = write(folder);
        if let Err(error) = &written {
            self.failed.store(true, Ordering::Relaxed);
            let folder = folder.display();
            let message =
                format!("the cache {folder} cannot be written ({error}): the next start will read the text again");
            observer.event(&Event::Warning { message });
        }
        written.ok()
    }
}

/// The folder that the environment's variables ask for.
fn folder_by(variable: impl Fn(&'static str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("RESNET_BK_CACHE").or_else(|| Some(user_caches(variable)?.join("resnet-bk")))
}

/// The folder of the user's caches, by the convention of the system.
fn user_caches(variable: impl Fn(&'static str) -> Option<PathBuf>) -> Option<PathBuf> {
    if cfg!(windows) {
        return variable("LOCALAPPDATA");
    }
    // By the XDG convention, a relative path is invalid.
    variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| {
        let home = std::env::home_dir()?;
        Some(home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }))
    })
}

/// Name of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    kind: &'static str,
    hash: String,
}

impl Key {
    /// The key of everything that determines the content.
    pub(crate) fn new(kind: &'static str, content: &str) -> Self {
        let byte_order = if cfg!(target_endian = "big") { "big" } else { "little" };
        Self { kind, hash: sha256(format!("{VERSION} {byte_order} {kind}: {content}").as_bytes()) }
    }

    fn path(&self, folder: &Path, extension: &str) -> PathBuf {
        folder.join(self.kind).join(&self.hash).with_extension(extension)
    }

    /// The first line of an entry with this content.
    fn header(&self, content: &str) -> String {
        format!("resnet-bk cache {VERSION} {} {}", self.hash, sha256(content.as_bytes()))
    }
}

/// The entry of a key, if it is there and undamaged.
fn read<T: DeserializeOwned>(folder: &Path, key: &Key) -> Option<T> {
    let entry = fs::read_to_string(key.path(folder, "json")).ok()?;
    let (header, content) = entry.split_once('\n')?;
    if header != key.header(content) {
        return None;
    }
    serde_json::from_str(content).ok()
}

/// Writes an entry. An existing one is replaced.
fn write<T: Serialize>(folder: &Path, key: &Key, value: &T) -> io::Result<()> {
    let content = serde_json::to_string(value)?;
    let path = key.path(folder, "json");
    fs::create_dir_all(folder.join(key.kind))?;
    replace_file(path, format!("{}\n{content}", key.header(&content)).as_bytes())
}

/// What an entry of tokens says about its ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdsEntry {
    /// Number of ids.
    pub(super) tokens: usize,
    /// Number of `<unk>` among them.
    pub(super) unknown: usize,
    /// Hash of their words.
    pub(super) words_sha256: String,
    /// CRC-32 of the file.
    pub(super) crc32: u32,
}

impl Cache {
    /// The tokens of a key, if they are there and undamaged.
    pub(super) fn tokens(&self, key: &Key) -> Option<(IdsEntry, Tokens)> {
        let folder = self.folder.as_ref()?;
        let entry: IdsEntry = read(folder, key)?;
        let ids = ids::open(&key.path(folder, "ids"), &entry).ok()??;
        Some((entry, ids))
    }
}
