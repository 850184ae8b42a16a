//! Failures of a device.
//!
//! Operations on tensors return no errors: on the host they cannot fail. On a GPU any of them can
//! run out of memory. Such a failure leaves the operation as an unwinding panic that carries a
//! [`DeviceError`], without the message of a panic. [`catch`] turns it into an error again; the
//! training loop and the evaluation call it.

use crate::ranks::LeaderFailed;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use thiserror::Error;

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DeviceError {
    /// A library is not installed.
    #[error("{library} was not found")]
    Library {
        /// Name of the library.
        library: &'static str,
        /// What provides it.
        provided_by: &'static str,
    },
    /// Several processes were given one GPU.
    #[error("cuda:{ordinal} is one GPU, but {processes} processes train together")]
    Shared {
        /// Number of the GPU.
        ordinal: usize,
        /// Number of processes.
        processes: usize,
    },
    /// Rank 0 could not connect the GPUs.
    #[error(transparent)]
    Leader(#[from] LeaderFailed),
    /// There is no GPU with this number.
    #[error("there is no GPU {ordinal}; this machine has {count}")]
    NoDevice {
        /// Number that was asked for.
        ordinal: usize,
        /// Number of GPUs.
        count: usize,
    },
    /// The GPU is too old.
    #[error("{name} has compute capability {}.{}, but at least 7.5 is needed", .capability.0, .capability.1)]
    TooOld {
        /// Name of the GPU.
        name: String,
        /// Its compute capability.
        capability: (i32, i32),
    },
    /// Device memory is used up.
    #[error(
        "the GPU has no memory for {needed} more bytes: {free} of {total} are free, and this run holds {held}{}",
        .batch.map_or(String::new(), |batch| format!("; a batch of {batch} windows fits"))
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        needed: usize,
        /// Free bytes of the GPU.
        free: usize,
        /// Bytes of the GPU.
        total: usize,
        /// Bytes that this process holds.
        held: usize,
        /// Windows of a batch whose training step fits, if that is known.
        batch: Option<usize>,
    },
    /// The kernels could not be compiled.
    #[error("the CUDA kernels could not be compiled: {0}")]
    Compilation(String),
    /// A call failed.
    #[error("{call} failed: {message}")]
    Call {
        /// The call.
        call: &'static str,
        /// What CUDA says.
        message: String,
    },
}

impl DeviceError {
    /// Leaves the running operation; see the module's documentation.
    pub(crate) fn throw(self) -> ! {
        resume_unwind(Box::new(self))
    }
}

/// Runs `body` and returns the failure of a device in it as an error. Other panics go on.
///
/// # Errors
/// The [`DeviceError`] that an operation in `body` met.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, DeviceError> {
    // After a failure the caller drops what the body worked on.
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| match panic.downcast::<DeviceError>() {
        Ok(error) => *error,
        Err(panic) => resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_device_become_errors_and_other_panics_go_on() {
        let error = DeviceError::NoDevice { ordinal: 3, count: 1 };
        assert_eq!(catch(|| 5), Ok(5));
        assert_eq!(catch(|| -> u8 { error.clone().throw() }), Err(error));
        assert!(catch_unwind(|| catch(|| resume_unwind(Box::new("other")))).is_err());
    }
}
