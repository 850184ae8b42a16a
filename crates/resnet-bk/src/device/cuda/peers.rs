//! Means over the GPUs of a run, by NCCL. Each process of the run has one GPU.
//!
//! NCCL is loaded by the name of its package's library. cudarc looks for the name that only
//! development packages have, so its bindings are not used.

use super::memory::Array;
use super::{Cuda, call};
use crate::device::DeviceError;
use crate::ranks::Ranks;
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

/// Names under which NCCL is looked for.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// `ncclFloat32` and `ncclAvg` of NCCL's `nccl.h`.
const FLOAT32: c_int = 7;
const AVERAGE: c_int = 4;

/// `ncclUniqueId`: how the processes of a run find each other.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; 128]);

/// `ncclComm_t`.
type Communicator = *mut c_void;

/// The functions that are used.
struct Nccl {
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    init_rank: unsafe extern "C" fn(*mut Communicator, c_int, UniqueId, c_int) -> c_int,
    all_reduce:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Communicator, *mut c_void) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl Nccl {
    /// The library, loaded once.
    fn get() -> Result<&'static Self, DeviceError> {
        static NCCL: OnceLock<Option<Nccl>> = OnceLock::new();
        let missing = DeviceError::Library { library: "NCCL (libnccl.so.2)", provided_by: "nvidia-nccl-cu12" };
        NCCL.get_or_init(Self::load).as_ref().ok_or(missing)
    }

    #[expect(unsafe_code, reason = "loads a library")]
    fn load() -> Option<Self> {
        // SAFETY: NCCL's initializers have no requirements, and the functions have these types in
        // all versions 2.x. The library is never unloaded.
        unsafe {
            let library = Box::leak(Box::new(NAMES.iter().find_map(|&name| Library::new(name).ok())?));
            Some(Self {
                get_unique_id: *library.get(b"ncclGetUniqueId").ok()?,
                init_rank: *library.get(b"ncclCommInitRank").ok()?,
                all_reduce: *library.get(b"ncclAllReduce").ok()?,
                group_start: *library.get(b"ncclGroupStart").ok()?,
                group_end: *library.get(b"ncclGroupEnd").ok()?,
                error_string: *library.get(b"ncclGetErrorString").ok()?,
            })
        }
    }

    #[expect(unsafe_code, reason = "a call of NCCL")]
    fn check(&self, name: &'static str, code: c_int) -> Result<(), DeviceError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: NCCL returns a constant string for every code.
        let message = unsafe { CStr::from_ptr((self.error_string)(code)) };
        Err(call(name, message))
    }
}

/// The GPUs of the run, seen from one of them. They stay connected until the process ends: closing
/// would wait for processes that have failed.
pub(super) struct Peers {
    nccl: &'static Nccl,
    communicator: Communicator,
}

/// Whether GPUs can be connected.
///
/// # Errors
/// [`DeviceError::Library`] if NCCL is not installed.
pub fn require_nccl() -> Result<(), DeviceError> {
    Nccl::get().map(drop)
}

impl Cuda {
    /// Connects the GPUs of all ranks.
    ///
    /// # Errors
    /// [`DeviceError`] if NCCL is missing or fails.
    #[expect(unsafe_code, reason = "calls of NCCL")]
    pub fn connect(&self, ranks: &Ranks) -> Result<(), DeviceError> {
        let nccl = Nccl::get()?;
        let id = ranks.share_bytes(|| {
            let mut id = UniqueId([0; 128]);
            // SAFETY: NCCL fills the id.
            nccl.check("ncclGetUniqueId", unsafe { (nccl.get_unique_id)(&raw mut id) })?;
            Ok::<_, DeviceError>(id.0.to_vec())
        })?;
        let id = UniqueId(id.try_into().expect("an id has 128 bytes"));
        self.bind();
        let mut communicator = ptr::null_mut();
        let (count, rank) = (ranks.count() as c_int, ranks.rank() as c_int);
        // SAFETY: the GPU's context is current, and all ranks call this with the same id.
        let code = unsafe { (nccl.init_rank)(&raw mut communicator, count, id, rank) };
        nccl.check("ncclCommInitRank", code)?;
        assert!(self.0.peers.set(Peers { nccl, communicator }).is_ok(), "GPUs are connected once");
        Ok(())
    }

    /// Replaces arrays by their means over all connected GPUs. All must call this with arrays of the
    /// same sizes, in the same order; all get the same bits.
    ///
    /// # Panics
    /// If the GPUs are not connected.
    #[expect(unsafe_code, reason = "calls of NCCL")]
    pub fn average(&self, arrays: &[Array]) {
        let Peers { nccl, communicator } = self.0.peers.get().expect("the GPUs of a run are connected");
        self.join();
        self.bind();
        let all = || {
            // SAFETY: the arrays are alive while their work is on the stream, which keeps its order.
            unsafe {
                nccl.check("ncclGroupStart", (nccl.group_start)())?;
                for array in arrays {
                    let place = array.pointer() as *mut c_void;
                    let stream = self.0.stream.cast();
                    let code = (nccl.all_reduce)(place, place, array.len(), FLOAT32, AVERAGE, *communicator, stream);
                    nccl.check("ncclAllReduce", code)?;
                }
                nccl.check("ncclGroupEnd", (nccl.group_end)())
            }
        };
        all().unwrap_or_else(|error: DeviceError| error.throw());
    }
}
