//! Lists of words round-trip, at a cost that follows their order, and invalid bytes are refused.

use super::*;
use proptest::prelude::*;

fn encoded(words: &[String]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encode_words(words, &mut encoder);
    encoder.finish()
}

fn decoded(bytes: &[u8], count: usize) -> Result<Vec<Vec<u8>>, CodingError> {
    let mut decoder = Decoder::new(bytes)?;
    let words = decode_words(count, &mut decoder)?;
    decoder.finish().map(|()| words)
}

fn assert_round_trip(words: &[String]) -> usize {
    let bytes = encoded(words);
    let found = decoded(&bytes, words.len()).unwrap();
    assert!(found.iter().map(Vec::as_slice).eq(words.iter().map(String::as_bytes)), "{words:?}");
    bytes.len()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// `count` different pseudo-random words: stems with endings, some of them also capitalized.
fn random_words(count: usize) -> Vec<String> {
    const SYLLABLES: [&str; 12] = ["ba", "tor", "in", "ke", "lus", "am", "ri", "sto", "ne", "vel", "gra", "o"];
    const ENDINGS: [&str; 4] = ["", "s", "ed", "ing"];
    let mut seed = 7u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % below
    };
    let mut words = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while words.len() < count {
        let stem: String = (0..2 + random(3)).map(|_| SYLLABLES[random(12)]).collect();
        let mut word = stem + ENDINGS[random(4)];
        if random(4) == 0 {
            word[..1].make_ascii_uppercase();
        }
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

#[test]
fn awkward_lists_round_trip() {
    assert_eq!(assert_round_trip(&[]), 0);
    for count in [1, 2, 15, 16, 17, 33, 300] {
        for word in ["", "a", "\0", "\u{10ffff}", "word"] {
            assert_round_trip(&vec![word.to_owned(); count]);
        }
        let numbered: Vec<String> = (0..count).map(|id| format!("w{id}")).collect();
        assert_round_trip(&numbered);
        assert_round_trip(&numbered.into_iter().rev().collect::<Vec<_>>());
        assert_round_trip(&random_words(count));
    }
    assert_round_trip(&owned(&["<unk>", "the", ",", "<eos>", "@-@", "The", "1990", "1991", "caf\u{e9}", "\u{6226}"]));
    assert_round_trip(&owned(&["A", "Aa", "AA", "a", "aa", "", "aA", "\u{7f}", "\u{80}", "a\0", "a"]));
    assert_round_trip(&[&"A".repeat(30_000), &"a".repeat(30_000), &"a".repeat(29_999)].map(String::clone));
}

#[test]
fn runs_are_numbered() {
    assert_eq!(runs(&owned(&["b", "c", "a", "b", "b", "", "z"])), [0, 0, 1, 1, 2, 3, 3]);
    assert!(runs(&[]).is_empty());
}

#[test]
fn lists_closer_to_sorted_order_cost_less() {
    let mut words = random_words(4_000);
    let plain: usize = words.iter().map(|word| word.len() + 1).sum();
    words.sort_unstable();
    let sorted = assert_round_trip(&words);
    assert!(sorted < plain / 8, "{sorted} bytes of {plain}");
    // Forty classes of equal frequency, each sorted: the class of a word costs at most log2 40
    // bits.
    words.sort_by_key(|word| word.bytes().map(u32::from).sum::<u32>() * 7919 % 40);
    let classes = assert_round_trip(&words);
    let bound = (f64::from(40).log2() * 4_000.0 / 8.0 * 1.06) as usize;
    assert!((sorted..sorted + bound).contains(&classes), "{classes} bytes, {sorted} sorted");
}

#[test]
fn more_words_than_the_bytes_can_hold_are_refused() {
    for count in [1_000_000, u32::MAX as usize] {
        assert_eq!(decoded(b"some bytes", count), Err(CodingError::Truncated));
    }
    assert_eq!(decoded(b"", 1), Err(CodingError::Truncated));
}

proptest! {
    #[test]
    fn any_words_round_trip(words in proptest::collection::vec(any::<String>(), 0..40)) {
        assert_round_trip(&words);
    }

    #[test]
    fn words_of_few_letters_round_trip(words in proptest::collection::vec("[Aab\u{e9}]{0,4}", 0..120)) {
        assert_round_trip(&words);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0usize..100) {
        let _ = decoded(&bytes, count);
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<u32>(), byte in any::<u8>(), length in any::<u32>()) {
        let words = random_words(60);
        let mut bytes = encoded(&words);
        let at = at as usize % bytes.len();
        bytes[at] = byte;
        bytes.truncate(length as usize % (bytes.len() + 1));
        if let Ok(found) = decoded(&bytes, 60) {
            prop_assert_eq!(found.len(), 60);
        }
    }
}
