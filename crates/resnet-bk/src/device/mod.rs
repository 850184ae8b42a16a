//! Where a model trains: host threads, or an NVIDIA GPU.
//!
//! ```text
//! Device::Cpu     arrays are host vectors; operations run on rayon's threads
//! Device::Cuda    arrays are in device memory; operations are CUDA kernels and cuBLAS products
//! ```
//!
//! Only operations (`ops/*/cuda.rs`), the optimizer and [`Buffer`](crate::buffer::Buffer) know
//! about devices. Stages, schedules and checkpoints do not.

pub mod check;
pub mod cuda;
mod error;

pub use cuda::Cuda;
pub use error::{DeviceError, catch};

use std::fmt::{self, Display};
use std::str::FromStr;

/// A place where arrays are stored and operations run.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Device {
    /// Host memory and threads.
    #[default]
    Cpu,
    /// A GPU.
    Cuda(Cuda),
}

impl Device {
    /// The GPU, if this is one.
    pub fn cuda(&self) -> Option<&Cuda> {
        match self {
            Self::Cpu => None,
            Self::Cuda(cuda) => Some(cuda),
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu ({} threads)", rayon::current_num_threads()),
            Self::Cuda(cuda) => write!(f, "cuda:{} ({})", cuda.ordinal(), cuda.name()),
        }
    }
}

/// The device that a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if it can be used, otherwise the CPU.
    #[default]
    Automatic,
    /// The CPU.
    Cpu,
    /// The GPU with this number.
    Cuda(usize),
}

impl DeviceChoice {
    /// Opens the device. The second value says why an automatic choice did not take the GPU that
    /// the machine has.
    ///
    /// # Errors
    /// [`DeviceError`] if a GPU is asked for and cannot be used.
    pub fn open(self) -> Result<(Device, Option<DeviceError>), DeviceError> {
        match self {
            Self::Cpu => Ok((Device::Cpu, None)),
            Self::Cuda(ordinal) => Ok((Device::Cuda(Cuda::open(ordinal)?), None)),
            Self::Automatic if !cuda::has_gpu() => Ok((Device::Cpu, None)),
            Self::Automatic => Ok(match Cuda::open(0) {
                Ok(cuda) => (Device::Cuda(cuda), None),
                Err(error) => (Device::Cpu, Some(error)),
            }),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = |number: &str| number.parse().map(Self::Cuda);
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Automatic),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                ordinal(number).map_err(|_| format!("'{number}' is not the number of one GPU; write cuda:0"))
            }
            _ => Err("a device is auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        let parse = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(parse("auto"), Ok(DeviceChoice::Automatic));
        assert_eq!(parse("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(parse("cuda"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(parse("cuda:3"), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["cuda:", "cuda:x", "cuda:0,1", "gpu", "cpu:1", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.open().unwrap(), (Device::Cpu, None));
    }
}
