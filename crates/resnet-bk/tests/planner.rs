//! Tests of the planner, and of stages with their own models.

mod common;

use common::{Events, Interrupt, corpus, recipe};
use resnet_bk::compress::RunStage;
use resnet_bk::config::{Against, PlanConfig, Recipe, StageKind, Target};
use resnet_bk::corpus::Cache;
use resnet_bk::observer::{Event, Observer, Silent};
use resnet_bk::pipeline::{RunError, RunRequest, run};
use resnet_bk::ranks::Ranks;
use resnet_bk::train::{TokenStreams, TrainError};
use std::path::Path;

const TEACHER: &str =
    "schedule.epochs = 2\nmodel = { mixer = \"propagator\", positions = false, eta = 0.0, tied_embeddings = true }";
const PLAN: &str = "schedule.epochs = 3\ntrial_tokens = 400\nfinalists = 2";

fn request(recipe: Recipe, target: Target, out: &Path) -> RunRequest {
    RunRequest {
        recipe: Recipe { target, ..recipe },
        corpus: corpus(),
        cache: Cache::disabled(),
        out: out.to_owned(),
        resume: false,
        model: None,
        baseline: None,
        device: resnet_bk::device::Device::Cpu,
        ranks: Ranks::alone(),
    }
}

fn bytes(bytes: u64) -> Target {
    Target { bytes: Some(bytes), ..Target::default() }
}

#[test]
fn a_planned_student_meets_its_budget_and_predicted_size() {
    const PREDICTION: f64 = 0.03;
    const BUDGET: u64 = 8_000;
    let folder = tempfile::tempdir().unwrap();
    let list = recipe(&[("train", ""), ("train", TEACHER), ("plan", PLAN)]);
    let summary = run(&request(list, bytes(BUDGET), folder.path()), &mut Silent).unwrap();
    assert!(summary.artifact.bytes_total <= BUDGET, "{} bytes", summary.artifact.bytes_total);
    // In this grammar the next word depends on one word only, so no model beats bigram counts and
    // no target is reached.
    assert!(summary.worse_than_ngrams().is_some() && summary.target_reached == Some(false));
    let plan = summary.plan.unwrap();
    let error = summary.artifact.bytes_weights as f64 / plan.predicted_bytes as f64 - 1.0;
    assert!(error.abs() < PREDICTION, "{} predicted, {} found", plan.predicted_bytes, summary.artifact.bytes_weights);

    let chosen = &plan.trials[plan.chosen];
    assert!(chosen.round == 2 && plan.trials.iter().all(|t| t.round != 2 || t.perplexity >= chosen.perplexity));
    let front = plan.front();
    assert!(front.windows(2).all(|w| plan.trials[w[0]].perplexity > plan.trials[w[1]].perplexity), "{front:?}");

    // The choice is written as a recipe without a planner.
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

/// Panics after some trials, like an interruption, and counts them.
struct Trials {
    seen: usize,
    interrupt_after: Option<usize>,
}

impl Observer for Trials {
    fn event(&mut self, event: &Event) {
        assert!(self.interrupt_after != Some(self.seen) || !matches!(event, Event::TrialEnded { .. }), "interrupted");
        self.seen += usize::from(matches!(event, Event::TrialEnded { .. }));
    }
}

#[test]
fn an_interrupted_search_keeps_its_trials() {
    let folder = tempfile::tempdir().unwrap();
    let list = || recipe(&[("train", ""), ("plan", PLAN)]);
    let mut all = Trials { seen: 0, interrupt_after: None };
    let whole = run(&request(list(), bytes(8_000), &folder.path().join("whole")), &mut all).unwrap();
    let short = whole.plan.as_ref().unwrap().trials.iter().filter(|trial| trial.round == 1).count();
    assert!(all.seen > short && short >= 2, "{} trials, {short} of them short", all.seen);
    // The interrupted trial is one of the first round and one of the second.
    for done in [1, short] {
        let out = folder.path().join(format!("after-{done}"));
        let mut interrupted = Trials { seen: 0, interrupt_after: Some(done) };
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = run(&request(list(), bytes(8_000), &out), &mut interrupted);
        }));
        assert!(broken.is_err(), "the search was not interrupted");
        let mut rest = Trials { seen: 0, interrupt_after: None };
        let resumed = RunRequest { resume: true, ..request(list(), bytes(8_000), &out) };
        let resumed = run(&resumed, &mut rest).unwrap();
        assert_eq!(rest.seen, all.seen - done);
        assert_eq!((resumed.artifact, resumed.plan), (whole.artifact.clone(), whole.plan.clone()));
        assert_eq!(std::fs::read_dir(out.join("02-plan")).unwrap().count(), 1, "the trials' file is gone");
    }
}

