//! Records of an event file of TensorBoard. Two messages with a few fields are written, so there is
//! no crate for protocol buffers, which would bring a compiler of `.proto` files or its output.
//!
//! ```text
//! record        u64 length, u32 masked CRC of it, message, u32 masked CRC of it    little-endian
//! masked CRC    rotate_right(crc32c(bytes), 15) + 0xa282ead8                       (TensorFlow, tfrecord)
//!
//! Event         1 wall_time: double   2 step: int64   3 file_version: string
//!               5 summary: Summary    7 session_log: SessionLog
//! Summary       1 value: Value, repeated
//! Value         1 tag: string         2 simple_value: float
//! SessionLog    1 status: enum, 1 is START
//! ```
//!
//! The messages are those of `tensorflow/core/util/event.proto` and `summary.proto`.

/// Polynomial of CRC-32C (Castagnoli), bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const MASK: u32 = 0xa282_ead8;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// A record with a message.
pub fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), message, &masked_crc(message)].concat()
}

/// What an event says.
pub enum Content<'a> {
    /// The version of the file, its first event.
    FileVersion(&'a str),
    /// Events of other files from this step on are to be dropped.
    Restart,
    /// Numbers with their tags.
    Scalars(&'a [(String, f64)]),
}

/// An event. `wall_time` is in seconds since 1970.
pub fn event(wall_time: f64, step: usize, content: &Content) -> Vec<u8> {
    let mut message = Vec::new();
    message.push(1 << 3 | 1);
    message.extend(wall_time.to_le_bytes());
    message.push(2 << 3);
    varint(&mut message, step as u64);
    match content {
        Content::FileVersion(version) => field(&mut message, 3, version.as_bytes()),
        // SessionLog.START
        Content::Restart => field(&mut message, 7, &[1 << 3, 1]),
        Content::Scalars(scalars) => {
            let mut summary = Vec::new();
            for (tag, number) in *scalars {
                let mut value = Vec::new();
                field(&mut value, 1, tag.as_bytes());
                value.push(2 << 3 | 5);
                value.extend((*number as f32).to_le_bytes());
                field(&mut summary, 1, &value);
            }
            field(&mut message, 5, &summary);
        }
    }
    message
}

/// A field with a length.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

/// Seven bits a byte, the lowest first.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of RFC 3720, appendix B.4, and the usual one of nine digits.
    #[test]
    fn crc32c_has_the_known_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let known: [(&[u8], u32); 5] = [
            (&[], 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ];
        for (bytes, crc) in known {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }

    /// The first record that TensorFlow writes, at 2^30 seconds. Its length of 24 has a masked CRC
    /// that every such file begins with.
    #[test]
    fn the_first_record_is_that_of_tensorflow() {
        let message = event(1_073_741_824.0, 0, &Content::FileVersion("brain.Event:2"));
        let without_step: Vec<u8> = [&message[..9], &message[11..]].concat();
        assert_eq!(without_step, b"\x09\0\0\0\0\0\0\xd0\x41\x1a\x0dbrain.Event:2");
        let record = record(&without_step);
        assert_eq!(record[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(record.len(), 8 + 4 + 24 + 4);
    }

    #[test]
    fn scalars_are_values_of_a_summary() {
        let message = event(0.0, 300, &Content::Scalars(&[("a/b".to_owned(), 0.5)]));
        let expected = b"\x09\0\0\0\0\0\0\0\0\x10\xac\x02\x2a\x0c\x0a\x0a\x0a\x03a/b\x15\0\0\0\x3f";
        assert_eq!(message, expected);
        assert_eq!(event(0.0, 1, &Content::Restart)[9..], [0x10, 1, 0x3a, 2, 8, 1]);
    }
}
