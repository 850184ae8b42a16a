//! A corpus in a folder: train.txt, valid.txt and optionally test.txt.

use super::{Corpus, CorpusError, TextSource};
use crate::spelling::edit_distance;
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use std::path::Path;

/// The texts of `folder`. Files of at most `in_memory` bytes are read; longer ones are read when
/// they are needed.
///
/// Texts are assumed to be tokenized unless a recipe sets `corpus.pretokenizer`.
pub(super) fn load(folder: &Path, in_memory: u64) -> Result<Corpus, CorpusError> {
    if !folder.is_dir() {
        return Err(CorpusError::NotAFolder { path: folder.to_owned() });
    }
    let [train, valid, test] = ["train.txt", "valid.txt", "test.txt"].map(|name| folder.join(name));
    Ok(Corpus {
        name: folder.display().to_string(),
        train: TextSource::file(train, in_memory)?,
        valid: TextSource::file(valid, in_memory)?,
        test: if test.exists() { Some(TextSource::file(test, in_memory)?) } else { None },
        pretokenizer: Pretokenizer::Whitespace,
        license: None,
    })
}

/// Corpus folders next to `missing` with similar names.
pub(super) fn similar(missing: &Path) -> Vec<String> {
    let Some(name) = missing.file_name().map(|name| name.to_string_lossy().to_lowercase()) else {
        return Vec::new();
    };
    let parent = missing.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut close: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("train.txt").is_file())
        .filter(|entry| is_like(&entry.file_name().to_string_lossy().to_lowercase(), &name))
        .map(|entry| parent.join(entry.file_name()).display().to_string())
        .collect();
    close.sort();
    close
}

/// Whether one name contains the other, or the edit distance is at most a third of the longer one.
fn is_like(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    let contains =
        |long: &[char], short: &[char]| short.len() > 2 && long.windows(short.len()).any(|part| part == short);
    contains(&a, &b) || contains(&b, &a) || edit_distance(&a, &b) * 3 <= longer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::IN_MEMORY;
    use tempfile::TempDir;

    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        folder
    }

    fn refused(files: &[(&str, &[u8])]) -> String {
        let folder = folder(files);
        let error = load(folder.path(), IN_MEMORY).expect_err("invalid").to_string();
        error.replace(&folder.path().display().to_string(), "F")
    }

    #[test]
    fn texts_are_read_unchanged() {
        let with_test = folder(&[("train.txt", b"\xEF\xBB\xBFa b\r\n"), ("valid.txt", b"c\n"), ("test.txt", b"d")]);
        let corpus = load(with_test.path(), IN_MEMORY).expect("valid");
        assert_eq!((corpus.train, corpus.valid), ("a b\r\n".into(), "c\n".into()));
        assert_eq!(corpus.test, Some("d".into()));
        assert_eq!(corpus.pretokenizer, Pretokenizer::Whitespace);
        let without = folder(&[("train.txt", b"a"), ("valid.txt", b"b")]);
        assert_eq!(load(without.path(), IN_MEMORY).expect("valid").test, None);
    }

    #[test]
    fn errors_name_the_file_and_the_position() {
        let missing = refused(&[("train.txt", b"a")]);
        assert_eq!(
            missing,
            "F/valid.txt is missing: a corpus folder holds train.txt, valid.txt and optionally test.txt"
        );
        let invalid = refused(&[("train.txt", b"a\nb\nc \xE9t\xE9"), ("valid.txt", b"b")]);
        assert_eq!(invalid, "F/train.txt is not UTF-8 at line 3, byte 6 (0xE9)");
        let empty = refused(&[("train.txt", b"a"), ("valid.txt", b" \n \n")]);
        assert_eq!(empty, "F/valid.txt holds no words in its 4 bytes");
        let empty_test = refused(&[("train.txt", b"a"), ("valid.txt", b"b"), ("test.txt", b"")]);
        assert!(empty_test.starts_with("F/test.txt holds no words in its 0 bytes"), "{empty_test}");
        let files = folder(&[("train.txt", b"a")]);
        let error = load(&files.path().join("train.txt"), IN_MEMORY).expect_err("a file").to_string();
        assert!(error.contains("train.txt is a file, but a corpus is a folder"), "{error}");
    }

    #[test]
    fn folders_of_similar_names_are_like_each_other() {
        assert!(is_like("my-corpus", "my-corpis") && is_like("notes-2024", "notes") && !is_like("abc", "xyz"));
    }
}
