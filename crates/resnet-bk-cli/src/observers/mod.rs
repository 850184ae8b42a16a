//! Observers of a run: the progress display and the log.

mod metrics;
mod progress;

pub use metrics::MetricsLog;
pub use progress::{Bar, Progress};

use resnet_bk::observer::{Event, Observer};

/// Passes every event to all observers, in order.
pub struct Fanout<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Fanout<'_> {
    fn event(&mut self, event: &Event) {
        for observer in &mut self.0 {
            observer.event(event);
        }
    }
}
