//! Choices of a configuration that change how a step computes.

use serde::{Deserialize, Serialize};

/// Number format of the factors in the head's matrix products during training. Sums are float32 in
/// both. Evaluation does not follow it: see
/// [`negative_log_likelihoods`](crate::ops::negative_log_likelihoods).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor multiplies it in hardware (AMX on Linux), float32 elsewhere.
    #[default]
    Bf16,
    /// float32 everywhere.
    Float32,
}

impl Precision {
    /// What multiplies the head's matrices on this machine.
    pub fn unit(self) -> &'static str {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Bf16 && crate::kernels::amx::Amx::detect().is_some() {
            return "bf16 (AMX)";
        }
        "float32"
    }
}

/// Which gradient the diagonal mixer sends to its potential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradient {
    /// That of the loss.
    #[default]
    Exact,
    /// The approximation of the system that this project follows, with its blend factor in `[0,
    /// 1]`.
    Blended(f32),
}
