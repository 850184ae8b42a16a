//! Artifacts round-trip, and the size breakdown counts every byte.

use super::{diagonal, propagator, quantize, seed, values, vocabulary, with_bits, with_learned_scales};
use crate::architecture::{Architecture, Causality, ResolventConstants};
use crate::artifact::tensor;
use crate::artifact::{Artifact, ArtifactError, SizeBreakdown, SizeKind, StoredTensor};
use crate::quantization::ScaleMode;
use crate::tensor_id::{LinearPart, ModelTensor, NormPart, TensorId};
use proptest::prelude::*;
use std::fs;

fn architectures() -> Vec<Architecture> {
    let mut list = vec![
        diagonal(),
        propagator(),
        Architecture { tied_embeddings: true, causality: Causality::Bidirectional, ..diagonal() },
        Architecture { tied_embeddings: false, positions: true, learned_eta: true, ..propagator() },
        Architecture { quantization: None, ..diagonal() },
        Architecture { quantization: None, ..propagator() },
        with_bits(propagator(), None, 128),
        with_learned_scales(diagonal()),
        with_learned_scales(propagator()),
    ];
    for bits in [2, 3, 4, 8, 16] {
        for group_size in [1, 7, 128, u32::MAX] {
            list.push(with_bits(diagonal(), Some(bits), group_size));
            list.push(with_bits(propagator(), Some(bits), group_size));
        }
    }
    list
}

