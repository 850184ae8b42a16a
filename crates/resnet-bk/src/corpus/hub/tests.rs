//! Tests with a local hub on 127.0.0.1 that serves Parquet files written by the tests.

mod downloads;
mod local_hub;

use super::*;
use crate::corpus::{Cache, cached_vocabulary, encode};
use crate::observer::Silent;
use local_hub::LocalHub;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use resnet_bk_runtime::internal::tokenizer::BlankLines;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const WIKITEXT_103: HubCorpus = HUB_CORPORA[1];
const OPENWEBTEXT: HubCorpus = HUB_CORPORA[2];

/// A Snappy-compressed file in row groups of `rows_per_group`, with a second column besides the
/// text.
fn parquet_file(rows: &[Option<&str>], rows_per_group: usize) -> Vec<u8> {
    let schema = parse_message_type("message schema { required binary id (UTF8); optional binary text (UTF8); }");
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema.expect("a schema")), Arc::new(properties))
        .expect("a file");
    for rows in rows.chunks(rows_per_group) {
        let ids: Vec<ByteArray> = rows.iter().map(|_| ByteArray::from("not the text")).collect();
        let texts: Vec<ByteArray> = rows.iter().flatten().map(|text| ByteArray::from(*text)).collect();
        let levels: Vec<i16> = rows.iter().map(|text| i16::from(text.is_some())).collect();
        let mut group = writer.next_row_group().expect("a row group");
        for (values, levels) in [(ids, None), (texts, Some(levels))] {
            let mut column = group.next_column().expect("valid").expect("a column");
            column.typed::<ByteArrayType>().write_batch(&values, levels.as_deref(), None).expect("rows");
            column.close().expect("a column");
        }
        group.close().expect("a row group");
    }
    writer.close().expect("a file");
    bytes
}

fn wikitext_path(split: &str) -> String {
    format!("/datasets/Salesforce/wikitext/resolve/main/wikitext-2-v1/{split}-00000-of-00001.parquet")
}

/// The lines of a text, each with a line break.
fn lines(text: &TextSource) -> String {
    let mut lines = String::new();
    text.for_each_line(|line| {
        lines.push_str(line);
        lines.push('\n');
        ControlFlow::Continue(())
    })
    .expect("readable");
    lines
}

