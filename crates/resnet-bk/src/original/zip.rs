//! The entries of a zip archive that `torch.save` wrote.
//!
//! ```text
//! for each entry       local header (30 bytes, name, extra), data
//! central directory    for each entry: header (46 bytes, name, extra, comment)
//! end record           22 bytes, comment
//! ```
//!
//! torch stores its entries as they are, so an entry is a slice of the file. Nothing is unpacked, and
//! nothing is written: a name is a key, never a path. A crate would bring code for what is refused
//! here (compression, encryption, archives of 4 GiB and more) and would copy each entry.
//!
//! Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", sections 4.3.7, 4.3.12, 4.3.16.

use std::collections::BTreeMap;
use std::ops::Range;
use thiserror::Error;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const END: &[u8; 4] = b"PK\x05\x06";
/// Lengths of the fixed parts of the three records.
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
/// Longest comment of an archive.
const MAX_COMMENT: usize = u16::MAX as usize;
/// Bit of the flags that says that an entry is encrypted.
const ENCRYPTED: u16 = 1;

/// Why bytes are not an archive of stored entries.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ZipError {
    /// There is no end record.
    #[error("it has no end record of a zip archive: it is cut short, or was not written by torch 1.6 or later")]
    NoEnd,
    /// A record lies outside the file, or something else lies in its place.
    #[error("there is no {what} of a zip archive at byte {at}")]
    Record {
        /// Which record.
        what: &'static str,
        /// Its place.
        at: usize,
    },
    /// Sizes are stored in 64 bits.
    #[error("it is a zip archive of 4 GiB or more")]
    Large,
    /// An entry is compressed.
    #[error("entry {name:?} is compressed (method {method}), but torch stores entries as they are")]
    Compressed {
        /// The entry.
        name: String,
        /// Number of the method.
        method: u16,
    },
    /// An entry is encrypted.
    #[error("entry {name:?} is encrypted")]
    Encrypted {
        /// The entry.
        name: String,
    },
    /// The name of an entry leads out of its folder.
    #[error("entry {name:?} has a name that leads out of its folder")]
    Name {
        /// The entry.
        name: String,
    },
    /// Two entries have the same name.
    #[error("entry {name:?} is there twice")]
    Duplicate {
        /// The entry.
        name: String,
    },
    /// Two entries share bytes.
    #[error("entries {first:?} and {second:?} share bytes")]
    Overlap {
        /// The entry that begins first.
        first: String,
        /// The other one.
        second: String,
    },
    /// The bytes of an entry are not those that were written.
    #[error("entry {name:?} is damaged: its checksum does not match")]
    Checksum {
        /// The entry.
        name: String,
    },
}

/// The entries of an archive by name.
#[derive(Debug)]
pub(super) struct Archive<'a>(BTreeMap<&'a str, &'a [u8]>);

impl<'a> Archive<'a> {
    /// Reads the central directory, and checks every entry and its checksum.
    ///
    /// # Errors
    /// [`ZipError`]. It never panics, and allocates a few bytes for each header in the file.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ZipError> {
        let end = find_end(bytes)?;
        let (count, size, start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
        if count == u16::MAX || size == u32::MAX || start == u32::MAX {
            return Err(ZipError::Large);
        }
        let mut at = start as usize;
        let mut entries = BTreeMap::new();
        let mut places: Vec<(Range<usize>, &str, u32)> = Vec::new();
        for _ in 0..count {
            let header = record(bytes, at, CENTRAL, CENTRAL_BYTES, "directory entry")?;
            let [name_length, extra, comment] = [28, 30, 32].map(|field| usize::from(u16_at(header, field)));
            let name = name_at(bytes, at + CENTRAL_BYTES, name_length)?;
            let place = check_entry(bytes, header, name)?;
            if entries.insert(name, &bytes[place.clone()]).is_some() {
                return Err(ZipError::Duplicate { name: name.to_owned() });
            }
            places.push((place, name, u32_at(header, 16)));
            at += CENTRAL_BYTES + name_length + extra + comment;
        }
        places.sort_by_key(|(place, ..)| (place.start, place.end));
        if let Some(pair) = places.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
            return Err(ZipError::Overlap { first: pair[0].1.to_owned(), second: pair[1].1.to_owned() });
        }
        // Only now, because no byte is in two entries: the work is in proportion to the file.
        let damaged =
            |(place, _, checksum): &&(Range<usize>, &str, u32)| crc32fast::hash(&bytes[place.clone()]) != *checksum;
        match places.iter().find(damaged) {
            Some((_, name, _)) => Err(ZipError::Checksum { name: (*name).to_owned() }),
            None => Ok(Self(entries)),
        }
    }

    /// The bytes of an entry.
    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name).copied()
    }

    /// The names of the entries, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }
}

