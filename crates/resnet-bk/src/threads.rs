//! How many threads compute.
//!
//! Everything that runs on several threads, the matrix products of `gemm` included, runs on rayon's
//! global pool.

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// Computes on `threads` threads from now on, instead of as many as the machine runs at once. At
/// least 1.
///
/// # Errors
/// A pool that exists already (this comes before any work), or threads that the system refuses.
pub fn use_threads(threads: usize) -> Result<(), ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(threads).build_global()
}

/// The threads that compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}
