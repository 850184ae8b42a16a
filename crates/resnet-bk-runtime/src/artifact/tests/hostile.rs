//! Damaged and malicious files are refused with an error, never a panic.

use super::{diagonal, propagator, quantize, with_bits};
use crate::architecture::Architecture;
use crate::artifact::{Artifact, ArtifactError, Section, StoredTensor, container, vocabulary_section, weights};
use crate::quantization::{MAX_BITS, Quantized};
use half::f16;
use proptest::prelude::*;
use std::error::Error;

fn small_file() -> Vec<u8> {
    quantize(with_bits(propagator(), Some(3), 16)).to_bytes().unwrap()
}

/// Reads a file with valid checksums around manipulated sections.
fn forged(change: impl FnOnce(&mut [Vec<u8>; 3])) -> Result<Artifact, ArtifactError> {
    let file = small_file();
    let mut sections = container::decode(&file).unwrap().map(<[u8]>::to_vec);
    change(&mut sections);
    Artifact::from_bytes(&container::encode(sections.each_ref().map(Vec::as_slice)))
}

/// The message of the error and of its source.
fn message_of(result: Result<Artifact, ArtifactError>) -> String {
    let error = result.unwrap_err();
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn replace(config: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(config.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *config = text.replace(from, to).into_bytes();
}

#[test]
fn every_truncation_is_refused() {
    let file = small_file();
    for length in 0..file.len() {
        let error = Artifact::from_bytes(&file[..length]).unwrap_err();
        assert!(matches!(error, ArtifactError::Truncated { .. }), "{length} bytes: {error}");
    }
}

#[test]
fn a_truncation_error_has_the_section_and_the_bytes() {
    let file = small_file();
    let error = Artifact::from_bytes(&file[..file.len() - 3]).unwrap_err();
    let ArtifactError::Truncated { section: Section::Weights, needed, available } = error else { panic!("{error}") };
    assert_eq!(needed, available + 3);
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut file = small_file();
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(Artifact::from_bytes(&file).is_err(), "bit {bit} of {} bytes", file.len());
        file[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Artifact::from_bytes(&file).is_ok());
}

#[test]
fn a_checksum_error_names_the_damaged_section() {
    let mut file = small_file();
    *file.last_mut().unwrap() ^= 1;
    let error = Artifact::from_bytes(&file).unwrap_err();
    assert!(matches!(error, ArtifactError::Checksum { section: Section::Weights, .. }), "{error}");
    file[20] ^= 1;
    let error = Artifact::from_bytes(&file).unwrap_err();
    assert!(matches!(error, ArtifactError::Checksum { section: Section::Header, .. }), "{error}");
}

#[test]
fn line_ending_conversion_is_recognized() {
    let file = small_file();
    let unix_to_dos: Vec<u8> =
        file.iter().flat_map(|&byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] }).collect();
    let dos_to_unix: Vec<u8> = file.iter().copied().filter(|&byte| byte != b'\r').collect();
    let as_utf8 = String::from_utf8_lossy(&file).into_owned().into_bytes();
    for damaged in [unix_to_dos, dos_to_unix, as_utf8] {
        let message = message_of(Artifact::from_bytes(&damaged));
        assert!(message.ends_with("which looks like an artifact damaged by a text-mode transfer"), "{message}");
    }
}

