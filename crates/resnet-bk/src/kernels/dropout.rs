//! Dropout masks with random access: any part of an array can compute its part of the mask.
//!
//! ```text
//! r_j = mix(key + (j + 1) increment)
//! element 4 j + i uses 16 bits of r_j and is dropped if they are below 2^16 p
//! ```
//!
//! This is the SplitMix64 stream of the key with random access; see [`crate::random`].

use crate::random::{Draw, stream_word};
use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::InstructionSet;

/// The dropout mask of one array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    key: u64,
    /// Index of the key in the step's random stream.
    draw: u64,
    threshold: u32,
    keep: f32,
    /// Position of the first row in the global batch.
    first_token: usize,
}

impl DropoutMask {
    /// Elements per random word.
    pub const ELEMENTS: usize = 4;

    /// A mask that drops each element with probability `p`, rounded to a multiple of 2^-16. The
    /// others are scaled by `1 / (1 - p)`.
    pub fn new(p: f32, draw: Draw) -> Self {
        let threshold = (p * 65_536.0).round() as u32;
        let keep = 65_536.0 / (65_536 - threshold.min(65_535)) as f32;
        Self { key: draw.word(0), draw: draw.first(), threshold, keep, first_token: 0 }
    }

    /// The part of the mask from the row of this token on. Each rank has its part of one mask.
    pub fn at(self, first_token: usize) -> Self {
        Self { first_token, ..self }
    }

    /// Token of the first row.
    pub fn first_token(&self) -> usize {
        self.first_token
    }

    /// The mask of one of several arrays that share a draw.
    pub fn of_part(self, part: u64) -> Self {
        Self { key: stream_word(self.key, part), ..self }
    }

    /// What a kernel needs: index of the key in the step's random stream, threshold, scale, and token
    /// of the first row. An element is dropped if its 16 bits are below the threshold.
    pub fn on_device(mask: Option<Self>) -> (u64, u32, f32, u64) {
        mask.map_or((0, 0, 1.0, 0), |mask| (mask.draw, mask.threshold, mask.keep, mask.first_token as u64))
    }

    /// Factor of one element of the whole mask: 0, or the scale of those that are not dropped.
    pub fn factor(&self, element: usize) -> f32 {
        let word = stream_word(self.key, (element / Self::ELEMENTS) as u64);
        let drawn = (word >> (16 * (element % Self::ELEMENTS))) as u32 & 0xffff;
        if drawn < self.threshold { 0.0 } else { self.keep }
    }

    /// Scale of the elements that are not dropped.
    pub fn keep(&self) -> f32 {
        self.keep
    }

    /// Applies the mask to the elements from index `first` of the whole mask on.
    pub fn apply(&self, first: usize, values: &mut [f32]) {
        // The elements of a word that began before.
        let skipped = first % Self::ELEMENTS;
        let head = values.len().min((Self::ELEMENTS - skipped) % Self::ELEMENTS);
        let (start, rest) = values.split_at_mut(head);
        if head > 0 {
            let mut word = [0.0; Self::ELEMENTS];
            word[skipped..][..head].copy_from_slice(start);
            apply(*self, first - skipped, &mut word);
            start.copy_from_slice(&word[skipped..][..head]);
        }
        apply(*self, first + head, rest);
    }
}

dispatched! {
    fn apply(mask: DropoutMask, first: usize, values: &mut [f32]) = apply_on(set) => apply_body(mask, first, values)
}

#[inline(always)]
fn apply_body(mask: DropoutMask, first: usize, values: &mut [f32]) {
    const ELEMENTS: usize = DropoutMask::ELEMENTS;
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
    use crate::random::{Random, StepStream};

    fn mask(p: f32) -> DropoutMask {
        DropoutMask::new(p, StepStream::new(&Random::new(3)).take(1))
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            for first in [0, 4, 1_000_004] {
                equal_bits("dropout", |set| {
                    let mut out = values(n, 1);
                    apply_on(set, mask(0.3), first, &mut out);
                    out
                });
            }
        }
    }

    #[test]
    fn a_mask_in_parts_equals_the_whole_mask() {
        let mask = mask(0.3);
        let mut whole = vec![1.0; 1003];
        mask.apply(0, &mut whole);
        for size in [1, 2, 3, 52, 53, 55] {
            let mut parts = vec![1.0; 1003];
            for (index, part) in parts.chunks_mut(size).enumerate() {
                mask.apply(size * index, part);
            }
            assert_eq!(whole, parts, "parts of {size}");
        }
    }

    #[test]
    fn the_factor_of_an_element_is_that_of_the_whole_mask() {
        let mut whole = vec![1.0; 1003];
        mask(0.3).apply(0, &mut whole);
        let factors: Vec<f32> = (0..1003).map(|element| mask(0.3).factor(element)).collect();
        assert_eq!(factors, whole);
    }

    #[test]
    fn the_share_of_dropped_elements_and_the_mean_are_as_configured() {
        let mut values = vec![1.0; 1 << 20];
        mask(0.25).apply(0, &mut values);
        let dropped = values.iter().filter(|x| **x == 0.0).count() as f64 / values.len() as f64;
        // Five standard deviations for a million draws.
        assert!((dropped - 0.25).abs() < 0.0022, "{dropped}");
        assert!(values.iter().all(|x| *x == 0.0 || (*x - 4.0 / 3.0).abs() < 1e-6));
    }
}
