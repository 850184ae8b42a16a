//! How much of a run is shown on stderr.

use crate::printer::{json_note, note};
use clap::ValueEnum;
use resnet_bk::observer::{Event, Observer};
use std::io::{IsTerminal, stderr};

/// How a run is shown on stderr. Errors are always shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar for the running stage, and a line for each epoch; lines where stderr is no terminal
    Bar,
    /// A line for each epoch, and one every 30 seconds
    Lines,
    /// The events of metrics.jsonl as they come, one JSON object a line; warnings are events too
    Json,
    /// Warnings and missed targets only
    None,
}

impl ProgressMode {
    /// The mode to use: the asked one, or what suits stderr.
    pub fn resolve(asked: Option<Self>) -> Self {
        match (asked.unwrap_or(Self::Bar), stderr().is_terminal()) {
            (Self::Bar, false) => Self::Lines,
            (mode, _) => mode,
        }
    }

    /// Shows a fact, such as the device.
    pub fn fact(self, fact: &str) {
        if self.draws() {
            note(fact);
        }
    }

    /// Shows a warning.
    pub fn warning(self, message: &str) {
        match self {
            Self::Json => json_note(&Event::Warning { message: message.to_owned() }),
            _ => note(&format!("warning: {message}")),
        }
    }

    /// Shows why a complete run did not reach what it should.
    pub fn verdict(self, verdict: &str) {
        match self {
            Self::Json => json_note(&Event::Warning { message: verdict.to_owned() }),
            _ => note(verdict),
        }
    }

    /// Whether progress is shown to people.
    pub fn draws(self) -> bool {
        matches!(self, Self::Bar | Self::Lines)
    }
}

/// Shows the warnings of a run, and nothing else.
pub struct Warnings(pub ProgressMode);

impl Observer for Warnings {
    fn event(&mut self, event: &Event) {
        if let Event::Warning { message } = event {
            self.0.warning(message);
        }
    }
}
