//! Tests of whole artifacts. The models are small and their weights are made up.

mod hostile;
mod round_trip;

use super::Artifact;
use crate::architecture::{Architecture, Causality, Mixer, ResolventConstants};
use crate::embedding::EmbeddingBin;
use crate::quantization::{LearnedScales, QuantizationPolicy};
use crate::tensor_id::TensorId;
use crate::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use std::collections::HashMap;

/// A small diagonal model with every optional tensor.
fn diagonal() -> Architecture {
    Architecture {
        vocab_size: 13,
        d_model: 6,
        n_seq: 5,
        d_ff: 7,
        experts: vec![2, 1],
        top_k: 1,
        mixer: Mixer::Diagonal,
        causality: Causality::Causal,
        heads: 2,
        positions: true,
        tied_embeddings: false,
        embedding_bins: vec![],
        bias_knots: 0,
        resolvent: ResolventConstants { diagonal: vec![-2.0; 2], hopping: vec![1.0, 0.1], eta: vec![1.0, 0.3] },
        learned_eta: true,
        v_max: 3.0,
        feature_clamp: 10.0,
        quantization: Some(QuantizationPolicy { group_size: 16, ..QuantizationPolicy::default() }),
    }
}

fn propagator() -> Architecture {
    Architecture { mixer: Mixer::Propagator, tied_embeddings: true, positions: false, learned_eta: false, ..diagonal() }
}

/// The seed model: 4.1 million parameters, INT4 tables in groups of 128.
fn seed() -> Architecture {
    Architecture {
        vocab_size: 30_000,
        d_model: 64,
        n_seq: 128,
        d_ff: 128,
        experts: vec![4; 4],
        top_k: 1,
        heads: 1,
        resolvent: ResolventConstants { diagonal: vec![-2.0], hopping: vec![1.0], eta: vec![1.0] },
        learned_eta: false,
        quantization: Some(QuantizationPolicy::default()),
        ..diagonal()
    }
}

fn with_bits(architecture: Architecture, bits: Option<u8>, group_size: u32) -> Architecture {
    let policy = QuantizationPolicy {
        embedding_bits: bits,
        expert_bits: bits,
        router_bits: bits,
        mixer_bits: bits,
        bias_bits: bits,
        activation_bits: bits,
        group_size,
        learned: None,
    };
    Architecture { quantization: Some(policy), ..architecture }
}

/// The architecture with learned scales, and with frequency bins where the table is tied.
fn with_learned_scales(architecture: Architecture) -> Architecture {
    let policy = QuantizationPolicy { learned: Some(LearnedScales::default()), ..QuantizationPolicy::default() };
    let bin = |words, width| EmbeddingBin { words, width };
    let embedding_bins = if architecture.tied_embeddings { vec![bin(4, 6), bin(9, 3)] } else { vec![] };
    Architecture { quantization: Some(policy), embedding_bins, bias_knots: 3, ..architecture }
}

fn vocabulary(architecture: &Architecture) -> Vocabulary {
    let words = [UNKNOWN, END_OF_LINE].map(str::to_owned).into_iter();
    let words = words.chain((2..).map(|id| format!("w{id}"))).take(architecture.vocab_size);
    Vocabulary::new(words.collect(), Pretokenizer::Words).unwrap()
}

/// Values of about ±1 for each tensor, from a fixed formula.
fn values(architecture: &Architecture) -> HashMap<TensorId, Vec<f32>> {
    let specs = architecture.tensors().into_iter().enumerate();
    specs.map(|(t, spec)| (spec.id, (0..spec.len()).map(|i| (t as f32 + i as f32 * 0.7).sin()).collect())).collect()
}

fn quantize(architecture: Architecture) -> Artifact {
    let (vocabulary, values) = (vocabulary(&architecture), values(&architecture));
    Artifact::quantize(architecture, vocabulary, |id| values.get(&id).map(Vec::as_slice)).unwrap()
}
