//! One NVIDIA GPU: its memory, its kernels and its matrix products.
//!
//! The driver, NVRTC and cuBLAS are loaded when a GPU is opened, and NCCL when the GPUs of several
//! processes are connected. The program is built and runs without them otherwise.
//!
//! Work goes to one stream, so it runs in the order of the calls (but for `beside.rs`). Memory that
//! is freed on the host can be used again by the next call, and sums have a fixed order: the same
//! card, seed and recipe give the same bits.

mod beside;
mod blas;
mod chains;
mod compile;
mod graph;
mod launch;
mod memory;
mod peers;
mod profile;
mod sums;

pub use blas::{Math, Operand};
pub(crate) use chains::Cut;
pub use graph::Graph;
pub(crate) use launch::launch;
pub use launch::{Arg, Grid, blocks};
pub use memory::Array;
pub use peers::require_nccl;
pub use profile::KernelTime;

use super::DeviceError;
use crate::numerics::Precision;
use beside::Beside;
use cudarc::cublas::sys::cublasHandle_t;
use cudarc::driver::sys::{CUdevice_attribute, CUstream};
use cudarc::driver::{CudaContext, result};
use launch::Kernels;
use memory::{Pool, Usage};
use peers::Peers;
use profile::Profile;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Least compute capability: a T4.
const LEAST_CAPABILITY: (i32, i32) = (7, 5);
/// Compute capability from which products of bf16 are computed in hardware.
const BF16_CAPABILITY: (i32, i32) = (8, 0);
/// Bytes that cuBLAS may use for partial sums.
const BLAS_WORKSPACE: usize = 32 << 20;
/// Counters of finished blocks, for sums that several blocks share.
const COUNTERS: usize = 1 << 14;

/// Numbers of a training step that kernels read from device memory, so that a recorded graph sees
/// new ones. The layout is that of `StepNumbers` in `common.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StepNumbers {
    /// Seed of the step's random stream.
    pub seed: u64,
    /// Learning rate.
    pub rate: f64,
    /// Rate-distortion multiplier.
    pub lambda: f32,
    /// Where the step's loss is logged.
    pub slot: u32,
    /// Share of the step's weights in their average.
    pub average: f32,
}

/// An open GPU. Clones share it.
#[derive(Clone)]
pub struct Cuda(Arc<Inner>);

struct Inner {
    context: Arc<CudaContext>,
    ordinal: usize,
    name: String,
    capability: (i32, i32),
    multiprocessors: u32,
    stream: CUstream,
    /// For uploads while the main stream is being recorded.
    upload_stream: CUstream,
    beside: Beside,
    blas: cublasHandle_t,
    kernels: Kernels,
    usage: Arc<Usage>,
    /// Where new arrays come from.
    pool: Mutex<Arc<Pool>>,
    /// Arrays that a graph being recorded reads; see [`graph`]. `None` while nothing is recorded.
    recording: Mutex<Option<Vec<memory::Kept>>>,
    /// Whether products of gradients may have factors of less than float32.
    short_gradients: AtomicBool,
    /// Whether products of a forward pass may, too.
    short_forward: AtomicBool,
    step_numbers: Arc<memory::Allocation>,
    counters: Arc<memory::Allocation>,
    profile: Profile,
    /// The GPUs of the other processes of the run.
    peers: OnceLock<Peers>,
}

#[expect(unsafe_code, reason = "handles of the driver")]
// SAFETY: the handles of the driver and cuBLAS may be used by any thread that has made the context
// current, which every call does. The stream keeps the order of the calls.
unsafe impl Send for Inner {}
#[expect(unsafe_code, reason = "handles of the driver")]
// SAFETY: as above. cuBLAS's handle is used by one call at a time, under the lock of `pool`.
unsafe impl Sync for Inner {}

/// Whether the driver is installed and shows a GPU.
pub fn has_gpu() -> bool {
    compile::is_present(compile::Library::Driver)
        && result::init().is_ok()
        && CudaContext::device_count().is_ok_and(|n| n > 0)
}

/// The names of the machine's GPUs, whether or not they can be used.
pub fn names() -> Vec<String> {
    if !has_gpu() {
        return Vec::new();
    }
    let count = CudaContext::device_count().unwrap_or(0);
    let name = |number: i32| result::device::get(number).and_then(result::device::get_name);
    (0..count).map(|number| name(number).unwrap_or_else(|_| "unknown".to_owned())).collect()
}

