//! Scores each token of a text, and the whole text:
//! `cargo run --release -p resnet-bk-runtime --example score -- "I want to go home." [MODEL.rbk]`

#![expect(clippy::print_stdout, reason = "a command prints")]

use resnet_bk_runtime::{Error, LanguageModel};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-english.rbk");

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().unwrap_or_else(|| "I want to go home.".to_owned());
    let model = LanguageModel::open(arguments.next().as_deref().unwrap_or(MODEL))?;

    let scores = model.log_probabilities(&text)?;
    for score in &scores {
        println!("{:8.3}  {}", score.log_probability, score.token);
    }
    println!("{:8.3}  total, in nats", scores.iter().map(|score| score.log_probability).sum::<f32>());
    println!("{:8.3}  perplexity of all tokens but the first", model.perplexity(&text)?);
    println!("{:8}  bytes of the model", model.section_sizes().total());
    Ok(())
}
