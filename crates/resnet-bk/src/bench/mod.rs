//! Measurements of the training step and its kernels, for the `bench` command.
//!
//! Every report holds the machine's own ceilings, measured in the same run: a time says little
//! without them.

mod kernel;
mod step;

pub use kernel::{HeadCase, KernelReport, ResolventCase, Stretches, bench_kernels};
pub use step::{StepReport, bench_step};

use serde::Serialize;
use std::time::Instant;

/// Wall times of some runs of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// Half of the runs took at most this, in milliseconds.
    pub median_ms: f64,
    /// The fastest run, in milliseconds.
    pub fastest_ms: f64,
    /// Runs that were timed.
    pub runs: usize,
}

/// Times `runs` runs, after two that are not counted. `runs` is at least 1.
fn measure(runs: usize, mut body: impl FnMut()) -> Timing {
    for _ in 0..2 {
        body();
    }
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            body();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    Timing { median_ms: times[runs / 2], fastest_ms: times[0], runs }
}

/// Largest resident set of this process so far, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
