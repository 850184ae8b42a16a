//! Times of the kernels of a recorded step.
//!
//! An event before and one after each launch become nodes of the graph, so the host's time between
//! launches does not count. Kernels then run one after the other, also those that run beside the main
//! stream otherwise, and each interval includes about a microsecond of the events.

use super::{Cuda, check};
use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_record_flags, cuEventRecordWithFlags};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All launches of a kernel in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTime {
    /// Name of the kernel, or format and sizes of a product.
    pub name: String,
    /// Launches in a step.
    pub launches: usize,
    /// Their time together, in milliseconds.
    pub milliseconds: f64,
}

/// Events of the recorded step; `None` while nobody asks for times.
#[derive(Default)]
pub(super) struct Profile(Mutex<Option<Vec<Interval>>>);

struct Interval {
    name: String,
    begin: CUevent,
    end: CUevent,
}

impl Profile {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Interval>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cuda {
    /// From now on, recorded steps have events around each launch.
    pub fn start_profile(&self) {
        *self.0.profile.lock() = Some(Vec::new());
    }

    pub(super) fn is_profiled(&self) -> bool {
        self.0.profile.lock().is_some()
    }

    /// Times of the kernels in the last step that was launched from the last recording, the longest
    /// first.
    pub fn finish_profile(&self) -> Vec<KernelTime> {
        self.synchronize();
        let mut times = BTreeMap::<String, (usize, f64)>::new();
        for Interval { name, begin, end } in self.0.profile.lock().take().unwrap_or_default() {
            #[expect(unsafe_code, reason = "calls of the driver")]
            // SAFETY: the work with both events is done.
            let elapsed = unsafe {
                let elapsed = result::event::elapsed(begin, end);
                let _ = (result::event::destroy(begin), result::event::destroy(end));
                check("cuEventElapsedTime", elapsed)
            };
            let of_name = times.entry(name).or_default();
            *of_name = (of_name.0 + 1, of_name.1 + f64::from(elapsed));
        }
        let mut times: Vec<KernelTime> = times
            .into_iter()
            .map(|(name, (launches, milliseconds))| KernelTime { name, launches, milliseconds })
            .collect();
        times.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        times
    }

    /// Forgets what was recorded before: a profile is that of the last recording.
    pub(super) fn forget_intervals(&self) {
        if let Some(intervals) = self.0.profile.lock().as_mut() {
            // Their events stay, because an older graph may still hold them.
            intervals.clear();
        }
    }

    /// Runs `body`, which launches one kernel on the main stream, between two events if a profiled
    /// step is being recorded.
    pub(super) fn timed(&self, name: impl FnOnce() -> String, body: impl FnOnce()) {
        if !self.is_profiled() || !self.is_recording() {
            return body();
        }
        let [begin, end] =
            [(); 2].map(|()| check("cuEventCreate", result::event::create(CUevent_flags::CU_EVENT_DEFAULT)));
        self.record_event(begin);
        body();
        self.record_event(end);
        if let Some(intervals) = self.0.profile.lock().as_mut() {
            intervals.push(Interval { name: name(), begin, end });
        }
    }

    #[expect(unsafe_code, reason = "a call of the driver")]
    fn record_event(&self, event: CUevent) {
        self.bind();
        let flag = CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
        // SAFETY: the stream is being recorded; the event lives until the profile is finished.
        check("cuEventRecordWithFlags", unsafe { cuEventRecordWithFlags(event, self.0.stream, flag).result() });
    }
}
