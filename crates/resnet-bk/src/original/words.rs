//! The vocabulary of a checkpoint that has none of its own.

use super::error::{Fault, OriginalError};
use crate::corpus::{CorpusError, TextSource};
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::tensor_id::ModelTensor;
use resnet_bk_runtime::internal::tokenizer::{Pretokenizer, UNKNOWN, Vocabulary};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// How the original project split lines.
const PRETOKENIZER: Pretokenizer = Pretokenizer::Whitespace;

/// Where the words of a vocabulary come from.
#[derive(Clone, Copy, Debug)]
pub enum OriginalWords<'a> {
    /// A file with a word a line, in the order of the ids.
    File(&'a Path),
    /// The text that the model was trained on. The rule is the original project's: `<unk>`, then the
    /// `V - 1` most frequent words between white space, those of equal frequency in the order in which
    /// they first occur. There is no `<eos>`.
    TrainingText(&'a TextSource),
}

impl OriginalWords<'_> {
    /// The words, `size` of them.
    ///
    /// # Errors
    /// If the file or the text cannot be read, or has another number of words.
    fn read(self, size: usize, checkpoint: &Path) -> Result<Vec<String>, OriginalError> {
        let (words, place) = match self {
            Self::File(path) => (read_lines(path).map_err(|fault| fault.at(path))?, path),
            Self::TrainingText(text) => {
                (most_frequent(text, size).map_err(|error| Fault::from(error).at(checkpoint))?, checkpoint)
            }
        };
        let found = words.len();
        if found == size { Ok(words) } else { Err(Fault::VocabularySize { found, expected: size }.at(place)) }
    }

    /// The vocabulary. `<unk>` becomes its first word; the rows of the tables follow it.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the words are not a vocabulary.
    pub(super) fn vocabulary(
        self,
        parameters: &mut Parameters,
        checkpoint: &Path,
    ) -> Result<Vocabulary, OriginalError> {
        let place = match self {
            Self::File(path) => path,
            Self::TrainingText(_) => checkpoint,
        };
        let mut words = self.read(parameters.architecture().vocab_size, checkpoint)?;
        let unknown = words.iter().position(|word| word == UNKNOWN).ok_or_else(|| Fault::NoUnknown.at(place))?;
        words[..=unknown].rotate_right(1);
        for table in [ModelTensor::Embedding, ModelTensor::Head, ModelTensor::HeadBias] {
            if let Some(parameter) = parameters.get_mut(table) {
                let width = parameter.spec.columns();
                parameter.values[..(unknown + 1) * width].rotate_right(width);
            }
        }
        Vocabulary::new(words, PRETOKENIZER).map_err(|error| Fault::from(error).at(place))
    }
}

fn read_lines(path: &Path) -> Result<Vec<String>, Fault> {
    let text = std::fs::read_to_string(path).map_err(Fault::Read)?;
    // Editors on Windows write a byte-order mark.
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(&text).lines().map(str::to_owned).collect())
}

fn most_frequent(text: &TextSource, size: usize) -> Result<Vec<String>, CorpusError> {
    // For each word its count, and its place among the different words.
    let mut counts: HashMap<String, (u64, usize)> = HashMap::new();
    text.for_each_line(|line| {
        for word in PRETOKENIZER.split(line) {
            match counts.get_mut(word) {
                Some((count, _)) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), (1, counts.len()));
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    counts.remove(UNKNOWN);
    let mut ranked: Vec<(Reverse<u64>, usize, String)> =
        counts.into_iter().map(|(word, (count, place))| (Reverse(count), place, word)).collect();
    ranked.sort_unstable();
    let frequent = ranked.into_iter().map(|(.., word)| word);
    Ok([UNKNOWN.to_owned()].into_iter().chain(frequent).take(size).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order_of_count_then_of_first_occurrence() {
        let words = |text: &str, size| most_frequent(&text.into(), size).expect("words");
        assert_eq!(words("b a\n\nc b <unk> <unk> <unk>\n a B\n", 9), ["<unk>", "b", "a", "c", "B"]);
        assert_eq!(words("b a\n\nc b <unk> <unk> <unk>\n a B\n", 3), ["<unk>", "b", "a"]);
    }
}
