//! What to do about an error, for programs that show errors to people: the command and the Python
//! package.
//!
//! A library says what is wrong, with the values and the place. What to do about it is said here, by
//! the type of the error: one file for each family of errors. Options are named as on the command
//! line.
//!
//! ```
//! use resnet_bk::hints::{causes, hint, message};
//!
//! let error = resnet_bk::corpus::load("wikitext2").unwrap_err();
//! assert_eq!(message(causes(&error)), "there is no corpus or folder \"wikitext2\"");
//! assert!(causes(&error).find_map(hint).unwrap().starts_with("did you mean wikitext-2?"));
//! ```

mod corpus;
mod file;
mod model;
mod recipe;
mod run;

use std::error::Error;
use std::io;

/// An error, then what caused it, and so on.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The messages of an error and of its causes in one line.
pub fn message<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let told = |cause: &(dyn Error + 'static)| match cause.downcast_ref::<io::Error>() {
        Some(error) => system_message(error),
        None => cause.to_string(),
    };
    let mut message = String::new();
    for cause in causes.map(told) {
        // Some errors repeat their source in their own text.
        if message.contains(&cause) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(cause.trim_end());
    }
    message
}

/// What the system says, as the end of a sentence: `no such file or directory`.
pub fn system_message(error: &io::Error) -> String {
    if file::is_not_utf8(error) {
        return "it is not a text in UTF-8".to_owned();
    }
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

/// What to do about one cause. Each line looks for the type of error that its function takes.
pub fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    let fixed = || {
        (cause.downcast_ref().map(model::of_artifact))
            .or_else(|| cause.downcast_ref().map(model::of_checkpoint))
            .or_else(|| cause.downcast_ref().and_then(model::of_load))
            .or_else(|| cause.downcast_ref().and_then(model::of_original))
            .or_else(|| cause.downcast_ref().and_then(model::of_model))
            .or_else(|| cause.downcast_ref().and_then(model::of_sampling))
            .or_else(|| cause.downcast_ref().and_then(model::of_runtime))
            .or_else(|| cause.downcast_ref().map(run::of_memory))
            .or_else(|| cause.downcast_ref().map(file::of_io))
    };
    (cause.downcast_ref().map(recipe::of_recipe))
        .or_else(|| cause.downcast_ref().and_then(corpus::of_corpus))
        .or_else(|| cause.downcast_ref().and_then(run::of_run))
        .or_else(|| cause.downcast_ref().and_then(run::of_device))
        .or_else(|| fixed().map(str::to_owned))
}
