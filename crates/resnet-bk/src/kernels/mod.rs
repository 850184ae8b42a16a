//! Arithmetic that only training needs, and the allocator. All `unsafe` of this crate is here.

mod allocator;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;
mod dropout;
mod loss;
mod norm_backward;
mod optimizer;
mod propagator_backward;
mod scan_backward;
#[cfg(test)]
mod testing;

pub use allocator::Allocator;
pub use dropout::DropoutMask;
pub use loss::{MixedRow, mixed_gradient, softmax_gradient, teacher_sums};
pub use norm_backward::{layer_norm_backward, rms_norm_backward};
pub use optimizer::{AdamWStep, adamw_step, average_step, sum_of_squares};
pub use propagator_backward::{PropagatorGradients, PropagatorSequence, propagator_backward};
pub use scan_backward::{
    Affine, LeftBackward, add_per_head, compose_left_backward, left_backward, left_backward_block,
};
