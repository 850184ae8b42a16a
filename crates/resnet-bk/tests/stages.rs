//! Stages can run in any order, and the result of each is kept by later ones.

mod common;

use common::{Events, Interrupt, STEPS, config, corpus, recipe, streams_and_checkpoint};
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::compress::StageContext;
use resnet_bk::compress::prune::Pruning;
use resnet_bk::config::{Recipe, Schedule, StageConfig};
use resnet_bk::corpus::Cache;
use resnet_bk::device::Device;
use resnet_bk::evaluate::{evaluate_model, evaluate_parameters};
use resnet_bk::observer::{Event, Silent};
use resnet_bk::pipeline::{RunError, RunRequest, run};
use resnet_bk::ranks::Ranks;
use resnet_bk::train::{Length, Objective, Stage, StepContext, TokenStreams};
use resnet_bk_runtime::internal::architecture::Mixer;
use resnet_bk_runtime::internal::tensor_id::ModelTensor;
use resnet_bk_runtime::internal::tensor_spec::Role;
use std::path::Path;

fn stage<'a>(number: usize, config: &'a StageConfig) -> Stage<'a> {
    Stage { number, kind: config.kind(), schedule: config.schedule(), seed: 1, save_to: None, budget: None }
}

fn run_all(checkpoint: &mut Checkpoint, streams: &TokenStreams, recipe: &Recipe) {
    for (index, config) in recipe.stages.iter().enumerate() {
        config
            .runner()
            .run(
                checkpoint,
                StageContext { stage: &stage(index + 1, config), streams, teacher: None, observer: &mut Silent },
            )
            .unwrap();
    }
}

const PRUNE: &str = "magnitude.sparsity = 0.5\nexperts.milestones = [{ step = 3, experts = 1 }]";
/// All features of a pruning stage.
const PRUNE_SLOWLY: &str = "schedule.epochs = 2\nmagnitude.sparsity = 0.5\nmagnitude_over = 0.7\nalpha = 0.5\n\
    experts.removal = 'merge'\nexperts.milestones = [{ step = 3, experts = 1 }]";
const DISTILL: &str = "student.d_model = 12\nschedule.epochs = 2";

#[test]
fn the_model_learns_a_language_whose_next_word_is_known() {
    // The grammar allows two words after each: perplexity 2 inside a line, and 20 words at its
    // start. Inputs that are not aligned with their targets would give the unigram perplexity,
    // about 20.
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        let (streams, mut checkpoint) = streams_and_checkpoint(config(mixer));
        run_all(&mut checkpoint, &streams, &recipe(&[("train", "schedule.epochs = 6")]));
        let perplexity = evaluate_parameters(&checkpoint.model.parameters, &streams.valid).perplexity();
        assert!(perplexity < 3.2, "{mixer:?}: {perplexity}");
    }
}

#[test]
fn every_order_of_stages_gives_a_quantized_pruned_student() {
    let stages = [("qat", ""), ("prune", PRUNE), ("distill", DISTILL)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut list = vec![("train", "schedule.epochs = 2")];
        list.extend(order.map(|index| stages[index]));
        let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
        run_all(&mut checkpoint, &streams, &recipe(&list));
        let architecture = checkpoint.model.parameters.architecture();
        assert_eq!(architecture.d_model, 12, "{order:?}: the student's width");
        let policy = architecture.quantization.as_ref().unwrap_or_else(|| panic!("{order:?}: not quantized"));
        assert!(policy.activation_bits.is_some(), "{order:?}");
        for parameter in checkpoint.model.parameters.iter() {
            let is_positions = parameter.spec.role == Role::Positions;
            let large = parameter.spec.shape.len() == 2 && !is_positions;
            assert_eq!(
                architecture.scheme(&parameter.spec).is_some(),
                large || is_positions || parameter.spec.role == Role::HeadBias,
                "{order:?}: {}",
                parameter.spec.id
            );
            if large {
                let zeros = parameter.values.iter().filter(|x| **x == 0.0).count() as f64;
                let share = zeros / parameter.values.len() as f64;
                assert!(share >= 0.45, "{order:?}: {} is {share} zero", parameter.spec.id);
            }
        }
        assert_eq!(architecture.experts, [1], "{order:?}: one block of one expert");
        let fake = evaluate_parameters(&checkpoint.model.parameters, &streams.valid).perplexity();
        let decoded = evaluate_model(&checkpoint.model.parameters.to_model(), &streams.valid).perplexity();
        assert!((fake / decoded - 1.0).abs() < 1e-6, "{order:?}: {fake} in training, {decoded} decoded");
        assert!(fake < 15.0, "{order:?}: {fake}");
    }
}

