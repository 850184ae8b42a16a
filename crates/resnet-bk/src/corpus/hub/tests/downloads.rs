//! Tests of downloads into the cache, for all responses that the hub sends.

use super::super::repository::Repository;
use super::cache;
use super::local_hub::{COMMIT, LocalHub, Request, empty, etag, part, whole};
use crate::corpus::sha256;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// Another file of the same length.
fn other_bytes() -> Vec<u8> {
    bytes().iter().map(|byte| byte ^ 1).collect()
}

/// Headers of a file that the hub calls `name`, and that has this etag where it is stored.
fn tagged(etag: &str) -> String {
    format!("ETag: \"{etag}\"\r\nx-linked-etag: \"name\"\r\nx-repo-commit: {COMMIT}\r\n")
}

/// Downloads half of the file, as a process that failed.
fn half_downloaded(headers: String) -> tempfile::TempDir {
    let (cache, answers) = (cache(), AtomicUsize::new(0));
    let hub = LocalHub::answering(move |request| {
        let mut answer = part(&bytes(), request, &headers);
        match answers.fetch_add(1, Ordering::SeqCst) {
            0 => {}
            1 => answer.truncate(answer.len() - 100_000),
            // No failure to try again after.
            _ => answer = empty("403 Forbidden", ""),
        }
        answer
    });
    let error = repository(&hub, cache.path()).get(FILE).expect_err("it breaks off").to_string();
    assert_eq!(error, "http status: 403");
    cache
}

/// Gets the file from `hub`, and checks that no partial download is left.
fn completed(hub: &LocalHub, cache: &Path) -> Vec<u8> {
    let path = repository(hub, cache).get(FILE).expect("served");
    let left = fs::read_dir(blobs(cache)).expect("a folder").flatten().map(|file| file.file_name());
    let left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.contains(".part")), "{left:?}");
    fs::read(path).expect("a file")
}

#[test]
fn an_interrupted_download_continues() {
    let answers = AtomicUsize::new(0);
    let hub = LocalHub::answering(move |request| {
        let mut answer = part(&bytes(), request, &plain());
        match answers.fetch_add(1, Ordering::SeqCst) {
            0 => assert_eq!(request.range, Some((0, Some(0)))),
            1 => answer.truncate(answer.len() / 2),
            2 => {
                assert!(request.range.is_some_and(|(first, _)| first > 90_000), "{:?}", request.range);
                assert_eq!(request.if_range.as_deref(), Some("\"plain\""));
            }
            more => panic!("answer {more}"),
        }
        answer
    });
    let cache = cache();
    assert_eq!(completed(&hub, cache.path()), bytes());
}

#[test]
fn a_later_process_continues_where_the_validator_is_the_same() {
    let dated = tagged("x").replace("\"x\"", "W/\"weak\"\r\nLast-Modified: Wed, 25 Nov 2026 19:00:00 GMT");
    for (headers, validator) in [(tagged("strong"), "\"strong\""), (dated, "wed, 25 nov 2026 19:00:00 gmt")] {
        let cache = half_downloaded(headers.clone());
        let continued = Arc::new(AtomicUsize::new(0));
        let hub = LocalHub::answering({
            let continued = continued.clone();
            move |request| {
                if request.range == Some((100_000, None)) {
                    assert_eq!(request.if_range.as_deref(), Some(validator));
                    continued.fetch_add(1, Ordering::SeqCst);
                }
                part(&bytes(), request, &headers)
            }
        });
        assert_eq!(completed(&hub, cache.path()), bytes());
        assert_eq!((hub.requests(), continued.load(Ordering::SeqCst)), (2, 1), "{validator}");
    }
}

#[test]
fn a_download_of_a_file_that_has_changed_begins_anew() {
    // The hub calls it by the same name, so only the validator tells.
    type Answer = fn(&Request) -> Vec<u8>;
    let answers: [(&str, Answer); 4] = [
        ("If-Range is understood", |request| match request.if_range {
            Some(_) => whole(&other_bytes(), &tagged("second")),
            None => part(&other_bytes(), request, &tagged("second")),
        }),
        ("If-Range is ignored", |request| part(&other_bytes(), request, &tagged("second"))),
        ("ranges are ignored", |_| whole(&other_bytes(), &tagged("second"))),
        ("the file is shorter", |request| part(&other_bytes()[..50_000], request, &tagged("second"))),
    ];
    for (name, answer) in answers {
        let cache = half_downloaded(tagged("first"));
        let hub = LocalHub::answering(answer);
        let length = if name == "the file is shorter" { 50_000 } else { 200_000 };
        assert_eq!(completed(&hub, cache.path()), other_bytes()[..length], "{name}");
    }
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let cache = half_downloaded(tagged("same"));
    let hub = LocalHub::answering(|_| whole(&bytes(), &tagged("same")));
    assert_eq!(completed(&hub, cache.path()), bytes());
}

#[test]
fn a_part_of_an_unknown_file_is_not_used() {
    let described = |length: usize| format!("{{\"validator\":\"\\\"{}\\\"\",\"length\":{length}}}", etag(URL));
    for (name, first, description) in [
        ("no description", other_bytes()[..100_000].to_vec(), String::new()),
        ("a damaged description", other_bytes()[..100_000].to_vec(), described(200_000)[..20].to_owned()),
        ("longer than the file", [other_bytes(), bytes()].concat(), described(200_000)),
        ("of another length", other_bytes()[..100_000].to_vec(), described(300_000)),
        ("complete", bytes(), described(200_000)),
    ] {
        let (hub, cache) = (serving(bytes()), cache());
        fs::create_dir_all(blobs(cache.path())).expect("a folder");
        let part = blobs(cache.path()).join(format!("{}.part", etag(URL)));
        fs::write(&part, first).expect("written");
        if !description.is_empty() {
            fs::write(part.with_extension("part.json"), description).expect("written");
        }
        assert_eq!(completed(&hub, cache.path()), bytes(), "{name}");
        assert_eq!(hub.requests() == 1, name == "complete", "{name}");
    }
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
