//! What a partial download is a part of.
//!
//! ```text
//! <name>.part         the first bytes
//! <name>.part.json    validator and length of the whole file
//! ```

use super::download::text;
use resnet_bk_runtime::internal::replace_file::replace_file;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use ureq::http::HeaderMap;

/// Identifies the bytes of a file on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whole {
    /// The strong `ETag`, or `Last-Modified`: a value of the header `If-Range`.
    pub(super) validator: String,
    /// Length of the file.
    pub(super) length: u64,
}

impl Whole {
    /// The file that an answer is of, if its length is known.
    pub(super) fn of_answer(headers: &HeaderMap, length: Option<u64>) -> Option<Self> {
        Some(Self { validator: validator(headers)?.to_owned(), length: length? })
    }

    /// What `part` is a part of, if known.
    pub(super) fn read(part: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(description(part)).ok()?).ok()
    }

    /// Records what `part` is a part of.
    pub(super) fn write(&self, part: &Path) -> io::Result<()> {
        replace_file(description(part), &serde_json::to_vec(self)?)
    }
}

/// The validator of an answer. A weak ETag does not identify bytes.
pub(super) fn validator(headers: &HeaderMap) -> Option<&str> {
    text(headers, "etag").filter(|etag| !etag.starts_with("W/")).or_else(|| text(headers, "last-modified"))
}

/// Deletes what `part` is a part of. Left over, it does no harm.
pub(super) fn forget(part: &Path) {
    let _ = fs::remove_file(description(part));
}

fn description(part: &Path) -> PathBuf {
    let mut path = OsString::from(part);
    path.push(".json");
    path.into()
}
