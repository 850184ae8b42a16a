//! Which side of a split a text falls on: decided by a hash of the text, so that neither its place
//! in a file nor what else is in the file matters.

use crate::random::Random;

/// A part of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Train,
    Valid,
    Test,
}

/// Sends `held_out` of 1,000 fingerprints to each of valid and test.
pub(super) fn side(fingerprint: u64, held_out: u64) -> Side {
    match Random::keyed(&[fingerprint]).below(1_000) {
        draw if draw < held_out => Side::Valid,
        draw if draw < 2 * held_out => Side::Test,
        _ => Side::Train,
    }
}

/// FNV-1a, 64 bits: the same on every platform and for every version of the standard library.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_fnv_1a() {
        assert_eq!(fingerprint(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fingerprint("foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn sides_have_their_shares() {
        let sides: Vec<Side> = (0..20_000).map(|n| side(fingerprint(&format!("sentence {n}")), 50)).collect();
        let share = |wanted| sides.iter().filter(|&&side| side == wanted).count();
        assert!(share(Side::Valid).abs_diff(1_000) < 150, "{}", share(Side::Valid));
        assert!(share(Side::Test).abs_diff(1_000) < 150, "{}", share(Side::Test));
        assert_eq!(side(7, 0), Side::Train);
    }
}
