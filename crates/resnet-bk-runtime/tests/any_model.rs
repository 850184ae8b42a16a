//! The public interface on models of every kind, and on models with extreme values: it never
//! panics.

mod common;

use common::{D_MODEL, Fixture, diagonal, fixtures, propagator, vocabulary};
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::score::{nats, streaming_nats, window_nats, windows};
use resnet_bk_runtime::internal::tensor_id::TensorId;
use resnet_bk_runtime::{Error, GenerateOptions, LanguageModel};

const TEXT: &str = "w3 w17 nonsense w40\nw2 w2 w5 w44 w9 w30 w31\n\nw3 w18";

fn pack(fixture: &Fixture) -> Artifact {
    let find = |id: TensorId| fixture.values.get(&id).map(Vec::as_slice);
    Artifact::quantize(fixture.architecture.clone(), vocabulary(), find).unwrap()
}

fn open(artifact: &Artifact) -> LanguageModel {
    LanguageModel::from_bytes(&artifact.to_bytes().unwrap()).unwrap()
}

#[test]
fn perplexity_equals_a_softmax_over_windows() {
    // Single against double precision, for sums of 42 products.
    const TOLERANCE: f64 = 1e-5;
    for fixture in fixtures().iter().step_by(11) {
        let artifact = pack(fixture);
        let (facade, model, tokens) = (open(&artifact), artifact.to_model(), artifact.vocabulary.encode(TEXT));
        let mut expected = 0.0;
        for (inputs, targets) in windows(&tokens, common::N_SEQ) {
            let hidden = model.hidden(inputs, &mut model.start());
            for (row, &target) in hidden.chunks(D_MODEL).zip(targets) {
                let mut logits = vec![0.0; common::VOCAB_SIZE];
                model.head().logits(row, &mut logits);
                let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                expected += total.ln() - f64::from(logits[target as usize]);
            }
        }
        let expected = (expected / (tokens.len() - 1) as f64).exp();
        let perplexity = facade.perplexity(TEXT).unwrap();
        assert!((perplexity / expected - 1.0).abs() < TOLERANCE, "{perplexity}, expected {expected}");
        assert_eq!(perplexity, (nats(&model, &tokens) / (tokens.len() - 1) as f64).exp());
        let sequential = windows(&tokens, common::N_SEQ).map(|(x, y)| window_nats(&model, x, y, &mut model.start()));
        assert_eq!(nats(&model, &tokens), sequential.sum::<f64>(), "threads do not change the bits");
        let mut state = model.start();
        let streamed = windows(&tokens, common::N_SEQ).map(|(x, y)| window_nats(&model, x, y, &mut state));
        assert_eq!(streaming_nats(&model, &tokens), streamed.sum::<f64>(), "nor do they with a kept state");
    }
}

#[test]
fn a_bidirectional_model_has_only_a_perplexity() {
    let model = open(&pack(&Fixture::new(diagonal(Causality::Bidirectional))));
    assert!(!model.is_causal());
    assert!(model.perplexity(TEXT).unwrap() > 1.0);
    let refused = |error: Option<Error>| matches!(error, Some(Error::NotCausal));
    assert!(refused(model.suggest(TEXT, 1).err()));
    assert!(refused(model.suggest_with_prefix(TEXT, "w", 1).err()));
    assert!(refused(model.log_probabilities(TEXT).err()));
    assert!(refused(model.generate(TEXT, GenerateOptions::default()).err()));
    assert!(refused(model.state().err()));
}

#[test]
fn extreme_values_do_not_panic() {
    for fixture in fixtures().iter_mut().step_by(19) {
        for extreme in [3e38, -3e38, 65_000.0, 0.0, 1e-40] {
            for stride in [1, 3] {
                for values in fixture.values.values_mut() {
                    values.iter_mut().step_by(stride).for_each(|value| *value = extreme);
                }
                // Not all values have a scale in half precision, so packing may fail.
                let find = |id: TensorId| fixture.values.get(&id).map(Vec::as_slice);
                let packed = Artifact::quantize(fixture.architecture.clone(), vocabulary(), find).unwrap();
                let Ok(bytes) = packed.to_bytes() else { continue };
                let Ok(model) = LanguageModel::from_bytes(&bytes) else { continue };
                let _ = model.perplexity(TEXT);
                let _ = model.log_probabilities(TEXT);
                let _ = model.suggest(TEXT, 100);
                let _ = model.suggest_with_prefix(TEXT, "w1", 100);
                for temperature in [0.0, 1e-45, 1.0] {
                    let options =
                        GenerateOptions::default().temperature(temperature).top_p(0.9).repetition_penalty(2.0);
                    let _ = model.generate(TEXT, options).map(|pieces| pieces.take(4).collect::<String>());
                }
            }
        }
    }
}

#[test]
fn a_prompt_in_chunks_equals_single_tokens() {
    let model = open(&pack(&Fixture::new(propagator())));
    // More tokens than are processed at once.
    let words: Vec<String> = (0..700).map(|i| format!("w{}", 2 + i * 7 % 43)).collect();
    let mut state = model.state().unwrap();
    for word in &words {
        state.push(word);
    }
    assert_eq!(state.suggest(45), model.suggest(&words.join(" "), 45).unwrap());
}
