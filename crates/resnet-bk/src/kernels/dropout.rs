//! Dropout masks that any part of an array can draw by itself.
//!
//! ```text
//! r_j = mix(key + (j + 1) increment)      16 bits for each of the elements 4 j .. 4 j + 4, dropped where below 2^16 p
//! ```
//!
//! That is the SplitMix64 stream of the key, entered anywhere; see [`crate::random`].

use crate::random::stream_word;
use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::InstructionSet;

/// Elements that share a random word.
const ELEMENTS: usize = 4;

/// A dropout of one array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    key: u64,
    threshold: u32,
    keep: f32,
}

impl DropoutMask {
    /// Drops each element with probability `p`, to the nearest 2^-16, and scales the others by `1 /
    /// (1 - p)`.
    pub fn new(p: f32, key: u64) -> Self {
        let threshold = (p * 65_536.0).round() as u32;
        Self { key, threshold, keep: 65_536.0 / (65_536 - threshold.min(65_535)) as f32 }
    }

    /// What elements that stay are multiplied with.
    pub fn keep(&self) -> f32 {
        self.keep
    }

    /// Multiplies the elements from `first`, a multiple of 4, on by the mask.
    pub fn apply(&self, first: usize, values: &mut [f32]) {
        assert!(first.is_multiple_of(ELEMENTS), "a part begins where a random word does");
        apply(*self, first, values);
    }
}

dispatched! {
    fn apply(mask: DropoutMask, first: usize, values: &mut [f32]) = apply_on(set) => apply_body(mask, first, values)
}

#[inline(always)]
fn apply_body(mask: DropoutMask, first: usize, values: &mut [f32]) {
    const WORDS: usize = 8;
    for (index, values) in values.chunks_mut(WORDS * ELEMENTS).enumerate() {
        let start = (first / ELEMENTS + index * WORDS) as u64;
        let words: [u64; WORDS] = std::array::from_fn(|word| stream_word(mask.key, start + word as u64));
        for (element, x) in values.iter_mut().enumerate() {
            let drawn = (words[element / ELEMENTS] >> (16 * (element % ELEMENTS))) as u32 & 0xffff;
            *x *= if drawn < mask.threshold { 0.0 } else { mask.keep };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            for first in [0, 4, 1_000_004] {
                equal_bits("dropout", |set| {
                    let mut out = values(n, 1);
                    apply_on(set, DropoutMask::new(0.3, 7), first, &mut out);
                    out
                });
            }
        }
    }

    #[test]
    fn parts_draw_what_the_whole_draws() {
        let mask = DropoutMask::new(0.3, 7);
        let mut whole = vec![1.0; 1003];
        mask.apply(0, &mut whole);
        let mut parts = vec![1.0; 1003];
        for (index, part) in parts.chunks_mut(52).enumerate() {
            mask.apply(52 * index, part);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn the_share_and_the_mean_are_as_asked() {
        let mut values = vec![1.0; 1 << 20];
        DropoutMask::new(0.25, 3).apply(0, &mut values);
        let dropped = values.iter().filter(|x| **x == 0.0).count() as f64 / values.len() as f64;
        // Five standard deviations of a million draws.
        assert!((dropped - 0.25).abs() < 0.0022, "{dropped}");
        assert!(values.iter().all(|x| *x == 0.0 || (*x - 4.0 / 3.0).abs() < 1e-6));
    }
}
