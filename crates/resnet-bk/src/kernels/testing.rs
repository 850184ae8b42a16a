//! What the tests of kernels share.

use resnet_bk_runtime::internal::kernels::InstructionSet;

/// Lengths around those of vectors, and one of many vectors.
pub const AWKWARD: [usize; 12] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000];

/// `n` numbers between -2 and 2 in no order.
pub fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 500.5 - 2.0).collect()
}

/// Runs a kernel at every instruction set of this machine: each gives the bits of the portable one.
#[track_caller]
pub fn equal_bits(what: &str, kernel: impl Fn(InstructionSet) -> Vec<f32>) {
    let bits = |set| -> Vec<u32> { kernel(set).iter().map(|x| x.to_bits()).collect() };
    let portable = bits(InstructionSet::Portable);
    for set in InstructionSet::available() {
        assert_eq!(bits(set), portable, "{what} at {set:?}");
    }
}
