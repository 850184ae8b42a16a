//! The arithmetic that training and inference share, and the only module with `unsafe`.
//!
//! | file | what | same bits everywhere |
//! | --- | --- | --- |
//! | `dispatch` | instruction sets; compiles a body once for each and picks one at run time | |
//! | `linear` | `y = x W + b`, each output summed in the order of the inputs | yes |
//! | `elementwise` | exp, sigmoid, softplus, SiLU, softmax | yes |
//! | `normalizer` | running sums of exponentials of a row | yes |
//! | `scan`, `lanes`, `transpose` | recurrences of many chains side by side | yes |
//! | `propagator` | the propagator of a sequence, heads side by side | yes |
//! | `norm` | layer and RMS normalization of rows | yes |
//! | `rounding` | nearest multiples of a step | yes |
//! | `matmul` | general matrix products through the `gemm` crate | no |
//!
//! All but the last use no fused multiply-add and no reassociation, so a batch, a single step,
//! every instruction set and training itself give the same bits. Quantizers and routers round and
//! choose; equal bits keep them from choosing differently.

mod dispatch;
mod elementwise;
pub mod lanes;
mod linear;
mod matmul;
mod norm;
mod normalizer;
mod propagator;
mod rounding;
mod scan;
#[cfg(test)]
mod testing;
mod transpose;

pub use dispatch::{Detected, InstructionSet};
pub use elementwise::{exp, largest, sigmoid, sigmoid_in_place, silu_gate, softmax_in_place, softplus};
pub use linear::linear;
pub use matmul::{Matrix, Threads, Write, matmul};
pub use norm::{inverse_rms, layer_norm, moments, rms_norm};
pub use normalizer::{Normalizer, add_row};
pub use propagator::{PropagatorInput, propagate};
pub use rounding::{in_steps, largest_magnitude, nearest_code, round_to_step, round_to_steps};
pub use scan::{Chain, Moebius, compose_left, left_ratios, left_ratios_block, reciprocal};
