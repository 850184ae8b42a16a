//! Gradients of ranks against those of one process with all windows.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::compress::CrossEntropy;
use crate::compress::distill::{Distillation, begin};
use crate::config::{DistillConfig, ModelConfig, StageKind, StudentConfig};
use crate::numerics::Precision;
use crate::observer::Silent;
use crate::train::Stage;
use resnet_bk_runtime::internal::architecture::{Architecture, Mixer};
use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
use resnet_bk_runtime::internal::tokenizer::{Pretokenizer, Vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Windows of the global batch and their length. Neither a rank's tokens nor a row of the model is a
/// multiple of a random word's elements.
const WINDOWS: usize = 6;
const LENGTH: usize = 7;
const WORDS: usize = 23;
/// The sums of ranks are rounded otherwise than those of one process.
const TOLERANCE: f64 = 1e-5;

fn model(mixer: Mixer, experts: usize) -> ModelState {
    let words = (0..WORDS - 2).map(|word| format!("w{word}"));
    let words = ["<unk>", "<eos>"].map(str::to_owned).into_iter().chain(words).collect();
    let vocabulary = Vocabulary::new(words, Pretokenizer::Words).expect("the words differ");
    let tiny = ModelConfig::preset("tiny").expect("a preset");
    let config = ModelConfig {
        mixer,
        d_model: 10,
        d_ff: 9,
        n_seq: LENGTH,
        num_experts: experts,
        top_k: 1,
        positions: mixer == Mixer::Diagonal,
        dropout: 0.2,
        embedding_dropout: 0.2,
        word_dropout: 0.2,
        head_dropout: 0.2,
        weight_dropout: 0.2,
        gumbel_noise: 0.5,
        load_balancing: 0.1,
        ..tiny
    };
    ModelState::initialize(config, Arc::new(vocabulary), 1)
}

/// This rank's part of a batch whose words follow each other in a cycle.
fn batch(ranks: &Ranks, carried: Carried) -> Batch {
    let own = WINDOWS / ranks.count();
    let first = ranks.rank() * own * LENGTH;
    let tokens = |shift: usize| {
        let ids = (0..own * LENGTH).map(|token| ((5 * (first + token) + (first + token) / 4 + shift) % WORDS) as u32);
        ids.collect::<Vec<u32>>().into()
    };
    Batch { inputs: tokens(0), targets: tokens(5), batch_size: own, n_seq: LENGTH, carried }
}

/// Loss, gradients and number of parameters without one.
type Found = (f32, BTreeMap<String, Vec<f32>>);

/// Results of all ranks.
fn on_ranks(count: usize, compute: impl Fn(&Ranks) -> Found + Sync) -> Vec<Found> {
    let compute = &compute;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            Ranks::threads(count).into_iter().map(|ranks| scope.spawn(move || compute(&ranks))).collect();
        running.into_iter().map(|thread| thread.join().expect("a rank ends")).collect()
    })
}

fn found(checkpoint: &Checkpoint, ranks: &Ranks, objective: &mut dyn Objective) -> Found {
    found_in_last(&[Carried::No], checkpoint, ranks, objective)
}

/// Loss and gradients of the last of these batches.
fn found_in_last(batches: &[Carried], checkpoint: &Checkpoint, ranks: &Ranks, objective: &mut dyn Objective) -> Found {
    let schedule = Schedule::default();
    let optimization =
        Optimization { schedule: &schedule, rate: 0.01, lambda: 1e-4, average: 0.0, random: Random::new(3) };
    let auxiliary = &checkpoint.training.auxiliary;
    let mut state = CarriedState::default();
    let mut compute = |&carried| {
        gradients(&checkpoint.model, auxiliary, &batch(ranks, carried), &mut state, objective, &optimization)
    };
    let (loss, of) = batches.iter().map(&mut compute).last().expect("there is a batch");
    (loss.values()[0], of.into_iter().map(|(id, gradient)| (id.to_string(), gradient.to_vec())).collect())
}

#[track_caller]
fn assert_close(name: &str, found: &Found, expected: &Found) {
    assert!((found.0 - expected.0).abs() <= 1e-6 * expected.0, "{name}: loss {} not {}", found.0, expected.0);
    let names = |found: &Found| found.1.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(found), names(expected), "{name}");
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let total = norm(&mut expected.1.values().flatten().copied());
    for (id, expected) in &expected.1 {
        let error = norm(&mut found.1[id].iter().zip(expected).map(|(a, b)| a - b));
        // A gradient that nearly cancels is compared with all of them.
        let size = norm(&mut expected.iter().copied()).max(0.01 * total);
        assert!(error <= TOLERANCE * size, "{name}: {id} is off by {error}, norm {size}");
    }
}

