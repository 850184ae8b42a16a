//! The arithmetic that training and inference share. `unsafe` code is in this module only.
//!
//! | file | what | same bits everywhere |
//! | --- | --- | --- |
//! | `dispatch` | compiles a function for each instruction set and selects one at run time | |
//! | `linear` | `y = x W + b`, each output summed in the order of the inputs | yes |
//! | `elementwise` | exp, sigmoid, softplus, SiLU, softmax | yes |
//! | `normalizer` | running sums of exponentials of a row | yes |
//! | `scan`, `lanes`, `transpose` | recurrences of many chains, one per vector lane | yes |
//! | `propagator` | the propagator of a sequence, one head per vector lane | yes |
//! | `norm` | layer and RMS normalization of rows | yes |
//! | `rounding` | rounding to multiples of a quantizer scale | yes |
//! | `matmul` | general matrix products through the `gemm` crate | no |
//!
//! All but the last use no fused multiply-add and no reassociation. So a batch, a single time step,
//! every instruction set and training give the same bits. Quantizers round and routers select; with
//! equal bits they cannot decide differently in training and inference.

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
pub use rounding::{divide_by_scale, largest_magnitude, nearest_code, round_to_scale, round_to_scales};
pub use scan::{Chain, Moebius, compose_left, left_ratios, left_ratios_block, reciprocal};