#[test]
fn masks_stay_zero_through_later_training_and_removals_are_recorded() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Propagator));
    run_all(&mut checkpoint, &streams, &recipe(&[("train", ""), ("prune", PRUNE), ("qat", ""), ("train", "")]));
    assert_eq!(checkpoint.model.parameters.architecture().experts, [1, 1]);
    assert_eq!(checkpoint.history.removals.len(), 2);
    assert!(checkpoint.history.removals.iter().all(|removal| removal.stage == 2 && removal.usage <= 0.5));
    let mut masked = 0;
    for parameter in checkpoint.model.parameters.iter() {
        for (value, keep) in parameter.values.iter().zip(parameter.mask.iter().flatten()) {
            assert!(*keep || *value == 0.0, "{}", parameter.spec.id);
            masked += usize::from(!keep);
        }
    }
    assert!(masked > 500, "{masked} masked weights");
    assert_eq!(
        checkpoint.model.parameters.nonzero_count() + masked,
        checkpoint.model.parameters.architecture().parameter_count()
    );
}

#[test]
fn exactly_the_weights_below_a_threshold_are_masked() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
    let before = checkpoint.model.parameters.clone();
    run_all(&mut checkpoint, &streams, &recipe(&[("prune", "magnitude.threshold = 0.05\nexperts.threshold = 0.0")]));
    for (old, new) in before.iter().zip(checkpoint.model.parameters.iter()) {
        let Some(mask) = &new.mask else { continue };
        for (x, keep) in old.values.iter().zip(mask) {
            assert_eq!(*keep, x.abs() >= 0.05, "{}: {x}", new.spec.id);
        }
    }
    assert!(checkpoint.model.parameters.nonzero_count() < before.nonzero_count());
}

#[test]
fn sparsity_rises_along_a_cubic_to_its_final_value() {
    let rising = sparsities("0.5");
    for (step, expected) in [(0, 0.0), (STEPS / 2, 0.525), (STEPS, 0.6), (2 * STEPS - 1, 0.6)] {
        assert!((rising[step] - expected).abs() < 0.02, "{} at step {step}", rising[step]);
    }
    // A rise over the whole stage ends at its last step.
    let whole = sparsities("1.0");
    for (step, expected) in [(0, 0.0), (STEPS, 0.525), (2 * STEPS - 2, 0.599), (2 * STEPS - 1, 0.6)] {
        assert!((whole[step] - expected).abs() < 0.02, "{} at step {step}", whole[step]);
    }
    assert!((whole[2 * STEPS - 1] - rising[2 * STEPS - 1]).abs() < 1e-9, "{}", whole[2 * STEPS - 1]);
}

/// Share of zeros in the table before each step of a stage with two epochs.
fn sparsities(magnitude_over: &str) -> Vec<f64> {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
    let stage = format!("schedule.epochs = 2\nmagnitude.sparsity = 0.6\nmagnitude_over = {magnitude_over}");
    let recipe = recipe(&[("prune", &stage)]);
    let StageConfig::Prune(prune) = &recipe.stages[0] else { unreachable!() };
    let mut pruning = Pruning::new(prune, &checkpoint.model.parameters);
    let mut sparsities = Vec::new();
    for step in 0..2 * STEPS {
        let mut silent = Silent;
        let mut context = StepContext {
            stage: 1,
            step,
            length: Length { steps_per_epoch: STEPS, epochs: Some(2), open: 0 },
            streams: &streams,
            removals: &mut checkpoint.history.removals,
            observer: &mut silent,
        };
        pruning.before_step(&mut checkpoint.model, &mut context);
        let table = checkpoint.model.parameters.get(ModelTensor::Embedding).unwrap();
        sparsities.push(table.values.iter().filter(|x| **x == 0.0).count() as f64 / table.values.len() as f64);
    }
    assert!(sparsities.is_sorted());
    sparsities
}

#[test]
fn a_pruned_model_can_learn_from_the_model_before_pruning() {
    let perplexity = |alpha: &str| {
        let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
        run_all(&mut checkpoint, &streams, &recipe(&[("train", "schedule.epochs = 3")]));
        // A stream of words in the order of their ids contradicts the language. Only the teacher
        // knows the language.
        let mut wrong: Vec<u32> = streams.train.to_vec();
        wrong.sort_unstable();
        let misled = TokenStreams { train: wrong.into(), dev: None, valid: streams.valid.clone() };
        let prune = format!("{PRUNE}\nalpha = {alpha}");
        run_all(&mut checkpoint, &misled, &recipe(&[("prune", &prune)]));
        assert_eq!(checkpoint.model.parameters.architecture().experts, [1, 1]);
        evaluate_parameters(&checkpoint.model.parameters, &streams.valid).perplexity()
    };
    let (taught, misled) = (perplexity("1.0"), perplexity("0.0"));
    assert!(taught < 15.0 && misled > 2.0 * taught, "{taught} with the teacher, {misled} without");
}