impl Cuda {
    /// Opens a GPU: loads the libraries, and compiles the kernels or reads them from the cache.
    ///
    /// # Errors
    /// [`DeviceError`] if a library, the GPU or its capability is missing.
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        compile::require_libraries()?;
        result::init().map_err(|error| call("cuInit", error))?;
        let count = CudaContext::device_count().map_err(|error| call("cuDeviceGetCount", error))?.max(0) as usize;
        if ordinal >= count {
            return Err(DeviceError::NoDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal).map_err(|error| call("cuDevicePrimaryCtxRetain", error))?;
        let name = context.name().map_err(|error| call("cuDeviceGetName", error))?;
        let capability = context.compute_capability().map_err(|error| call("cuDeviceGetAttribute", error))?;
        if capability < LEAST_CAPABILITY {
            return Err(DeviceError::TooOld { name, capability });
        }
        let multiprocessors = context
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .map_err(|error| call("cuDeviceGetAttribute", error))? as u32;
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = || stream().map_err(|error| call("cuStreamCreate", error));
        let kernels = Kernels::load(&compile::kernels(capability)?)?;
        let usage = Arc::new(Usage::default());
        let pool = Arc::new(Pool::new(context.clone(), usage.clone()));
        let step_numbers = pool.clone().allocate(size_of::<StepNumbers>())?;
        let counters = || pool.clone().allocate(4 * COUNTERS);
        let (counters, counters_beside) = (counters()?, counters()?);
        let (stream, upload_stream, stream_beside) = (stream()?, stream()?, stream()?);
        let blas = |stream| blas::create(stream, pool.clone().allocate(BLAS_WORKSPACE)?);
        let (blas, blas_beside) = (blas(stream)?, blas(stream_beside)?);
        let cuda = Self(Arc::new(Inner {
            blas,
            context,
            ordinal,
            name,
            capability,
            multiprocessors,
            stream,
            upload_stream,
            beside: Beside::new(stream_beside, blas_beside, counters_beside.clone(), pool.beside()),
            kernels,
            usage,
            pool: Mutex::new(pool),
            recording: Mutex::new(None),
            short_gradients: AtomicBool::new(false),
            short_forward: AtomicBool::new(false),
            step_numbers,
            counters,
            profile: Profile::default(),
            peers: OnceLock::new(),
        }));
        for counters in [&cuda.0.counters, &counters_beside] {
            cuda.zero(counters.pointer(), 4 * COUNTERS);
        }
        Ok(cuda)
    }

    /// Number of the GPU.
    pub fn ordinal(&self) -> usize {
        self.0.ordinal
    }

    /// Name of the GPU.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Number of multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.0.multiprocessors
    }

    /// Whether products of bf16 are computed in hardware.
    pub fn has_bf16(&self) -> bool {
        self.0.capability >= BF16_CAPABILITY
    }

    /// Bytes of device memory that this process holds.
    pub fn held_bytes(&self) -> usize {
        self.0.usage.held.load(Ordering::Relaxed)
    }

    /// Largest number of bytes held since the start or the last call of
    /// [`trim`](Self::trim).
    pub fn peak_bytes(&self) -> usize {
        self.0.usage.peak.load(Ordering::Relaxed)
    }

    /// Gives unused memory back to the driver, and counts the largest number of bytes anew.
    pub fn trim(&self) {
        self.pool().trim();
        self.0.beside.pool().trim();
        self.0.usage.peak.store(self.held_bytes(), Ordering::Relaxed);
    }

    /// Sets the format of the factors in products that compute gradients.
    pub fn set_gradient_precision(&self, precision: Precision) {
        self.0.short_gradients.store(precision == Precision::Bf16 && self.has_bf16(), Ordering::Relaxed);
    }

    /// Format of the factors in products that compute gradients.
    pub fn gradient_math(&self) -> Math {
        match self.0.short_gradients.load(Ordering::Relaxed) {
            true => Math::Tf32,
            false => Math::Float32,
        }
    }

    /// Runs a forward pass of a step. If `allowed`, its products have the format of the gradients'.
    pub fn forward_of_step<T>(&self, allowed: bool, body: impl FnOnce() -> T) -> T {
        let short = allowed && self.gradient_math() == Math::Tf32;
        let outer = self.0.short_forward.swap(short, Ordering::Relaxed);
        let result = body();
        self.0.short_forward.store(outer, Ordering::Relaxed);
        result
    }

    /// Format of the factors in products of a forward pass: float32 outside of
    /// [`forward_of_step`](Self::forward_of_step).
    pub fn forward_math(&self) -> Math {
        match self.0.short_forward.load(Ordering::Relaxed) {
            true => Math::Tf32,
            false => Math::Float32,
        }
    }

    /// Sets the numbers of the next step.
    pub fn set_step_numbers(&self, numbers: StepNumbers) {
        self.write(self.0.step_numbers.pointer(), std::slice::from_ref(&numbers));
    }

    /// Where kernels find the [`StepNumbers`].
    pub fn step_numbers(&self) -> Arg {
        Arg::from(self.0.step_numbers.pointer())
    }

    /// Waits for all work.
    pub fn synchronize(&self) {
        #[expect(unsafe_code, reason = "a call of the driver")]
        // SAFETY: the stream lives as long as `self`.
        let done = unsafe { result::stream::synchronize(self.0.stream) };
        check("cuStreamSynchronize", done);
    }

    fn pool(&self) -> Arc<Pool> {
        self.0.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn bind(&self) {
        check("cuCtxSetCurrent", self.0.context.bind_to_thread());
    }
}

impl PartialEq for Cuda {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.0.ordinal, self.0.name)
    }
}

fn call(call: &'static str, error: impl Debug) -> DeviceError {
    DeviceError::Call { call, message: format!("{error:?}") }
}

/// The result of a call; a failure leaves the operation.
fn check<T, E: Debug>(name: &'static str, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| call(name, error).throw())
}
