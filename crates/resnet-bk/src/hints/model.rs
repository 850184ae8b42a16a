//! What to do about a model's file, and about values that no text can be drawn with.

use super::file::of_io;
use crate::checkpoint::CheckpointError;
use crate::export::LoadError;
use crate::original::{Fault, OriginalError};
use resnet_bk_runtime::Error;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use resnet_bk_runtime::internal::model::ModelError;
use resnet_bk_runtime::internal::sample::SampleError;
use std::io::ErrorKind;

pub(super) fn of_load(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::Checkpoint(error) => Some(of_checkpoint(error)),
        LoadError::Original(error) => of_original(error),
        LoadError::Neither { .. } => {
            Some("pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)")
        }
        LoadError::Read { .. } => Some("check the path and its permissions"),
        // Its source is next in the chain, and has a hint of its own.
        LoadError::Artifact { .. } => None,
    }
}

pub(super) fn of_checkpoint(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::Read { .. } => "pass RUN/NN-stage/model.safetensors of a run",
        CheckpointError::Write { source, .. } if source.kind() != ErrorKind::StorageFull => of_io(source),
        CheckpointError::Write { .. } => "make room: `--resume` then goes on from the last epoch that was written",
        CheckpointError::Damaged { .. } => {
            "the file was changed after it was written: copy it again, or remove its stage's folder and train that stage again with --resume"
        }
        CheckpointError::Older { .. } => "train it again, or go on with the resnet-bk that wrote it",
        CheckpointError::Newer { .. } => "update resnet-bk",
        _ => "pass RUN/NN-stage/model.safetensors of a run, or its RUN/model.rbk",
    }
}

pub(super) fn of_original(error: &OriginalError) -> Option<&'static str> {
    Some(match &*error.fault {
        Fault::Read(_) => "check the path and its permissions",
        Fault::Zip(_) | Fault::Pickles(_) | Fault::ByteOrder(_) | Fault::SafeTensors(_) | Fault::View { .. } => {
            "copy the file again, or save it again with a current torch: torch.save({\"model_state_dict\": model.state_dict()}, path)"
        }
        Fault::Pickle(_) | Fault::Shared { .. } => {
            "save the weights alone: torch.save({\"model_state_dict\": model.state_dict()}, path); do not load a file that you do not trust with Python"
        }
        Fault::NoModel | Fault::Missing(_) | Fault::Unknown(_) | Fault::Sizes { .. } | Fault::Elements { .. } => {
            "docs/guide.md lists the tensors of the models that can be loaded"
        }
        Fault::NonFinite { .. } | Fault::NotConstant { .. } => "no option of resnet-bk loads such a model",
        Fault::Config(_) | Fault::Architecture(_) | Fault::Settings(_) => {
            "settings are in the config.json beside the checkpoint, or given by --set: --set model.top_k=1"
        }
        Fault::VocabularySize { .. } => {
            "pass the model's own words with --vocabulary FILE, one a line, or --corpus with the text that it was trained on"
        }
        Fault::NoUnknown | Fault::Vocabulary(_) => "--vocabulary takes one word a line, <unk> among them",
        Fault::NoVocabulary => {
            "pass its words with --vocabulary FILE, one a line, or --corpus with the text that it was trained on"
        }
        Fault::Corpus(_) => return None,
    })
}

pub(super) fn of_artifact(error: &ArtifactError) -> &'static str {
    match error {
        ArtifactError::NewerFormat { .. } => {
            "update resnet-bk, or pack the model again with `resnet-bk compress --resume`"
        }
        ArtifactError::NotAnArtifact { start, .. } if is_damaged(start) => {
            "the start of the file was changed after it was written: copy it again, not in text mode"
        }
        ArtifactError::NotAnArtifact { .. } => {
            "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)"
        }
        ArtifactError::UnknownFormat { .. } => "pack the run's model again: `resnet-bk compress --resume`",
        ArtifactError::Read { .. } => "check the path and its permissions",
        ArtifactError::Write { source, .. } => of_io(source),
        _ => {
            "the file was changed after it was written: copy it again, or pack it again with `resnet-bk compress --resume`"
        }
    }
}

/// Whether a file begins as an artifact does, but for some bytes.
fn is_damaged(start: &[u8]) -> bool {
    start.windows(3).any(|bytes| bytes == b"RBK") || start.ends_with(b"\r\n\x1a\n")
}

/// Errors of the runtime's public interface, whose causes are not in the chain.
pub(super) fn of_runtime(error: &Error) -> Option<&'static str> {
    match error {
        Error::Read { .. } => Some("check the path and its permissions"),
        Error::InvalidArtifact(error) => Some(of_artifact(error.cause())),
        Error::NotCausal => of_model(&ModelError::NotCausal),
        Error::InvalidOption(error) => of_sampling(error.cause()),
        Error::TextTooShort { .. } => Some("pass a longer text"),
        _ => None,
    }
}

pub(super) fn of_model(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::NotCausal => Some("train a causal model for this: --set model.causality=causal"),
        _ => None,
    }
}

pub(super) fn of_sampling(error: &SampleError) -> Option<&'static str> {
    Some(match error {
        SampleError::Temperature { .. } => "0 always takes the most probable word, 1 draws as the model says",
        SampleError::TopP { .. } => "0.9 leaves out the improbable words that make up the last tenth",
        SampleError::RepetitionPenalty { .. } => "1 changes nothing; 1.2 is a usual value",
        SampleError::TopK => "leave --top-k out to draw from all words",
        SampleError::Model(error) => return of_model(error),
        _ => return None,
    })
}
