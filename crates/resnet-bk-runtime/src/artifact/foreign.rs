//! Guesses the kind of a file that is not an artifact from its first bytes, for the error message.

/// Number of bytes at the start of the file that are inspected.
const INSPECTED_BYTES: usize = 512;

/// Names the kind of the file with the given bytes, if it is recognized.
pub fn guess(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(INSPECTED_BYTES)];
    if is_damaged_magic(start) {
        Some("an artifact damaged by a text-mode transfer")
    } else if start.starts_with(b"PK\x03\x04") {
        Some("a PyTorch zip")
    } else if start.starts_with(b"GGUF") {
        Some("a GGUF file")
    } else if start.len() >= 2 && start[0] == 0x80 && (2..=5).contains(&start[1]) {
        Some("a Python pickle")
    } else if is_safetensors(bytes) {
        Some("a safetensors file")
    } else if is_text(start) {
        Some("text")
    } else {
        None
    }
}

/// The magic number after line endings were converted in either direction, the high bit was
/// removed, or the bytes were decoded as Latin-1 or UTF-8.
fn is_damaged_magic(start: &[u8]) -> bool {
    let damaged: [&[u8]; 4] = [b"\x89RBK", b"\x09RBK", b"\xc2\x89RBK", b"\xef\xbf\xbdRBK"];
    damaged.iter().any(|magic| start.starts_with(magic))
}

/// A safetensors file starts with the length of its JSON header in 64 bits, then the header.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, json)) = bytes.split_first_chunk::<8>() else { return false };
    json.first() == Some(&b'{') && u64::from_le_bytes(*length) <= json.len() as u64
}

fn is_text(start: &[u8]) -> bool {
    let printable = |text: &str| text.chars().all(|c| !c.is_control() || c.is_whitespace());
    match std::str::from_utf8(start) {
        Ok(text) => !text.is_empty() && printable(text),
        // The last character may be cut in two.
        Err(error) => {
            error.error_len().is_none()
                && error.valid_up_to() > 0
                && std::str::from_utf8(&start[..error.valid_up_to()]).is_ok_and(printable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_kinds_of_files_are_recognized() {
        let mut safetensors = 16u64.to_le_bytes().to_vec();
        safetensors.extend_from_slice(br#"{"__metadata__":{}}   "#);
        assert_eq!(guess(&safetensors), Some("a safetensors file"));
        assert_eq!(guess(b"PK\x03\x04\0\0"), Some("a PyTorch zip"));
        assert_eq!(guess(b"\x80\x02}q\0"), Some("a Python pickle"));
        assert_eq!(guess(b"GGUF\x03\0\0\0"), Some("a GGUF file"));
        assert_eq!(guess("The tower is 324 metres (1,063 ft) tall\n".as_bytes()), Some("text"));
        assert_eq!(guess("é".repeat(300)[..].as_bytes()), Some("text"));
        assert_eq!(guess(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), None);
        assert_eq!(guess(&[]), None);
    }
}
