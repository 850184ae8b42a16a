//! Work beside the main stream.
//!
//! Gradients of parameters are needed at the end of the backward pass only, while the small kernels
//! of the pass itself wait for each other. So they are launched on a second stream. What they read
//! and write is kept until the streams join, because the main stream would use freed memory again;
//! and who reads what they write joins first.

use super::memory::{Array, Kept};
use super::{Cuda, check};
use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The second stream.
pub(super) struct Beside {
    stream: CUstream,
    event: CUevent,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether launches go to the second stream now.
    is_current: bool,
    /// What its work reads.
    read: Vec<Kept>,
    /// What its work writes.
    written: Vec<Kept>,
}

impl Beside {
    pub(super) fn new(stream: CUstream) -> Self {
        let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Self { stream, event: check("cuEventCreate", event), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuda {
    /// Runs the launches of `body` beside the main stream, after the work launched before. They
    /// must not use cuBLAS or the counters of finished blocks.
    pub(crate) fn beside(&self, read: &[Kept], written: &[&Array], body: impl FnOnce()) {
        if self.is_profiled() {
            return body();
        }
        let beside = &self.0.beside;
        self.wait(self.0.stream, beside.stream);
        beside.lock().is_current = true;
        body();
        let mut state = beside.lock();
        state.is_current = false;
        state.read.extend_from_slice(read);
        state.written.extend(written.iter().map(|array| array.kept()));
    }

    /// Lets the main stream wait for the work beside it.
    pub(crate) fn join(&self) {
        let beside = &self.0.beside;
        let mut state = beside.lock();
        if state.written.is_empty() {
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
