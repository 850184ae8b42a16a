//! Arithmetic that only training needs, and the only `unsafe` of this crate.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;
mod optimizer;
mod scan;

pub use optimizer::{AdamWStep, adamw_step, sum_of_squares};
pub use scan::{Affine, LeftBackward, compose_left_backward, left_backward};
