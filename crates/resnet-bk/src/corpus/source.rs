//! A text that is in memory, or that is read line by line wherever it is.

use super::CorpusError;
#[cfg(feature = "hub")]
use super::hub::Rows;
use super::sha256;
use super::stamp::Stamp;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Texts of at most this many bytes are read into memory. Longer ones are read line by line each
/// time they are needed, and what is made of them is kept in the [cache](super::Cache).
pub const IN_MEMORY: u64 = 16 << 20;

/// Bytes per read.
const BUFFER: usize = 1 << 18;
/// Editors on Windows write it, and it would become part of the first word.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// A text. Memory for a text on disk is that of its longest line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSource {
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    InMemory(String),
    /// A text file, and its state when the corpus was loaded.
    File {
        path: PathBuf,
        stamp: Stamp,
    },
    /// Rows of Parquet files.
    #[cfg(feature = "hub")]
    Rows {
        rows: Rows,
        stamp: Stamp,
    },
}

impl TextSource {
    /// The text of a file in UTF-8, in memory if it has at most `in_memory` bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or if it is read into memory and is not UTF-8 or has no words.
    pub(super) fn file(path: PathBuf, in_memory: u64) -> Result<Self, CorpusError> {
        let stamp = Stamp::of(&[&path]).map_err(|(path, source)| match source.kind() {
            ErrorKind::NotFound => CorpusError::Missing { path },
            _ => CorpusError::Read { path, source },
        })?;
        let bytes = stamp.bytes();
        let on_disk = Self { place: Place::File { path: path.clone(), stamp } };
        if bytes > in_memory {
            return Ok(on_disk);
        }
        let text = read_whole(&path)?;
        if text.trim().is_empty() {
            return Err(CorpusError::Empty { path, bytes: text.len() });
        }
        Ok(text.into())
    }

    /// Rows of Parquet files, in memory if the files have at most `in_memory` bytes.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or if it is read into memory and is not valid.
    #[cfg(feature = "hub")]
    pub(super) fn rows(rows: Rows, in_memory: u64) -> Result<Self, CorpusError> {
        let stamp = Stamp::of(rows.files()).map_err(|(path, source)| CorpusError::Read { path, source })?;
        if stamp.bytes() > in_memory {
            return Ok(Self { place: Place::Rows { rows, stamp } });
        }
        let mut text = String::new();
        rows.for_each_line(|line| {
            text.push_str(line);
            text.push('\n');
            ControlFlow::Continue(())
        })?;
        Ok(text.into())
    }

    /// Calls `visit` for every line, without its line break, until it breaks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is not UTF-8, or has changed since the corpus was loaded.
    pub fn for_each_line(&self, mut visit: impl FnMut(&str) -> ControlFlow<()>) -> Result<(), CorpusError> {
        match &self.place {
            Place::InMemory(text) => {
                let _ = text.lines().try_for_each(visit);
                Ok(())
            }
            Place::File { path, stamp } => {
                read_lines(path, &mut visit)?;
                stamp.check()
            }
            #[cfg(feature = "hub")]
            Place::Rows { rows, stamp } => {
                rows.for_each_line(visit)?;
                stamp.check()
            }
        }
    }

    /// Whether the text is read from a disk each time, so that what is made of it is kept in the
    /// cache.
    pub fn is_on_disk(&self) -> bool {
        !matches!(self.place, Place::InMemory(_))
    }

    /// Length in bytes: of the text in memory, or of the files, which may be compressed.
    pub fn bytes(&self) -> u64 {
        match &self.place {
            Place::InMemory(text) => text.len() as u64,
            Place::File { stamp, .. } => stamp.bytes(),
            #[cfg(feature = "hub")]
            Place::Rows { stamp, .. } => stamp.bytes(),
        }
    }

    /// What determines the text, for a key of the cache.
    pub(super) fn identity(&self) -> String {
        match &self.place {
            Place::InMemory(text) => format!("text {}", sha256(text.as_bytes())),
            Place::File { stamp, .. } => format!("file {stamp}"),
            #[cfg(feature = "hub")]
            Place::Rows { rows, stamp } => format!("rows {} {stamp}", rows.selection()),
        }
    }

    /// Whether a later change of the files can be told by their times. It cannot right after they
    /// were written.
    pub(super) fn is_settled(&self) -> bool {
        match &self.place {
            Place::InMemory(_) => true,
            Place::File { stamp, .. } => stamp.is_settled(),
            #[cfg(feature = "hub")]
            Place::Rows { stamp, .. } => stamp.is_settled(),
        }
    }
}

