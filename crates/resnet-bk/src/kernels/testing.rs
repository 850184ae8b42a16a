//! Test helpers for kernels.

use resnet_bk_runtime::internal::kernels::InstructionSet;

/// Lengths around the vector widths, and one of many vectors.
pub const AWKWARD: [usize; 12] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000];

/// `n` pseudorandom numbers between -2 and 2.
pub fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 500.5 - 2.0).collect()
}

/// Runs a kernel with every instruction set of this machine and checks for bits equal to the
/// portable one's.
#[track_caller]
pub fn equal_bits(what: &str, kernel: impl Fn(InstructionSet) -> Vec<f32>) {
    let bits = |set| -> Vec<u32> { kernel(set).iter().map(|x| x.to_bits()).collect() };
    let portable = bits(InstructionSet::Portable);
    for set in InstructionSet::available() {
        assert_eq!(bits(set), portable, "{what} at {set:?}");
    }
}
