//! What WikiText-2 must give. These tests need the corpus: set `RESNET_BK_CORPORA` to a folder that holds
//! `wikitext-2/train.txt` and `wikitext-2/valid.txt`. Without it they say so and check nothing.

use resnet_bk::batch::limit_tokens;
use resnet_bk::corpus::{Corpus, build_vocabulary, load};
use resnet_bk::floors::Floors;
use resnet_bk_runtime::tokenizer::{BlankLines, Pretokenizer};
use std::path::Path;

/// The reference figures were measured by another program, with other smoothing and discounts.
const REFERENCE: f64 = 0.015;
/// The same program on the same text: the figures are given to four digits.
const REPEATED: f64 = 0.001;
const DATA_LIMIT: usize = 500_000;
const VOCABULARY: usize = 30_000;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn wikitext_2() -> Option<Corpus> {
    let Some(corpora) = std::env::var_os("RESNET_BK_CORPORA") else {
        eprintln!("skipped: RESNET_BK_CORPORA is not set");
        return None;
    };
    let folder = Path::new(&corpora).join("wikitext-2");
    Some(load(folder.to_str().expect("a UTF-8 path")).expect("the corpus"))
}

fn assert_near(measured: f64, expected: f64, tolerance: f64) {
    assert!((measured / expected - 1.0).abs() < tolerance, "measured {measured}, expected {expected}");
}

#[test]
fn the_protocol_gives_the_published_counts() {
    let Some(corpus) = wikitext_2() else { return };
    let vocabulary = build_vocabulary(&corpus.train, usize::MAX, Pretokenizer::Whitespace, BlankLines::Dropped).expect("a vocabulary");
    assert_eq!(vocabulary.len(), 33_278);
    // The published counts give blank lines an `<eos>` too, which this protocol drops.
    let tokens_and_blanks = |text: &str| {
        let blank = text.lines().filter(|line| line.trim().is_empty()).count();
        (vocabulary.encode(text).len(), vocabulary.encode(text).len() + blank)
    };
    assert_eq!(tokens_and_blanks(&corpus.train), (2_075_677, 2_088_628));
    assert_eq!(tokens_and_blanks(&corpus.valid).1, 217_646);
}

#[test]
fn floors_match_the_reference() {
    let Some(corpus) = wikitext_2() else { return };
    let vocabulary = build_vocabulary(&corpus.train, VOCABULARY, Pretokenizer::Whitespace, BlankLines::Dropped).expect("a vocabulary");
    assert_eq!(vocabulary.len(), VOCABULARY);
    let [train, valid] = [&corpus.train, &corpus.valid].map(|text| vocabulary.encode(text));
    let floors = Floors::measure(&train, &valid, vocabulary.len()).expect("floors");
    assert_near(floors.unigram, 940.0, REFERENCE);
    assert_near(floors.bigram, 279.0, REFERENCE);
    let limited = Floors::measure(limit_tokens(&train, Some(DATA_LIMIT)), &valid, vocabulary.len()).expect("floors");
    assert_near(limited.unigram, 984.2, REPEATED);
    assert_near(limited.bigram, 395.7, REPEATED);
}