#[test]
fn trials_of_another_text_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let list = || recipe(&[("train", ""), ("plan", PLAN)]);
    let whole = run(&request(list(), bytes(8_000), &folder.path().join("whole")), &mut Silent).unwrap();
    let out = folder.path().join("out");
    let broken = std::panic::catch_unwind(|| {
        let _ = run(&request(list(), bytes(8_000), &out), &mut Trials { seen: 0, interrupt_after: Some(2) });
    });
    assert!(broken.is_err(), "the search was not interrupted");
    let file = out.join("02-plan/trials.json");
    let mut saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    saved["text"]["train"] = "of another text".into();
    std::fs::write(&file, saved.to_string()).unwrap();
    let mut rest = Trials { seen: 0, interrupt_after: None };
    let resumed = RunRequest { resume: true, ..request(list(), bytes(8_000), &out) };
    assert_eq!(run(&resumed, &mut rest).unwrap().plan, whole.plan);
    assert_eq!(rest.seen, whole.plan.unwrap().trials.len());
}

#[test]
fn trials_that_diverge_are_never_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let diverging = format!("{PLAN}\nschedule.learning_rate = 1e20\nschedule.warmup = 0.0");
    let list = recipe(&[("train", ""), ("plan", &diverging)]);
    let mut events = Events::default();
    let error = run(&request(list, bytes(8_000), folder.path()), &mut events).unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::TrialsDiverged { stage: 2 })), "{error}");
    let trials = events.0.iter().filter_map(|event| match event {
        Event::TrialEnded { result, .. } => Some(result.perplexity),
        _ => None,
    });
    let trials: Vec<_> = trials.collect();
    assert!(trials.len() >= 2 && trials.iter().all(Option::is_none), "{trials:?}");
}

#[test]
fn a_teacher_stage_does_not_change_the_first_baseline() {
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
fn a_large_budget_gives_the_best_student() {
    const PLAN: &str = "schedule.epochs = 1\ntrial_tokens = 400\nfinalists = 1";
    for target in [bytes(5_000_000), Target { ratio: Some(1.0), ..Target::default() }] {
        let folder = tempfile::tempdir().unwrap();
        let list = recipe(&[("train", ""), ("train", TEACHER), ("plan", PLAN)]);
        let summary = run(&request(list, target, folder.path()), &mut Silent).unwrap();
        let plan = summary.plan.unwrap();
        assert!(summary.artifact.bytes_weights <= plan.budget, "{target:?}: {} bytes", summary.artifact.bytes_weights);
        let short = plan.trials.iter().filter(|trial| trial.round == 1);
        let best = short.clone().min_by(|a, b| a.perplexity.partial_cmp(&b.perplexity).unwrap()).unwrap();
        assert_eq!(plan.trials[plan.chosen].student, best.student, "{target:?}");
    }
}

#[test]
fn the_second_round_is_skipped_if_the_text_has_no_more_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let all = "schedule.epochs = 1\ntrial_tokens = 100_000\nfinalists = 2";
    let list = recipe(&[("train", ""), ("plan", all)]);
    let summary = run(&request(list, bytes(20_000), folder.path()), &mut Silent).unwrap();
    let plan = summary.plan.unwrap();
    assert!(plan.trials.len() >= 3);
    for trial in &plan.trials {
        assert_eq!((trial.round, trial.tokens), (1, summary.corpus.train_tokens), "{}", trial.student);
    }
    // A trial that does not spend the budget is never chosen.
    let better = plan.trials.iter().filter(|trial| trial.perplexity < plan.trials[plan.chosen].perplexity);
    assert!(
        better.clone().all(|trial| trial.bytes < plan.trials[plan.chosen].bytes),
        "{:?}",
        better.collect::<Vec<_>>()
    );

    // With somewhat more tokens, though fewer than three times as many, there is a second round.
    let folder = tempfile::tempdir().unwrap();
    let most = "schedule.epochs = 1\ntrial_tokens = 4_000\nfinalists = 2";
    let list = recipe(&[("train", ""), ("plan", most)]);
    let summary = run(&request(list, bytes(20_000), folder.path()), &mut Silent).unwrap();
    let plan = summary.plan.unwrap();
    let longer: Vec<usize> = plan.trials.iter().filter(|trial| trial.round == 2).map(|trial| trial.tokens).collect();
    assert_eq!(longer, [summary.corpus.train_tokens; 2]);
}

