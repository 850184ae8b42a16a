//! Exceptions: the classes of `resnet_bk.errors`, with the messages and hints of the command line.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use resnet_bk::checkpoint::CheckpointError;
use resnet_bk::components::ComponentError;
use resnet_bk::config::RecipeError;
use resnet_bk::corpus::CorpusError;
use resnet_bk::device::DeviceError;
use resnet_bk::export::LoadError;
use resnet_bk::hints::{causes, hint, message};
use resnet_bk::original::{Fault, IdsError, OriginalError};
use resnet_bk::pipeline::RunError;
use resnet_bk::train::TrainError;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::error::Error;

/// An error that has a class of exceptions.
pub trait Classed: Error + 'static {
    /// Name of the class in `resnet_bk.errors`.
    fn class(&self) -> &'static str;
}

impl Classed for ComponentError {
    fn class(&self) -> &'static str {
        "ArgumentError"
    }
}

impl Classed for RecipeError {
    fn class(&self) -> &'static str {
        "RecipeError"
    }
}

impl Classed for CorpusError {
    fn class(&self) -> &'static str {
        "CorpusError"
    }
}

impl Classed for DeviceError {
    fn class(&self) -> &'static str {
        "DeviceError"
    }
}

impl Classed for CheckpointError {
    fn class(&self) -> &'static str {
        "ModelError"
    }
}

impl Classed for OriginalError {
    fn class(&self) -> &'static str {
        match &*self.fault {
            Fault::Corpus(_) => "CorpusError",
            _ => "ModelError",
        }
    }
}

impl Classed for IdsError {
    fn class(&self) -> &'static str {
        "ArgumentError"
    }
}

impl Classed for LoadError {
    fn class(&self) -> &'static str {
        "ModelError"
    }
}

impl Classed for ArtifactError {
    fn class(&self) -> &'static str {
        "ModelError"
    }
}

impl Classed for resnet_bk_runtime::Error {
    fn class(&self) -> &'static str {
        match self {
            Self::InvalidOption(_) | Self::TextTooShort { .. } => "ArgumentError",
            _ => "ModelError",
        }
    }
}

impl Classed for RunError {
    fn class(&self) -> &'static str {
        match self {
            Self::Corpus(_) | Self::Batch(_) | Self::Ngrams(_) | Self::TinyHeldOut { .. } | Self::TinyDev { .. } => {
                "CorpusError"
            }
            Self::Checkpoint(_)
            | Self::Load(_)
            | Self::Artifact(_)
            | Self::Parity { .. }
            | Self::Unfinished { .. }
            | Self::OtherBaseline { .. }
            | Self::QuantizedBaseline { .. } => "ModelError",
            Self::NothingToCompress(_)
            | Self::OnlyTraining
            | Self::NoStages
            | Self::NoBaseline { .. }
            | Self::Windows { .. }
            | Self::Milestone { .. }
            | Self::SizeOfFloats { .. } => "RecipeError",
            Self::Device(_) | Self::Train(TrainError::Device { .. }) => "DeviceError",
            Self::Train(TrainError::Batch(_) | TrainError::NothingHeldOut { .. }) => "CorpusError",
            Self::Train(TrainError::NoBudget | TrainError::NoStudent { .. }) => "RecipeError",
            _ => "RunError",
        }
    }
}

/// The exception of an error.
pub fn exception(error: impl Classed) -> PyErr {
    let hint = causes(&error).find_map(hint);
    new(error.class(), &message(causes(&error)), hint.as_deref())
}

/// The exception for a wrong argument.
pub fn argument(message: &str) -> PyErr {
    new("ArgumentError", message, None)
}

/// An exception of `resnet_bk.errors`.
pub fn new(class: &str, message: &str, hint: Option<&str>) -> PyErr {
    Python::attach(|py| {
        let made = py.import("resnet_bk.errors").and_then(|errors| errors.getattr(class)?.call1((message, hint)));
        match made {
            Ok(exception) => PyErr::from_value(exception),
            // The package is incomplete: the message must not be lost.
            Err(_) => PyRuntimeError::new_err(message.to_owned()),
        }
    })
}