#[test]
fn artifacts_round_trip() {
    for architecture in architectures() {
        let artifact = quantize(architecture);
        let bytes = artifact.to_bytes().unwrap();
        let read = Artifact::from_bytes(&bytes).unwrap();
        assert_eq!(read, artifact);
        assert_eq!(read.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn stored_values_equal_fake_quantization() {
    for architecture in architectures() {
        let mut values = values(&architecture);
        let artifact = quantize(architecture.clone());
        for (spec, tensor) in tensor::stored(&architecture).iter().zip(artifact.tensors) {
            let log_scales = values.get(&spec.id.log_scales()).cloned();
            let expected = values.get_mut(&spec.id).unwrap();
            if let Some(scheme) = architecture.scheme(spec) {
                let scales = scheme.scales(expected, log_scales.as_deref());
                scheme.fake_quantize(expected, &scales);
            }
            assert_eq!(tensor.to_f32(), *expected, "{}", spec.id);
            assert_eq!(tensor.into_f32(), *expected, "{}", spec.id);
        }
    }
}

#[test]
fn the_size_breakdown_sums_to_the_length_of_the_file() {
    for architecture in architectures() {
        let artifact = quantize(architecture);
        let breakdown = artifact.size_breakdown().unwrap();
        assert_eq!(breakdown.total_bytes(), artifact.to_bytes().unwrap().len() as u64);
        let sections: u64 =
            breakdown.entries.iter().filter(|entry| !entry.kind.is_weights()).map(|entry| entry.bytes).sum();
        assert_eq!(breakdown.weights_bytes(), breakdown.total_bytes() - sections);
        assert!(breakdown.entries.iter().all(|entry| entry.bytes > 0));
        let json = serde_json::to_string(&breakdown).unwrap();
        assert_eq!(serde_json::from_str::<SizeBreakdown>(&json).unwrap(), breakdown);
    }
}

#[test]
fn the_seed_model_takes_no_more_bytes_than_its_levels_imply() {
    let breakdown = quantize(seed()).size_breakdown().unwrap();
    let bytes = |part: &str, kind| {
        breakdown.entries.iter().find(|entry| entry.part == part && entry.kind == kind).map_or(0, |entry| entry.bytes)
            as f64
    };
    // The adaptive coder may lose a little on values that look random, such as the sines here.
    const LOSS: f64 = 1.02;
    assert!(bytes("embedding", SizeKind::Codes) < LOSS * 30_000.0 * 64.0 * 15f64.log2() / 8.0);
    assert!(bytes("embedding", SizeKind::Scales) < LOSS * 30_000.0 * 64.0 / 128.0 * 2.0);
    assert!(bytes("head bias", SizeKind::Codes) < LOSS * 30_000.0);
    assert_eq!(bytes("file", SizeKind::Header) + bytes("file", SizeKind::Checksums), 64.0);
}

#[test]
fn files_are_read_as_written_and_failures_keep_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.rbk");
    let artifact = quantize(propagator());
    artifact.write(&path).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);

    let mut broken = artifact.clone();
    broken.tensors.pop();
    assert!(matches!(broken.write(&path), Err(ArtifactError::TensorCount { .. })));
    assert_eq!(Artifact::read(&path).unwrap(), artifact);

    assert!(matches!(artifact.write(folder.path()), Err(ArtifactError::Write { .. })));
    assert!(matches!(Artifact::read(folder.path().join("missing.rbk")), Err(ArtifactError::Read { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn quantize_refuses_missing_wrongly_sized_and_not_finite_tensors() {
    let message_of = |id: TensorId, change: fn(&mut Vec<f32>) -> bool| {
        let architecture = diagonal();
        let mut values = values(&architecture);
        if !change(values.get_mut(&id).unwrap()) {
            values.remove(&id);
        }
        let vocabulary = vocabulary(&architecture);
        let result = Artifact::quantize(architecture, vocabulary, |id| values.get(&id).map(Vec::as_slice));
        result.unwrap_err().to_string()
    };
    let id = TensorId::router(1, LinearPart::Weight);
    assert_eq!(message_of(id, |_| false), "tensor blocks.1.moe.router.weight is missing");
    let short = "tensor blocks.1.moe.router.weight has 5 elements, but its shape needs 6";
    assert_eq!(message_of(id, |values| values.pop().is_some()), short);
    let nan = |values: &mut Vec<f32>| std::mem::replace(&mut values[3], f32::NAN).is_finite();
    assert_eq!(message_of(id, nan), "tensor blocks.1.moe.router.weight holds NaN at index 3");
    let infinite = |values: &mut Vec<f32>| std::mem::replace(&mut values[0], f32::NEG_INFINITY).is_finite();
    assert_eq!(
        message_of(ModelTensor::Norm(NormPart::Beta).into(), infinite),
        "tensor norm.beta holds -inf at index 0"
    );

    let few = vocabulary(&Architecture { vocab_size: 2, ..diagonal() });
    let few_words = Artifact::quantize(diagonal(), few, |_| None).unwrap_err();
    assert_eq!(few_words.to_string(), "the vocabulary has 2 words, but the architecture has 13");
}

#[test]
fn writing_refuses_what_reading_refuses() {
    type Fault = fn(&mut Artifact);
    fn quantized(artifact: &mut Artifact) -> &mut crate::quantization::Quantized {
        match &mut artifact.tensors[0] {
            StoredTensor::Quantized(quantized) => quantized,
            StoredTensor::Float(_) => unreachable!("the embedding is quantized"),
        }
    }
    let faults: [(&str, Fault); 8] = [
        ("tensor embedding.weight has the code -8 at index 5, outside ±7", |a| quantized(a).codes[5] = -8),
        ("tensor embedding.weight has 77 codes, but its shape needs 78", |a| quantized(a).codes.truncate(77)),
        ("tensor embedding.weight has 4 scales, but its shape needs 5", |a| quantized(a).scales.truncate(4)),
        ("tensor embedding.weight has the scale NaN for group 1", |a| quantized(a).scales[1] = half::f16::NAN),
        ("tensor embedding.weight has the scale -1 for group 0", |a| quantized(a).scales[0] = half::f16::NEG_ONE),
        (
            "tensor embedding.weight is stored as 15 levels in groups of 9, \
             but the architecture requires 15 levels in groups of 16",
            |a| quantized(a).scheme.mode = ScaleMode::AbsMax(9),
        ),
        ("the vocabulary has 12 words, but the architecture has 13", |a| {
            a.vocabulary = vocabulary(&Architecture { vocab_size: 12, ..diagonal() });
        }),
        ("the architecture is not valid", |a| a.architecture.v_max = f32::NAN),
    ];
    for (message, fault) in faults {
        let mut artifact = quantize(diagonal());
        fault(&mut artifact);
        assert_eq!(artifact.to_bytes().unwrap_err().to_string(), message);
    }
}

proptest! {
    #[test]
    fn constants_round_trip_exactly(a0 in any::<f32>(), s in any::<f32>(), eta in any::<f32>(), bound in any::<f32>()) {
        prop_assume!(a0.is_finite() && s.is_finite() && eta.is_finite() && eta != 0.0 && bound.is_finite());
        let resolvent = ResolventConstants { diagonal: vec![a0; 2], hopping: vec![s; 2], eta: vec![eta.abs(); 2] };
        let artifact = quantize(Architecture { resolvent, v_max: bound.abs(), ..diagonal() });
        let read = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(read.architecture, artifact.architecture);
    }
}
