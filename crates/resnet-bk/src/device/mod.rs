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

use crate::ranks::Ranks;
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
    /// The first GPU, or the first GPUs for several processes.
    Cuda,
    /// The GPU with this number.
    CudaNumber(usize),
}

/// A device, and why an automatic choice did not take the GPU that the machine has.
pub type Opened = (Device, Option<DeviceError>);

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`DeviceError`] if a GPU is asked for and cannot be used.
    pub fn open(self) -> Result<Opened, DeviceError> {
        match self {
            Self::Cpu => Ok((Device::Cpu, None)),
            Self::Cuda => Ok((Device::Cuda(Cuda::open(0)?), None)),
            Self::CudaNumber(ordinal) => Ok((Device::Cuda(Cuda::open(ordinal)?), None)),
            Self::Automatic => Ok(or_cpu(|| Cuda::open(0))),
        }
    }

    /// Opens a device for each process of a run. The processes of a machine take its GPUs one after
    /// the other. An automatic choice takes GPUs if each process can have one.
    ///
    /// # Errors
    /// [`DeviceError`] if GPUs are asked for and cannot be used together.
    pub fn open_on(self, ranks: &Ranks) -> Result<Opened, DeviceError> {
        if ranks.are_alone() {
            return self.open();
        }
        let open = || {
            cuda::require_nccl()?;
            Cuda::open(ranks.rank_on_host())
        };
        let opened = match self {
            Self::Cpu => (Device::Cpu, None),
            Self::Cuda => (Device::Cuda(open()?), None),
            Self::CudaNumber(ordinal) => return Err(DeviceError::Shared { ordinal, processes: ranks.count() }),
            Self::Automatic => {
                let (device, unusable) = or_cpu(open);
                let has_gpu = ranks.gather(vec![u8::from(device.cuda().is_some())]);
                if has_gpu.concat().contains(&0) { (Device::Cpu, unusable) } else { (device, None) }
            }
        };
        if let Some(cuda) = opened.0.cuda() {
            cuda.connect(ranks)?;
        }
        Ok(opened)
    }
}

/// A GPU if the machine has one that can be used, otherwise the CPU.
fn or_cpu(open: impl FnOnce() -> Result<Cuda, DeviceError>) -> Opened {
    if !cuda::has_gpu() {
        return (Device::Cpu, None);
    }
    match open() {
        Ok(cuda) => (Device::Cuda(cuda), None),
        Err(error) => (Device::Cpu, Some(error)),
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = |number: &str| number.parse().map(Self::CudaNumber);
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Automatic),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda),
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
        assert_eq!(parse("cuda"), Ok(DeviceChoice::Cuda));
        assert_eq!(parse("cuda:3"), Ok(DeviceChoice::CudaNumber(3)));
        for wrong in ["cuda:", "cuda:x", "cuda:0,1", "gpu", "cpu:1", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(DeviceChoice::Cpu.open().unwrap(), (Device::Cpu, None));
    }

    #[test]
    fn processes_take_gpus_together_or_none() {
        let opened = |choice: DeviceChoice| {
            let ranks = Ranks::threads(2);
            std::thread::scope(|scope| {
                let threads = ranks.iter().map(|ranks| scope.spawn(move || choice.open_on(ranks)));
                threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        };
        assert!(opened(DeviceChoice::Cpu).iter().all(|opened| *opened == Ok((Device::Cpu, None))));
        let shared = DeviceError::Shared { ordinal: 1, processes: 2 };
        assert!(opened(DeviceChoice::CudaNumber(1)).iter().all(|opened| *opened == Err(shared.clone())));
    }
}
