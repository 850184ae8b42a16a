//! One data set of the hub in the cache.
//!
//! ```text
//! refs/main                    the latest known commit
//! snapshots/<commit>/<file>    a link to a blob
//! blobs/<etag>                 the file
//! blobs/<etag>.part            a partial download
//! blobs/<etag>.part.json       what it is a part of
//! blobs/<etag>.lock            locked during the download
//! ```
//!
//! The layout is that of Python's `huggingface_hub`. The crate `hf-hub` is not used: it would add
//! eight packages for two requests and a rename.

use super::download::{DownloadError, Hub, Version, file_error};
use super::partial;
use crate::corpus::fingerprint::sha256_of_file;
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A data set and its place in the cache.
pub(super) struct Repository {
    hub: Hub,
    /// Base URL of the files, without a trailing slash.
    files: String,
    folder: PathBuf,
}

impl Repository {
    /// The data set `OWNER/NAME` of the hub at `endpoint`, with the cache folder `cache`.
    pub(super) fn new(endpoint: &str, cache: &Path, dataset: &str) -> Self {
        Self {
            hub: Hub::new(),
            files: format!("{endpoint}/datasets/{dataset}/resolve/main"),
            folder: cache.join(format!("datasets--{}", dataset.replace('/', "--"))),
        }
    }

    /// The path of `file`. Downloads it if it is not in the cache.
    ///
    /// # Errors
    ///
    /// If the file is not in the cache, and the hub does not answer, does not have it, or sends
    /// wrong data.
    pub(super) fn get(&self, file: &str) -> Result<PathBuf, DownloadError> {
        match self.cached(file) {
            Some(path) => Ok(path),
            None => self.download(file),
        }
    }

    fn cached(&self, file: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.folder.join("refs/main")).ok()?;
        Some(self.snapshot(commit.trim(), file)).filter(|path| path.exists())
    }

    fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(file)
    }

    fn download(&self, file: &str) -> Result<PathBuf, DownloadError> {
        let url = format!("{}/{file}", self.files);
        let version = self.hub.version(&url)?;
        let blob = self.blob(&url, &version)?;
        let path = self.snapshot(&version.commit, file);
        create_parent(&path)?;
        link(&blob, &path, file).map_err(file_error(&path))?;
        let main = self.folder.join("refs/main");
        create_parent(&main)?;
        replace_file(&main, version.commit.as_bytes()).map_err(file_error(&main))?;
        Ok(path)
    }

    /// The blob of this version. Downloads it unless another commit or process has already done so.
    fn blob(&self, url: &str, version: &Version) -> Result<PathBuf, DownloadError> {
        let blob = self.folder.join("blobs").join(&version.etag);
        create_parent(&blob)?;
        let beside = |suffix| blob.with_file_name(format!("{}.{suffix}", version.etag));
        let lock = File::create(beside("lock")).map_err(file_error(&blob))?;
        // On systems that cannot lock files, the download continues without a lock.
        let _ = lock.lock();
        if !blob.exists() {
            let part = beside("part");
            self.hub.download(url, &part)?;
            check(&part, version)?;
            fs::rename(&part, &blob).map_err(file_error(&blob))?;
            partial::forget(&part);
        }
        Ok(blob)
    }
}

/// Compares a download with its etag. The etag is the SHA-256 if the hub stores the file outside of
/// Git.
fn check(part: &Path, version: &Version) -> Result<(), DownloadError> {
    if version.etag.len() != 64 || !version.etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let found = sha256_of_file(part).map_err(file_error(part))?;
    if found == version.etag {
        return Ok(());
    }
    fs::remove_file(part).map_err(file_error(part))?;
    partial::forget(part);
    Err(DownloadError::Checksum { expected: version.etag.clone(), found })
}

fn create_parent(path: &Path) -> Result<(), DownloadError> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(file_error(path))
}

/// Links `path`, which is `file` in a snapshot, to the blob. Replaces a broken link.
#[cfg(unix)]
fn link(blob: &Path, path: &Path, file: &str) -> std::io::Result<()> {
    // From the folder of the file through its parents, `<commit>` and `snapshots` up to the data
    // set's folder.
    let up = "../".repeat(file.matches('/').count() + 2);
    let name = blob.file_name().unwrap_or_default();
    if path.is_symlink() {
        fs::remove_file(path)?;
    }
    std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), path)
}

/// Moves the blob to `path`, because not every system allows every user to create links.
#[cfg(not(unix))]
fn link(blob: &Path, path: &Path, _file: &str) -> std::io::Result<()> {
    fs::rename(blob, path)
}