#[test]
fn merged_experts_keep_learned_scales() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
    let merge = "experts.removal = 'merge'\nexperts.milestones = [{ step = 3, experts = 1 }]";
    run_all(
        &mut checkpoint,
        &streams,
        &recipe(&[("train", "schedule.epochs = 2"), ("qat", "quantization.learned = {}"), ("prune", merge)]),
    );
    assert_eq!(checkpoint.model.parameters.architecture().experts, [1, 1]);
    assert!(checkpoint.history.removals.iter().all(|removal| removal.merged_into.is_some()));
    let fake = evaluate_parameters(&checkpoint.model.parameters, &streams.valid).perplexity();
    let decoded = evaluate_model(&checkpoint.model.parameters.to_model(), &streams.valid).perplexity();
    assert!((fake / decoded - 1.0).abs() < 1e-6, "{fake} in training, {decoded} decoded");
    assert!(fake < 15.0, "{fake}");
}

#[test]
fn experts_above_the_threshold_and_at_least_top_k_stay() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
    run_all(&mut checkpoint, &streams, &recipe(&[("train", ""), ("prune", "experts.threshold = 0.0")]));
    assert_eq!(checkpoint.model.parameters.architecture().experts, [2, 2]);
    run_all(&mut checkpoint, &streams, &recipe(&[("prune", "experts.threshold = 1.0")]));
    assert_eq!(checkpoint.model.parameters.architecture().experts, [1, 1]);
    let mut dense = config(Mixer::Diagonal);
    dense.top_k = 2;
    let (streams, mut checkpoint) = streams_and_checkpoint(dense);
    run_all(&mut checkpoint, &streams, &recipe(&[("train", ""), ("prune", "experts.threshold = 1.0")]));
    assert_eq!(checkpoint.model.parameters.architecture().experts, [2, 2], "top_k experts stay");
}

#[test]
fn successive_distillations_give_smaller_students() {
    let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Diagonal));
    let mut sizes = vec![checkpoint.model.parameters.architecture().parameter_count()];
    for (number, config) in
        recipe(&[("train", ""), ("distill", ""), ("distill", ""), ("distill", "")]).stages.iter().enumerate()
    {
        config
            .runner()
            .run(
                &mut checkpoint,
                StageContext {
                    stage: &stage(number + 1, config),
                    streams: &streams,
                    teacher: None,
                    observer: &mut Silent,
                },
            )
            .unwrap();
        sizes.push(checkpoint.model.parameters.architecture().parameter_count());
    }
    assert!(sizes[1..].is_sorted_by(|a, b| a > b), "{sizes:?}");
    assert_eq!(checkpoint.model.parameters.architecture().d_model, 2);
}

fn request(out: &Path, resume: bool) -> RunRequest {
    let stages = [
        ("train", "schedule.epochs = 2\nschedule.average = 0.9\nschedule.average_from = 0.2"),
        ("qat", ""),
        ("prune", PRUNE_SLOWLY),
        ("distill", "student.heads = 1\nschedule.epochs = 3\nschedule.average = 0.95"),
    ];
    let mut recipe = recipe(&stages);
    // Dropout and Gumbel noise must be drawn again identically.
    (recipe.model.dropout, recipe.model.gumbel_noise) = (0.1, 0.5);
    (recipe.model.word_dropout, recipe.model.head_dropout, recipe.model.weight_dropout) = (0.1, 0.1, 0.1);
    let (corpus, cache) = (corpus(), Cache::disabled());
    let device = Device::Cpu;
    RunRequest {
        recipe,
        corpus,
        cache,
        out: out.to_owned(),
        resume,
        model: None,
        baseline: None,
        device,
        ranks: Ranks::alone(),
    }
}

#[test]
fn resume_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&request(&folder.path().join("whole"), false), &mut Silent).unwrap();
    for (stage, epoch) in [(1, 1), (2, 0), (3, 0), (3, 1), (4, 1), (4, 2)] {
        let out = folder.path().join(format!("parts-{stage}-{epoch}"));
        let broken = std::panic::catch_unwind(|| {
            let _ = run(&request(&out, false), &mut Interrupt { stage, epoch });
        });
        assert!(broken.is_err(), "stage {stage} was not interrupted");
        assert!(matches!(run(&request(&out, false), &mut Silent), Err(RunError::Exists { .. })));
        let resumed = run(&request(&out, true), &mut Silent).unwrap();
        assert_eq!(
            std::fs::read(out.join("model.rbk")).unwrap(),
            std::fs::read(folder.path().join("whole/model.rbk")).unwrap(),
            "interrupted in stage {stage} after {epoch} epochs"
        );
        assert_eq!(resumed.artifact, whole.artifact);
        assert_eq!(resumed.removals, whole.removals);
    }
}

