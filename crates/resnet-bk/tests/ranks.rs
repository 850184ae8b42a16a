//! Runs of several ranks, which are threads here. `.ci/mpi` runs processes.

mod common;

use common::{Events, Interrupt, corpus, recipe};
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::config::{Recipe, Target};
use resnet_bk::corpus::Cache;
use resnet_bk::device::Device;
use resnet_bk::observer::{Event, Silent};
use resnet_bk::pipeline::{RunError, RunRequest, run};
use resnet_bk::ranks::Ranks;
use resnet_bk::summary::Summary;
use std::path::Path;

fn request(recipe: &Recipe, out: &Path, resume: bool, ranks: Ranks) -> RunRequest {
    RunRequest {
        recipe: recipe.clone(),
        corpus: corpus(),
        cache: Cache::disabled(),
        out: out.to_owned(),
        resume,
        model: None,
        baseline: None,
        device: Device::Cpu,
        ranks,
    }
}

/// Runs a recipe on all ranks of a run.
fn on_ranks(count: usize, recipe: &Recipe, out: &Path, resume: bool) -> Vec<(Result<Summary, RunError>, Events)> {
    std::thread::scope(|scope| {
        let start = |ranks: Ranks| {
            scope.spawn(move || {
                let mut events = Events::default();
                (run(&request(recipe, out, resume, ranks), &mut events), events)
            })
        };
        let running: Vec<_> = Ranks::threads(count).into_iter().map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("a rank ends")).collect()
    })
}

fn with_batches_of(recipe: &Recipe, batch_size: usize) -> Recipe {
    let set = |stage| format!("stage.{stage}.schedule.batch_size={batch_size}");
    Recipe::parse(&recipe.to_toml(), "test", &(0..recipe.stages.len()).map(set).collect::<Vec<String>>()).unwrap()
}

/// All kinds of stages, with noise.
fn all_stages() -> Recipe {
    let mut recipe = recipe(&[
        ("train", "schedule.epochs = 2\nschedule.keep_best_epoch = true\nschedule.average = 0.9"),
        ("qat", ""),
        ("prune", "magnitude.sparsity = 0.3\nexperts.milestones = [{ epoch = 0, experts = 2 }]"),
        ("distill", "student.heads = 1\nschedule.epochs = 2"),
    ]);
    (recipe.model.dropout, recipe.model.gumbel_noise, recipe.model.load_balancing) = (0.1, 0.5, 0.02);
    (recipe.model.word_dropout, recipe.model.head_dropout, recipe.model.weight_dropout) = (0.1, 0.1, 0.1);
    recipe
}

#[test]
fn ranks_learn_like_one_process_with_larger_batches() {
    let folder = tempfile::tempdir().unwrap();
    let whole = with_batches_of(&all_stages(), 8);
    let mut expected = Events::default();
    run(&request(&whole, &folder.path().join("1"), false, Ranks::alone()), &mut expected).unwrap();
    for count in [2, 4] {
        let parts = with_batches_of(&all_stages(), 8 / count);
        let results = on_ranks(count, &parts, &folder.path().join(count.to_string()), false);
        let found = &results[0].1;
        assert_eq!(found.losses(1).len(), expected.losses(1).len());
        for (step, (a, b)) in found.losses(1).iter().zip(expected.losses(1)).enumerate() {
            assert!((a / b - 1.0).abs() < 1e-5, "{count} ranks, step {step}: {a} not {b}");
        }
        let summaries: Vec<&Summary> = results.iter().map(|(summary, _)| summary.as_ref().unwrap()).collect();
        assert!(summaries.iter().all(|summary| *summary == summaries[0]));
        assert_eq!(summaries[0].environment.processes, count);
        for (_, events) in &results[1..] {
            assert!((1..=4).all(|stage| events.losses(stage) == found.losses(stage)), "all ranks have equal losses");
        }
    }
}

#[test]
fn a_repeated_run_of_ranks_writes_the_same_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ["a", "b"].map(|name| {
        let out = folder.path().join(name);
        on_ranks(2, &all_stages(), &out, false).into_iter().for_each(|(summary, _)| drop(summary.unwrap()));
        std::fs::read(out.join("model.rbk")).unwrap()
    });
    assert_eq!(artifacts[0], artifacts[1]);
}

#[test]
fn other_ranks_go_on_with_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = all_stages();
    for (stage, epoch) in [(1, 1), (4, 1)] {
        let out = folder.path().join(format!("{stage}"));
        let broken = std::panic::catch_unwind(|| {
            let _ = run(&request(&recipe, &out, false, Ranks::alone()), &mut Interrupt { stage, epoch });
        });
        assert!(broken.is_err());
        let results = on_ranks(3, &recipe, &out, true);
        assert!(results.iter().all(|(summary, _)| summary.is_ok()));
        let warnings = results[0].1.warnings();
        assert!(warnings.iter().any(|warning| warning.contains("processes 1 then, 3 now")), "{warnings:?}");
        let mut finished = Events::default();
        let again = run(&request(&recipe, &out, true, Ranks::alone()), &mut finished).unwrap();
        assert_eq!(again.artifact, results[0].0.as_ref().unwrap().artifact);
        assert!(finished.losses(4).is_empty(), "nothing was left to do");
    }
}

#[test]
fn trials_are_spread_over_the_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "schedule.epochs = 1\ntrial_tokens = 400\nfinalists = 2";
    let recipe = recipe(&[("train", ""), ("plan", plan)]);
    let recipe = Recipe { target: Target { bytes: Some(8_000), ..Target::default() }, ..recipe };
    let results = on_ranks(3, &recipe, &folder.path().join("3"), false);
    let plans: Vec<_> = results.iter().map(|(summary, _)| summary.as_ref().unwrap().plan.clone().unwrap()).collect();
    assert!(plans.iter().all(|plan| *plan == plans[0]));
    let trials = |events: &Events| {
        let trial = |event: &Event| match event {
            Event::TrialEnded { trial, trials, result, .. } => Some((*trial, *trials, result.clone())),
            _ => None,
        };
        events.0.iter().filter_map(trial).collect::<Vec<_>>()
    };
    let found = trials(&results[0].1);
    assert_eq!(found.iter().map(|(.., result)| result.clone()).collect::<Vec<_>>(), plans[0].trials);
    let first_round = found.iter().take_while(|(.., result)| result.round == 1);
    assert!(first_round.enumerate().all(|(index, (trial, trials, _))| *trial == index + 1 && index < *trials));
}

#[test]
fn ranks_with_different_recipes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let results: Vec<RunError> = std::thread::scope(|scope| {
        let start = |ranks: Ranks| {
            let recipe = with_batches_of(&all_stages(), 4 + ranks.rank());
            let out = &out;
            scope.spawn(move || run(&request(&recipe, out, false, ranks), &mut Silent).unwrap_err())
        };
        let running: Vec<_> = Ranks::threads(2).into_iter().map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("a rank ends")).collect()
    });
    for error in results {
        assert!(error.to_string().starts_with("rank 1 and rank 0 have different"), "{error}");
    }
    assert!(!out.exists());
}

#[test]
fn a_failure_of_rank_0_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other"), "a file").unwrap();
    let results = on_ranks(2, &all_stages(), folder.path(), false);
    assert!(matches!(results[0].0, Err(RunError::NotARun { .. })));
    assert!(matches!(results[1].0, Err(RunError::Leader(_))));
    assert!(Checkpoint::read_on(&Ranks::alone(), &folder.path().join("missing")).is_err());
}
