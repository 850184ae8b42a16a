//! What WikiText-2 must give. These tests need the corpus: set `RESNET_BK_CORPORA` to a folder that holds
//! `wikitext-2/train.txt` and `wikitext-2/valid.txt`. Without it they say so and check nothing.

use resnet_bk::batch::limit_tokens;
use resnet_bk::corpus::{Corpus, build_vocabulary, load};
use resnet_bk::floors::Floors;
use resnet_bk_runtime::tokenizer::Pretokenizer;
use std::path::Path;

/// The reference figures were measured by another program, which may smooth unseen words in another way.
const TOLERANCE: f64 = 0.015;
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

fn assert_near(measured: f64, expected: f64) {
    assert!((measured / expected - 1.0).abs() < TOLERANCE, "measured {measured}, expected {expected}");
}

#[test]
fn the_protocol_gives_the_published_counts() {
    let Some(corpus) = wikitext_2() else { return };
    let vocabulary = build_vocabulary(&corpus.train, usize::MAX, Pretokenizer::Whitespace).expect("a vocabulary");
    assert_eq!(vocabulary.len(), 33_278);
    assert_eq!(vocabulary.encode(&corpus.train).len(), 2_088_628);
    assert_eq!(vocabulary.encode(&corpus.valid).len(), 217_646);
}

#[test]
fn floors_match_the_reference() {
    let Some(corpus) = wikitext_2() else { return };
    let vocabulary = build_vocabulary(&corpus.train, VOCABULARY, Pretokenizer::Whitespace).expect("a vocabulary");
    assert_eq!(vocabulary.len(), VOCABULARY);
    let [train, valid] = [&corpus.train, &corpus.valid].map(|text| vocabulary.encode(text));
    let floors = Floors::measure(&train, &valid, vocabulary.len()).expect("floors");
    assert_near(floors.unigram, 940.0);
    assert_near(floors.bigram, 279.0);
    let limited = Floors::measure(limit_tokens(&train, Some(DATA_LIMIT)), &valid, vocabulary.len()).expect("floors");
    let mut taken = 0;
    let prefix: String = corpus
        .train
        .lines()
        .take_while(|line| {
            let words = line.split_whitespace().count();
            taken += words + usize::from(words > 0);
            taken <= DATA_LIMIT
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let own = build_vocabulary(&prefix, VOCABULARY, Pretokenizer::Whitespace).expect("a vocabulary");
    let valid_own = own.encode(&corpus.valid);
    let o = Floors::measure(&own.encode(&prefix), &valid_own, own.len()).expect("floors");
    panic!(
        "{floors:?} {limited:?} own {} {o:?} unk {} vs {}",
        own.len(),
        valid_own.iter().filter(|x| **x == 0).count(),
        valid.iter().filter(|x| **x == 0).count()
    );
}
