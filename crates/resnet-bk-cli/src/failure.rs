//! Errors as a user reads them: what happened, an empty line, and what to do about it.
//!
//! ```text
//! error: artifact format 3 is newer than the supported format 2
//!
//! hint: update resnet-bk, or pack the model again with `resnet-bk compress --resume`
//! ```

use anyhow::Error;
use resnet_bk::checkpoint::CheckpointError;
use resnet_bk::config::{Place, RecipeError};
use resnet_bk::corpus::CorpusError;
use resnet_bk::export::LoadError;
use resnet_bk::memory::MemoryError;
use resnet_bk::pipeline::RunError;
use resnet_bk::train::TrainError;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use resnet_bk_runtime::internal::model::ModelError;
use resnet_bk_runtime::internal::sample::SampleError;
use std::io;

/// An error of the command line itself, with its fix.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: String,
}

impl Failure {
    /// What is wrong, and what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The whole message, with its hint where there is one.
pub fn describe(error: &Error) -> String {
    let mut message = String::new();
    let told = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<io::Error>() {
        Some(error) => system_message(error),
        None => cause.to_string(),
    };
    for cause in error.chain().map(told) {
        // Some errors repeat their source in their own text.
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(cause.trim_end());
    }
    match error.chain().find_map(hint) {
        Some(hint) => format!("error: {message}\n\nhint: {hint}"),
        None => format!("error: {message}"),
    }
}

/// What the system says, as the end of a sentence: `no such file or directory`.
pub fn system_message(error: &io::Error) -> String {
    let message = error.to_string();
    let message = message.split(" (os error ").next().unwrap_or_default();
    let mut letters = message.chars();
    // Names in capitals stay.
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(message.chars().skip(1)).collect()
        }
        _ => message.to_owned(),
    }
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.hint.clone());
    }
    let hint = if let Some(error) = cause.downcast_ref::<RecipeError>() {
        of_recipe(error)
    } else if let Some(error) = cause.downcast_ref::<CorpusError>() {
        of_corpus(error)?
    } else if let Some(error) = cause.downcast_ref::<ArtifactError>() {
        of_artifact(error)
    } else if let Some(error) = cause.downcast_ref::<CheckpointError>() {
        of_checkpoint(error)
    } else if let Some(error) = cause.downcast_ref::<LoadError>() {
        match error {
            LoadError::Checkpoint(error) => of_checkpoint(error),
            LoadError::Neither { .. } => {
                "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)"
            }
            // Their sources are next in the chain, and have hints of their own.
            LoadError::Read { .. } | LoadError::Artifact { .. } => return None,
        }
    } else if let Some(error) = cause.downcast_ref::<MemoryError>() {
        of_memory(error)
    } else if let Some(ModelError::NotCausal) = cause.downcast_ref::<ModelError>() {
        "train a causal model for this: --set model.causality=causal"
    } else if let Some(error) = cause.downcast_ref::<SampleError>() {
        match error {
            SampleError::Temperature { .. } => "0 always takes the most probable word, 1 draws as the model says",
            SampleError::TopP { .. } => "0.9 leaves out the improbable words that make up the last tenth",
            SampleError::RepetitionPenalty { .. } => "1 changes nothing; 1.2 is a usual value",
            _ => "leave --top-k out to draw from all words",
        }
    } else if let Some(error) = cause.downcast_ref::<RunError>() {
        of_run(error)?
    } else {
        return None;
    };
    Some(hint.to_owned())
}

fn of_recipe(error: &RecipeError) -> &'static str {
    match error {
        RecipeError::Read { .. } => "pass the path of a recipe, such as recipes/demo.toml",
        RecipeError::Assignment { message, .. } if message.starts_with("must") || message.contains("too ") => {
            "the files in recipes/ show what every key may hold"
        }
        RecipeError::Assignment { .. } | RecipeError::Value { place: Place::Assignment(_), .. } => {
            "keys are dotted, stages are numbered from 0: --set stage.0.schedule.epochs=3; the files in recipes/ show every key"
        }
        RecipeError::Target { .. } => "write a target such as ratio = 100, max_loss = 0.15 or bytes = 60000",
        RecipeError::Format { .. } | RecipeError::Value { .. } => {
            "fix the recipe; the files in recipes/ show every field"
        }
        RecipeError::Placed { source, .. } => of_recipe(source),
        _ => "fix the recipe, or override the value: --set model.d_model=64, --set stage.0.schedule.epochs=3",
    }
}

fn of_corpus(error: &CorpusError) -> Option<&'static str> {
    match error {
        CorpusError::Unknown { .. } | CorpusError::Missing { .. } | CorpusError::Download { .. } => {
            Some("`--corpus embedded` needs no file and no network")
        }
        _ => None,
    }
}

