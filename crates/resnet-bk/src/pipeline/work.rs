//! The work of a run's stages, known before the run. With the speed of one stage it predicts the time
//! of the others.
//!
//! ```text
//! operations of a token   6 N + 2 N_teacher
//! ```
//!
//! N is the number of weights that a token is multiplied with: of the head and of the blocks, of the
//! experts those of `top_k`. Each costs two operations forwards and four backwards (Kaplan et al., 2020,
//! "Scaling Laws for Neural Language Models", section 2.1). Steps through quantizers take longer, see
//! [`QUANTIZED_COST`].

use crate::compress::is_enabled;
use crate::compress::planner::{SearchCost, search_cost};
use crate::config::{ModelConfig, Recipe, StageConfig, StageKind, Target};
pub use crate::train::QUANTIZED_COST;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};

/// The work of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageWork {
    /// Kind of the stage.
    pub kind: StageKind,
    /// Epochs; `None` if they follow from `minutes`.
    pub epochs: Option<usize>,
    /// Minutes of the stage, if they are given.
    pub minutes: Option<f64>,
    /// Tokens in a batch of one process, on average.
    pub batch_tokens: usize,
    /// Tokens of a planner's trials together; 0 in other stages.
    pub trial_tokens: usize,
    /// Floating-point operations of a token in a step without quantizers.
    pub operations: f64,
    /// Share of the steps that go through quantizers.
    pub quantized: f64,
}

impl StageWork {
    /// Mean time of the stage's steps over that of a step without quantizers.
    pub fn slowdown(&self) -> f64 {
        slowdown(self.quantized)
    }

    /// The same from a step on, when this share of the stage is done.
    pub fn slowdown_after(&self, done: f64) -> f64 {
        let left = (1.0 - done).max(f64::EPSILON);
        slowdown((self.quantized / left).min(1.0))
    }
}

/// Mean time of steps of which this share goes through quantizers, over that of a step without.
pub(super) fn slowdown(quantized: f64) -> f64 {
    1.0 + (QUANTIZED_COST - 1.0) * quantized
}

/// The stages of a recipe that run: a given model replaces the `train` stages at the beginning, and the
/// model's configuration switches kinds of stages off.
pub(super) fn stages_to_run(recipe: &Recipe, has_model: bool) -> Vec<&StageConfig> {
    let leading = |stage: &&StageConfig| has_model && stage.kind() == StageKind::Train;
    recipe.stages.iter().skip_while(leading).filter(|stage| is_enabled(stage.kind(), &recipe.model)).collect()
}

/// The work of the stages that run, in order. Sizes are the recipe's, so a given model or a smaller
/// vocabulary make it inexact.
pub fn work(recipe: &Recipe, has_model: bool) -> Vec<StageWork> {
    let (mut model, mut is_quantized) = (recipe.model.clone(), false);
    let mut work = Vec::new();
    for stage in stages_to_run(recipe, has_model) {
        let quantized = quantized_share(stage, is_quantized);
        is_quantized = is_quantized_after(stage, is_quantized);
        let after = stage.model_after(&model);
        let before = std::mem::replace(&mut model, after);
        let search = match stage {
            StageConfig::Plan(plan) => budget(&recipe.target, &before)
                .and_then(|budget| search_cost(plan, &before, before.vocab_size, budget, usize::MAX)),
            _ => None,
        };
        let (schedule, trial_tokens) = (stage.schedule(), search.as_ref().map_or(0, |search| search.tokens));
        let student = search.map_or_else(|| model.clone(), |SearchCost { student, .. }| student);
        work.push(StageWork {
            kind: stage.kind(),
            epochs: schedule.known_epochs(),
            minutes: schedule.minutes,
            batch_tokens: (schedule.batch_size as f64 * schedule.windows(student.n_seq).mean()) as usize,
            trial_tokens,
            operations: operations(&student, teacher(stage, &before)),
            quantized,
        });
    }
    work
}

/// A planner's budget, as far as the recipe alone says it.
fn budget(target: &Target, teacher: &ModelConfig) -> Option<u64> {
    let float32_bytes = 4.0 * teacher.architecture().parameter_count() as f64;
    let by_ratio = target.ratio.map(|ratio| (float32_bytes / ratio) as u64);
    by_ratio.into_iter().chain(target.bytes).min()
}

/// The model that runs forwards beside the trained one.
fn teacher<'a>(stage: &StageConfig, before: &'a ModelConfig) -> Option<&'a ModelConfig> {
    let has_teacher = match stage {
        StageConfig::Train(_) | StageConfig::Qat(_) => false,
        StageConfig::Prune(prune) => prune.alpha > 0.0,
        StageConfig::Distill(_) | StageConfig::Plan(_) => true,
    };
    has_teacher.then_some(before)
}

