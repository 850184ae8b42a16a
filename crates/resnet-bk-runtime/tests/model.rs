//! Tests of every kind of model: windows and single tokens give equal bits, and future tokens have
//! no effect.

mod common;

use common::{D_MODEL, Fixture, N_SEQ, fixtures, propagator, tokens};
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::head::HeadBin;
use resnet_bk_runtime::internal::model::{Model, ModelError};
use resnet_bk_runtime::internal::tensor_id::{ExpertMap, LinearPart, ModelTensor, TensorId};

/// Longer than a window, so that there are more tokens than position embeddings.
const LENGTH: usize = N_SEQ + 5;

fn causal() -> impl Iterator<Item = Fixture> {
    fixtures().into_iter().filter(Fixture::is_causal)
}

fn hidden(model: &Model, tokens: &[u32]) -> Vec<f32> {
    model.hidden(tokens, &mut model.start())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn step_equals_forward() {
    for fixture in causal() {
        let (model, tokens) = (fixture.model(), tokens(LENGTH, 1));
        let mut end = model.start();
        let whole = model.hidden(&tokens, &mut end);
        assert!(whole.iter().all(|x| x.is_finite()), "{:?}", fixture.architecture);
        let mut state = model.start();
        let steps: Vec<f32> = tokens.iter().flat_map(|&token| model.hidden(&[token], &mut state)).collect();
        assert_eq!(bits(&steps), bits(&whole), "{:?}", fixture.architecture);
        assert_eq!(state, end);
        assert_eq!(state.position(), LENGTH);
    }
}

#[test]
fn prefill_in_two_parts_equals_one() {
    for fixture in causal() {
        let (model, tokens) = (fixture.model(), tokens(LENGTH, 2));
        let whole = hidden(&model, &tokens);
        // The first and the last part may be empty.
        for split in 0..=LENGTH {
            let mut state = model.start();
            let mut parts = model.hidden(&tokens[..split], &mut state);
            parts.extend(model.hidden(&tokens[split..], &mut state));
            assert_eq!(bits(&parts), bits(&whole), "split at {split}: {:?}", fixture.architecture);
        }
    }
}

#[test]
fn future_tokens_change_nothing() {
    for fixture in fixtures() {
        let (model, tokens) = (fixture.model(), tokens(N_SEQ, 3));
        let before = hidden(&model, &tokens);
        for changed in 1..N_SEQ {
            let mut other = tokens.clone();
            other[changed] = (other[changed] + 1) % common::VOCAB_SIZE as u32;
            let after = hidden(&model, &other);
            let (past, future) = after.split_at(changed * D_MODEL);
            let context = || format!("token {changed}: {:?}", fixture.architecture);
            assert_ne!(future[..D_MODEL], before[changed * D_MODEL..][..D_MODEL], "{}", context());
            if fixture.is_causal() {
                assert_eq!(bits(past), bits(&before[..past.len()]), "{}", context());
            }
        }
        if !fixture.is_causal() {
            let mut other = tokens.clone();
            other[1] = (other[1] + 1) % common::VOCAB_SIZE as u32;
            assert_ne!(hidden(&model, &other)[..D_MODEL], before[..D_MODEL], "{:?}", fixture.architecture);
        }
    }
}

#[test]
fn likelihoods_equal_a_softmax_in_double_precision() {
    // Logits of about ±10, each a sum of 42 products in single precision.
    const TOLERANCE: f64 = 1e-5;
    for fixture in fixtures() {
        let model = fixture.model();
        // More rows than the head holds at once, and not a multiple of them.
        let (inputs, targets) = (tokens(35, 4), tokens(35, 5));
        let hidden = hidden(&model, &inputs);
        let head = model.head();
        let losses = head.negative_log_likelihoods(&hidden, &targets);
        assert_eq!(losses.len(), targets.len());
        for ((row, &target), loss) in hidden.chunks(D_MODEL).zip(&targets).zip(losses) {
            let product = |word: &[f32]| word.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
            let logits_of = |bin: &HeadBin| -> Vec<f64> {
                let wide = bin.rows.table.chunks(bin.table.width).map(|row| {
                    let mut wide = vec![0.0; D_MODEL];
                    bin.table.widen(row, &mut wide);
                    product(&wide)
                });
                wide.zip(bin.rows.bias).map(|(product, bias)| product + f64::from(*bias)).collect()
            };
            let logits: Vec<f64> = head.bins.iter().flat_map(logits_of).collect();
            let expected = logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[target as usize];
            assert!((f64::from(loss) - expected).abs() < TOLERANCE, "{loss}, expected {expected}");
        }
    }
}

#[test]
fn probabilities_of_all_words_sum_to_one() {
    for fixture in fixtures() {
        let model = fixture.model();
        let last = hidden(&model, &tokens(N_SEQ, 6))[(N_SEQ - 1) * D_MODEL..].to_vec();
        let every_word: Vec<u32> = (0..common::VOCAB_SIZE as u32).collect();
        let losses = model.head().negative_log_likelihoods(&last.repeat(every_word.len()), &every_word);
        let total: f64 = losses.iter().map(|&loss| f64::from(-loss).exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
    }
}

#[test]
fn no_tokens_give_no_rows() {
    for fixture in fixtures() {
        let model = fixture.model();
        let mut state = model.start();
        assert_eq!(model.hidden(&[], &mut state), [0.0; 0]);
        assert_eq!(state, model.start());
        assert_eq!(model.head().negative_log_likelihoods(&[], &[]), [0.0; 0]);
    }
}

#[test]
fn next_logits_equal_those_of_the_last_token() {
    for fixture in fixtures() {
        let (model, tokens) = (fixture.model(), tokens(LENGTH, 7));
        let next = model.next_logits(&tokens, &mut model.start());
        if !fixture.is_causal() {
            assert_eq!(next, Err(ModelError::NotCausal));
            continue;
        }
        let mut expected = vec![0.0; common::VOCAB_SIZE];
        model.head().logits(&hidden(&model, &tokens)[(LENGTH - 1) * D_MODEL..], &mut expected);
        assert_eq!(bits(&next.unwrap()), bits(&expected));
    }
}

#[test]
fn missing_and_wrongly_sized_tensors_are_refused_by_name() {
    let fixture = Fixture::new(propagator());
    let message_of = |tensor: TensorId, change: fn(&mut Vec<f32>)| {
        let find = |wanted: TensorId| {
            let mut values = fixture.values.get(&wanted)?.clone();
            if wanted == tensor {
                change(&mut values);
            }
            Some(values)
        };
        Model::new(fixture.architecture.clone(), find).unwrap_err().to_string()
    };
    let missing = message_of(TensorId::expert(1, 1, ExpertMap::Down, LinearPart::Bias), Vec::clear);
    assert_eq!(missing, "tensor blocks.1.moe.experts.1.down.bias: 0 elements, expected 42");
    assert_eq!(
        message_of(ModelTensor::Positions.into(), |x| x.truncate(500)),
        "tensor positions.weight: 500 elements, expected 504"
    );
    assert_eq!(message_of(ModelTensor::HeadBias.into(), |x| x.push(0.0)), "tensor head.bias: 46 elements, expected 45");
}

#[test]
#[should_panic(expected = "token 45 is not in the vocabulary")]
fn tokens_outside_the_vocabulary_are_refused() {
    hidden(&Fixture::new(propagator()).model(), &[3, 45]);
}

#[test]
#[should_panic(expected = "blocks of the state and of the model")]
fn the_state_of_another_model_is_refused() {
    let deep = Fixture::new(propagator()).model();
    let shallow = Fixture::new(Architecture { experts: vec![2], ..propagator() }).model();
    deep.hidden(&[1], &mut shallow.start());
}
