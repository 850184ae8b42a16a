//! Arithmetic that only training needs, and the only `unsafe` of this crate.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;
mod dropout;
mod loss;
mod norm;
mod optimizer;
mod propagator;
mod scan;

pub use dropout::DropoutMask;
pub use loss::{MixedRow, mixed_gradient, softmax_gradient};
pub use norm::{layer_norm_backward, rms_norm_backward};
pub use optimizer::{AdamWStep, adamw_step, sum_of_squares};
pub use propagator::{PropagatorGradients, PropagatorSequence, propagator_backward};
pub use scan::{Affine, LeftBackward, compose_left_backward, left_backward};