/// Compares two and three ranks with one process.
#[track_caller]
fn compare(name: &str, compute: impl Fn(&Ranks) -> Found + Sync) {
    let whole = compute(&Ranks::alone());
    for count in [2, 3] {
        let all = on_ranks(count, &compute);
        assert!(all.iter().all(|found| *found == all[0]), "{name}: {count} ranks have equal bits");
        assert_close(&format!("{name}, {count} ranks"), &all[0], &whole);
    }
}

fn quantized(state: &mut ModelState) {
    let policy = QuantizationPolicy {
        learned: Some(LearnedScales::default()),
        activation_bits: None,
        ..QuantizationPolicy::default()
    };
    let architecture = state.parameters.architecture().clone();
    let architecture = Architecture { quantization: Some(policy), ..architecture };
    state.parameters = state.parameters.clone().with_architecture(architecture);
    for parameter in state.parameters.as_mut_slice() {
        if matches!(parameter.spec.id, resnet_bk_runtime::internal::tensor_id::TensorId::LogScales(_)) {
            parameter.values.fill(-4.0);
        }
    }
}

#[test]
fn gradients_of_ranks_are_those_of_the_whole_batch() {
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        for has_quantizers in [false, true] {
            compare(&format!("{mixer:?}, quantizers: {has_quantizers}"), |ranks| {
                let mut checkpoint = Checkpoint::new(model(mixer, 3));
                if has_quantizers {
                    quantized(&mut checkpoint.model);
                }
                checkpoint.model.parameters.set_ranks(ranks.clone());
                found(&checkpoint, ranks, &mut CrossEntropy { precision: Precision::Float32 })
            });
        }
    }
}

#[test]
fn a_student_of_ranks_has_the_gradients_of_the_whole_batch() {
    let schedule = Schedule { precision: Precision::Float32, ..Schedule::default() };
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        compare(&format!("{mixer:?}"), |ranks| {
            let student = StudentConfig { heads: Some(1), ..StudentConfig::default() };
            let config =
                DistillConfig { schedule: schedule.clone(), student, feature_weight: 1.0, ..DistillConfig::default() };
            let stage = Stage {
                number: 1,
                kind: StageKind::Distill,
                schedule: &schedule,
                seed: 1,
                save_to: None,
                budget: None,
            };
            let mut checkpoint = Checkpoint::new(model(mixer, 2));
            checkpoint.model.parameters.set_ranks(ranks.clone());
            let teacher = begin(&mut checkpoint, &config, &stage, &[], &mut Silent);
            found(&checkpoint, ranks, &mut Distillation::new(teacher, &config, 1))
        });
    }
}

#[test]
fn a_student_of_ranks_goes_on_from_its_state_and_its_teacher_from_its_own() {
    let schedule = Schedule { precision: Precision::Float32, ..Schedule::default() };
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        let student = |batches: &'static [Carried]| {
            let schedule = &schedule;
            move |ranks: &Ranks| {
                let config =
                    DistillConfig { schedule: schedule.clone(), feature_weight: 1.0, ..DistillConfig::default() };
                let stage =
                    Stage { number: 1, kind: StageKind::Distill, schedule, seed: 1, save_to: None, budget: None };
                let mut teacher = model(mixer, 2);
                teacher.replace(ModelConfig { positions: false, ..teacher.config.clone() }, 5);
                let mut checkpoint = Checkpoint::new(teacher);
                checkpoint.model.parameters.set_ranks(ranks.clone());
                let teacher = begin(&mut checkpoint, &config, &stage, &[], &mut Silent);
                found_in_last(batches, &checkpoint, ranks, &mut Distillation::new(teacher, &config, 1))
            }
        };
        let goes_on = student(&[Carried::Begin, Carried::Continue]);
        compare(&format!("{mixer:?}"), goes_on);
        let alone = Ranks::alone();
        let [with, begin, without] =
            [goes_on(&alone), student(&[Carried::Begin])(&alone), student(&[Carried::No])(&alone)];
        assert!(begin == without, "{mixer:?}: the first window begins with the initial state");
        assert_ne!(with.0, without.0, "{mixer:?}: the state changes the loss");
    }
}

/// With one expert a token and more experts than tokens of a rank, some experts have tokens on one
/// rank only, and some on none.
#[test]
fn ranks_agree_on_the_experts_that_have_tokens() {
    let experts = 60;
    let expert_count = |found: &Found| found.1.keys().filter(|id| id.contains("expert")).count();
    compare("many experts", |ranks| {
        let mut checkpoint = Checkpoint::new(model(Mixer::Diagonal, experts));
        let all = 4 * experts * checkpoint.model.config.n_layers;
        checkpoint.model.parameters.set_ranks(ranks.clone());
        let found = found(&checkpoint, ranks, &mut CrossEntropy { precision: Precision::Float32 });
        assert!((1..all).contains(&expert_count(&found)), "{} of {all}", expert_count(&found));
        found
    });
}
