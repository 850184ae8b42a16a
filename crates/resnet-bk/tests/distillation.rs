//! Tests of the parts of a student's gradients.

mod common;

use common::{config, streams_and_checkpoint};
use resnet_bk::batch::Batches;
use resnet_bk::compress::distill::{Distillation, begin};
use resnet_bk::config::{DistillConfig, Schedule, StageKind, StudentConfig};
use resnet_bk::model::{LanguageModel, Leaves, Mode};
use resnet_bk::numerics::Gradient;
use resnet_bk::observer::Silent;
use resnet_bk::train::{Objective, Stage};
use resnet_bk_runtime::internal::architecture::Mixer;
use std::collections::HashMap;

/// Gradients for the first batch of a new student, by parameter name. Parameters that the loss does
/// not depend on are missing.
fn student_gradients(mixer: Mixer, change: impl Fn(&mut DistillConfig)) -> HashMap<String, Vec<f32>> {
    let mut distill = DistillConfig::default();
    change(&mut distill);
    let (streams, mut checkpoint) = streams_and_checkpoint(config(mixer));
    let schedule = Schedule::default();
    let stage =
        Stage { number: 1, kind: StageKind::Distill, schedule: &schedule, seed: 1, save_to: None, budget: None };
    let teacher = begin(&mut checkpoint, &distill, &stage, &streams.train, &mut Silent);
    let mut objective = Distillation::new(teacher, &distill, 1);
    let batch = Batches::new(streams.train, checkpoint.model.config.n_seq, 4, 1, 0).unwrap().batch(0);
    let mut leaves = Leaves::tracked(&checkpoint.model.parameters);
    for parameter in &checkpoint.training.auxiliary {
        leaves.push_auxiliary(parameter);
    }
    let model = LanguageModel::bind(checkpoint.model.parameters.architecture(), Gradient::Exact, &leaves);
    let output = model.forward(&batch.inputs, batch.n_seq, &mut Mode::Evaluate);
    let loss = objective.loss(&model, &output, &leaves, &batch);
    let gradients = leaves.gradients(&checkpoint.model.parameters, loss.backward(), 0.0);
    gradients.into_iter().map(|(id, gradient)| (id.to_string(), gradient.into_vec())).collect()
}

/// `|a - b| / |b|`.
fn relative_difference(a: &[f32], b: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

const POTENTIALS: [(Mixer, &str); 2] =
    [(Mixer::Diagonal, "blocks.0.mixer.potential.weight"), (Mixer::Propagator, "blocks.0.mixer.source.weight")];

#[test]
fn features_of_the_teacher_change_the_students_gradients() {
    for (mixer, name) in POTENTIALS {
        let without = student_gradients(mixer, |distill| distill.feature_weight = 0.0);
        let with = student_gradients(mixer, |distill| distill.feature_weight = 1.0);
        let difference = relative_difference(&with[name], &without[name]);
        assert!(difference > 0.01, "{mixer:?}: {name} changed by {difference}");
        // The bias of the head does not depend on the features.
        assert!(relative_difference(&with["head.bias"], &without["head.bias"]) < 1e-6, "{mixer:?}");
    }
}

#[test]
fn features_of_different_size_use_a_trained_projection() {
    let heads = |distill: &mut DistillConfig| distill.student = StudentConfig { heads: Some(1), ..Default::default() };
    for (mixer, name) in POTENTIALS {
        let without = student_gradients(mixer, |distill| {
            heads(distill);
            distill.feature_weight = 0.0;
        });
        let with = student_gradients(mixer, |distill| {
            heads(distill);
            distill.feature_weight = 1.0;
        });
        assert!(relative_difference(&with[name], &without[name]) > 0.01, "{mixer:?}");
        assert!(with["projection.0"].iter().any(|g| *g != 0.0), "{mixer:?}");
        assert!(!without.contains_key("projection.0"), "{mixer:?}");
    }
}

#[test]
fn soft_and_hard_targets_give_different_gradients() {
    let soft = student_gradients(Mixer::Diagonal, |distill| distill.alpha = 1.0);
    let hard = student_gradients(Mixer::Diagonal, |distill| distill.alpha = 0.0);
    assert!(relative_difference(&soft["head.bias"], &hard["head.bias"]) > 0.1);
}
