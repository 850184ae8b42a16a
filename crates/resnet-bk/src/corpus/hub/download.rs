//! Downloads a file of the hub with two requests: one for its version, one for its bytes.
//!
//! ```text
//! GET <file>, one byte      headers x-repo-commit, and x-linked-etag or etag; possibly a redirect
//! GET <file>, from byte N   the remaining bytes, following redirects
//! ```
//!
//! A partial download is continued, also by a later process, if the server still has the same file:
//! the request names the validator of the first answer (`If-Range`). A server that has another file,
//! or that ignores ranges, sends the whole file, and the download begins anew.

use super::partial::{self, Whole};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{self, HeaderMap, StatusCode, header};
use ureq::{Agent, Body};

/// Attempts to continue an interrupted download.
const RETRIES: u32 = 3;
/// Wait before the first attempt; it doubles for each.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout without data, after which a connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects within the hub to follow; a renamed data set has one.
const REDIRECTS: usize = 5;
/// Bytes per read.
const BUFFER: usize = 1 << 16;
const USER_AGENT: &str = concat!("resnet-bk/", env!("CARGO_PKG_VERSION"));

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// The hub does not answer, or answers with an error.
    #[error("{0}")]
    Http(#[from] ureq::Error),
    /// The connection ended early.
    #[error("the connection broke off after {bytes} of {total} bytes")]
    Short {
        /// Bytes received so far, including earlier attempts.
        bytes: u64,
        /// Length of the file.
        total: u64,
    },
    /// A header is missing or invalid.
    #[error("the answer has no usable header `{0}`")]
    Header(&'static str),
    /// The file has a wrong hash.
    #[error("its SHA-256 is {found}, but the hub's is {expected}")]
    Checksum {
        /// Hash given by the hub.
        expected: String,
        /// Hash of the received bytes.
        found: String,
    },
    /// A file of the cache cannot be written or read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Error of the system.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The current version of a file on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Commit of the data set.
    pub(super) commit: String,
    /// Identifies the file's bytes.
    pub(super) etag: String,
}

type Response = http::Response<Body>;

/// A client of the hub.
pub(super) struct Hub {
    agent: Agent,
}

impl Hub {
    pub(super) fn new() -> Self {
        let config = Agent::config_builder()
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT));
        Self { agent: config.build().new_agent() }
    }

    /// Requests the version of the file at `url`.
    pub(super) fn version(&self, url: &str) -> Result<Version, DownloadError> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let request = self.agent.get(&url).header(header::RANGE, "bytes=0-0").config().max_redirects(0).build();
            let response = request.call()?;
            let headers = response.headers();
            match text(headers, "location").filter(|_| response.status().is_redirection()) {
                // A redirect within the hub: the file has another name there. (Another host would
                // not send the commit.)
                Some(path) if path.starts_with('/') && !path.starts_with("//") => url = origin(&url).to_owned() + path,
                _ => {
                    let etag = name(headers, "x-linked-etag").or_else(|| name(headers, "etag"));
                    return Ok(Version {
                        commit: name(headers, "x-repo-commit").ok_or(DownloadError::Header("x-repo-commit"))?,
                        etag: etag.ok_or(DownloadError::Header("etag"))?,
                    });
                }
            }
        }
        Err(ureq::Error::TooManyRedirects.into())
    }

    /// Downloads the bytes of the file at `url` that are missing in `part`.
    pub(super) fn download(&self, url: &str, part: &Path) -> Result<(), DownloadError> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(part);
        let mut file = open.map_err(file_error(part))?;
        let mut attempt = 0;
        loop {
            match self.append(url, &mut file, part) {
                Err(error) if attempt < RETRIES && is_transient(&error) => {
                    std::thread::sleep(FIRST_WAIT * 2u32.pow(attempt));
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// One attempt to append the missing bytes.
    fn append(&self, url: &str, file: &mut File, part: &Path) -> Result<(), DownloadError> {
        let present = file.seek(SeekFrom::End(0)).map_err(file_error(part))?;
        // Bytes of an unknown file, or more than it has, are of no use.
        let known = Whole::read(part).filter(|whole| present <= whole.length);
        if known.as_ref().is_some_and(|whole| present == whole.length) {
            return Ok(());
        }
        let start = if known.is_some() { present } else { 0 };
        let mut response = self.get_from(url, start, known.as_ref())?;
        let (mut first, mut length) = extent(&response)?;
        if first != 0 && known.is_some_and(|known| is_other_file(&known, &response, length)) {
            // The server does not know `If-Range`.
            response = self.get_from(url, 0, None)?;
            (first, length) = extent(&response)?;
        }
        if first == 0 {
            // Synchronized before the new description, so that it never describes old bytes.
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.sync_all()).map_err(file_error(part))?;
            match Whole::of_answer(response.headers(), length) {
                Some(whole) => whole.write(part).map_err(file_error(part))?,
                None => partial::forget(part),
            }
        } else if first != start {
            return Err(DownloadError::Header("content-range"));
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = body.read(&mut buffer).map_err(ureq::Error::from)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(file_error(part))?;
        }
        let bytes = file.stream_position().map_err(file_error(part))?;
        match length {
            Some(total) if bytes != total => Err(DownloadError::Short { bytes, total }),
            _ => Ok(()),
        }
    }

    /// Requests the bytes from `start` on, if the server still has the file `known`, otherwise all.
    fn get_from(&self, url: &str, start: u64, known: Option<&Whole>) -> Result<Response, ureq::Error> {
        let mut request = self.agent.get(url).header(header::RANGE, format!("bytes={start}-"));
        if let Some(known) = known.filter(|_| start > 0) {
            request = request.header(header::IF_RANGE, &known.validator);
        }
        match request.call() {
            // The file is shorter now.
            Err(ureq::Error::StatusCode(416)) if start > 0 => self.get_from(url, 0, None),
            response => response,
        }
    }
}

/// The first byte of an answer and the length of the whole file, if known.
fn extent(response: &Response) -> Result<(u64, Option<u64>), DownloadError> {
    let range = text(response.headers(), "content-range");
    match range.filter(|_| response.status() == StatusCode::PARTIAL_CONTENT) {
        Some(range) => parse_range(range).ok_or(DownloadError::Header("content-range")),
        None => Ok((0, response.body().content_length())),
    }
}

/// Whether an answer is a part of another file than `known`.
fn is_other_file(known: &Whole, response: &Response, length: Option<u64>) -> bool {
    let validator = partial::validator(response.headers());
    validator.is_some_and(|validator| validator != known.validator)
        || length.is_some_and(|length| length != known.length)
}

/// An error about a file of the cache.
pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    |source| DownloadError::File { path, source }
}

/// Whether a retry may succeed.
fn is_transient(error: &DownloadError) -> bool {
    match error {
        DownloadError::Short { .. } => true,
        DownloadError::Http(ureq::Error::StatusCode(status)) => *status == 429 || *status >= 500,
        DownloadError::Http(error) => matches!(error, ureq::Error::Io(_) | ureq::Error::Timeout(_)),
        _ => false,
    }
}

/// `https://host:port` of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    url[host..].find('/').map_or(url, |path| &url[..host + path])
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a header without the quotes of an etag, if it is usable as a file name.
fn name(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = text(headers, name)?.trim_start_matches("W/").trim_matches('"');
    let is_sound = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_sound && !value.is_empty() && !value.starts_with('.')).then(|| value.to_owned())
}

/// First byte and length of the file from `bytes FIRST-LAST/LENGTH`. The length may be unknown.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (bytes, length) = range.strip_prefix("bytes ")?.split_once('/')?;
    let first = bytes.split_once('-')?.0.parse().ok()?;
    Some((first, length.parse().ok()))
}
