//! The outer layer of the file: header, section table and checksums. It is independent of what the
//! sections contain.

use super::error::ArtifactError;
use super::foreign;
use super::section::Section;

/// The first bytes of every artifact. As in PNG, the high bit and the two line endings reveal a
/// transfer in text mode.
pub(super) const MAGIC: [u8; 8] = *b"\x89RBK\r\n\x1a\n";

/// The format version that this program writes, and the newest one that it reads.
pub const FORMAT_VERSION: u16 = 2;

/// Bytes of the header: magic number, version, number of sections, section table and its checksum.
pub(super) const HEADER_BYTES: usize = TABLE_END + CRC_BYTES;
/// Bytes of a CRC-32.
pub(super) const CRC_BYTES: usize = 4;

const TABLE_START: usize = 12;
const TABLE_END: usize = TABLE_START + Section::STORED.len() * ENTRY_BYTES;
const ENTRY_BYTES: usize = 16;

/// Encodes a file with the given sections.
pub(super) fn encode(sections: [&[u8]; 3]) -> Vec<u8> {
    let payload: usize = sections.iter().map(|section| section.len()).sum();
    let mut file = Vec::with_capacity(HEADER_BYTES + payload);
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    file.extend_from_slice(&(Section::STORED.len() as u16).to_le_bytes());
    for (section, bytes) in Section::STORED.into_iter().zip(sections) {
        file.extend_from_slice(&section.kind().to_le_bytes());
        file.extend_from_slice(&section.encoding().to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
        file.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    }
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    sections.iter().for_each(|bytes| file.extend_from_slice(bytes));
    file
}

/// Verifies every checksum and returns the sections of a file, in the order of [`Section::STORED`].
/// Allocates no memory.
pub(super) fn decode(file: &[u8]) -> Result<[&[u8]; 3], ArtifactError> {
    check_version(file)?;
    let Some((header, mut rest)) = file.split_at_checked(HEADER_BYTES) else {
        return Err(truncated_header(file));
    };
    check_crc(Section::Header, &header[..TABLE_END], u32_at(header, TABLE_END))?;
    check_field("number of sections", u16_at(header, 10), Section::STORED.len() as u16)?;

    let mut sections = [&file[..0]; 3];
    let entries = header[TABLE_START..TABLE_END].chunks_exact(ENTRY_BYTES);
    let mut checksums = [0; 3];
    for (index, (section, entry)) in Section::STORED.into_iter().zip(entries).enumerate() {
        check_field("section kind", u16_at(entry, 0), section.kind())?;
        check_field("section encoding", u16_at(entry, 2), section.encoding())?;
        let (needed, available) = (u64_at(entry, 8), rest.len() as u64);
        // A length of 2^32 or more does not fit a 32-bit usize. No file in memory has such a
        // section there.
        let split = usize::try_from(needed).ok().and_then(|length| rest.split_at_checked(length));
        (sections[index], rest) = split.ok_or(ArtifactError::Truncated { section, needed, available })?;
        checksums[index] = u32_at(entry, 4);
    }
    if !rest.is_empty() {
        return Err(ArtifactError::TrailingBytes { section: Section::Weights, bytes: rest.len() as u64 });
    }
    for ((section, bytes), stored) in Section::STORED.into_iter().zip(sections).zip(checksums) {
        check_crc(section, bytes, stored)?;
    }
    Ok(sections)
}

/// Checks the magic number and the version. They come first, because the header of a newer format
/// may have another layout.
fn check_version(file: &[u8]) -> Result<(), ArtifactError> {
    let start = &file[..file.len().min(MAGIC.len())];
    if !MAGIC.starts_with(start) {
        return Err(ArtifactError::NotAnArtifact { start: start.to_vec(), looks_like: foreign::guess(file) });
    }
    if file.len() < MAGIC.len() + 2 {
        return Err(truncated_header(file));
    }
    match u16_at(file, MAGIC.len()) {
        FORMAT_VERSION => Ok(()),
        found if found > FORMAT_VERSION => Err(ArtifactError::NewerFormat { found, supported: FORMAT_VERSION }),
        found => Err(ArtifactError::UnknownFormat { found }),
    }
}

fn truncated_header(file: &[u8]) -> ArtifactError {
    let (needed, available) = (HEADER_BYTES as u64, file.len() as u64);
    ArtifactError::Truncated { section: Section::Header, needed, available }
}

fn check_field(field: &'static str, found: u16, expected: u16) -> Result<(), ArtifactError> {
    if found == expected { Ok(()) } else { Err(ArtifactError::SectionTable { field, found, expected }) }
}

fn check_crc(section: Section, bytes: &[u8], stored: u32) -> Result<(), ArtifactError> {
    let computed = crc32fast::hash(bytes);
    if computed == stored { Ok(()) } else { Err(ArtifactError::Checksum { section, stored, computed }) }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one header field overwritten and the header checksum computed again.
    fn with_field(at: usize, field: &[u8]) -> Vec<u8> {
        let mut file = encode([b"config", b"words", b"weights"]);
        file[at..at + field.len()].copy_from_slice(field);
        let crc = crc32fast::hash(&file[..TABLE_END]);
        file[TABLE_END..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        file
    }

    #[test]
    fn sections_round_trip() {
        let sections: [&[u8]; 3] = [b"config", b"", b"weights"];
        let file = encode(sections);
        assert_eq!(file.len(), 64 + 6 + 7);
        assert_eq!(decode(&file).unwrap(), sections);
    }

    #[test]
    fn the_header_has_the_documented_layout() {
        let file = encode([b"123456789", b"", b"abc"]);
        // 0xcbf43926 is the published check value of this CRC-32.
        let expected = b"\x89RBK\r\n\x1a\n\x02\0\x03\0\
            \x01\0\0\0\x26\x39\xf4\xcb\x09\0\0\0\0\0\0\0\
            \x02\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\
            \x03\0\x01\0\xc2\x41\x24\x35\x03\0\0\0\0\0\0\0";
        assert_eq!(file[..TABLE_END], expected[..]);
        assert_eq!(file[HEADER_BYTES..], b"123456789abc"[..]);
    }

    #[test]
    fn other_format_versions_are_refused() {
        // The checksum is wrong: a newer header may store it elsewhere.
        let mut file = encode([b"", b"", b""]);
        file[8..10].copy_from_slice(&3u16.to_le_bytes());
        let error = decode(&file).unwrap_err();
        assert_eq!(error.to_string(), "artifact format 3 is newer than the supported format 2");
        assert_eq!(decode(&with_field(8, &[0, 0])).unwrap_err().to_string(), "artifact format 0 is not supported");
        assert_eq!(decode(&with_field(8, &[1, 0])).unwrap_err().to_string(), "artifact format 1 is not supported");
    }

    #[test]
    fn huge_lengths_are_refused() {
        for section in 0..3 {
            for length in [6 + 5 + 7 + 1, 1 << 32, 1 << 60, u64::MAX - 20, u64::MAX] {
                let file = with_field(TABLE_START + section * ENTRY_BYTES + 8, &length.to_le_bytes());
                let error = decode(&file).unwrap_err();
                assert!(matches!(error, ArtifactError::Truncated { needed, .. } if needed == length), "{error}");
            }
        }
    }

    #[test]
    fn unknown_sections_and_encodings_are_refused() {
        let message_of = |at, field: &[u8]| decode(&with_field(at, field)).unwrap_err().to_string();
        assert_eq!(message_of(10, &[4, 0]), "number of sections in the section table is 4, but must be 3");
        assert_eq!(message_of(12, &[9, 0]), "section kind in the section table is 9, but must be 1");
        assert_eq!(message_of(14, &[1, 0]), "section encoding in the section table is 1, but must be 0");
        assert_eq!(message_of(30, &[0, 0]), "section encoding in the section table is 0, but must be 1");
    }

    #[test]
    fn bytes_after_the_last_section_are_refused() {
        let mut file = encode([b"config", b"words", b"weights"]);
        file.push(0);
        assert_eq!(decode(&file).unwrap_err().to_string(), "1 extra bytes after the weights section");
    }

    #[test]
    fn other_kinds_of_files_are_recognized() {
        let message_of = |file: &[u8]| decode(file).unwrap_err().to_string();
        let zip = "not an artifact: starts with 50 4b 03 04 14 00, which looks like a PyTorch zip";
        assert_eq!(message_of(b"PK\x03\x04\x14\0"), zip);
        assert_eq!(message_of(b""), "the header is truncated: it needs 64 bytes, but the file has 0 left");
    }
}
