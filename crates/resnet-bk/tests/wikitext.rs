//! What WikiText-2 must give. These tests need the corpus: set `RESNET_BK_CORPORA` to a folder that
//! holds `wikitext-2/train.txt` and `wikitext-2/valid.txt`. Without it they are ignored (build.rs).

use resnet_bk::batch::limit_tokens;
use resnet_bk::corpus::{Corpus, build_vocabulary, load};
use resnet_bk::ngram::NgramBaselines;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use std::path::Path;

/// Perplexities of valid by KenLM (github.com/kpu/kenlm: `lmplz -o 2`, `lmplz -o 3`, nothing
/// pruned): train and valid in this project's protocol, each written as one line, with plain words
/// in the place of `<unk>` and `<eos>`. Summed in double precision over what `query -v word` prints
/// for each token, without the first one and the `</s>` at the end, which this program does not
/// score.
const KENLM_BIGRAM: f64 = 278.5634;
const KENLM_TRIGRAM: f64 = 236.9752;
/// KenLM computes in single precision, counts an `<s>` and a `</s>`, and its vocabulary has 2 words
/// more. 2e-6 and 3e-6 were found.
const KENLM: f64 = 1e-5;
/// The reference's unigram was measured by another program, with other smoothing.
const UNIGRAM: f64 = 0.015;
/// The same program on the same text: the figures are given to four digits.
const REPEATED: f64 = 0.001;
const DATA_LIMIT: usize = 500_000;
const VOCABULARY: usize = 30_000;

fn wikitext_2() -> Corpus {
    let corpora = std::env::var_os("RESNET_BK_CORPORA").expect("it was set when this test was compiled");
    let folder = Path::new(&corpora).join("wikitext-2");
    load(folder.to_str().expect("a UTF-8 path")).expect("the corpus")
}

fn assert_near(measured: f64, expected: f64, tolerance: f64) {
    assert!((measured / expected - 1.0).abs() < tolerance, "measured {measured}, expected {expected}");
}

#[test]
#[cfg_attr(not(has_corpora), ignore = "needs RESNET_BK_CORPORA")]
fn the_protocol_gives_the_published_counts() {
    let corpus = wikitext_2();
    let vocabulary = build_vocabulary(&corpus.train, usize::MAX, Pretokenizer::Whitespace, BlankLines::Dropped)
        .expect("a vocabulary");
    assert_eq!(vocabulary.len(), 33_278);
    // The published counts give blank lines an `<eos>` too, which this protocol drops.
    let tokens_and_blanks = |text: &str| {
        let blank = text.lines().filter(|line| line.trim().is_empty()).count();
        (vocabulary.encode(text).len(), vocabulary.encode(text).len() + blank)
    };
    assert_eq!(tokens_and_blanks(&corpus.train), (2_075_677, 2_088_628));
    assert_eq!(tokens_and_blanks(&corpus.valid).1, 217_646);
    let published = vocabulary.clone().with_blank_lines(BlankLines::Kept);
    assert_eq!(published.encode(&corpus.valid).len(), 217_646);
}

#[test]
#[cfg_attr(not(has_corpora), ignore = "needs RESNET_BK_CORPORA")]
fn ngram_baselines_match_kenlm() {
    let corpus = wikitext_2();
    let vocabulary = build_vocabulary(&corpus.train, VOCABULARY, Pretokenizer::Whitespace, BlankLines::Dropped)
        .expect("a vocabulary");
    assert_eq!(vocabulary.len(), VOCABULARY);
    let [train, valid] = [&corpus.train, &corpus.valid].map(|text| vocabulary.encode(text));
    let measured = NgramBaselines::measure(&train, &valid, vocabulary.len()).expect("sound streams");
    assert_near(measured.unigram, 940.0, UNIGRAM);
    assert_near(measured.bigram, KENLM_BIGRAM, KENLM);
    assert_near(measured.trigram, KENLM_TRIGRAM, KENLM);
    let limited = limit_tokens(&train, Some(DATA_LIMIT));
    let measured = NgramBaselines::measure(limited, &valid, vocabulary.len()).expect("sound streams");
    assert_near(measured.unigram, 984.2, REPEATED);
    assert_near(measured.bigram, 383.04, REPEATED);
    assert_near(measured.trigram, 353.87, REPEATED);
}
