//! Measurements of the training step and its kernels, for the `bench` command.
//!
//! Every report also holds the machine's limits, measured in the same run. Times can only be
//! compared relative to them.

mod kernel;
mod scaling;
mod step;

pub use kernel::{HeadCase, KernelReport, ResolventCase, Stretches, bench_kernels};
pub use scaling::{LENGTHS, ScalingCase, bench_scaling};
pub use step::{StepReport, bench_evaluation, bench_step, has_steps, step_recipe};

use serde::Serialize;
use std::time::Instant;

/// Wall times of repeated runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// The fastest run, in milliseconds.
    pub fastest_ms: f64,
    /// Number of timed runs.
    pub runs: usize,
}

/// Times `runs` runs after two warm-up runs. `runs` is at least 1.
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

/// Largest resident set of this process so far, in bytes, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
