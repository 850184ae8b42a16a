//! Continues a text word by word:
//! `cargo run --release -p resnet-bk-runtime --example generate -- "She said that" [MODEL.rbk]`

#![expect(clippy::print_stdout, reason = "a command prints")]

use resnet_bk_runtime::{GenerateOptions, LanguageModel};
use std::error::Error;
use std::io::{Write, stdout};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-english.rbk");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments.next().unwrap_or_else(|| "She said that".to_owned());
    let model = LanguageModel::open(arguments.next().as_deref().unwrap_or(MODEL))?;

    let options = GenerateOptions::default().max_tokens(40).temperature(0.7).repetition_penalty(1.2);
    print!("{}", prompt.trim_end());
    for piece in model.generate(&prompt, options)? {
        print!("{piece}");
        // Show each word as soon as it is generated.
        stdout().flush()?;
    }
    println!();
    Ok(())
}
