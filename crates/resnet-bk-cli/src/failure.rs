//! Errors as a user reads them: what happened, an empty line, and what to do about it.
//!
//! A library says what is wrong, with the values and the place. What to do about it is in
//! [`resnet_bk::hints`], or, for errors of the command line itself, in the [`Failure`].
//!
//! ```text
//! error: artifact format 3 is newer than the supported format 2
//!
//! hint: update resnet-bk, or pack the model again with `resnet-bk compress --resume`
//! ```

use anyhow::Error;
pub use resnet_bk::hints::system_message;
use resnet_bk::hints::{hint, message};

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
    let own =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map(|failure: &Failure| failure.hint.clone());
    let message = message(error.chain());
    match error.chain().find_map(|cause| own(cause).or_else(|| hint(cause))) {
        Some(hint) => format!("error: {message}\n\nhint: {hint}"),
        None => format!("error: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk::corpus::CorpusError;
    use resnet_bk::pipeline::RunError;
    use resnet_bk::train::TrainError;
    use resnet_bk_runtime::internal::artifact::ArtifactError;
    use std::fs;
    use std::io;
    use std::path::Path;

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
        assert!(describe(&error).starts_with("error: cannot read x: no such file or directory\n\nhint: "));
    }

    #[test]
    fn what_a_library_knows_is_in_the_hint() {
        let similar = vec!["wikitext-2".to_owned()];
        let error = CorpusError::Unknown {
            source_name: "wikitext2".to_owned(),
            known: vec!["embedded", "wikitext-2"],
            similar,
        };
        assert_eq!(
            describe(&Error::new(error)),
            "error: there is no corpus or folder \"wikitext2\"\n\n\
             hint: did you mean wikitext-2? --corpus takes a folder with train.txt and valid.txt, or one of embedded, \
             wikitext-2; `--corpus embedded` needs no file and no network"
        );
    }

    #[test]
    fn an_error_inside_a_transparent_one_has_its_hint() {
        let error = describe(&Error::new(RunError::Train(TrainError::NoBudget)));
        assert!(error.contains("\n\nhint: --target RATIO or --bytes BYTES"), "{error}");
    }

    #[test]
    fn a_loss_that_is_no_number_has_the_key_of_its_stage() {
        let error = describe(&Error::new(RunError::Train(TrainError::Diverged { stage: 2, step: 7, loss: f32::NAN })));
        assert!(error.contains("--set stage.1.schedule.learning_rate="), "{error}");
    }

    #[test]
    fn libraries_leave_advice_to_hints() {
        fn check(folder: &Path) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    check(&path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let source = fs::read_to_string(&path).expect("UTF-8");
                    for message in source.split("#[error(").skip(1).filter_map(|rest| rest.split(")]").next()) {
                        // The place of a value that was given there.
                        let message = message.replace("--set {assignment}", "");
                        for advice in ["--", "hint", " set ", "pass ", " use ", " try ", "choose ", "please "] {
                            assert!(!message.contains(advice), "{}: {advice:?} in {message}", path.display());
                        }
                    }
                }
            }
        }
        for library in ["resnet-bk", "resnet-bk-runtime"] {
            check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(library).join("src"));
        }
    }
}
