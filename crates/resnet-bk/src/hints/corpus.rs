//! What to do about a text: one that is not found, cannot be read or is too short.

use crate::batch::BatchError;
use crate::corpus::{CorpusError, HubFolder};

pub(super) fn of_corpus(error: &CorpusError) -> Option<String> {
    let hint = match error {
        CorpusError::Unknown { known, similar, .. } => {
            let meant =
                if similar.is_empty() { String::new() } else { format!("did you mean {}? ", similar.join(" or ")) };
            let known = known.join(", ");
            return Some(format!(
                "{meant}--corpus takes a folder with train.txt and valid.txt, or one of {known}; \
                 `--corpus embedded` needs no file and no network"
            ));
        }
        CorpusError::Download { origin, .. } => {
            let manual = manual(origin);
            return Some(format!(
                "the same command goes on with the download; if you are offline, {manual}; \
                 `--corpus embedded` needs no file and no network"
            ));
        }
        CorpusError::HubDisabled { origin, .. } => {
            return Some(format!("build resnet-bk with `--features hub`, or {}", manual(origin)));
        }
        CorpusError::NotAFolder { .. } => "pass the folder that holds it, with train.txt and valid.txt in it",
        CorpusError::Missing { .. } => {
            "put the text into train.txt, one sentence or paragraph a line, and about a tenth of it into valid.txt \
             instead; `--corpus embedded` needs no file and no network"
        }
        CorpusError::NothingOnASide { .. } => "`--corpus embedded` needs no file and no network",
        CorpusError::Read { .. } => "check the path and its permissions",
        CorpusError::Changed { .. } => "run the same command again when nothing writes to the file any more",
        CorpusError::NotUtf8 { .. } => "convert the file to UTF-8",
        CorpusError::Empty { .. } => "put one sentence or paragraph a line into it",
        CorpusError::NoWords { .. } => "put one sentence or paragraph a line into train.txt",
        CorpusError::NoCacheFolder => {
            "set the variable HF_HOME to a folder; `--corpus embedded` needs no file and no network"
        }
        CorpusError::Parquet { .. } => "delete the file to download it again",
        CorpusError::VocabularyTooSmall { .. } | CorpusError::Vocabulary(_) => return None,
    };
    Some(hint.to_owned())
}

/// How to do without the hub.
fn manual(HubFolder { dataset, folder, has_held_out }: &HubFolder) -> String {
    let files = if *has_held_out { "" } else { " (hold some documents out yourself)" };
    format!(
        "download {folder} of the data set {dataset} elsewhere, write its text to train.txt, valid.txt and test.txt \
         in a folder{files} and pass --corpus FOLDER"
    )
}

pub(super) fn of_batch(error: &BatchError) -> &'static str {
    match error {
        BatchError::TooFewTokens { .. } => {
            "use a longer text, smaller batches or shorter windows: --set schedule.batch_size=4, --set model.n_seq=32; \
             a stage's own values are --set stage.0.schedule.batch_size=4"
        }
        BatchError::ZeroSize { .. } => "give both: --set schedule.batch_size=20, --set model.n_seq=128",
    }
}
