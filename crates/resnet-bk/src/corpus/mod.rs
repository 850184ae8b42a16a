//! Sources of text.
//!
//! ```text
//! "embedded"                    sentences in the binary                         split into words
//! "wikitext-2", "wikitext-103"  Hugging Face hub, cached                        already tokenized
//! "openwebtext"                 the same; the first shard                       split into words
//! a folder                      train.txt, valid.txt and optionally test.txt    assumed tokenized
//! ```
//!
//! A corpus has a training text, a validation text without common documents, and optionally a test
//! text. Texts of more than [`IN_MEMORY`] bytes stay on disk: they are read line by line, and what is
//! made of them is kept in a [`Cache`].

mod build_vocabulary;
mod cache;
mod embedded;
mod encode;
mod error;
mod fingerprint;
mod folder;
#[cfg(feature = "hub")]
mod hub;
mod mapped_ids;
mod near_duplicates;
mod repeated_lines;
mod source;
mod split;
mod stamp;
mod tokens;
mod unspaced;

pub use build_vocabulary::{build_vocabulary, cached_vocabulary};
pub use cache::Cache;
pub(crate) use cache::Key;
pub use encode::{Encoded, encode};
pub use error::CorpusError;
pub use fingerprint::TextFingerprint;
pub(crate) use fingerprint::sha256;
#[cfg(feature = "hub")]
pub use hub::HubSettings;
pub(crate) use repeated_lines::repeated_lines;
pub use source::{IN_MEMORY, TextSource};
pub use tokens::Tokens;
pub(crate) use unspaced::unspaced_words;

use crate::spelling::nearest;
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use std::path::Path;

/// Where the Hugging Face hub has a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubFolder {
    /// The data set, `OWNER/NAME`.
    pub dataset: &'static str,
    /// The folder of the data set.
    pub folder: &'static str,
    /// Whether it has texts for validation and test.
    pub has_held_out: bool,
}

/// A corpus on the Hugging Face hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HubCorpus {
    name: &'static str,
    dataset: &'static str,
    train: &'static [&'static str],
    /// Validation and test files; `None` if these texts are held out of `train`.
    held_out: Option<[&'static str; 2]>,
    pretokenizer: Pretokenizer,
    license: &'static str,
}

const WIKITEXT_LICENSE: &str = "CC BY-SA 3.0, GFDL: WikiText, Merity et al. 2016; text by Wikipedia contributors";

/// The word-level version of WikiText (`-v1`, with `<unk>`), and OpenWebText's first of 80 shards.
const HUB_CORPORA: [HubCorpus; 3] = [
    HubCorpus {
        name: "wikitext-2",
        dataset: "Salesforce/wikitext",
        train: &["wikitext-2-v1/train-00000-of-00001.parquet"],
        held_out: Some([
            "wikitext-2-v1/validation-00000-of-00001.parquet",
            "wikitext-2-v1/test-00000-of-00001.parquet",
        ]),
        pretokenizer: Pretokenizer::Whitespace,
        license: WIKITEXT_LICENSE,
    },
    HubCorpus {
        name: "wikitext-103",
        dataset: "Salesforce/wikitext",
        train: &["wikitext-103-v1/train-00000-of-00002.parquet", "wikitext-103-v1/train-00001-of-00002.parquet"],
        held_out: Some([
            "wikitext-103-v1/validation-00000-of-00001.parquet",
            "wikitext-103-v1/test-00000-of-00001.parquet",
        ]),
        pretokenizer: Pretokenizer::Whitespace,
        license: WIKITEXT_LICENSE,
    },
    HubCorpus {
        name: "openwebtext",
        dataset: "Skylion007/openwebtext",
        // One shard has 303 MB and 100,173 documents: more than training can use in a day on a
        // small machine.
        train: &["plain_text/train-00000-of-00080.parquet"],
        held_out: None,
        pretokenizer: Pretokenizer::Words,
        license: "CC0 1.0 for the collection: OpenWebText, Gokaslan and Cohen 2019; each page belongs to its authors",
    },
];