fn wikitext_hub() -> LocalHub {
    let train = [Some(""), Some(" = A title = \n"), None, Some(" the <unk> cat \n"), Some(" no line break")];
    LocalHub::serving(HashMap::from([
        (wikitext_path("train"), parquet_file(&train, 2)),
        (wikitext_path("validation"), parquet_file(&[Some(" valid \n")], 1)),
        (wikitext_path("test"), parquet_file(&[Some(" test \n")], 1)),
    ]))
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn wikitext_rows_become_lines() {
    let (hub, cache) = (wikitext_hub(), cache());
    let corpus = hub.settings(cache.path()).load("wikitext-2").expect("served");
    assert_eq!(corpus.train, "\n = A title = \n the <unk> cat \n no line break\n".into());
    assert_eq!((corpus.valid, corpus.test), (" valid \n".into(), Some(" test \n".into())));
    assert_eq!((corpus.name.as_str(), corpus.pretokenizer), ("wikitext-2", super::super::Pretokenizer::Whitespace));
    assert!(corpus.license.is_some_and(|license| license.contains("CC BY-SA 3.0")));
}

#[test]
fn a_second_load_sends_no_request() {
    let (hub, cache) = (wikitext_hub(), cache());
    let first = hub.settings(cache.path()).load("wikitext-2").expect("served");
    let requests = hub.requests();
    assert!(requests >= 3, "{requests}");
    assert_eq!(hub.settings(cache.path()).load("wikitext-2").expect("cached"), first);
    assert_eq!(hub.requests(), requests);
    let settings = hub.settings(cache.path());
    drop(hub);
    assert_eq!(settings.load("wikitext-2").expect("cached, offline"), first);
}

#[test]
fn the_offline_error_names_the_file_and_its_origin() {
    // A port that was free a moment ago and that has no listener.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let cache = cache();
    let settings =
        HubSettings { endpoint: Some(format!("http://{address}")), cache: cache.path().to_owned(), row_limit: None };
    let error = settings.load("wikitext-2").expect_err("no listener");
    let expected = format!(
        "cannot download wikitext-2-v1/train-00000-of-00001.parquet of Salesforce/wikitext from http://{address}: "
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    let folder = "wikitext-2-v1";
    assert!(matches!(error, CorpusError::Download { origin, .. } if origin.folder == folder), "{error}");
}

#[test]
fn a_file_the_hub_lacks_is_named() {
    let (hub, cache) = (wikitext_hub(), cache());
    let error = hub.settings(cache.path()).load("wikitext-103").expect_err("not served").to_string();
    assert!(error.contains("wikitext-103-v1/train-00000-of-00002.parquet") && error.contains("404"), "{error}");
    let error = hub.settings(cache.path()).load("wikitext-3").expect_err("unknown");
    assert!(matches!(&error, CorpusError::Unknown { known, .. } if known.contains(&"wikitext-103")), "{error}");
}

#[test]
fn openwebtext_documents_are_held_out_by_hash() {
    let documents: Vec<String> = (0..3_000).map(|n| format!("Document {n}.\n\nIt says: \"{}\"", n * n)).collect();
    let rows: Vec<Option<&str>> = documents.iter().map(|document| Some(document.as_str())).collect();
    let path = "/datasets/Skylion007/openwebtext/resolve/main/plain_text/train-00000-of-00080.parquet".to_owned();
    let hub = LocalHub::serving(HashMap::from([(path, parquet_file(&rows, 1_100))]));
    let cache = cache();
    let parts = |settings: &HubSettings, in_memory| {
        let corpus = load(&OPENWEBTEXT, settings, in_memory).expect("served");
        assert_eq!(corpus.train.is_on_disk(), in_memory == 0);
        [corpus.train, corpus.valid, corpus.test.expect("a test text")].map(|text| lines(&text))
    };
    let settings = hub.settings(cache.path());
    let whole = parts(&settings, u64::MAX);
    let counts = whole.each_ref().map(|text| text.matches("Document").count());
    assert_eq!(counts.iter().sum::<usize>(), 3_000);
    assert!(counts[1].abs_diff(15) < 14 && counts[2].abs_diff(15) < 14, "{counts:?}");
    assert!(
        documents
            .iter()
            .all(|document| { whole.iter().filter(|part| part.contains(&format!("{document}\n"))).count() == 1 })
    );
    assert_eq!(parts(&settings, 0), whole, "read row by row");

    let limited = parts(&HubSettings { row_limit: Some(2_000), ..settings }, 0);
    assert!(whole.iter().zip(&limited).all(|(whole, limited)| whole.starts_with(limited)));
    assert_eq!(limited.iter().map(|text| text.matches("Document").count()).sum::<usize>(), 2_000);
    let error = HubSettings { row_limit: Some(1), ..hub.settings(cache.path()) }.load("openwebtext");
    assert!(error.is_err_and(|error| error.to_string().contains("of openwebtext is empty")));
}

/// WikiText-103 has two training files.
#[test]
fn wikitext_103_is_read_file_by_file_and_kept_in_the_cache() {
    let path = |file: &str| format!("/datasets/Salesforce/wikitext/resolve/main/wikitext-103-v1/{file}.parquet");
    let first = [Some(" \n"), Some(" = Title = \n"), Some(" the cat sat \n"), None, Some(" a\r\n")];
    let second = [Some(" the <unk> dog \n"), Some(""), Some(" two \n lines \n")];
    let hub = LocalHub::serving(HashMap::from([
        (path("train-00000-of-00002"), parquet_file(&first, 2)),
        (path("train-00001-of-00002"), parquet_file(&second, 2)),
        (path("validation-00000-of-00001"), parquet_file(&[Some(" the cat \n")], 1)),
        (path("test-00000-of-00001"), parquet_file(&[Some(" the dog \n")], 1)),
    ]));
    let downloads = cache();
    let corpus = |in_memory| load(&WIKITEXT_103, &hub.settings(downloads.path()), in_memory).expect("served");
    let in_memory = corpus(u64::MAX);
    let expected = " \n = Title = \n the cat sat \n a\n the <unk> dog \n\n two \n lines \n";
    assert_eq!(in_memory.train, expected.into());

    // A blob that was downloaded just now is not kept.
    for blob in std::fs::read_dir(downloads.path().join("datasets--Salesforce--wikitext/blobs")).expect("a folder") {
        let blob = File::options().append(true).open(blob.expect("a file").path()).expect("a file");
        blob.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("a time");
    }
    let kept = cache();
    let kept = Cache::at(kept.path());
    for start in ["the first", "the second"] {
        let on_disk = corpus(0);
        assert!(on_disk.train.is_on_disk() && on_disk.valid.is_on_disk());
        assert_eq!(lines(&on_disk.train), expected);
        let (split, blank_lines) = (on_disk.pretokenizer, BlankLines::Kept);
        let vocabulary = cached_vocabulary(&on_disk.train, 100, split, blank_lines, &kept, &mut Silent).expect("words");
        for (text, expected) in [(&on_disk.train, expected), (&on_disk.valid, " the cat \n")] {
            let tokens = encode(text, &vocabulary, None, &kept, &mut Silent).expect("tokens").tokens;
            assert_eq!(tokens[..], vocabulary.encode(expected)[..], "{start} start");
            assert!(tokens.are_mapped(), "{start} start");
        }
    }
}

#[test]
fn a_file_that_is_not_parquet_is_named() {
    let page = b"<html>no</html>".to_vec();
    let files = ["train", "validation", "test"].map(|split| (wikitext_path(split), page.clone()));
    let hub = LocalHub::serving(HashMap::from(files));
    let cache = cache();
    let error = hub.settings(cache.path()).load("wikitext-2").expect_err("not Parquet").to_string();
    assert!(error.contains("is not a Parquet file with a text column"), "{error}");
}
