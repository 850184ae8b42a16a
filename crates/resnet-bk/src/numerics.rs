//! Settings that change the arithmetic of a training step.

use crate::device::Device;
use serde::{Deserialize, Serialize};

/// Number format of the factors in the head's matrix products during training. Sums are float32 in
/// both cases. Evaluation does not use this setting; see
/// [`negative_log_likelihoods`](crate::ops::negative_log_likelihoods).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 if the processor multiplies it in hardware (AMX on Linux, NVIDIA GPUs from compute
    /// capability 8.0 on), otherwise float32.
    #[default]
    Bf16,
    /// float32 everywhere.
    Float32,
}

impl Precision {
    /// The unit that multiplies the head's matrices on a device.
    pub fn unit(self, device: &Device) -> &'static str {
        if let Device::Cuda(cuda) = device {
            return if self == Self::Bf16 && cuda.has_bf16() { "bf16 (tensor cores)" } else { "float32" };
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Bf16 && crate::kernels::amx::Amx::detect().is_some() {
            return "bf16 (AMX)";
        }
        "float32"
    }
}

/// The gradient of the diagonal mixer's potential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradient {
    /// The gradient of the loss.
    #[default]
    Exact,
    /// The approximation of the followed project, with its blend factor in `[0, 1]`.
    Blended(f32),
}
