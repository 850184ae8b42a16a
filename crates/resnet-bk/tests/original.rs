//! Checkpoints of the original project compute here what they computed there.

use resnet_bk::export::pack;
use resnet_bk::original::{IdsError, OriginalModel, OriginalSettings, OriginalWords};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::resolvent::Chain;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// The original computes its resolvent in another order and, in part, in double precision.
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference-checkpoint").join(name)
}

/// A tensor of expected.safetensors in float32, with its shape.
fn expected(name: &str) -> (Vec<f32>, Vec<usize>) {
    let bytes = std::fs::read(fixture("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (values, view.shape().to_vec())
}

/// The tokens of `input_ids`, and the length of a window.
fn input() -> (Vec<u32>, usize) {
    let bytes = std::fs::read(fixture("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor("input_ids").unwrap();
    let ids = view.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as u32).collect();
    (ids, view.shape()[1])
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "`--nocapture` shows how large the differences are")]
fn agree(name: &str, found: &[f32]) {
    let (expected, _) = expected(name);
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: largest difference {largest:e}");
    assert!(largest <= TOLERANCE, "{name}: {largest}");
}

fn model() -> OriginalModel {
    OriginalModel::read(&fixture("model.pt"), &OriginalSettings::default()).unwrap()
}

#[test]
fn the_training_model_has_the_features_and_logits_of_the_original() {
    let original = model();
    let (tokens, length) = input();
    for (block, features) in original.features(&tokens, length).unwrap().iter().enumerate() {
        agree(&format!("features.{block}"), features);
    }
    let logits = original.logits(&tokens, length).unwrap();
    agree("logits", &logits);
}

#[test]
fn ids_that_the_model_has_no_word_or_position_for_are_refused() {
    let original = model();
    assert_eq!(original.logits(&[1; 4], 0), Err(IdsError::Length { length: 0, window: 48 }));
    assert_eq!(original.features(&[1; 49], 49), Err(IdsError::Length { length: 49, window: 48 }));
    assert_eq!(original.features(&[1; 4], 3), Err(IdsError::Sequences { ids: 4, length: 3 }));
    assert_eq!(original.logits(&[499, 500], 2), Err(IdsError::Word { id: 500, index: 1, words: 500 }));
    assert_eq!(original.logits(&[], 48), Ok(Vec::new()));
}

#[test]
fn the_decoded_artifact_has_the_logits_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("words.txt");
    let words: Vec<String> = (1..500).map(|id| format!("w{id}")).collect();
    std::fs::write(&file, format!("<unk>\n{}\n", words.join("\n"))).unwrap();
    let state = model().with_words(OriginalWords::File(&file)).unwrap();
    let bytes = pack(&state).unwrap().to_bytes().unwrap();
    let model = Artifact::from_bytes(&bytes).unwrap().to_model();
    let (tokens, length) = input();
    let logits = tokens.chunks(length).flat_map(|window| {
        let mut logits = vec![0.0; length * 500];
        model.head().logits(&model.hidden(window, &mut model.start()), &mut logits);
        logits
    });
    agree("logits", &logits.collect::<Vec<f32>>());
}

#[test]
fn the_resolvent_is_that_of_the_original() {
    let (diagonal, shape) = expected("bk_core.diagonal");
    let chain = Chain { diagonal: &[0.0], hopping: &[1.0], eta: &[1.0] };
    let features = diagonal.chunks(shape[1]).flat_map(|sequence| {
        let mut features = vec![0.0; 2 * sequence.len()];
        chain.whole(sequence, &mut features);
        features
    });
    let features: Vec<f32> = features.collect();
    let part = |offset: usize| features.iter().skip(offset).step_by(2).copied().collect::<Vec<f32>>();
    agree("bk_core.g_real", &part(0));
    agree("bk_core.g_imag", &part(1));
}
