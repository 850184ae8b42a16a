//! No input makes the public interface panic.

use proptest::prelude::*;
use resnet_bk_runtime::{GenerateOptions, LanguageModel};
use std::sync::LazyLock;

const ARTIFACT: &[u8] = include_bytes!("data/tiny-english.rbk");

static MODEL: LazyLock<LanguageModel> = LazyLock::new(|| LanguageModel::from_bytes(ARTIFACT).unwrap());

/// Text of arbitrary characters, known words, punctuation marks and all kinds of white space.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("I".to_owned()),
        Just("want".to_owned()),
        Just("\"".to_owned()),
        Just("<unk>".to_owned()),
        Just("<eos>".to_owned()),
        Just("🦀👩‍👩‍👧".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\r\n".to_owned()),
        "\\PC{0,8}",
        any::<String>(),
    ];
    let separator = prop_oneof![Just(""), Just(" "), Just("\n"), Just("\t"), Just("\u{3000}"), Just("\0")];
    proptest::collection::vec((word, separator), 0..40)
        .prop_map(|words| words.into_iter().flat_map(|(word, separator)| [word, separator.to_owned()]).collect())
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(usize::MAX), Just(usize::MAX / 2), 0..3_000usize]
}

fn number() -> impl Strategy<Value = f32> {
    const SPECIAL: [f32; 9] =
        [0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45];
    prop_oneof![proptest::sample::select(&SPECIAL[..]), any::<f32>(), 0.0..2.0f32]
}

/// Calls every method of a model. Errors are allowed, panics are not.
fn exercise(model: &LanguageModel, text: &str) {
    let _ = model.perplexity(text);
    let _ = model.log_probabilities(text);
    let _ = model.suggest(text, 3);
    let _ = model.suggest_with_prefix(text, text, 3);
    let _ = (model.is_causal(), model.vocabulary_size(), model.window(), model.section_sizes(), format!("{model:?}"));
    for temperature in [0.0, 1.0] {
        let options = GenerateOptions::default().max_tokens(3).temperature(temperature);
        let _ = model.generate(text, options).map(|pieces| pieces.collect::<String>());
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(LanguageModel::from_bytes(&bytes).is_err());
        let after_header = [&ARTIFACT[..64], &bytes].concat();
        prop_assert!(LanguageModel::from_bytes(&after_header).is_err());
    }

    #[test]
    fn flipped_bytes(flips in proptest::collection::vec((0..ARTIFACT.len(), 1..=255u8), 1..8)) {
        let mut bytes = ARTIFACT.to_vec();
        for (at, flip) in flips {
            bytes[at] ^= flip;
        }
        // Two flips of the same byte can cancel out.
        if bytes != ARTIFACT {
            prop_assert!(LanguageModel::from_bytes(&bytes).is_err());
        }
    }

    /// Damaged files with valid checksums, as an attacker who knows the format could write them.
    #[test]
    fn flipped_bytes_under_new_checksums(flips in proptest::collection::vec((64..ARTIFACT.len(), 1..=255u8), 1..8)) {
        let mut bytes = ARTIFACT.to_vec();
        for (at, flip) in flips {
            bytes[at] ^= flip;
        }
        write_checksums(&mut bytes);
        if let Ok(model) = LanguageModel::from_bytes(&bytes) {
            exercise(&model, "I want to go home.\nHe said, \"No.\"");
        }
    }

    #[test]
    fn truncated_and_extended_files(length in 0..ARTIFACT.len(), tail in proptest::collection::vec(any::<u8>(), 1..20)) {
        prop_assert!(LanguageModel::from_bytes(&ARTIFACT[..length]).is_err());
        prop_assert!(LanguageModel::from_bytes(&[ARTIFACT, &tail].concat()).is_err());
    }

    #[test]
    fn any_text(text in text(), k in count()) {
        exercise(&MODEL, &text);
        prop_assert!(MODEL.suggest(&text, k).unwrap().len() <= k);
        prop_assert!(MODEL.suggest_with_prefix("I", &text, k).unwrap().len() <= k);
        let mut state = MODEL.state().unwrap();
        for part in text.split_inclusive(char::is_whitespace) {
            state.push(part);
            state.end_line();
        }
        prop_assert!(state.suggest(k).iter().all(|suggestion| (0.0..=1.0).contains(&suggestion.probability)));
        let finite = |scores: Vec<resnet_bk_runtime::TokenScore>| {
            scores.iter().all(|score| score.log_probability.is_finite() && score.log_probability <= 1e-5)
        };
        prop_assert!(finite(MODEL.log_probabilities(&text).unwrap()));
    }

    #[test]
    fn any_options(
        (temperature, top_p, penalty) in (number(), number(), number()),
        (top_k, max_tokens, seed) in (count(), count(), any::<u64>()),
        set in 0..16u8,
    ) {
        let mut options = GenerateOptions::default().seed(seed).max_tokens(max_tokens);
        options = if set & 1 > 0 { options.temperature(temperature) } else { options };
        options = if set & 2 > 0 { options.top_p(top_p) } else { options };
        options = if set & 4 > 0 { options.top_k(top_k) } else { options };
        options = if set & 8 > 0 { options.repetition_penalty(penalty) } else { options };
        if let Ok(pieces) = MODEL.generate("I want", options) {
            prop_assert_eq!(pieces.take(5).count(), max_tokens.min(5));
        }
    }
}

/// Computes and writes the checksums of all sections and of the header.
fn write_checksums(bytes: &mut [u8]) {
    let mut start = 64;
    for entry in [12, 28, 44] {
        let length = u64::from_le_bytes(std::array::from_fn(|i| bytes[entry + 8 + i])) as usize;
        let checksum = crc32fast::hash(&bytes[start..start + length]);
        bytes[entry + 4..entry + 8].copy_from_slice(&checksum.to_le_bytes());
        start += length;
    }
    let checksum = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_long_text_is_processed_in_chunks() {
    let text = "I want to go home . 🦀 \n".repeat(5_000);
    let mut state = MODEL.state().unwrap();
    state.push(&text);
    assert_eq!(state.tokens(), 8 * 5_000 - 1);
    exercise(&MODEL, &text);
}