#[test]
fn trials_are_compared_on_the_dev_slice_and_train_on_the_rest() {
    let tokens: Vec<u32> = (0..1_000).collect();
    let (train, dev) = tokens.split_at(980);
    let streams = TokenStreams { train: train.into(), dev: Some(dev.into()), valid: [7; 50].as_slice().into() };
    for (asked, found) in [(1, 1), (300, 300), (980, 980), (1_000_000, 980)] {
        let trial = PlanConfig { trial_tokens: asked, ..PlanConfig::default() }.shortest_streams(&streams).unwrap();
        assert_eq!((&trial.train[..], &trial.valid[..]), (&tokens[..found], dev));
    }
    let error = PlanConfig { trial_tokens: 300, ..PlanConfig::default() }
        .shortest_streams(&TokenStreams { dev: None, ..streams })
        .unwrap_err();
    assert!(matches!(error, TrainError::NoDevSlice), "{error}");
}

#[test]
fn a_plan_without_a_feasible_budget_is_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |stages: &[(&str, &str)], target: Target| {
        let error = run(&request(recipe(stages), target, folder.path()), &mut Silent).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a run that is refused leaves no trace");
        error
    };
    let error = refuse(&[("train", ""), ("plan", PLAN)], Target::default());
    assert!(matches!(error, RunError::Train(TrainError::NoBudget)), "{error}");
    let ratio = |ratio: f64, against: Against| Target { ratio: Some(ratio), against, ..Target::default() };
    let long = [("train", ""), ("train", TEACHER), ("plan", PLAN)];
    for target in [bytes(3_000), bytes(1), ratio(1e4, Against::Best), ratio(1e4, Against::Baseline)] {
        for stages in [&long[..], &[long[0], long[2]]] {
            let error = refuse(stages, target);
            let RunError::Train(TrainError::NoStudent { budget, smallest }) = error else {
                panic!("{target:?}: {error}");
            };
            assert!(budget < smallest && smallest < 8_000, "{target:?}: {error}");
        }
    }
}

#[test]
fn the_check_before_the_run_agrees_with_the_planner() {
    // Slightly below the smallest student's size there is none, slightly above there is one. The
    // check before the run and the planner agree on this.
    let folder = tempfile::tempdir().unwrap();
    let short = "schedule.epochs = 1\ntrial_tokens = 400\nfinalists = 1";
    let list = || recipe(&[("train", ""), ("train", TEACHER), ("plan", short)]);
    let error = run(&request(list(), bytes(3_000), folder.path()), &mut Silent).unwrap_err();
    let RunError::Train(TrainError::NoStudent { budget, smallest }) = error else { panic!("{error}") };
    let least = 3_000 + (smallest as f64 * 1.01) as u64 - budget;
    let tight = run(&request(list(), bytes(least), folder.path()), &mut Silent).unwrap();
    let planned = tight.plan.unwrap().budget;
    assert_eq!(planned, budget + least - 3_000);
}
