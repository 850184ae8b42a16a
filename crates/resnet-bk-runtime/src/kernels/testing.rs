//! Shared parts of the kernel tests.

use super::InstructionSet;

/// Lengths around multiples of the vector length, and one of many vectors.
pub const AWKWARD: [usize; 12] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000];

/// `n` pseudo-random numbers between -2 and 2.
pub fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 500.5 - 2.0).collect()
}

/// Checks that a kernel gives the same bits with every instruction set of this machine as with the
/// portable one. Returns the result.
#[track_caller]
pub fn equal_bits(what: &str, kernel: impl Fn(InstructionSet) -> Vec<f32>) -> Vec<f32> {
    let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
    let portable = kernel(InstructionSet::Portable);
    for set in InstructionSet::available() {
        assert_eq!(bits(&kernel(set)), bits(&portable), "{what} at {set:?}");
    }
    portable
}