/// Share of a stage's steps that go through quantizers. `before` says whether the model before it has
/// some.
pub(super) fn quantized_share(stage: &StageConfig, before: bool) -> f64 {
    match stage {
        StageConfig::Train(train) if train.model.is_some() => 0.0,
        StageConfig::Train(_) | StageConfig::Prune(_) => f64::from(u8::from(before)),
        StageConfig::Qat(_) => 1.0,
        StageConfig::Distill(distill) if distill.quantization.is_none() && !before => 0.0,
        StageConfig::Distill(distill) => 1.0 - distill.compress_at,
        StageConfig::Plan(plan) => 1.0 - plan.compress_at,
    }
}

/// Whether the model has quantizers after a stage. `before` says whether the one before it has some.
pub(super) fn is_quantized_after(stage: &StageConfig, before: bool) -> bool {
    match stage {
        StageConfig::Train(train) => before && train.model.is_none(),
        StageConfig::Prune(_) => before,
        StageConfig::Distill(distill) => before || distill.quantization.is_some(),
        StageConfig::Qat(_) | StageConfig::Plan(_) => true,
    }
}

/// Floating-point operations of a token in a training step.
fn operations(model: &ModelConfig, teacher: Option<&ModelConfig>) -> f64 {
    6.0 * active_weights(model) + 2.0 * teacher.map_or(0.0, active_weights)
}

/// Weights that a token is multiplied with.
fn active_weights(model: &ModelConfig) -> f64 {
    let architecture: Architecture = model.architecture();
    let of = |spec: &TensorSpec| match spec.role {
        Role::Embedding if !architecture.tied_embeddings => 0.0,
        Role::Expert => spec.len() as f64 * model.top_k as f64 / model.num_experts as f64,
        Role::Embedding | Role::Projection | Role::Head | Role::Router | Role::Mixer => spec.len() as f64,
        Role::Positions | Role::HeadBias | Role::Small | Role::ActivationScale | Role::LogScale => 0.0,
    };
    architecture.tensors().iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(stages: &str) -> Recipe {
        let text = format!("seed = 1\n[model]\npreset = \"memory\"\n[target]\nratio = 100.0\n{stages}");
        Recipe::parse(&text, "test", &[]).expect("a recipe")
    }

    #[test]
    fn the_work_of_each_stage_follows_from_its_model_and_its_quantizers() {
        let recipe = recipe(
            "[[stage]]\nkind = \"train\"\nschedule.epochs = 4\n[[stage]]\nkind = \"qat\"\n\
             [[stage]]\nkind = \"prune\"\n[[stage]]\nkind = \"distill\"\ncompress_at = 0.75\nschedule.minutes = 5\n",
        );
        let all = work(&recipe, false);
        assert_eq!([0, 1, 2, 3].map(|index| all[index].quantized), [0.0, 1.0, 1.0, 0.25]);
        assert_eq!((all[0].epochs, all[3].epochs, all[3].minutes), (Some(4), None, Some(5.0)));
        assert_eq!(all[0].operations, all[1].operations);
        // The student has half the width, and its teacher runs beside it: 6 / 2 + 2 of the teacher's 6,
        // because most weights are the table's.
        let share = all[3].operations / all[0].operations;
        assert!((0.7..0.9).contains(&share), "{share}");
        assert_eq!(work(&recipe, true)[..], all[1..]);
        let flops = 6.0 * recipe.model.architecture().parameter_count() as f64;
        assert!((0.6..1.0).contains(&(all[0].operations / flops)), "{}", all[0].operations / flops);
    }

    #[test]
    fn a_quantized_end_slows_what_is_left_more_than_the_whole() {
        let stage = &work(&recipe("[[stage]]\nkind = \"train\"\n[[stage]]\nkind = \"distill\"\n"), false)[1];
        let half = StageWork { quantized: 0.5, ..stage.clone() };
        assert!((half.slowdown() - 1.15).abs() < 1e-9 && (half.slowdown_after(0.0) - 1.15).abs() < 1e-9);
        assert!((half.slowdown_after(0.5) - QUANTIZED_COST).abs() < 1e-9);
        assert!((half.slowdown_after(1.0) - QUANTIZED_COST).abs() < 1e-9);
    }

    #[test]
    fn a_planners_work_has_its_trials() {
        let plan = &work(&recipe("[[stage]]\nkind = \"train\"\n[[stage]]\nkind = \"plan\"\n"), false)[1];
        assert!(plan.trial_tokens > 3 * 150_000 && plan.operations > 0.0, "{plan:?}");
    }
}
