//! Loads a model, suggests words, scores texts and generates text, in thirty lines:
//! `cargo run --release -p resnet-bk-runtime --example thirty_lines -- [MODEL.rbk]`

#![expect(clippy::print_stdout, reason = "a command prints")]

use resnet_bk_runtime::{Error, GenerateOptions, LanguageModel};

fn main() -> Result<(), Error> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-english.rbk");
    let model = LanguageModel::open(std::env::args().nth(1).as_deref().unwrap_or(bundled))?;
    println!("{} words in {} bytes", model.vocabulary_size(), model.section_sizes().total());

    let mut state = model.state()?;
    state.push("Do you");
    for suggestion in state.suggest(3) {
        println!("Do you {}: {:.1} %", suggestion.word, 100.0 * suggestion.probability);
    }
    for text in ["Do you want to go?", "Want you do go to?"] {
        let nats: f32 = model.log_probabilities(text)?.iter().map(|token| token.log_probability).sum();
        println!("{text} {nats:.1} nats, perplexity {:.1}", model.perplexity(text)?);
    }
    print!("Do you");
    for piece in state.generate(GenerateOptions::default().max_tokens(30).top_p(0.9))? {
        print!("{piece}");
    }
    println!();
    Ok(())
}