fn of_run(error: &RunError) -> Option<&'static str> {
    match error {
        RunError::Exists { .. } => Some("`--resume` goes on with that run; another --out begins a new one"),
        RunError::OtherRecipe { .. } => {
            Some("choose another --out, or go on with that folder's recipe.toml and no --set")
        }
        RunError::Unfinished { .. } => {
            Some("finish that run with `--resume`, or pass the checkpoint of a finished stage")
        }
        RunError::NoBaseline { .. } => {
            Some("--baseline CHECKPOINT supplies a float model; --bytes asks for a size instead")
        }
        RunError::OnlyTraining => {
            Some("add a stage of kind \"qat\", \"prune\", \"distill\" or \"plan\", or leave out --model")
        }
        RunError::NotARun { .. } => Some("choose a new or empty folder for --out"),
        RunError::NothingToResume { .. } => Some("check --out, or leave out --resume to begin a run there"),
        RunError::TinyHeldOut { .. } => Some("move more text into valid.txt"),
        RunError::OtherBaseline { .. } | RunError::QuantizedBaseline { .. } => {
            Some("pass the checkpoint of a `train` stage that was made with the same vocabulary")
        }
        RunError::NothingToCompress(_) => {
            Some("give a checkpoint by --model, or begin the recipe with a stage of kind \"train\"")
        }
        // Transparent: their own types do not show in the chain.
        RunError::Memory(error) => Some(of_memory(error)),
        RunError::Corpus(error) => of_corpus(error),
        RunError::Checkpoint(error) | RunError::Train(TrainError::Checkpoint(error)) => Some(of_checkpoint(error)),
        RunError::Train(TrainError::Diverged { .. }) => {
            Some("a smaller step for the stages that name none: --set schedule.learning_rate=1e-3")
        }
        RunError::Artifact(_) | RunError::Train(TrainError::Artifact(_)) => {
            Some("its values are no trained model's: a smaller learning_rate, or a larger schedule.weights_bytes")
        }
        _ => None,
    }
}

fn of_memory(error: &MemoryError) -> &'static str {
    match error {
        MemoryError::Stage { .. } => {
            "end other programs, or lower a size: --set model.d_model=64, --set schedule.batch_size=8"
        }
        MemoryError::Window { .. } => "a shorter text takes less; check where the model is from",
    }
}

fn of_checkpoint(error: &CheckpointError) -> &'static str {
    match error {
        CheckpointError::Read { .. } => "pass RUN/NN-stage/model.safetensors of a run",
        CheckpointError::Write { .. } => "make room: `--resume` then goes on from the last epoch that was written",
        CheckpointError::Damaged { .. } => {
            "the file was changed after it was written: copy it again, or remove its stage's folder and train that stage again with --resume"
        }
        CheckpointError::Older { .. } => "train it again, or go on with the resnet-bk that wrote it",
        _ => "pass RUN/NN-stage/model.safetensors of a run, or its RUN/model.rbk",
    }
}

fn of_artifact(error: &ArtifactError) -> &'static str {
    match error {
        ArtifactError::NewerFormat { .. } => {
            "update resnet-bk, or pack the model again with `resnet-bk compress --resume`"
        }
        ArtifactError::NotAnArtifact { .. } => {
            "pass an artifact (RUN/model.rbk) or a checkpoint (RUN/NN-stage/model.safetensors)"
        }
        ArtifactError::UnknownFormat { .. } => "pack the run's model again: `resnet-bk compress --resume`",
        ArtifactError::Read { .. } => "check the path and its permissions",
        ArtifactError::Write { .. } => "make room or choose another --out",
        _ => {
            "the file was changed after it was written: copy it again, or pack it again with `resnet-bk compress --resume`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_artifact_is_described_with_its_fix() {
        let error = Error::new(ArtifactError::NewerFormat { found: 3, supported: 2 }).context("cannot load model.rbk");
        assert_eq!(
            describe(&error),
            "error: cannot load model.rbk: artifact format 3 is newer than the supported format 2\n\n\
             hint: update resnet-bk, or pack the model again with `resnet-bk compress --resume`"
        );
    }

    #[test]
    fn a_cause_that_its_error_repeats_is_told_once() {
        let error = Error::msg("disk full").context("cannot write x: disk full");
        assert_eq!(describe(&error), "error: cannot write x: disk full");
    }

    #[test]
    fn what_the_system_says_ends_a_sentence() {
        let error = Error::new(io::Error::from_raw_os_error(2)).context("cannot read x");
        assert_eq!(describe(&error), "error: cannot read x: no such file or directory");
    }
}
