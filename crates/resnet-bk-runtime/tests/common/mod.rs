//! Small random models of every kind, shared by the tests.

#![allow(dead_code, reason = "each test program uses a part of this module")]

use resnet_bk_runtime::internal::architecture::{Architecture, Causality, Mixer, ResolventConstants};
use resnet_bk_runtime::internal::embedding::EmbeddingBin;
use resnet_bk_runtime::internal::model::Model;
use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
use resnet_bk_runtime::internal::tensor_id::TensorId;
use resnet_bk_runtime::internal::tensor_spec::Role;
use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use std::collections::HashMap;

/// Vocabulary size of every model.
pub const VOCAB_SIZE: usize = 45;
/// Window length of every model, in tokens.
pub const N_SEQ: usize = 12;
/// Width of every model: a strip of 32 columns, one of 8, and two single columns.
pub const D_MODEL: usize = 42;

/// An architecture with random values for its tensors, before quantization.
pub struct Fixture {
    pub architecture: Architecture,
    pub values: HashMap<TensorId, Vec<f32>>,
}

impl Fixture {
    pub fn new(architecture: Architecture) -> Self {
        architecture.validate().unwrap();
        let specs = architecture.tensors().into_iter().enumerate();
        let values = specs.map(|(t, spec)| (spec.id, values(spec.id, spec.role, spec.len(), t as u64)));
        Self { values: values.collect(), architecture }
    }

    /// The model with every tensor quantized, as in training.
    pub fn model(&self) -> Model {
        let schemes: HashMap<_, _> =
            self.architecture.tensors().into_iter().map(|spec| (spec.id, self.architecture.scheme(&spec))).collect();
        let find = |id: TensorId| {
            let mut values = self.values.get(&id)?.clone();
            if let Some(scheme) = schemes[&id] {
                let log_scales = self.values.get(&id.log_scales()).map(Vec::as_slice);
                let scales = scheme.scales(&values, log_scales);
                scheme.fake_quantize(&mut values, &scales);
            }
            Some(values)
        };
        Model::new(self.architecture.clone(), find).unwrap()
    }

    pub fn is_causal(&self) -> bool {
        self.architecture.causality == Causality::Causal
    }
}

fn values(id: TensorId, role: Role, len: usize, seed: u64) -> Vec<f32> {
    let (center, spread) = match role {
        Role::ActivationScale => (0.02, 0.01),
        Role::LogScale => (-3.0, 0.5),
        Role::Small if id.to_string().ends_with("gamma") => (1.0, 0.3),
        Role::Embedding | Role::Positions => (0.0, 1.0),
        _ => (0.0, 0.4),
    };
    random(len, seed).into_iter().map(|x| center + spread * x).collect()
}

/// Pseudo-random numbers in -1..1, from an xorshift generator.
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len + 8).map(|_| next()).skip(8).collect()
}

/// Random token ids.
pub fn tokens(len: usize, seed: u64) -> Vec<u32> {
    random(len, seed).into_iter().map(|x| ((x + 1.0) / 2.0 * VOCAB_SIZE as f32) as u32).collect()
}

/// `<unk>`, `<eos>` and made-up words.
pub fn vocabulary() -> Vocabulary {
    let words = [UNKNOWN, END_OF_LINE].map(str::to_owned).into_iter().chain((2..VOCAB_SIZE).map(|id| format!("w{id}")));
    Vocabulary::new(words.collect(), Pretokenizer::Whitespace).unwrap()
}

/// A propagator model in float32: position embeddings, untied head, two experts for each token.
pub fn propagator() -> Architecture {
    Architecture {
        vocab_size: VOCAB_SIZE,
        d_model: D_MODEL,
        n_seq: N_SEQ,
        d_ff: 35,
        experts: vec![2, 2],
        top_k: 2,
        mixer: Mixer::Propagator,
        causality: Causality::Causal,
        heads: 3,
        positions: true,
        tied_embeddings: false,
        embedding_bins: vec![],
        bias_knots: 0,
        // The propagator computes diagonal and hopping from its input.
        resolvent: ResolventConstants { diagonal: vec![], hopping: vec![], eta: vec![0.0, 0.1, 1.0] },
        learned_eta: false,
        v_max: 3.0,
        feature_clamp: 10.0,
        quantization: None,
    }
}

/// The mixer of the preset `seed`, with three heads.
pub fn diagonal(causality: Causality) -> Architecture {
    let resolvent =
        ResolventConstants { diagonal: vec![-2.0, 0.5, 0.0], hopping: vec![1.0, 0.7, 1.3], eta: vec![1.0, 0.5, 0.8] };
    Architecture { mixer: Mixer::Diagonal, causality, resolvent, ..propagator() }
}

/// All combinations: both mixers, both causalities, one expert per token or all, with and without
/// position embeddings, tied or untied, learned or constant eta, float or quantized with AbsMax or
/// learned scales. Tied models with and without frequency bins.
pub fn fixtures() -> Vec<Fixture> {
    let mut list = Vec::new();
    for base in [diagonal(Causality::Causal), diagonal(Causality::Bidirectional), propagator()] {
        for options in 0..1 << 7 {
            let has = |option: u32| options >> option & 1 == 1;
            let mut architecture = Architecture {
                positions: has(0),
                tied_embeddings: has(1),
                learned_eta: has(2),
                quantization: has(3).then(|| QuantizationPolicy { group_size: 16, ..QuantizationPolicy::default() }),
                ..base.clone()
            };
            if has(4) {
                (architecture.top_k, architecture.experts) = (1, vec![4, 3]);
            }
            if let (true, Some(policy)) = (has(6), &mut architecture.quantization) {
                policy.learned = Some(LearnedScales::default());
            }
            if has(5) && architecture.tied_embeddings {
                let bin = |words, width| EmbeddingBin { words, width };
                architecture.embedding_bins = vec![bin(5, D_MODEL), bin(20, 9), bin(20, 3)];
                architecture.bias_knots = 4;
            }
            if architecture.learned_eta {
                architecture.resolvent.eta = vec![1.0; 3];
            }
            list.push(Fixture::new(architecture));
        }
    }
    list
}
