//! Codes as a string of bits: offset binary, least significant bit first, no gap between codes.
//!
//! ```text
//! bits = 3, codes -3 0 2          + 2^(bits-1) = 4           1   4   6
//! byte 0   bit 7 6|5 4 3|2 1 0                               1 0|1 0 0|0 0 1
//! byte 1   bit 7 6 5 4 3 2 1|0                               0 0 0 0 0 0 0|1      seven bits of padding, all zero
//! ```

/// Bytes of `len` codes of `bits` bits, the padding of the last byte included.
pub(super) fn packed_bytes(len: usize, bits: u8) -> u64 {
    (len as u64 * u64::from(bits)).div_ceil(8)
}

fn offset(bits: u8) -> i32 {
    1 << (bits - 1)
}

/// Appends the packed `codes` to `out`. Each must lie in `-2^(bits-1)..2^(bits-1)`.
pub(super) fn pack(codes: &[i16], bits: u8, out: &mut Vec<u8>) {
    out.reserve(packed_bytes(codes.len(), bits) as usize);
    let (mut pending, mut filled) = (0u64, 0u32);
    for &code in codes {
        pending |= ((i32::from(code) + offset(bits)) as u64) << filled;
        filled += u32::from(bits);
        // At most 31 + 16 bits are pending here, so the accumulator never overflows.
        if filled >= 32 {
            out.extend_from_slice(&(pending as u32).to_le_bytes());
            pending >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&pending.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// The first `len` codes of `bytes`.
///
/// # Panics
/// If `bytes` is shorter than [`packed_bytes`].
pub(super) fn unpack(bytes: &[u8], bits: u8, len: usize) -> Vec<i16> {
    assert!(bytes.len() as u64 >= packed_bytes(len, bits), "{} bytes hold no {len} codes of {bits} bits", bytes.len());
    let mask = (1u64 << bits) - 1;
    let mut words = bytes.chunks(4).map(little_endian);
    let (mut pending, mut filled) = (0u64, 0u32);
    let mut next = || {
        if filled < u32::from(bits) {
            pending |= words.next().unwrap_or(0) << filled;
            filled += 32;
        }
        let code = (pending & mask) as i32 - offset(bits);
        pending >>= bits;
        filled -= u32::from(bits);
        code as i16
    };
    (0..len).map(|_| next()).collect()
}

/// Up to four bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(word) => u64::from(u32::from_le_bytes(word)),
        Err(_) => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The bits after the last of `len` codes in its byte: zero in a well-formed file.
pub(super) fn padding(bytes: &[u8], bits: u8, len: usize) -> u8 {
    let used = (len as u64 * u64::from(bits) % 8) as u8;
    match (bytes.last(), used) {
        (Some(last), 1..) => last >> used,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantization::{MAX_BITS, MIN_BITS};
    use proptest::prelude::*;

    /// The slow twin: one bit at a time.
    fn pack_slowly(codes: &[i16], bits: u8) -> Vec<u8> {
        let mut out = vec![0; (codes.len() * usize::from(bits)).div_ceil(8)];
        for (index, &code) in codes.iter().enumerate() {
            for bit in 0..usize::from(bits) {
                if ((i32::from(code) + (1 << (bits - 1))) >> bit) & 1 == 1 {
                    let position = index * usize::from(bits) + bit;
                    out[position / 8] |= 1 << (position % 8);
                }
            }
        }
        out
    }

    fn codes(len: usize, bits: u8) -> Vec<i16> {
        let limit = 1i64 << (bits - 1);
        (0..len as i64).map(|i| ((i * 7919 + i * i * 31) % (2 * limit) - limit) as i16).collect()
    }

    fn assert_packs_like_its_twin(codes: &[i16], bits: u8) {
        let mut packed = Vec::new();
        pack(codes, bits, &mut packed);
        assert_eq!(packed, pack_slowly(codes, bits), "{bits} bits, {} codes", codes.len());
        assert_eq!(packed.len() as u64, packed_bytes(codes.len(), bits));
        assert_eq!(unpack(&packed, bits, codes.len()), codes, "{bits} bits, {} codes", codes.len());
        assert_eq!(padding(&packed, bits, codes.len()), 0);
    }

    #[test]
    fn every_width_and_awkward_length_packs_like_its_slow_twin() {
        for bits in MIN_BITS..=MAX_BITS {
            for len in (0..70).chain([127, 128, 129, 1000]) {
                assert_packs_like_its_twin(&codes(len, bits), bits);
            }
        }
    }

    #[test]
    fn the_picture_in_the_docs_is_right() {
        let mut packed = Vec::new();
        pack(&[-3, 0, 2], 3, &mut packed);
        assert_eq!(packed, [0b1010_0001, 0b0000_0001]);
    }

    #[test]
    fn padding_bits_are_seen() {
        assert_eq!(padding(&[0b1010_0001, 0b0000_0101], 3, 3), 2);
        assert_eq!(padding(&[0xff], 4, 2), 0);
        assert_eq!(padding(&[], 4, 0), 0);
    }

    proptest! {
        #[test]
        fn codes_survive_packing(bits in MIN_BITS..=MAX_BITS, raw in proptest::collection::vec(any::<i16>(), 0..300)) {
            // An arithmetic shift keeps the top `bits` bits: any value of the range.
            let codes: Vec<i16> = raw.into_iter().map(|code| code >> (16 - bits)).collect();
            assert_packs_like_its_twin(&codes, bits);
        }
    }
}