/// The end record: the last one whose comment ends with the file.
fn find_end(bytes: &[u8]) -> Result<&[u8], ZipError> {
    let first = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let last = bytes.len().checked_sub(END_BYTES).ok_or(ZipError::NoEnd)?;
    let is_end = |end: &&[u8]| end.starts_with(END) && usize::from(u16_at(end, 20)) == end.len() - END_BYTES;
    (first..=last).rev().map(|at| &bytes[at..]).find(is_end).ok_or(ZipError::NoEnd)
}

/// Checks an entry of the central directory, and returns the place of its data.
fn check_entry(bytes: &[u8], header: &[u8], name: &str) -> Result<Range<usize>, ZipError> {
    let owned = || name.to_owned();
    let leads_out = |part: &str| part.is_empty() || part == "." || part == "..";
    if name.contains(['\\', '\0']) || name.split('/').any(leads_out) {
        return Err(ZipError::Name { name: owned() });
    }
    if u16_at(header, 8) & ENCRYPTED != 0 {
        return Err(ZipError::Encrypted { name: owned() });
    }
    let (method, stored, unpacked) = (u16_at(header, 10), u32_at(header, 20), u32_at(header, 24));
    let local_at = u32_at(header, 42);
    if stored == u32::MAX || unpacked == u32::MAX || local_at == u32::MAX {
        return Err(ZipError::Large);
    }
    if method != 0 || stored != unpacked {
        return Err(ZipError::Compressed { name: owned(), method });
    }
    let at = local_at as usize;
    let local = record(bytes, at, LOCAL, LOCAL_BYTES, "header of an entry")?;
    let [name_length, extra] = [26, 28].map(|field| usize::from(u16_at(local, field)));
    if name_at(bytes, at + LOCAL_BYTES, name_length)? != name {
        return Err(ZipError::Record { what: "header of the entry that the directory names", at });
    }
    let start = at + LOCAL_BYTES + name_length + extra;
    let data = start..start.saturating_add(stored as usize);
    if data.end > bytes.len() {
        return Err(ZipError::Record { what: "data of an entry", at: start });
    }
    Ok(data)
}

/// The fixed part of a record.
fn record<'a>(
    bytes: &'a [u8],
    at: usize,
    signature: &[u8; 4],
    length: usize,
    what: &'static str,
) -> Result<&'a [u8], ZipError> {
    let found = bytes.get(at..at.saturating_add(length)).filter(|record| record.starts_with(signature));
    found.ok_or(ZipError::Record { what, at })
}

fn name_at(bytes: &[u8], at: usize, length: usize) -> Result<&str, ZipError> {
    let name = bytes.get(at..at + length).and_then(|name| std::str::from_utf8(name).ok());
    name.ok_or(ZipError::Record { what: "name in UTF-8", at })
}

/// A number of a record that is long enough.
fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

/// A number of a record that is long enough.
fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from(u16_at(record, at)) | u32::from(u16_at(record, at + 2)) << 16
}
