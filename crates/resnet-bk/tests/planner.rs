//! The planner, and stages that bring models of their own.

mod common;

use common::{Interrupt, corpus, recipe};
use resnet_bk::config::{Recipe, StageKind, Target};
use resnet_bk::observer::Silent;
use resnet_bk::pipeline::{RunError, RunRequest, run};
use resnet_bk::train::TrainError;
use std::path::Path;

const TEACHER: &str =
    "schedule.epochs = 2\nmodel = { mixer = \"propagator\", positions = false, eta = 0.0, tied_embeddings = true }";
const PLAN: &str = "schedule.epochs = 3\ntrial_tokens = 400\nfinalists = 2";

fn request(recipe: Recipe, target: Target, out: &Path) -> RunRequest {
    RunRequest {
        recipe: Recipe { target, ..recipe },
        corpus: corpus(),
        out: out.to_owned(),
        resume: false,
        model: None,
        baseline: None,
    }
}

fn bytes(bytes: u64) -> Target {
    Target { bytes: Some(bytes), ..Target::default() }
}

#[test]
fn a_planned_student_keeps_to_its_budget_and_its_prediction() {
    const PREDICTION: f64 = 0.03;
    const BUDGET: u64 = 8_000;
    let folder = tempfile::tempdir().unwrap();
    let list = recipe(&[("train", ""), ("train", TEACHER), ("plan", PLAN)]);
    let summary = run(&request(list, bytes(BUDGET), folder.path()), &mut Silent).unwrap();
    assert!(summary.artifact.bytes_total <= BUDGET, "{} bytes", summary.artifact.bytes_total);
    // Pairs of words say all that there is to say of this grammar, so counting them is not beaten, and no target is reached.
    assert!(summary.worse_than_counting().is_some() && summary.target_reached == Some(false));
    let plan = summary.plan.unwrap();
    let error = summary.artifact.bytes_weights as f64 / plan.predicted_bytes as f64 - 1.0;
    assert!(error.abs() < PREDICTION, "{} predicted, {} found", plan.predicted_bytes, summary.artifact.bytes_weights);

    let chosen = &plan.trials[plan.chosen];
    assert!(chosen.round == 2 && plan.trials.iter().all(|t| t.round != 2 || t.perplexity >= chosen.perplexity));
    let front = plan.front();
    assert!(front.windows(2).all(|w| plan.trials[w[0]].perplexity > plan.trials[w[1]].perplexity), "{front:?}");

    // The choice is a recipe that says the same without a planner.
    let planned = Recipe::read(&folder.path().join("03-planned.toml"), &[]).unwrap();
    let kinds: Vec<StageKind> = planned.stages.iter().map(|stage| stage.kind()).collect();
    assert_eq!(kinds, [StageKind::Train, StageKind::Train, StageKind::Distill]);
    let again = tempfile::tempdir().unwrap();
    let repeated = run(&request(planned, bytes(BUDGET), again.path()), &mut Silent).unwrap();
    assert_eq!(repeated.artifact, summary.artifact);
}

#[test]
fn a_resumed_plan_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = || recipe(&[("train", ""), ("train", TEACHER), ("plan", PLAN)]);
    let whole = run(&request(list(), bytes(8_000), &folder.path().join("whole")), &mut Silent).unwrap();
    for (stage, epoch) in [(2, 1), (3, 1), (3, 2)] {
        let out = folder.path().join(format!("parts-{stage}-{epoch}"));
        let broken = std::panic::catch_unwind(|| {
            let _ = run(&request(list(), bytes(8_000), &out), &mut Interrupt { stage, epoch });
        });
        assert!(broken.is_err(), "stage {stage} was not interrupted");
        let resumed = RunRequest { resume: true, ..request(list(), bytes(8_000), &out) };
        let resumed = run(&resumed, &mut Silent).unwrap();
        assert_eq!(
            std::fs::read(out.join("model.rbk")).unwrap(),
            std::fs::read(folder.path().join("whole/model.rbk")).unwrap(),
            "interrupted in stage {stage} after {epoch} epochs"
        );
        assert_eq!((resumed.artifact, resumed.plan), (whole.artifact.clone(), whole.plan.clone()));
    }
}

#[test]
fn a_teacher_leaves_the_baseline_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let list = recipe(&[("train", ""), ("train", TEACHER), ("train", "")]);
    let summary = run(&request(list, Target::default(), folder.path()), &mut Silent).unwrap();
    let first = summary.baselines.first.measured().unwrap();
    assert_eq!(first.parameters, summary.stages[0].parameters);
    assert_eq!(first.valid_perplexity, summary.stages[0].valid_perplexity);
    assert_ne!(summary.stages[1].parameters, summary.stages[0].parameters);
    assert_eq!(summary.stages[2].parameters, summary.stages[1].parameters);
}

#[test]
fn a_plan_without_a_budget_or_with_too_small_a_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = || recipe(&[("train", ""), ("plan", PLAN)]);
    let error = run(&request(list(), Target::default(), folder.path()), &mut Silent).unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::NoBudget)), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a run that is refused leaves no trace");
    let error = run(&request(list(), bytes(3_000), folder.path()), &mut Silent).unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::NoStudent { .. })), "{error}");
}