impl HubCorpus {
    /// Its origin on the hub.
    fn origin(&self) -> HubFolder {
        let Self { dataset, train, held_out, .. } = *self;
        let folder = train[0].split_once('/').map_or("", |(folder, _)| folder);
        HubFolder { dataset, folder, has_held_out: held_out.is_some() }
    }
}

/// Training and held-out texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// Name of the corpus.
    pub name: String,
    /// Training text.
    pub train: TextSource,
    /// Held-out text for the report. Nothing is chosen by it.
    pub valid: TextSource,
    /// Held-out text for a final measurement.
    pub test: Option<TextSource>,
    /// The split of lines into words.
    pub pretokenizer: Pretokenizer,
    /// License and attribution, if known.
    pub license: Option<String>,
}

/// Loads the corpus `source`: `embedded`, a name of a hub corpus, or a folder.
///
/// A name takes precedence over a folder of that name; write `./wikitext-2` for the folder. The
/// first use of a hub corpus downloads it. `HF_ENDPOINT` sets the address of the hub and `HF_HOME`
/// the cache, as for other hub clients.
///
/// # Errors
///
/// If there is no such source, a file is missing, empty or not UTF-8, or a download fails. Of a text
/// that stays on disk, errors of its content come when it is read.
pub fn load(source: &str) -> Result<Corpus, CorpusError> {
    if source == embedded::NAME {
        return Ok(embedded::load());
    }
    if let Some(corpus) = HUB_CORPORA.iter().find(|corpus| corpus.name == source) {
        return load_from_hub(corpus);
    }
    let path = Path::new(source);
    if !path.exists() {
        let known: Vec<&str> =
            [embedded::NAME].into_iter().chain(HUB_CORPORA.iter().map(|corpus| corpus.name)).collect();
        let mut similar: Vec<String> = nearest(source, known.iter().copied()).map(str::to_owned).into_iter().collect();
        similar.extend(folder::similar(path));
        return Err(CorpusError::Unknown { source_name: source.to_owned(), known, similar });
    }
    folder::load(path, IN_MEMORY)
}

#[cfg(feature = "hub")]
fn load_from_hub(corpus: &HubCorpus) -> Result<Corpus, CorpusError> {
    hub::load(corpus, &HubSettings::from_env()?, IN_MEMORY)
}

#[cfg(not(feature = "hub"))]
fn load_from_hub(corpus: &HubCorpus) -> Result<Corpus, CorpusError> {
    Err(CorpusError::HubDisabled { name: corpus.name, origin: corpus.origin() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_source_lists_known_names_and_similar_folders() {
        let place = tempfile::tempdir().expect("a temporary folder");
        for name in ["my-corpus", "other"] {
            let folder = place.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("train.txt"), "a").expect("a file");
        }
        std::fs::create_dir(place.path().join("my-corpsu")).expect("a folder without a train.txt");
        let missing = place.path().join("my-corpis");
        let similar_to = |source: &str| match load(source) {
            Err(CorpusError::Unknown { known, similar, .. }) => {
                assert_eq!(known, ["embedded", "wikitext-2", "wikitext-103", "openwebtext"]);
                similar
            }
            other => panic!("{other:?}"),
        };
        let close = place.path().join("my-corpus");
        assert_eq!(similar_to(missing.to_str().expect("UTF-8")), [close.display().to_string()]);
        assert_eq!(similar_to("wikitext2"), ["wikitext-2"]);
        let error = load("wikitext2").expect_err("misspelt").to_string();
        assert_eq!(error, "there is no corpus or folder \"wikitext2\"");
    }

    #[test]
    fn a_hub_corpus_knows_where_it_is_from() {
        let expected = HubFolder { dataset: "Salesforce/wikitext", folder: "wikitext-2-v1", has_held_out: true };
        assert_eq!(HUB_CORPORA[0].origin(), expected);
    }
}
