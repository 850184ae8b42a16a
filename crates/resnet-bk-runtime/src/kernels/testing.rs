//! What the tests of kernels share.

use super::InstructionSet;

/// Lengths around those of vectors, and one of many vectors.
pub const AWKWARD: [usize; 12] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000];

/// `n` numbers between -2 and 2 in no order.
pub fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 500.5 - 2.0).collect()
}

/// Runs a kernel at every instruction set of this machine: each gives the bits of the portable one.
/// Returns its numbers.
#[track_caller]
pub fn equal_bits(what: &str, kernel: impl Fn(InstructionSet) -> Vec<f32>) -> Vec<f32> {
    let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
    let portable = kernel(InstructionSet::Portable);
    for set in InstructionSet::available() {
        assert_eq!(bits(&kernel(set)), bits(&portable), "{what} at {set:?}");
    }
    portable
}
