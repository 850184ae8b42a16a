//! Observers of a run that the command shows. The log is the library's.

mod mode;
mod progress;
mod time_left;

pub use mode::{ProgressMode, Warnings};
pub use progress::{Bar, Progress};
pub use time_left::TimeLeft;
