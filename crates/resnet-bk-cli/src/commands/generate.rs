//! `resnet-bk generate`: generates text word by word.

use crate::printer::Printer;
use crate::{Outcome, arguments, model_file};
use anyhow::Result;
use clap::Args;
use resnet_bk_runtime::internal::sample::{Sampler, generate};
use resnet_bk_runtime::internal::tokenizer::{Detokenizer, Vocabulary};
use std::path::PathBuf;

/// Continue a text, word by word
#[derive(Args)]
pub struct Generate {
    /// An artifact, a checkpoint or the name of a shipped model
    model: PathBuf,
    /// The text to continue; empty for the start of a line
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Words to draw, line breaks included, at least 1
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = arguments::count, allow_negative_numbers = true)]
    tokens: usize,
    /// Below 1 favors probable words; 0 always takes the most probable one
    #[arg(long, value_name = "X", default_value_t = 0.8, value_parser = arguments::number, allow_negative_numbers = true)]
    temperature: f32,
    /// Draw from the K most probable words only
    #[arg(long, value_name = "K", value_parser = arguments::count, allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Draw from the fewest most probable words whose probabilities add up to P, above 0 and at
    /// most 1
    #[arg(long, value_name = "P", value_parser = arguments::number, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Divide the logits of the last 64 words, the prompt's among them, by X (multiply negative
    /// ones), at least 1: above 1, text repeats itself less, also at temperature 0
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = arguments::number, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Equal seeds draw equal words
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = arguments::seed, allow_negative_numbers = true)]
    seed: u64,
}

/// Prints the prompt and its continuation, word by word.
pub fn run(arguments: &Generate, printer: &mut Printer) -> Result<Outcome> {
    let Generate { temperature, top_k, top_p, repetition_penalty, seed, .. } = *arguments;
    let sampler = Sampler { temperature, top_k, top_p, repetition_penalty, seed };
    sampler.validate()?;
    let artifact = model_file::load_causal(&arguments.model)?;
    let model = artifact.to_model();
    let prompt = arguments.prompt.trim_end();
    model_file::check_prompt(&artifact, prompt)?;
    let vocabulary = &artifact.vocabulary;
    let words = generate(&model, vocabulary, prompt, sampler)?;
    printer.stream(prompt)?;
    let mut pieces = Pieces::after(vocabulary, prompt);
    for token in words.take(arguments.tokens) {
        printer.stream(pieces.push(token))?;
        // The reader has closed the pipe: `resnet-bk generate ... | head -1`.
        if printer.is_closed() {
            break;
        }
    }
    printer.stream("\n")?;
    Ok(Outcome::Done)
}

/// The text so far. Whether a space precedes a word depends on the previous words of the line.
struct Pieces<'a> {
    vocabulary: &'a Vocabulary,
    detokenizer: Detokenizer,
    text: String,
}

impl<'a> Pieces<'a> {
    /// The text that follows a prompt.
    fn after(vocabulary: &'a Vocabulary, prompt: &str) -> Self {
        let mut pieces = Self { vocabulary, detokenizer: Detokenizer::START_OF_LINE, text: String::new() };
        for token in vocabulary.encode_prompt(prompt.lines().last().unwrap_or_default()) {
            pieces.push(token);
        }
        pieces
    }

    /// Adds a token and returns the added text.
    fn push(&mut self, token: u32) -> &str {
        self.text.clear();
        self.detokenizer.push(self.vocabulary, token, &mut self.text);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk_runtime::internal::tokenizer::Pretokenizer;

    #[test]
    fn pieces_add_up_to_readable_text() {
        let words = ["<unk>", "<eos>", "He", "said", ",", "\"", "no", "."].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::new(words, Pretokenizer::Words).expect("a valid vocabulary");
        let prompt = "So he said, \"no";
        let mut pieces = Pieces::after(&vocabulary, prompt);
        let drawn = [7, 5, 1, 2, 3, 7];
        let text: String = drawn.iter().map(|&token| pieces.push(token).to_owned()).collect();
        assert_eq!(format!("{prompt}{text}"), "So he said, \"no.\"\nHe said.");
    }
}
