//! Work beside the main stream.
//!
//! Gradients of parameters are needed at the end of the backward pass only, while the small kernels
//! of the pass itself wait for each other. So they are launched on a second stream. What they read
//! and write is kept until the streams join, because the main stream would use freed memory again;
//! and who reads what they write joins first.
//!
//! A frozen model's forward pass runs there too, while the trained model's runs on the main stream. It
//! allocates, so it has a pool of its own, from which nothing else takes memory.

use super::launch::Arg;
use super::memory::{Allocation, Array, Kept, Pool};
use super::{Cuda, check};
use cudarc::cublas::sys::cublasHandle_t;
use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The second stream, with a handle of cuBLAS and counters of its own.
pub(super) struct Beside {
    stream: CUstream,
    event: CUevent,
    blas: cublasHandle_t,
    counters: Arc<Allocation>,
    /// For work that allocates.
    pool: Mutex<Arc<Pool>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether launches go to the second stream now.
    is_current: bool,
    /// Whether a forward pass was launched there since the streams joined.
    is_forked: bool,
    /// What its work reads.
    read: Vec<Kept>,
    /// What its work writes.
    written: Vec<Kept>,
}

impl Beside {
    pub(super) fn new(stream: CUstream, blas: cublasHandle_t, counters: Arc<Allocation>, pool: Pool) -> Self {
        let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let (event, pool) = (check("cuEventCreate", event), Mutex::new(Arc::new(pool)));
        Self { stream, event, blas, counters, pool, state: Mutex::default() }
    }

    /// Puts another pool into the place of that for work that allocates.
    pub(super) fn replace_pool(&self, pool: Arc<Pool>) -> Arc<Pool> {
        std::mem::replace(&mut *self.pool.lock().unwrap_or_else(PoisonError::into_inner), pool)
    }

    pub(super) fn pool(&self) -> Arc<Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuda {
    /// Runs the launches of `body` beside the main stream, after the work launched before. `body` must
    /// not allocate: what it uses is in `read` and `written`.
    pub(crate) fn beside(&self, read: &[Kept], written: &[&Array], body: impl FnOnce()) {
        if self.is_profiled() {
            return body();
        }
        let beside = &self.0.beside;
        self.wait(self.0.stream, beside.stream);
        beside.lock().is_current = true;
        let result = catch_unwind(AssertUnwindSafe(body));
        let mut state = beside.lock();
        state.is_current = false;
        state.read.extend_from_slice(read);
        state.written.extend(written.iter().map(|array| array.kept()));
        drop(state);
        result.unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// Runs the launches of `body` beside the main stream, after the work launched before. What it
    /// returns is to be read after [`join`](Self::join). It must not upload what others read.
    pub(crate) fn fork<T>(&self, body: impl FnOnce() -> T) -> T {
        if self.is_profiled() {
            return body();
        }
        let beside = &self.0.beside;
        self.wait(self.0.stream, beside.stream);
        let outer = self.replace_pool(beside.pool());
        let mut state = beside.lock();
        (state.is_current, state.is_forked) = (true, true);
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(body));
        beside.lock().is_current = false;
        self.replace_pool(outer);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Lets the main stream wait for the work beside it.
    pub(crate) fn join(&self) {
        let beside = &self.0.beside;
        let mut state = beside.lock();
        if state.written.is_empty() && !state.is_forked {
            return;
        }
        self.wait(beside.stream, self.0.stream);
        *state = State::default();
    }

    /// [`join`](Self::join), if the array is written beside the main stream.
    pub(crate) fn join_for(&self, array: &Array) {
        let is_written = self.0.beside.lock().written.iter().any(|kept| array.shares(kept));
        if is_written {
            self.join();
        }
    }

    /// The stream for launches.
    pub(super) fn stream(&self) -> CUstream {
        let beside = &self.0.beside;
        if beside.lock().is_current { beside.stream } else { self.0.stream }
    }

    /// The handle for products on that stream.
    pub(super) fn blas(&self) -> cublasHandle_t {
        let beside = &self.0.beside;
        if beside.lock().is_current { beside.blas } else { self.0.blas }
    }

    /// Counters of finished blocks for kernels on that stream, all zero between kernels.
    pub fn counters(&self) -> Arg {
        let beside = &self.0.beside;
        let counters = if beside.lock().is_current { &beside.counters } else { &self.0.counters };
        Arg::from(counters.pointer())
    }

    /// Lets `later` wait for what was launched on `first`.
    #[expect(unsafe_code, reason = "calls of the driver")]
    fn wait(&self, first: CUstream, later: CUstream) {
        let event = self.0.beside.event;
        self.bind();
        // SAFETY: streams and event live as long as `self`. A wait refers to the last record before
        // it, so one event serves all.
        unsafe {
            check("cuEventRecord", result::event::record(event, first));
            let flags = cudarc::driver::sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            check("cuStreamWaitEvent", result::stream::wait_event(later, event, flags));
        }
    }
}