impl From<String> for TextSource {
    fn from(text: String) -> Self {
        Self { place: Place::InMemory(text) }
    }
}

impl From<&str> for TextSource {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A whole file, without a byte-order mark.
fn read_whole(path: &Path) -> Result<String, CorpusError> {
    let bytes = std::fs::read(path).map_err(|source| CorpusError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
        CorpusError::NotUtf8 { path: path.to_owned(), line, offset, byte: bytes[offset] }
    })?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text))
}

/// Calls `visit` for the lines of a file, which are those of [`str::lines`].
fn read_lines(path: &Path, visit: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), CorpusError> {
    let read_error = |source| CorpusError::Read { path: path.to_owned(), source };
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(read_error)?);
    let (mut bytes, mut offset) = (Vec::new(), 0);
    for number in 1.. {
        bytes.clear();
        let read = file.read_until(b'\n', &mut bytes).map_err(read_error)?;
        if read == 0 {
            break;
        }
        let mut line = &bytes[..];
        if let Some(rest) = line.strip_suffix(b"\n") {
            line = rest.strip_suffix(b"\r").unwrap_or(rest);
        }
        let mut line = std::str::from_utf8(line).map_err(|error| {
            let at = error.valid_up_to();
            CorpusError::NotUtf8 { path: path.to_owned(), line: number, offset: offset + at, byte: line[at] }
        })?;
        if number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if visit(line).is_break() {
            break;
        }
        offset += read;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &TextSource) -> Vec<String> {
        let mut lines = Vec::new();
        let read = source.for_each_line(|line| {
            lines.push(line.to_owned());
            ControlFlow::Continue(())
        });
        read.expect("readable");
        lines
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("train.txt");
        std::fs::write(&path, bytes).expect("a file");
        (folder, path)
    }

    #[test]
    fn lines_of_a_file_equal_those_in_memory() {
        for text in ["a b\r\nc\r\r\n\n \n\nd", "a\n", "\n", "a\r", "\u{FEFF}a\n\u{FEFF}b\n", "é\u{2028}x\ny"] {
            let (_folder, path) = file(text.as_bytes());
            let on_disk = TextSource::file(path.clone(), 0).expect("a file");
            assert!(on_disk.is_on_disk());
            assert_eq!(on_disk.bytes(), text.len() as u64);
            let expected: Vec<&str> = text.strip_prefix('\u{FEFF}').unwrap_or(text).lines().collect();
            assert_eq!(lines(&on_disk), expected, "{text:?}");
            if !text.trim().is_empty() {
                let in_memory = TextSource::file(path, u64::MAX).expect("a file");
                assert!(!in_memory.is_on_disk());
                assert_eq!(lines(&in_memory), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn reading_ends_where_the_visitor_breaks() {
        let (_folder, path) = file(b"a\nb\nc\xFF\n");
        let mut seen = 0;
        let source = TextSource::file(path, 0).expect("a file");
        let read = source.for_each_line(|_| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(read.is_ok() && seen == 2, "{read:?}, {seen} lines");
    }

    #[test]
    fn an_invalid_byte_has_the_same_place_in_both_ways() {
        for text in [&b"a\nb\r\nc \xE9t\xE9"[..], b"\xEF\xBB\xBFab\n\xC3\n"] {
            let (_folder, path) = file(text);
            let whole = TextSource::file(path.clone(), u64::MAX).expect_err("invalid").to_string();
            let by_line = TextSource::file(path, 0).expect("not read yet").for_each_line(|_| ControlFlow::Continue(()));
            assert_eq!(by_line.expect_err("invalid").to_string(), whole);
            assert!(whole.contains("is not UTF-8 at line"), "{whole}");
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let (_folder, path) = file(b"a\nb\n");
        let source = TextSource::file(path.clone(), 0).expect("a file");
        let read = source.for_each_line(|_| {
            std::fs::write(&path, "another text").expect("written");
            ControlFlow::Continue(())
        });
        let error = read.expect_err("changed").to_string();
        assert!(error.ends_with("train.txt changed while it was read"), "{error}");
        std::fs::remove_file(&path).expect("removed");
        assert!(source.for_each_line(|_| ControlFlow::Continue(())).is_err());
    }
}
