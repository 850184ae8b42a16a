//! Continues held-out text with the best float model and with the artifact, for the report.
//!
//! The text is begun at lines that are spread evenly over it. Both models draw with the same seed, so
//! where they give the words the same probabilities, they say the same.

use crate::summary::{Continuation, Continuations};
use resnet_bk_runtime::internal::model::Model;
use resnet_bk_runtime::internal::sample::{Generation, SampleError, Sampler};
use resnet_bk_runtime::internal::tokenizer::{Detokenizer, Vocabulary};

/// Number of samples.
const SAMPLES: usize = 5;
/// Tokens of a beginning.
const PROMPT: usize = 4;
/// Tokens of a continuation.
const TOKENS: usize = 24;
const TEMPERATURE: f32 = 0.8;
const TOP_K: usize = 40;
const SEED: u64 = 1;

/// Samples of two causal models on held-out tokens.
///
/// # Errors
/// [`SampleError::Model`] for a bidirectional model.
pub(super) fn sample(
    (name, baseline): (&str, &Model),
    artifact: &Model,
    vocabulary: &Vocabulary,
    valid: &[u32],
) -> Result<Continuations, SampleError> {
    let words = |model: &Model, prompt: &[u32], seed: u64| {
        let sampler = Sampler { temperature: TEMPERATURE, top_k: Some(TOP_K), seed, ..Sampler::default() };
        let unread: Vec<u32> = std::iter::once(vocabulary.start()).chain(prompt.iter().copied()).collect();
        let recent = unread.iter().copied().collect();
        let generated = Generation::new(model, model.start(), unread, recent, vocabulary.unknown(), sampler)?;
        Ok::<_, SampleError>(continuation(vocabulary, prompt, &generated.take(TOKENS).collect::<Vec<u32>>()))
    };
    let sample = |(at, seed): (usize, u64)| {
        let (prompt, rest) = valid[at..].split_at(PROMPT);
        Ok::<_, SampleError>(Continuation {
            prompt: vocabulary.decode(prompt),
            text: continuation(vocabulary, prompt, &rest[..TOKENS]),
            baseline: words(baseline, prompt, seed)?,
            artifact: words(artifact, prompt, seed)?,
        })
    };
    let samples = beginnings(vocabulary, valid).into_iter().zip(SEED..).map(sample).collect::<Result<_, _>>()?;
    Ok(Continuations { baseline: name.to_owned(), temperature: TEMPERATURE, top_k: TOP_K, seed: SEED, samples })
}

/// Positions of beginnings: in each equal part of the text, the first line that begins with known
/// words. There are fewer in a short text.
fn beginnings(vocabulary: &Vocabulary, valid: &[u32]) -> Vec<usize> {
    let end = vocabulary.end_of_line();
    let is_beginning = |&at: &usize| {
        let is_line = end.is_none() || at == 0 || Some(valid[at - 1]) == end;
        let special = |id: &u32| *id == vocabulary.unknown() || Some(*id) == end;
        is_line && at + PROMPT + TOKENS <= valid.len() && !valid[at..at + PROMPT].iter().any(special)
    };
    let part = |index: usize| index * valid.len() / SAMPLES;
    (0..SAMPLES).filter_map(|index| (part(index)..part(index + 1)).find(is_beginning)).collect()
}

/// The text of tokens that follow others.
fn continuation(vocabulary: &Vocabulary, prompt: &[u32], tokens: &[u32]) -> String {
    let (mut detokenizer, mut text) = (Detokenizer::START_OF_LINE, String::new());
    prompt.iter().for_each(|&id| detokenizer.push(vocabulary, id, &mut text));
    text.clear();
    tokens.iter().for_each(|&id| detokenizer.push(vocabulary, id, &mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::parameters::Parameters;
    use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN};

    fn vocabulary() -> Vocabulary {
        let words = [UNKNOWN, END_OF_LINE].into_iter().map(str::to_owned).chain((2..50).map(|word| word.to_string()));
        Vocabulary::new(words.collect(), Pretokenizer::Whitespace).expect("a valid vocabulary")
    }

    #[test]
    fn text_is_begun_at_lines_of_known_words() {
        let words = vocabulary();
        // Lines of 9 words; those of the first part begin with an unknown word.
        let token = |at: usize| match at % 10 {
            9 => 1,
            0 if at < 100 => 0,
            _ => 2 + (at % 7) as u32,
        };
        let valid: Vec<u32> = (0..500).map(token).collect();
        assert_eq!(beginnings(&words, &valid), [100, 200, 300, 400]);
        assert_eq!(beginnings(&words, &valid[..20]), [0; 0]);
    }

    #[test]
    fn equal_models_say_the_same() {
        let words = vocabulary();
        let config = ModelConfig { vocab_size: words.len(), ..ModelConfig::preset("tiny").expect("a preset") };
        let model = |seed: u64| Parameters::initialize(config.architecture(), seed).to_model();
        let valid: Vec<u32> = (0..500).map(|at| if at % 40 == 39 { 1 } else { 2 + at * 7 % 48 }).collect();
        let sampled = sample(("1 train", &model(1)), &model(1), &words, &valid).expect("causal models");
        assert_eq!(sampled.samples.len(), SAMPLES);
        for sample in &sampled.samples {
            assert_eq!(sample.baseline, sample.artifact);
            assert_eq!(sample.prompt.split(' ').count(), PROMPT);
        }
        let other = sample(("1 train", &model(2)), &model(1), &words, &valid).expect("causal models");
        assert!(other.samples.iter().any(|sample| sample.baseline != sample.artifact));
    }
}
