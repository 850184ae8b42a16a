//! Results that WikiText-2 must give. These tests need the corpus: set `RESNET_BK_CORPORA` to a
//! folder that contains `wikitext-2/train.txt` and `wikitext-2/valid.txt`. Otherwise they are
//! ignored (build.rs).

use resnet_bk::corpus::{Cache, Corpus, TextSource, Tokens, build_vocabulary, encode, load};
use resnet_bk::ngram::NgramBaselines;
use resnet_bk::observer::Silent;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer, Vocabulary};
use std::path::Path;

/// Perplexities of valid by KenLM (github.com/kpu/kenlm: `lmplz -o 2`, `lmplz -o 3`, without
/// pruning). Train and valid follow this project's protocol, each as one line, with plain words in
/// place of `<unk>` and `<eos>`. The output of `query -v word` for each token is summed in double
/// precision, without the first token and the final `</s>`, which this program does not score.
const KENLM_BIGRAM: f64 = 278.5634;
const KENLM_TRIGRAM: f64 = 236.9752;
/// KenLM uses single precision, counts an `<s>` and a `</s>`, and has 2 more words in its
/// vocabulary. The observed differences are 2e-6 and 3e-6.
const KENLM: f64 = 1e-5;
/// The unigram of the reference was measured by another program with other smoothing.
const UNIGRAM: f64 = 0.015;
/// The same program on the same text; the figures have four digits.
const REPEATED: f64 = 0.001;
const DATA_LIMIT: usize = 500_000;
const VOCABULARY: usize = 30_000;

fn wikitext_2() -> Corpus {
    let corpora = std::env::var_os("RESNET_BK_CORPORA").expect("it was set when this test was compiled");
    let folder = Path::new(&corpora).join("wikitext-2");
    load(folder.to_str().expect("a UTF-8 path")).expect("the corpus")
}

fn tokens(text: &TextSource, vocabulary: &Vocabulary) -> Tokens {
    encode(text, vocabulary, None, &Cache::disabled(), &mut Silent).expect("tokens").tokens
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
    // The published counts include an `<eos>` for blank lines, which this protocol drops.
    assert_eq!(tokens(&corpus.train, &vocabulary).len(), 2_075_677);
    let published = vocabulary.with_blank_lines(BlankLines::Kept);
    assert_eq!(tokens(&corpus.train, &published).len(), 2_088_628);
    assert_eq!(tokens(&corpus.valid, &published).len(), 217_646);
}

#[test]
#[cfg_attr(not(has_corpora), ignore = "needs RESNET_BK_CORPORA")]
fn ngram_baselines_match_kenlm() {
    let corpus = wikitext_2();
    let vocabulary = build_vocabulary(&corpus.train, VOCABULARY, Pretokenizer::Whitespace, BlankLines::Dropped)
        .expect("a vocabulary");
    assert_eq!(vocabulary.len(), VOCABULARY);
    let [train, valid] = [&corpus.train, &corpus.valid].map(|text| tokens(text, &vocabulary));
    let measured = NgramBaselines::measure(&train, &valid, vocabulary.len()).expect("valid streams");
    assert_near(measured.unigram, 940.0, UNIGRAM);
    assert_near(measured.bigram, KENLM_BIGRAM, KENLM);
    assert_near(measured.trigram, KENLM_TRIGRAM, KENLM);
    let measured = NgramBaselines::measure_first(&train, DATA_LIMIT, &valid, vocabulary.len()).expect("valid streams");
    assert_eq!(measured.counted, Some(DATA_LIMIT));
    assert_near(measured.unigram, 984.2, REPEATED);
    assert_near(measured.bigram, 383.04, REPEATED);
    assert_near(measured.trigram, 353.87, REPEATED);
}