#[test]
fn excessive_sizes_are_refused_before_memory_is_allocated() {
    let message =
        message_of(forged(|[config, ..]| replace(config, r#""vocab_size":13"#, r#""vocab_size":1152921504606846976"#)));
    let refused = "vocab_size is 1152921504606846976, but must be from 2 to 16777216";
    assert_eq!(message, format!("the architecture is not valid: {refused}"));
    // As many elements as an architecture may have, in a section of a few hundred bytes.
    let message = message_of(forged(|[config, ..]| replace(config, r#""d_ff":7"#, r#""d_ff":262144"#)));
    assert!(message.contains(" bytes of weights are too few for "), "{message}");
    // A vocabulary of the largest size, in a section of a few bytes.
    let message = message_of(forged(|[config, words, _]| {
        replace(config, r#""vocab_size":13"#, r#""vocab_size":16777215"#);
        words[..4].copy_from_slice(&16_777_215u32.to_le_bytes());
    }));
    assert_eq!(message, "the vocabulary section cannot be decoded: the coded data is truncated");
}

#[test]
fn every_bad_config_is_refused() {
    for (from, to) in [
        ("{", "["),
        (r#""pretokenizer":"words""#, r#""pretokenizer":3"#),
        (r#""pretokenizer":"words""#, r#""pretokenizer":"letters""#),
        (r#""heads":2"#, r#""heads":2,"surprise":1"#),
        (r#""heads":2"#, r#""heads":-2"#),
        (r#""heads":2"#, r#""heads":3"#),
        (r#""heads":2"#, r#""heads":2e400"#),
        (r#""top_k":1"#, r#""top_k":2"#),
        (r#""v_max":3.0"#, r#""v_max":1e39"#),
        (r#""v_max":3.0"#, r#""v_max":null"#),
        (r#""causal""#, r#""bidirectional""#),
        (r#""embedding_bits":3"#, r#""embedding_bits":1"#),
        (r#""group_size":16"#, r#""group_size":0"#),
    ] {
        let error = forged(|[config, ..]| replace(config, from, to)).unwrap_err();
        let known = matches!(error, ArtifactError::Config(_) | ArtifactError::Architecture(_));
        assert!(known, "{to}: {error}");
    }
    let deep = forged(|[config, ..]| *config = b"[".repeat(1 << 20));
    assert!(matches!(deep, Err(ArtifactError::Config(_))));
}

#[test]
fn invalid_vocabularies_are_refused() {
    let message_of = |id: usize, word: &str| {
        message_of(forged(|[_, section, _]| {
            let mut words = vocabulary_section::decode(section, 13).unwrap();
            words[id] = word.to_owned();
            *section = vocabulary_section::encode(&words, 13).unwrap();
        }))
    };
    let refused = "the vocabulary is not valid: ";
    assert_eq!(message_of(0, "<UNK>"), format!(r#"{refused}the first word is "<UNK>", but must be "<unk>""#));
    assert_eq!(message_of(2, "w3"), format!(r#"{refused}word "w3" has two ids, 2 and 3"#));
    assert_eq!(message_of(2, "w "), format!(r#"{refused}word 2, "w ", contains white space"#));
    assert_eq!(message_of(2, ""), format!("{refused}word 2 is empty"));
}

#[test]
fn weights_of_another_length_are_refused() {
    let shorter = message_of(forged(|[.., weights]| weights.truncate(weights.len() - 4)));
    let longer = message_of(forged(|[.., weights]| weights.extend([0; 4])));
    let odd = message_of(forged(|[.., weights]| weights.push(0)));
    for message in [shorter, longer, odd] {
        assert!(message.contains(" cannot be decoded: "), "{message}");
    }
}

#[test]
fn forbidden_numbers_in_the_weights_are_refused() {
    // Weights sections encoded without checks, as a malicious encoder could write them.
    let changed = |change: fn(&mut Vec<StoredTensor>)| {
        let architecture = with_bits(propagator(), Some(3), 16);
        let mut tensors = quantize(architecture.clone()).tensors;
        change(&mut tensors);
        let bytes = weights::encode_unchecked(&architecture, &tensors).bytes;
        message_of(forged(|sections| sections[2] = bytes))
    };
    fn quantized(tensors: &mut [StoredTensor]) -> &mut Quantized {
        match &mut tensors[0] {
            StoredTensor::Quantized(quantized) => quantized,
            StoredTensor::Float(_) => unreachable!("the embedding is quantized"),
        }
    }
    let nan = changed(|tensors| quantized(tensors).scales[1] = f16::NAN);
    assert_eq!(nan, "tensor embedding.weight has the scale NaN for group 1");
    let infinity = changed(|tensors| match &mut tensors[1] {
        StoredTensor::Float(values) => values[1] = f32::INFINITY,
        StoredTensor::Quantized(_) => unreachable!("the first norm is kept in floats"),
    });
    assert_eq!(infinity, "tensor blocks.0.norm.gamma holds inf at index 1");
}

proptest! {
    #[test]
    fn garbage_is_refused(garbage in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Artifact::from_bytes(&garbage).is_err());
    }

    #[test]
    fn garbage_with_valid_checksums_never_panics(
        section in 0usize..3, garbage in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = forged(|sections| sections[section] = garbage);
    }

    #[test]
    fn changed_bytes_with_valid_checksums_never_panic(section in 0usize..3, at in any::<u32>(), byte in any::<u8>()) {
        // A file that is accepted can be written again, and its model runs.
        let result = forged(|sections| {
            let at = at as usize % sections[section].len();
            sections[section][at] = byte;
        });
        if let Ok(artifact) = result {
            prop_assert!(artifact.to_bytes().is_ok());
            let model = artifact.to_model();
            prop_assert_eq!(model.hidden(&[0, 12, 5], &mut model.start()).len(), 3 * model.architecture().d_model);
        }
    }

    #[test]
    fn any_small_sizes_round_trip(
        vocab_size in 2usize..20, d_model in 1usize..9, d_ff in 1usize..9, bits in 2..=MAX_BITS, group in 1u32..40,
    ) {
        let architecture = Architecture { vocab_size, d_model, d_ff, ..with_bits(diagonal(), Some(bits), group) };
        let artifact = quantize(architecture);
        prop_assert_eq!(Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap(), artifact);
    }
}
