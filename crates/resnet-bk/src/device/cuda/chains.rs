//! How sequences are cut into stretches that run beside each other; the kernels are in `common.cu`
//! and in the mixers' sources.

use super::Arg;

/// A sequence is cut if it is longer than this.
const LONG: usize = 1024;
/// Shortest stretch.
const STRETCH: usize = 64;
/// Largest number of stretches: a scan goes over them one after another.
const STRETCHES: usize = 512;
/// Chains that keep a GPU busy.
const CHAINS: usize = 1 << 16;

/// The stretches of sequences of one length; the layout of `Cut` in `common.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    length: u32,
    stretch: u32,
    count: u32,
}

impl Cut {
    /// The stretches of sequences of `length` tokens, of which there are `chains` heads in all.
    pub fn new(length: usize, chains: usize) -> Self {
        let wanted = if length <= LONG { 1 } else { CHAINS.div_ceil(chains).clamp(1, STRETCHES) };
        let stretch = length.div_ceil(wanted).max(STRETCH.min(length));
        Self { length: length as u32, stretch: stretch as u32, count: length.div_ceil(stretch) as u32 }
    }

    /// Number of stretches of a sequence.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The struct as an argument of a kernel.
    pub fn arg(&self) -> Arg {
        Arg::by_value(self)
    }

    /// Grid of `along_chains`, for blocks of 128 threads.
    pub fn grid(&self, heads: usize, sequences: usize) -> [usize; 3] {
        [heads.div_ceil(32), sequences * self.count(), 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_a_sequence_and_none_is_empty() {
        assert_eq!(Cut::new(128, 20).count(), 1);
        assert_eq!(Cut::new(131_072, 1 << 17).count(), 1);
        for length in [1, 1_025, 5_000, 131_072, 131_073] {
            for chains in [1, 33, 384, 10_000] {
                let Cut { stretch, count, .. } = Cut::new(length, chains);
                assert!(stretch * count >= length as u32 && stretch * (count - 1) < length as u32, "{length} {chains}");
                assert!(count as usize <= STRETCHES, "{length} {chains}");
            }
        }
    }
}
