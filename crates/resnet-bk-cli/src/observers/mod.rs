//! Observers of a run that the command shows. The log is the library's.

mod progress;

pub use progress::{Bar, Progress};