#[test]
fn a_schedule_in_minutes_keeps_its_number_of_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let request = |name: &str, minutes: f64, resume: bool| {
        let stages = format!("schedule.minutes = {minutes}\nschedule.restart = 0.5\nquantization.learned = {{}}");
        let recipe = recipe(&[("train", ""), ("distill", &stages)]);
        RunRequest { recipe, ..request(&folder.path().join(name), resume) }
    };
    // No time at all: the least number of epochs, whatever the machine.
    let whole = run(&request("whole", 1e-9, false), &mut Silent).unwrap();
    assert_eq!(whole.stages[1].epochs, Schedule::LEAST_EPOCHS);
    for epoch in [1, 2] {
        let name = format!("parts-{epoch}");
        let interrupt = || run(&request(&name, 1e-9, false), &mut Interrupt { stage: 2, epoch });
        assert!(std::panic::catch_unwind(interrupt).is_err());
        assert_eq!(run(&request(&name, 1e-9, true), &mut Silent).unwrap().artifact, whole.artifact, "epoch {epoch}");
    }
    // Time for some epochs. Whoever goes on with the run has as many.
    let mut events = Events::default();
    let interrupt = || run(&request("some", 0.05, false), &mut Interrupt { stage: 2, epoch: 2 });
    assert!(std::panic::catch_unwind(interrupt).is_err());
    let planned = Checkpoint::read(&folder.path().join("some/02-distill/model.safetensors")).unwrap();
    let planned = planned.training.progress.unwrap().planned_epochs.unwrap();
    let summary = run(&request("some", 0.05, true), &mut events).unwrap();
    assert_eq!(summary.stages[1].epochs, planned);
    assert!(!events.0.iter().any(|event| matches!(event, Event::EpochsPlanned { .. })), "it was planned before");
}

#[cfg(unix)]
#[test]
fn a_folder_has_only_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut short = request(folder.path(), false);
    short.recipe.stages.truncate(1);
    let other = std::fs::File::open(folder.path()).unwrap();
    other.try_lock().unwrap();
    assert!(matches!(run(&short, &mut Silent), Err(RunError::Busy { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(other);
    run(&short, &mut Silent).unwrap();
}

#[test]
fn another_recipe_is_not_resumed_and_the_first_stage_needs_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = request(folder.path(), false);
    first.recipe.stages.truncate(1);
    run(&first, &mut Silent).unwrap();
    let mut other = request(folder.path(), true);
    other.recipe.seed = 2;
    assert!(matches!(run(&other, &mut Silent), Err(RunError::OtherRecipe { .. })));
    // A longer recipe with the same beginning resumes the run.
    let summary = run(&request(folder.path(), true), &mut Silent).unwrap();
    assert_eq!(summary.stages.len(), 4);
    let mut headless = request(&folder.path().join("b"), false);
    headless.recipe.stages.remove(0);
    assert!(matches!(run(&headless, &mut Silent), Err(RunError::NothingToCompress(_))));
    headless.model = Some(folder.path().join("01-train/model.safetensors").into());
    let summary = run(&headless, &mut Silent).unwrap();
    assert_eq!(summary.stages.len(), 4, "the trained stage and three more");
    // A given model replaces the training at the beginning of a recipe.
    let mut whole = request(&folder.path().join("c"), false);
    whole.model = headless.model.clone();
    let again = run(&whole, &mut Silent).unwrap();
    assert_eq!(again.artifact, summary.artifact);
}

#[test]
fn a_size_goal_without_learned_scales_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let request = |name: &str, stages: &[(&str, &str)], model: Option<&str>| RunRequest {
        recipe: recipe(stages),
        corpus: corpus(),
        cache: Cache::disabled(),
        out: folder.path().join(name),
        resume: false,
        model: model.map(|file| folder.path().join(file).into()),
        baseline: None,
        device: Device::Cpu,
        ranks: Ranks::alone(),
    };
    let size = "schedule.weights_bytes = 3000";
    let refused = run(&request("a", &[("train", size), ("prune", size), ("distill", "")], None), &mut Silent);
    assert!(matches!(refused, Err(RunError::SizeOfFloats { bytes: 3000 })), "{refused:?}");
    let quantized = format!("{size}\nquantization.learned = {{}}");
    // As a default for all stages, it applies to the stage that can control its size.
    run(&request("b", &[("train", size), ("qat", &quantized)], None), &mut Silent).unwrap();
    // A given model may already have learned scales.
    let given = request("c", &[("train", ""), ("prune", size)], Some("b/02-qat/model.safetensors"));
    run(&given, &mut Silent).unwrap();
}
