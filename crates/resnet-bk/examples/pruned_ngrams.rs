//! Pruned Kneser-Ney trigram models of a corpus: size by entropy against perplexity.
//!
//! ```sh
//! cargo run --release -p resnet-bk --example pruned_ngrams -- wikitext-2 > benches/frontier/ngrams.json
//! ```
//!
//! Words and tokens are those of the recipes for that corpus: 30,000 words, all training tokens. The
//! rule of the size is in `src/ngram/pruned.rs`.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use resnet_bk::corpus::{Cache, build_vocabulary, encode, load};
use resnet_bk::ngram::prune;
use resnet_bk::observer::Silent;
use resnet_bk_runtime::internal::tokenizer::BlankLines;

const WORDS: usize = 30_000;
/// Smallest counts of bigrams and trigrams, from the whole model to hardly more than a unigram.
const CUTS: [(u32, u32); 10] =
    [(1, 1), (1, 2), (1, 3), (2, 4), (2, 8), (3, 12), (5, 20), (10, 50), (20, 100), (50, 300)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let corpus = load(&std::env::args().nth(1).ok_or("a corpus is needed: a folder or a name")?)?;
    let vocabulary = build_vocabulary(&corpus.train, WORDS, corpus.pretokenizer, BlankLines::Dropped)?;
    let tokens = |text| encode(text, &vocabulary, None, &Cache::disabled(), &mut Silent);
    let (train, valid) = (tokens(&corpus.train)?.tokens, tokens(&corpus.valid)?.tokens);
    println!("{}", serde_json::to_string_pretty(&prune(&train, &valid, vocabulary.len(), &CUTS)?)?);
    Ok(())
}
