//! Recorded work: the launches of a training step as one CUDA graph.
//!
//! A step of fixed shapes launches hundreds of small kernels. A graph launches them all with one
//! call, and the host does not run the model's code again. Addresses and sizes are recorded as they
//! are, so numbers that change from step to step are read from device memory
//! ([`StepNumbers`](super::StepNumbers), the batch).
//!
//! While a graph is recorded, arrays come from a pool of its own, because it uses their memory each
//! time it runs.

use super::memory::{Kept, Pool};
use super::{Cuda, check};
use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

/// Recorded work of a [`Cuda`].
pub struct Graph {
    cuda: Cuda,
    executable: CUgraphExec,
    /// The memory of the arrays inside, on the main stream and beside it.
    _pools: [Arc<Pool>; 2],
    /// Constants that were uploaded while it was recorded.
    _kept: Vec<Kept>,
}

impl Cuda {
    /// Records the work that `body` launches, without running it. `body` must not read results.
    #[expect(unsafe_code, reason = "calls of the driver")]
    pub fn record(&self, body: impl FnOnce()) -> Graph {
        let beside = &self.0.beside;
        self.pool().trim();
        beside.pool().trim();
        self.forget_intervals();
        let pools = [(); 2].map(|()| Arc::new(self.pool().beside()));
        let outer = [self.replace_pool(pools[0].clone()), beside.replace_pool(pools[1].clone())];
        *self.0.recording.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        self.bind();
        // SAFETY: the stream is not being recorded. Relaxed: memory is allocated meanwhile.
        let begun = unsafe {
            result::stream::begin_capture(self.0.stream, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            check("cuStreamBeginCapture", begun);
            body();
        }));
        // SAFETY: the recording began above.
        let graph = unsafe { result::stream::end_capture(self.0.stream) };
        let kept = self.0.recording.lock().unwrap_or_else(PoisonError::into_inner).take();
        let [outer, outer_beside] = outer;
        self.replace_pool(outer);
        beside.replace_pool(outer_beside);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        let graph = check("cuStreamEndCapture", graph);
        // SAFETY: the graph was just recorded; it may go once it is instantiated.
        let executable = unsafe {
            let executable = result::graph::instantiate(graph, CUgraphInstantiate_flags(0));
            let _ = result::graph::destroy(graph);
            check("cuGraphInstantiate", executable)
        };
        Graph { cuda: self.clone(), executable, _pools: pools, _kept: kept.unwrap_or_default() }
    }

    /// Whether work is being recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.0.recording.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn replace_pool(&self, pool: Arc<Pool>) -> Arc<Pool> {
        std::mem::replace(&mut *self.0.pool.lock().unwrap_or_else(PoisonError::into_inner), pool)
    }
}

impl Graph {
    /// Runs the recorded work.
    #[expect(unsafe_code, reason = "a call of the driver")]
    pub fn launch(&self) {
        self.cuda.bind();
        // SAFETY: the graph and its memory live as long as `self`.
        check("cuGraphLaunch", unsafe { result::graph::launch(self.executable, self.cuda.0.stream) });
    }
}

impl Drop for Graph {
    #[expect(unsafe_code, reason = "calls of the driver")]
    fn drop(&mut self) {
        self.cuda.bind();
        // SAFETY: the work is done when the graph and its memory go. Failures leak it.
        unsafe {
            let _ = result::stream::synchronize(self.cuda.0.stream);
            let _ = result::graph::exec_destroy(self.executable);
        }
    }
}
