//! Number of threads.
//!
//! All parallel work, including the matrix products of `gemm`, runs on rayon's global pool.

use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

/// Sets the number of threads, at least 1. The default is the number that the machine runs at once.
///
/// # Errors
/// If the pool already exists (so call this before any work), or the system cannot create the
/// threads.
pub fn use_threads(threads: usize) -> Result<(), ThreadPoolBuildError> {
    ThreadPoolBuilder::new().num_threads(threads).build_global()
}

/// The number of threads.
pub fn threads() -> usize {
    rayon::current_num_threads()
}
