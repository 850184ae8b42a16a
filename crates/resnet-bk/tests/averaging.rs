//! Averaged weights: what a stage measures and keeps.

mod common;

use common::{Events, STEPS, config, recipe, streams_and_checkpoint};
use resnet_bk::batch::Batch;
use resnet_bk::checkpoint::{Checkpoint, ModelState};
use resnet_bk::compress::{CrossEntropy, StageContext};
use resnet_bk::config::{Schedule, StageKind};
use resnet_bk::evaluate::{evaluate_model, evaluate_parameters};
use resnet_bk::model::{LanguageModel, Leaves, Output};
use resnet_bk::numerics::Precision;
use resnet_bk::observer::Event;
use resnet_bk::tape::Tensor;
use resnet_bk::train::{Objective, Stage, StepContext, TokenStreams, train};
use resnet_bk_runtime::internal::architecture::Mixer;
use resnet_bk_runtime::internal::tensor_id::ModelTensor;

/// Cross-entropy that keeps the embedding table before every step.
struct Recording(Vec<Vec<f32>>);

impl Objective for Recording {
    fn before_step(&mut self, model: &mut ModelState, _: &mut StepContext) {
        self.0.push(table(model));
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor {
        CrossEntropy { precision: Precision::Float32 }.loss(model, output, leaves, batch)
    }
}

fn table(model: &ModelState) -> Vec<f32> {
    model.parameters.get(ModelTensor::Embedding).unwrap().values.to_vec()
}

fn stage<'a>(kind: StageKind, schedule: &'a Schedule) -> Stage<'a> {
    Stage { number: 1, kind, schedule, seed: 1, save_to: None, budget: None }
}

/// Two epochs with an average. Returns the kept model, the table before every step, and the
/// perplexity after each epoch.
fn trained(average: f64) -> (TokenStreams, Checkpoint, Vec<Vec<f32>>, Vec<f64>) {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Propagator));
    let schedule = Schedule { epochs: Some(2), batch_size: 8, learning_rate: 1e-2, average, ..Schedule::default() };
    let (mut recording, mut events) = (Recording(Vec::new()), Events::default());
    train(&mut checkpoint, &stage(StageKind::Train, &schedule), &streams, &mut recording, &mut events).unwrap();
    let perplexity = |event: &Event| match event {
        Event::EpochEnded { valid_perplexity, .. } => Some(*valid_perplexity),
        _ => None,
    };
    let perplexities = events.0.iter().filter_map(perplexity).collect();
    (streams, checkpoint, recording.0, perplexities)
}

#[test]
fn the_average_is_kept_and_training_goes_on_with_the_weights() {
    let (_, plain, expected, without) = trained(0.0);
    let (streams, checkpoint, tables, perplexities) = trained(0.95);
    assert!(tables == expected, "the weights are those without an average");
    // The first epoch has no average. The second begins with the weights after it.
    assert_eq!(perplexities[0], without[0]);
    assert_ne!(perplexities[1], without[1]);
    let after = tables[STEPS + 1..].iter().chain([&table(&plain.model)]).cloned().collect::<Vec<_>>();
    let mut average = tables[STEPS].clone();
    for (k, weights) in after.iter().enumerate() {
        let decay = 0.95f64.min((1.0 + k as f64) / (10.0 + k as f64)) as f32;
        average.iter_mut().zip(weights).for_each(|(a, w)| *a += (1.0 - decay) * (w - *a));
    }
    for (found, expected) in table(&checkpoint.model).iter().zip(&average) {
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
    assert!(!checkpoint.model.parameters.is_averaged());
    let kept = evaluate_parameters(&checkpoint.model.parameters, &streams.valid).perplexity();
    assert_eq!(kept, perplexities[1], "the kept model is the measured one");
}

#[test]
fn averaged_weights_and_scales_pass_through_the_quantizers() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Propagator));
    let average = "schedule.epochs = 2\nschedule.average = 0.9";
    let stages = recipe(&[
        ("train", average),
        ("qat", &format!("{average}\nquantization.learned = {{}}\nschedule.weights_bytes = 2500")),
        ("distill", &format!("{average}\nschedule.average_from = 0.25\nstudent.heads = 1")),
        ("prune", &format!("{average}\nschedule.average_from = 0.0\nmagnitude.sparsity = 0.5\nmagnitude_over = 0.5")),
    ]);
    for (index, stage) in stages.stages.iter().enumerate() {
        let of = Stage { number: index + 1, ..self::stage(stage.kind(), stage.schedule()) };
        let mut events = Events::default();
        let context = StageContext { stage: &of, streams: &streams, teacher: None, observer: &mut events };
        let trained = stage.runner().run(&mut checkpoint, context).unwrap();
        let parameters = &checkpoint.model.parameters;
        let fake = evaluate_parameters(parameters, &streams.valid).perplexity();
        assert_eq!(fake, trained.valid_perplexity, "{}", stage.kind());
        let decoded = evaluate_model(&parameters.to_model(), &streams.valid).perplexity();
        assert!((fake / decoded - 1.0).abs() < 1e-6, "{}: {fake} in training, {decoded} decoded", stage.kind());
        assert!(fake < 15.0, "{}: {fake}", stage.kind());
    }
    for parameter in checkpoint.model.parameters.iter() {
        let masked = parameter.mask.iter().flatten().zip(&*parameter.values).filter(|(keep, _)| !**keep);
        assert!(masked.into_iter().all(|(_, value)| *value == 0.0), "{} is pruned", parameter.spec.id);
    }
    assert!(checkpoint.model.parameters.iter().any(|parameter| parameter.mask.is_some()));
}
