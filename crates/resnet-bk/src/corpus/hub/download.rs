//! The two requests that a file of the hub takes: which version it is, and its bytes.
//!
//! ```text
//! GET <file>, one byte      x-repo-commit, and x-linked-etag or etag; perhaps a redirect to where the bytes are
//! GET <file>, from byte N   the rest, by any redirect
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::{Agent, Body};

/// Attempts to continue a download that broke off.
const RETRIES: u32 = 3;
/// Time before the first of them; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without a byte after which a connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects to follow within the hub: a data set that was renamed has one.
const REDIRECTS: usize = 5;
/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;
const USER_AGENT: &str = concat!("resnet-bk/", env!("CARGO_PKG_VERSION"));

/// Why a file of the hub could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// The hub does not answer, or with an error.
    #[error("{0}")]
    Http(#[from] ureq::Error),
    /// The connection ended early.
    #[error("the connection broke off after {bytes} of {total} bytes")]
    Short {
        /// Bytes that have arrived, earlier ones included.
        bytes: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// An answer lacks something.
    #[error("the answer has no usable header `{0}`")]
    Header(&'static str),
    /// What arrived is something else.
    #[error("its SHA-256 is {found}, but the hub's is {expected}")]
    Checksum {
        /// What the hub says.
        expected: String,
        /// Of what arrived.
        found: String,
    },
    /// A file of the cache cannot be written or read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What the hub calls the file as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// The data set's commit.
    pub(super) commit: String,
    /// The same for the same bytes.
    pub(super) etag: String,
}

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

    /// Asks for the version of the file at `url`.
    pub(super) fn version(&self, url: &str) -> Result<Version, DownloadError> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let request = self.agent.get(&url).header(header::RANGE, "bytes=0-0").config().max_redirects(0).build();
            let response = request.call()?;
            let headers = response.headers();
            match text(headers, "location").filter(|_| response.status().is_redirection()) {
                // The hub itself knows the file under another name. (Another host would not know
                // its commit.)
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

    /// Downloads what `part` lacks of the file at `url`.
    pub(super) fn download(&self, url: &str, part: &Path) -> Result<(), DownloadError> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(part);
        let mut file = open.map_err(file_error(part))?;
        let mut attempt = 0;
        loop {
            match self.append(url, &mut file, part) {
                Err(error) if attempt < RETRIES && may_pass(&error) => {
                    std::thread::sleep(FIRST_WAIT * 2u32.pow(attempt));
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// One attempt to append the bytes that are missing.
    fn append(&self, url: &str, file: &mut File, part: &Path) -> Result<(), DownloadError> {
        let start = file.seek(SeekFrom::End(0)).map_err(file_error(part))?;
        let mut response = match self.get_from(url, start) {
            // All of it is there, or more: the bytes of some other file.
            Err(ureq::Error::StatusCode(416)) => self.get_from(url, 0),
            response => response,
        }?;
        let range = text(response.headers(), "content-range");
        let (first, total) = match range.filter(|_| response.status() == StatusCode::PARTIAL_CONTENT) {
            Some(range) => parse_range(range).ok_or(DownloadError::Header("content-range"))?,
            None => (0, response.body().content_length()),
        };
        if first != start {
            // The answer begins at the file's first byte.
            if first != 0 {
                return Err(DownloadError::Header("content-range"));
            }
            file.set_len(0).and_then(|()| file.rewind()).map_err(file_error(part))?;
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
        match total {
            Some(total) if bytes != total => Err(DownloadError::Short { bytes, total }),
            _ => Ok(()),
        }
    }

    fn get_from(&self, url: &str, start: u64) -> Result<ureq::http::Response<Body>, ureq::Error> {
        self.agent.get(url).header(header::RANGE, format!("bytes={start}-")).call()
    }
}

/// An error of this file of the cache.
pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    |source| DownloadError::File { path, source }
}

/// Whether the same request may succeed a moment later.
fn may_pass(error: &DownloadError) -> bool {
    match error {
        DownloadError::Short { .. } => true,
        DownloadError::Http(ureq::Error::StatusCode(status)) => *status == 429 || *status >= 500,
        DownloadError::Http(error) => matches!(error, ureq::Error::Io(_) | ureq::Error::Timeout(_)),
        _ => false,
    }
}

/// `https://host:port` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    url[host..].find('/').map_or(url, |path| &url[..host + path])
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a header if it can be the name of a file, without the quotes of an etag.
fn name(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = text(headers, name)?.trim_start_matches("W/").trim_matches('"');
    let is_sound = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_sound && !value.is_empty() && !value.starts_with('.')).then(|| value.to_owned())
}

/// First byte and length of the file in `bytes FIRST-LAST/LENGTH`; the length may be unknown.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (bytes, length) = range.strip_prefix("bytes ")?.split_once('/')?;
    let first = bytes.split_once('-')?.0.parse().ok()?;
    Some((first, length.parse().ok()))
}
