//! Tests of downloads into the cache, for all responses that the hub sends.

use super::super::repository::Repository;
use super::cache;
use super::local_hub::{COMMIT, LocalHub, Request, empty, etag, part};
use crate::corpus::sha256;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const FILE: &str = "folder/a.bin";
const URL: &str = "/datasets/owner/name/resolve/main/folder/a.bin";

fn bytes() -> Vec<u8> {
    (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn serving(file: Vec<u8>) -> LocalHub {
    LocalHub::serving(HashMap::from([(URL.to_owned(), file)]))
}

fn repository(hub: &LocalHub, cache: &Path) -> Repository {
    let endpoint = hub.settings(cache).endpoint.expect("a local one");
    Repository::new(&endpoint, cache, "owner/name")
}

fn blobs(cache: &Path) -> PathBuf {
    cache.join("datasets--owner--name/blobs")
}

/// Headers of a file stored in Git.
fn plain() -> String {
    format!("ETag: \"plain\"\r\nx-repo-commit: {COMMIT}\r\n")
}

/// A hub that redirects to the bytes and gives their SHA-256.
fn redirecting(sha256: String, stored: Vec<u8>) -> LocalHub {
    LocalHub::answering(move |request: &Request| match request.path.as_str() {
        URL => {
            let etag = format!("ETag: \"of the redirect\"\r\nX-Linked-ETag: \"{sha256}\"\r\n");
            let location = format!("Location: http://{}/stored\r\n", request.host);
            empty("302 Found", &format!("{etag}x-repo-commit: {COMMIT}\r\n{location}"))
        }
        _ => part(&stored, request, ""),
    })
}

#[test]
fn the_cache_layout_is_that_of_huggingface_hub() {
    let (hub, cache) = (serving(bytes()), cache());
    let path = repository(&hub, cache.path()).get(FILE).expect("served");
    let folder = cache.path().join("datasets--owner--name");
    assert_eq!(path, folder.join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).expect("a commit"), COMMIT);
    let blob = folder.join("blobs").join(etag(URL));
    assert_eq!(fs::read(&path).expect("a file"), bytes());
    #[cfg(unix)]
    {
        assert_eq!(fs::canonicalize(&path).expect("a link"), fs::canonicalize(blob).expect("a file"));
        assert!(fs::read_link(&path).expect("a link").is_relative(), "the cache may be moved");
    }
}

#[test]
fn a_blob_of_another_commit_is_not_downloaded_again() {
    let (hub, cache) = (serving(bytes()), cache());
    let repository = repository(&hub, cache.path());
    repository.get(FILE).expect("served");
    let requests = hub.requests();
    fs::write(cache.path().join("datasets--owner--name/refs/main"), "of another file").expect("written");
    assert_eq!(fs::read(repository.get(FILE).expect("served")).expect("a file"), bytes());
    assert_eq!(hub.requests(), requests + 1, "only its version is asked for");
}

#[test]
fn an_interrupted_download_continues() {
    let answers = AtomicUsize::new(0);
    let hub = LocalHub::answering(move |request| {
        let mut answer = part(&bytes(), request, &plain());
        match answers.fetch_add(1, Ordering::SeqCst) {
            0 => assert_eq!(request.range, Some((0, Some(0)))),
            1 => answer.truncate(answer.len() / 2),
            2 => assert!(request.range.is_some_and(|(first, _)| first > 90_000), "{:?}", request.range),
            more => panic!("answer {more}"),
        }
        answer
    });
    let cache = cache();
    assert_eq!(fs::read(repository(&hub, cache.path()).get(FILE).expect("served")).expect("a file"), bytes());
}

#[test]
fn a_partial_download_of_another_process_is_continued() {
    for (name, first) in [("half", &bytes()[..100_000]), ("all", &bytes()[..]), ("more", &[bytes(), bytes()].concat())]
    {
        let (hub, cache) = (serving(bytes()), cache());
        fs::create_dir_all(blobs(cache.path())).expect("a folder");
        fs::write(blobs(cache.path()).join(format!("{}.part", etag(URL))), first).expect("written");
        let path = repository(&hub, cache.path()).get(FILE).expect(name);
        assert_eq!(fs::read(path).expect("a file"), bytes(), "{name}");
    }
}

#[test]
fn a_hub_that_ignores_ranges_is_supported() {
    let hub = LocalHub::answering(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n", bytes().len(), plain());
        [head.as_bytes(), &bytes()].concat()
    });
    let cache = cache();
    fs::create_dir_all(blobs(cache.path())).expect("a folder");
    fs::write(blobs(cache.path()).join("plain.part"), "something").expect("written");
    assert_eq!(fs::read(repository(&hub, cache.path()).get(FILE).expect("served")).expect("a file"), bytes());
}

#[test]
fn a_renamed_data_set_is_found() {
    let hub = LocalHub::answering(|request| match request.path.as_str() {
        URL => empty("307 Temporary Redirect", "Location: /datasets/new/name\r\n"),
        _ => part(&bytes(), request, &plain()),
    });
    let cache = cache();
    assert_eq!(fs::read(repository(&hub, cache.path()).get(FILE).expect("served")).expect("a file"), bytes());
    assert!(blobs(cache.path()).join("plain").exists());
}

#[test]
fn redirected_files_are_checked_by_hash() {
    let cache = cache();
    let hub = redirecting(sha256(&bytes()), b"something else".to_vec());
    let error = repository(&hub, cache.path()).get(FILE).expect_err("other bytes").to_string();
    assert_eq!(error, format!("its SHA-256 is {}, but the hub's is {}", sha256(b"something else"), sha256(&bytes())));
    // The wrong bytes were deleted, so the next attempt starts over.
    let hub = redirecting(sha256(&bytes()), bytes());
    assert_eq!(fs::read(repository(&hub, cache.path()).get(FILE).expect("served")).expect("a file"), bytes());
    assert!(blobs(cache.path()).join(sha256(&bytes())).exists());
}

#[test]
fn responses_without_the_hub_headers_are_refused() {
    let headers = ["", "x-repo-commit: abc\r\n", "x-repo-commit: ../..\r\nETag: \"a\"\r\n", "ETag: \"a/b\"\r\n"];
    for headers in headers {
        let hub = LocalHub::answering(move |request| part(b"<html>", request, headers));
        let cache = cache();
        let error = repository(&hub, cache.path()).get(FILE).expect_err("not a hub").to_string();
        assert!(error.starts_with("the answer has no usable header"), "{headers:?}: {error}");
    }
}
