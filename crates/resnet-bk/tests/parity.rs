//! The training model and the decoded artifact compute the same.

mod common;

use common::{config, recipe, streams_and_checkpoint, text};
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::compress::StageContext;
use resnet_bk::config::ModelConfig;
use resnet_bk::export::pack;
use resnet_bk::model::{LanguageModel, Leaves, Mode};
use resnet_bk::numerics::Gradient;
use resnet_bk::observer::Silent;
use resnet_bk::train::Stage;
use resnet_bk_runtime::internal::architecture::{Causality, Mixer};
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::embedding::EmbeddingBin;

/// A trained model with quantized weights and activations.
fn quantized(config: ModelConfig) -> Checkpoint {
    let (streams, mut checkpoint) = streams_and_checkpoint(config);
    for (index, config) in recipe(&[("train", ""), ("qat", "")]).stages.iter().enumerate() {
        let stage = Stage {
            number: index + 1,
            kind: config.kind(),
            schedule: config.schedule(),
            seed: 1,
            save_to: None,
            budget: None,
        };
        config
            .runner()
            .run(
                &mut checkpoint,
                StageContext { stage: &stage, streams: &streams, teacher: None, observer: &mut Silent },
            )
            .unwrap();
    }
    checkpoint
}

/// Log-probabilities of every word after every token, from the training model: `[n, V]`.
fn training_log_probabilities(checkpoint: &Checkpoint, tokens: &[u32], length: usize) -> Vec<f64> {
    let leaves = Leaves::plain(&checkpoint.model.parameters);
    let model = LanguageModel::bind(checkpoint.model.parameters.architecture(), Gradient::Exact, &leaves);
    let hidden = model.forward(&tokens.to_vec().into(), length, &mut Mode::Evaluate).hidden;
    let head = model.frozen_head();
    let mut logits = vec![0.0; tokens.len() * head.bias.len()];
    head.view().logits(hidden.values(), &mut logits);
    log_softmax(&logits, head.bias.len())
}

fn log_softmax(logits: &[f32], words: usize) -> Vec<f64> {
    let row = |row: &[f32]| {
        let normalizer = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        row.iter().map(|&x| f64::from(x) - normalizer).collect::<Vec<f64>>()
    };
    logits.chunks(words).flat_map(row).collect()
}

#[test]
fn fake_quantized_model_and_decoded_artifact_agree_on_ten_thousand_tokens() {
    // Only the order of the head's sums may differ.
    const TOLERANCE: f64 = 1e-4;
    let learned_eta = ModelConfig { learned_eta: true, ..config(Mixer::Diagonal) };
    let both = ModelConfig { top_k: 2, ..config(Mixer::Propagator) };
    let bidirectional = ModelConfig { causality: Causality::Bidirectional, ..config(Mixer::Diagonal) };
    let bin = |words, width| EmbeddingBin { words, width };
    let embedding_bins = vec![bin(7, 16), bin(20, 6), bin(1000, 3)];
    let binned = ModelConfig { embedding_bins, bias_knots: 5, ..config(Mixer::Propagator) };
    for config in [config(Mixer::Diagonal), config(Mixer::Propagator), learned_eta, both, bidirectional, binned] {
        let checkpoint = quantized(config);
        let bytes = pack(&checkpoint.model).unwrap().to_bytes().unwrap();
        let model = Artifact::from_bytes(&bytes).unwrap().to_model();
        let length = checkpoint.model.config.n_seq;
        let mut tokens = checkpoint.model.vocabulary.encode(&text(800, 3));
        tokens.truncate(10_000 / length * length + length);
        assert!(tokens.len() >= 10_000);
        let training = training_log_probabilities(&checkpoint, &tokens, length);
        let words = checkpoint.model.vocabulary.len();
        for (window, training) in tokens.chunks(length).zip(training.chunks(length * words)) {
            let mut logits = vec![0.0; length * words];
            model.head().logits(&model.hidden(window, &mut model.start()), &mut logits);
            for (runtime, trained) in log_softmax(&logits, words).iter().zip(training) {
                assert!((runtime - trained).abs() < TOLERANCE, "{runtime} decoded, {trained} in training");
            }
        }
    }
}

#[test]
fn future_tokens_change_nothing() {
    for (mixer, causality) in [
        (Mixer::Diagonal, Causality::Causal),
        (Mixer::Propagator, Causality::Causal),
        (Mixer::Diagonal, Causality::Bidirectional),
    ] {
        let (streams, checkpoint) = streams_and_checkpoint(ModelConfig { causality, ..config(mixer) });
        let leaves = Leaves::plain(&checkpoint.model.parameters);
        let model = LanguageModel::bind(checkpoint.model.parameters.architecture(), Gradient::Exact, &leaves);
        let length = checkpoint.model.config.n_seq;
        let hidden = |tokens: &[u32]| {
            model.forward(&tokens.to_vec().into(), length, &mut Mode::Evaluate).hidden.values().to_vec()
        };
        let tokens = &streams.valid[..length];
        let mut changed = tokens.to_vec();
        let at = length / 2;
        changed[at] = (changed[at] + 1) % checkpoint.model.vocabulary.len() as u32;
        let (before, after) = (hidden(tokens), hidden(&changed));
        let past = at * checkpoint.model.config.d_model;
        let same = before[..past] == after[..past];
        assert_eq!(same, causality == Causality::Causal, "{mixer:?}, {causality:?}");
        assert_ne!(before[past..], after[past..], "the changed token must matter");
    }
}
