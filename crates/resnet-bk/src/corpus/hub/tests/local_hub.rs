//! A local hub on 127.0.0.1 for tests.

use crate::corpus::HubSettings;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The commit of all files.
pub const COMMIT: &str = "0123abc";

/// A request of a client.
pub struct Request {
    /// Path of the URL.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// First byte, and last byte if given.
    pub range: Option<(usize, Option<usize>)>,
    /// The `If-Range` header, in lower case.
    pub if_range: Option<String>,
}

/// Answers requests until it is dropped.
pub struct LocalHub {
    endpoint: String,
    requests: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl LocalHub {
    /// Serves files by path, with the headers of files stored in Git.
    pub fn serving(files: HashMap<String, Vec<u8>>) -> Self {
        Self::answering(move |request| match files.get(&request.path) {
            Some(file) => {
                part(file, request, &format!("ETag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\n", etag(&request.path)))
            }
            None => empty("404 Not Found", ""),
        })
    }

    /// Answers with the bytes that `answer` returns.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (requests, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let server = std::thread::spawn({
            let (requests, stopped) = (requests.clone(), stopped.clone());
            move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    requests.fetch_add(1, Ordering::SeqCst);
                    let stream = stream.expect("a connection");
                    let answer = answer(&read_request(&stream));
                    // The client may close the connection early.
                    let _ = (&stream).write_all(&answer);
                }
            }
        });
        Self { endpoint: format!("http://{address}"), requests, stopped, server: Some(server) }
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Settings for this hub, with `cache` as the cache folder.
    pub fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings { endpoint: Some(self.endpoint.clone()), cache: cache.to_owned(), row_limit: None }
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // One more connection wakes the server, so that it can stop.
        let woken = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        if let (Ok(_), Some(server)) = (woken, self.server.take()) {
            let _ = server.join();
        }
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let request = lines.next().unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
    let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    let range = header("range: bytes=").map(|range| {
        let (first, last) = range.split_once('-').expect("a range");
        (first.parse().expect("a number"), last.parse().ok())
    });
    Request { path, host: header("host: ").unwrap_or_default(), range, if_range: header("if-range: ") }
}

/// The etag of a file from `serving`.
pub fn etag(path: &str) -> String {
    path.replace('/', "-")
}

/// A response with the requested range of `file`.
pub fn part(file: &[u8], request: &Request, headers: &str) -> Vec<u8> {
    let (first, last) = request.range.unwrap_or_default();
    if first >= file.len() {
        return empty("416 Range Not Satisfiable", headers);
    }
    let end = last.map_or(file.len(), |last| last + 1);
    let (length, total) = (end - first, file.len());
    let range = format!("Content-Length: {length}\r\nContent-Range: bytes {first}-{}/{total}\r\n", end - 1);
    let head = format!("HTTP/1.1 206 Partial Content\r\n{range}{headers}Connection: close\r\n\r\n");
    [head.as_bytes(), &file[first..end]].concat()
}

/// A response with the whole file.
pub fn whole(file: &[u8], headers: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n", file.len());
    [head.as_bytes(), file].concat()
}

/// A response without a body.
pub fn empty(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}
