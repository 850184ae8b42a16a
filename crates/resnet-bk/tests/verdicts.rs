//! Tests of baselines, refusals and warnings of a run.

mod common;

use common::{Events, Interrupt, corpus, recipe};
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::config::{Against, Recipe, Target};
use resnet_bk::corpus::{Cache, Corpus};
use resnet_bk::device::Device;
use resnet_bk::evaluate::evaluate_model;
use resnet_bk::observer::{Event, Silent};
use resnet_bk::pipeline::{GivenModel, RunError, RunRequest, forecast, run};
use resnet_bk::ranks::Ranks;
use resnet_bk::summary::{Baseline, Summary};
use resnet_bk_runtime::internal::artifact::Artifact;
use std::path::Path;

/// A better and larger model than the preset `tiny`.
const TEACHER: &str = "schedule.epochs = 4\nmodel = { d_model = 24, d_ff = 48 }";

fn request(stages: &[(&str, &str)], out: &Path) -> RunRequest {
    RunRequest {
        recipe: recipe(stages),
        corpus: corpus(),
        cache: Cache::disabled(),
        out: out.to_owned(),
        resume: false,
        model: None,
        baseline: None,
        device: Device::Cpu,
        ranks: Ranks::alone(),
    }
}

#[test]
fn the_summary_has_three_baselines() {
    let folder = tempfile::tempdir().unwrap();
    let stages = [("train", ""), ("train", TEACHER), ("distill", "student.d_model = 12")];
    let mut request = request(&stages, folder.path());
    request.recipe.target = Target { ratio: Some(1.5), ..Target::default() };
    let summary = run(&request, &mut Silent).unwrap();
    let measured = |baseline: &Baseline| baseline.measured().cloned().unwrap();
    let (first, best) = (measured(&summary.baselines.first), measured(&summary.baselines.best));
    let int8 = measured(&summary.baselines.int8);
    assert_eq!((first.name.as_str(), first.epochs), ("1 train", 1));
    assert_eq!((best.name.as_str(), best.epochs), ("2 train", 4));
    assert!(best.valid_perplexity < first.valid_perplexity);
    assert_eq!(best.weights_bytes, 4 * best.parameters as u64);
    assert!(int8.weights_bytes < best.weights_bytes / 2 && int8.weights_bytes > best.parameters as u64);
    assert!((int8.valid_perplexity / best.valid_perplexity - 1.0).abs() < 0.02 && int8 != best);
    // The default is the best model.
    let (bytes, perplexity) = (summary.artifact.bytes_weights as f64, summary.artifact.valid_perplexity);
    assert_eq!(summary.ratio, Some(best.weights_bytes as f64 / bytes));
    assert_eq!(summary.loss, Some(perplexity / best.valid_perplexity - 1.0));
    assert_eq!(summary.stages[2].epochs_total, 5, "four of the teacher, one of its own");

    request.resume = true;
    request.recipe.target.against = Against::Baseline;
    let against_first = run(&request, &mut Silent).unwrap();
    assert_eq!(against_first.ratio, Some(first.weights_bytes as f64 / bytes));
    assert_eq!(against_first.loss, Some(perplexity / first.valid_perplexity - 1.0));
}

#[test]
fn a_model_worse_than_ngrams_reaches_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(&[("train", "schedule.learning_rate = 1e-6")], folder.path());
    request.recipe.target = Target { ratio: Some(0.1), ..Target::default() };
    let summary = run(&request, &mut Silent).unwrap();
    assert!(summary.ratio > Some(0.1));
    assert_eq!((summary.target_reached, summary.succeeded()), (Some(false), false));
    let sentence = summary.worse_than_ngrams().unwrap();
    assert!(sentence.contains("no better than counting words") && sentence.contains("unigram"), "{sentence}");
    // A run without a target does not succeed either.
    request.recipe.target = Target::default();
    request.resume = true;
    let summary = run(&request, &mut Silent).unwrap();
    assert_eq!((summary.target_reached, summary.succeeded()), (None, false));
}

#[test]
fn foreign_files_are_never_overwritten() {
    const OWN: &str = "written by hand";
    for name in ["report.html", "model.rbk", "summary.json", "metrics.jsonl", "recipe.toml", "notes.txt"] {
        for resume in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(name), OWN).unwrap();
            let refused = run(&RunRequest { resume, ..request(&[("train", "")], folder.path()) }, &mut Silent);
            assert!(matches!(refused, Err(RunError::NotARun { .. })), "{name}: {refused:?}");
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), OWN);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
        }
    }
}

#[test]
fn resuming_an_empty_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("rnu");
    let refused = run(&RunRequest { resume: true, ..request(&[("train", "")], &out) }, &mut Silent);
    assert!(matches!(refused, Err(RunError::NothingToResume { .. })), "{refused:?}");
    assert!(!out.exists());
}

#[test]
fn a_run_resumes_with_the_same_text_only() {
    let folder = tempfile::tempdir().unwrap();
    let stages = [("train", ""), ("train", "")];
    let first = RunRequest { recipe: recipe(&stages[..1]), ..request(&stages, folder.path()) };
    run(&first, &mut Silent).unwrap();
    // The same sentences in another order have the same vocabulary.
    let train: String = common::text(400, 1).lines().rev().flat_map(|line| [line, "\n"]).collect();
    let valid = common::text(60, 9);
    let other = |corpus: Corpus| RunRequest { corpus, resume: true, ..request(&stages, folder.path()) };
    for (corpus, expected) in [
        (Corpus { train: train.into(), ..corpus() }, "another training text"),
        (Corpus { valid: valid.into(), ..corpus() }, "another held-out text"),
    ] {
        let refused = run(&other(corpus), &mut Silent);
        assert!(
            matches!(refused, Err(RunError::OtherText { difference, .. }) if difference == expected),
            "{refused:?}"
        );
    }
    run(&other(corpus()), &mut Silent).unwrap();
}

#[test]
fn a_shorter_recipe_cannot_resume_a_longer_run() {
    let folder = tempfile::tempdir().unwrap();
    let stages = [("train", ""), ("qat", "")];
    run(&request(&stages, folder.path()), &mut Silent).unwrap();
    let shorter = run(&RunRequest { resume: true, ..request(&stages[..1], folder.path()) }, &mut Silent);
    assert!(matches!(shorter, Err(RunError::OtherRecipe { .. })), "{shorter:?}");
}

#[test]
fn a_size_beyond_the_target_is_warned_of_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let warned = |bytes: u64| {
        let qat = format!("schedule.weights_bytes = {bytes}\nquantization.learned = {{}}");
        let mut request = request(&[("train", ""), ("qat", &qat)], folder.path());
        request.recipe.target = Target { ratio: Some(10.0), ..Target::default() };
        let forecast = forecast(&request, &mut Silent).unwrap();
        let float32 = forecast.stages[0].float32_bytes;
        let beyond = format!("the qat stage aims for {bytes} bytes of weights, but the target allows {}", float32 / 10);
        (float32, forecast.warnings.iter().any(|warning| warning.starts_with(&beyond)))
    };
    let (float32, too_large) = warned(1_000_000);
    assert!(too_large);
    assert!(!warned(float32 / 10).1);
    assert!(warned(float32 / 10 + 1).1);
}

#[test]
fn experts_are_not_removed_after_the_end_of_their_stage() {
    let folder = tempfile::tempdir().unwrap();
    let late = |step: usize| format!("experts.milestones = [{{ step = {step}, experts = 1 }}]");
    let error = |step: usize| {
        let out = folder.path().join(step.to_string());
        run(&request(&[("train", ""), ("prune", &late(step))], &out), &mut Silent).err()
    };
    let Some(RunError::Milestone { step: 1_000_000, steps, .. }) = error(1_000_000) else { panic!("no error") };
    assert!(matches!(error(steps), Some(RunError::Milestone { .. })));
    assert!(error(steps - 1).is_none());
}

/// A high constant learning rate on a small text: later epochs overfit.
const OVERFITS: &str = "schedule.epochs = 6\nschedule.learning_rate = 0.05\nschedule.shape = \"constant\"\n\
    schedule.keep_best_epoch = true";

fn random_words() -> Corpus {
    Corpus { train: unrelated(5_200, 1).into(), valid: unrelated(400, 2).into(), ..corpus() }
}

/// Random words, which a model can only memorize.
fn unrelated(words: usize, seed: u64) -> String {
    let mut random = resnet_bk::random::Random::new(seed);
    let mut text = String::new();
    for index in 0..words {
        let word = random.below(60);
        text.push_str(&format!("w{word}{}", if index % 13 == 12 { "\n" } else { " " }));
    }
    text
}

#[test]
fn the_best_epoch_is_kept_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let request = |name: &str| RunRequest {
        corpus: random_words(),
        ..request(&[("train", OVERFITS)], &folder.path().join(name))
    };
    let mut events = Events::default();
    let summary = run(&request("whole"), &mut events).unwrap();
    let dev = events.dev_perplexities(1);
    assert_eq!(dev.len(), 6);
    let best = (1..=6).min_by(|a, b| dev[a - 1].total_cmp(&dev[b - 1])).unwrap();
    assert!(best < 6, "the text is no test: {dev:?}");
    let stage = &summary.stages[0];
    assert_eq!((stage.kept_epoch, stage.epochs, stage.epochs_total), (best, 6, best));
    assert_eq!(stage.dev_perplexity, Some(dev[best - 1]));
    assert!((summary.artifact.valid_perplexity / stage.valid_perplexity - 1.0).abs() < 1e-4);
    assert!(stage.trained_to_end, "the best epoch is not the last one: {dev:?}");

    let out = folder.path().join("parts");
    // 41 batches per epoch, not the grammar's 40: the interruption is one step before the end of an
    // epoch.
    let broken = std::panic::catch_unwind(|| {
        let _ = run(&request("parts"), &mut Interrupt { stage: 1, epoch: best + 2 });
    });
    assert!(broken.is_err());
    let unfinished = out.join("01-train/model.safetensors");
    let progress = Checkpoint::read(&unfinished).unwrap().training.progress.unwrap();
    assert_eq!((progress.epochs.len(), progress.best_epoch), (best + 1, Some(best)));
    // Neither the checkpoint nor its best epoch can be the start of another run.
    for file in [unfinished, out.join("01-train/best-epoch.safetensors")] {
        let mut begun = request("begun");
        begun.recipe = recipe(&[("qat", "")]);
        begun.model = Some(file.clone().into());
        assert!(matches!(run(&begun, &mut Silent), Err(RunError::Unfinished { .. })), "{}", file.display());
        (begun.recipe, begun.model, begun.baseline) = (recipe(&[("train", "")]), None, Some(file.into()));
        assert!(matches!(run(&begun, &mut Silent), Err(RunError::Unfinished { .. })));
    }
    let resumed = run(&RunRequest { resume: true, ..request("parts") }, &mut Silent).unwrap();
    assert_eq!(resumed.artifact, summary.artifact);
    let files = std::fs::read_dir(out.join("01-train")).unwrap().count();
    assert_eq!(files, 1, "the best epoch's own file is gone");

    // The best epoch's own file is written last. If it was not, the checkpoint has its model.
    let out = folder.path().join("cut");
    let broken = std::panic::catch_unwind(|| {
        let _ = run(&request("cut"), &mut Interrupt { stage: 1, epoch: best + 1 });
    });
    assert!(broken.is_err());
    let progress = Checkpoint::read(&out.join("01-train/model.safetensors")).unwrap().training.progress.unwrap();
    assert_eq!((progress.epochs.len(), progress.best_epoch), (best, Some(best)));
    std::fs::remove_file(out.join("01-train/best-epoch.safetensors")).unwrap();
    let resumed = run(&RunRequest { resume: true, ..request("cut") }, &mut Silent).unwrap();
    assert_eq!(resumed.artifact, summary.artifact);
}

#[test]
fn a_run_that_trained_on_the_dev_slice_cannot_use_it_for_choices() {
    let folder = tempfile::tempdir().unwrap();
    let stages = [("train", ""), ("train", "schedule.keep_best_epoch = true")];
    run(&RunRequest { recipe: recipe(&stages[..1]), ..request(&stages, folder.path()) }, &mut Silent).unwrap();
    let longer = run(&RunRequest { resume: true, ..request(&stages, folder.path()) }, &mut Silent);
    assert!(matches!(longer, Err(RunError::OtherRecipe { .. })), "{longer:?}");
}

#[test]
fn an_epoch_before_quantization_is_not_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let student = "schedule.epochs = 4\nschedule.keep_best_epoch = true\ncompress_at = 0.5\n\
        quantization.learned = { embedding = [3], expert = 3, mixer = 3 }";
    let summary = run(&request(&[("train", ""), ("distill", student)], folder.path()), &mut Silent).unwrap();
    let stage = &summary.stages[1];
    assert!(stage.kept_epoch > 2 && !stage.float, "epoch {} of {}", stage.kept_epoch, stage.epochs);
}

#[test]
fn a_given_model_is_measured_on_the_text_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let stages = [("train", "schedule.epochs = 2"), ("qat", "")];
    run(&request(&stages, &folder.path().join("one")), &mut Silent).unwrap();
    let file = |name: &str| folder.path().join("one").join(name).join("model.safetensors");
    let (float, quantized) = (file("01-train"), file("02-qat"));
    let other = Corpus { valid: common::text(60, 7).into(), ..corpus() };
    let begun_with = |name: &str, corpus: &Corpus, model: &Path, baseline: Option<&Path>| -> Summary {
        let mut request = request(&[("qat", "")], &folder.path().join(name));
        request.recipe.model.d_model = 20;
        request.corpus = corpus.clone();
        let given = |path: &Path| GivenModel::from(path.to_owned());
        (request.model, request.baseline) = (Some(given(model)), baseline.map(given));
        run(&request, &mut Silent).unwrap()
    };
    let here = begun_with("here", &corpus(), &float, None);
    assert_eq!(here.baselines.first.measured().unwrap().name, "1 train");
    assert!(here.baselines.int8.measured().is_some());
    assert!(here.warnings.iter().any(|warning| warning.contains("model.d_model is 16, not 20")), "{:?}", here.warnings);

    let there = begun_with("there", &other, &float, None);
    let first = there.baselines.first.measured().unwrap();
    assert_eq!((first.name.as_str(), first.epochs), (float.display().to_string().as_str(), 2));
    let model = Checkpoint::read(&float).unwrap().model.parameters.to_model();
    let tokens = Checkpoint::read(&float).unwrap().model.vocabulary.encode(&common::text(60, 7));
    let measured = evaluate_model(&model, &tokens).perplexity();
    assert!((first.valid_perplexity / measured - 1.0).abs() < 1e-6);
    assert_eq!(there.stages.len(), 1, "stages of another text are not shown");
    assert!(there.warnings.iter().any(|warning| warning.contains("another held-out text")), "{:?}", there.warnings);

    let lost = begun_with("lost", &other, &quantized, None);
    assert!(lost.baselines.first.measured().is_none() && lost.ratio.is_none());
    let found = begun_with("found", &other, &quantized, Some(&float));
    assert_eq!(found.baselines.first.measured().unwrap().valid_perplexity, first.valid_perplexity);
    assert!(found.baselines.int8.measured().is_some() && found.ratio.is_some());

    // A run is resumed with the same given model only.
    let mut other_model = request(&[("qat", "")], &folder.path().join("here"));
    (other_model.recipe.model.d_model, other_model.resume) = (20, true);
    other_model.model = Some(quantized.clone().into());
    assert!(matches!(run(&other_model, &mut Silent), Err(RunError::OtherModel { .. })));
    other_model.model = Some(float.clone().into());
    assert_eq!(run(&other_model, &mut Silent).unwrap().artifact, here.artifact);

    let mut without = request(&stages, &folder.path().join("without"));
    without.model = Some(float.clone().into());
    run(&without, &mut Silent).unwrap();
    (without.model, without.resume) = (None, true);
    assert!(matches!(run(&without, &mut Silent), Err(RunError::OtherModel { .. })));

    // A target without its baseline is not reached.
    let mut unjudged = request(&[("qat", "")], &folder.path().join("unjudged"));
    (unjudged.corpus, unjudged.model) = (other, Some(quantized.clone().into()));
    unjudged.recipe.target = Target { ratio: Some(0.1), ..Target::default() };
    assert_eq!(run(&unjudged, &mut Silent).unwrap().target_reached, Some(false));
    // A planner cannot work toward it either, and fails before it trains.
    let mut planned = request(&[("plan", "schedule.epochs = 1\ntrial_tokens = 400")], &folder.path().join("planned"));
    (planned.corpus, planned.model) = (unjudged.corpus.clone(), Some(quantized.clone().into()));
    planned.recipe.target = unjudged.recipe.target;
    assert!(matches!(run(&planned, &mut Silent), Err(RunError::NoBaseline { .. })));
    // A quantized model cannot be a baseline.
    (unjudged.baseline, unjudged.out) = (Some(quantized.into()), folder.path().join("refused"));
    assert!(matches!(run(&unjudged, &mut Silent), Err(RunError::QuantizedBaseline { .. })));
}

#[test]
fn resuming_with_other_threads_gives_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let with_threads = |threads: usize, request: &RunRequest| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(request, &mut Silent).unwrap())
    };
    let stages = [("train", ""), ("train", "")];
    let begun = RunRequest { recipe: recipe(&stages[..1]), ..request(&stages, folder.path()) };
    let summary = with_threads(2, &begun);
    let has_warning =
        |summary: &Summary| summary.warnings.iter().any(|warning| warning.contains("threads 2 then, 3 now"));
    assert!(summary.environment.threads == 2 && !has_warning(&summary), "{:?}", summary.warnings);
    let resumed = RunRequest { resume: true, ..request(&stages, folder.path()) };
    let summary = with_threads(3, &resumed);
    assert!(has_warning(&summary), "{:?}", summary.warnings);
    // A finished run keeps its environment when its summary is written again.
    let again = with_threads(1, &resumed);
    assert_eq!((again.environment.threads, &again.warnings), (3, &summary.warnings));
}

#[test]
fn a_given_model_that_trained_on_the_dev_slice_gives_a_warning_and_is_not_measured_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let long = Corpus { train: common::text(600, 1).into(), ..corpus() };
    let out = |name: &str| folder.path().join(name);
    let with = |name: &str, stages: &[(&str, &str)]| RunRequest { corpus: long.clone(), ..request(stages, &out(name)) };
    run(&with("whole", &[("train", "")]), &mut Silent).unwrap();
    let choosing = "schedule.epochs = 2\nschedule.keep_best_epoch = true";
    run(&with("held-out", &[("train", choosing)]), &mut Silent).unwrap();
    let model = |name: &str| Some(GivenModel::from(out(name).join("01-train/model.safetensors")));
    let has_warning = |summary: &Summary| summary.warnings.iter().any(|warning| warning.contains("memorized"));

    let prune = [("prune", choosing)];
    let knows = run(&RunRequest { model: model("whole"), ..with("a", &prune) }, &mut Silent).unwrap();
    assert!(has_warning(&knows) && knows.stages[0].dev_perplexity.is_none(), "{:?}", knows.warnings);
    let honest = run(&RunRequest { model: model("held-out"), ..with("b", &prune) }, &mut Silent).unwrap();
    assert!(!has_warning(&honest) && honest.stages[0].dev_perplexity.is_some(), "{:?}", honest.warnings);
    let train = [("train", choosing)];
    let beside = |name: &str, baseline: &str| {
        let request = RunRequest { baseline: model(baseline), ..with(name, &train) };
        run(&request, &mut Silent).unwrap().baselines.first.measured().unwrap().clone()
    };
    assert_eq!(beside("c", "whole").dev_perplexity, None);
    assert!(beside("d", "held-out").dev_perplexity.is_some());
}

#[test]
fn a_bidirectional_model_is_not_a_baseline_of_a_causal_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let sees = "model = { causality = \"bidirectional\" }";
    let mixed = run(&request(&[("train", ""), ("train", sees), ("train", "model = {}")], &out("mixed")), &mut Silent);
    let mixed = mixed.unwrap();
    assert_eq!(mixed.baselines.first.measured().unwrap().name, "1 train");
    let best = mixed.baselines.best;
    assert!(best.measured().is_none_or(|best| best.causality == mixed.causality), "{best:?}");
    let baseline = Some(out("mixed").join("02-train/model.safetensors").into());
    let refused = run(&RunRequest { baseline, ..request(&[("train", "")], &out("refused")) }, &mut Silent);
    assert!(matches!(refused, Err(RunError::OtherBaseline { difference: "another causality", .. })), "{refused:?}");
}

#[test]
fn a_baseline_with_another_vocabulary_and_a_recipe_without_stages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    run(&request(&[("train", "")], &out("one")), &mut Silent).unwrap();
    let file = Some(GivenModel::from(out("one").join("01-train/model.safetensors")));
    let mut other = RunRequest { baseline: file.clone(), ..request(&[("train", "")], &out("other")) };
    other.corpus.train = common::text(400, 1).replace("w3 ", "x3 ").into();
    let refused = run(&other, &mut Silent);
    assert!(matches!(refused, Err(RunError::OtherBaseline { difference: "another vocabulary", .. })), "{refused:?}");
    let nothing = RunRequest { model: file, ..request(&[("train", "")], &out("nothing")) };
    assert!(matches!(run(&nothing, &mut Silent), Err(RunError::OnlyTraining)));
}

#[test]
fn the_published_protocol_keeps_blank_lines_and_all_words() {
    let folder = tempfile::tempdir().unwrap();
    let spaced = |text: String| text.replace('\n', "\n\n");
    let text =
        Corpus { train: spaced(common::text(400, 1)).into(), valid: spaced(common::text(60, 2)).into(), ..corpus() };
    let run_with = |protocol: &str| {
        let set = [format!("corpus.protocol=\"{protocol}\""), "model.vocab_size=10".to_owned()];
        let recipe = Recipe::parse(&recipe(&[("train", "")]).to_toml(), "test", &set).unwrap();
        let out = folder.path().join(protocol);
        let request = RunRequest { recipe, corpus: text.clone(), ..request(&[("train", "")], &out) };
        let summary = run(&request, &mut Silent).unwrap();
        (summary, Artifact::read(out.join("model.rbk")).unwrap())
    };
    let (compact, _) = run_with("compact");
    assert_eq!((compact.corpus.valid_tokens, compact.corpus.vocab_size), (60 * 13, 10));
    let (published, artifact) = run_with("published");
    assert_eq!((published.corpus.valid_tokens, published.corpus.vocab_size), (60 * 14, 22));
    assert_eq!(artifact.vocabulary.encode(&spaced(common::text(60, 2))).len(), 60 * 14, "the file knows it too");
}

#[test]
fn a_text_on_disk_gives_the_same_run_with_and_without_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let corpus_folder = folder.path().join("corpus");
    std::fs::create_dir(&corpus_folder).unwrap();
    // Just over the length up to which a text is read into memory.
    let lines = common::text(2_000, 1);
    let repeats = (resnet_bk::corpus::IN_MEMORY as usize).div_ceil(lines.len()) + 1;
    for (name, text) in [("train.txt", lines.repeat(repeats)), ("valid.txt", common::text(60, 2))] {
        std::fs::write(corpus_folder.join(name), text).unwrap();
        let file = std::fs::File::options().append(true).open(corpus_folder.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
    }
    let corpus = resnet_bk::corpus::load(corpus_folder.to_str().unwrap()).unwrap();
    assert!(corpus.train.is_on_disk());
    let set = ["corpus.data_limit=6000".to_owned(), "corpus.ngram_tokens=5000".to_owned()];
    let recipe = Recipe::parse(&recipe(&[("train", "")]).to_toml(), "test", &set).unwrap();
    let kept = folder.path().join("cache");
    let run_with = |name: &str, cache: Cache| {
        let out = folder.path().join(name);
        let request =
            RunRequest { recipe: recipe.clone(), corpus: corpus.clone(), cache, ..request(&[("train", "")], &out) };
        let mut events = Events::default();
        let summary = run(&request, &mut events).unwrap();
        let of_cache = |event: &Event| matches!(event, Event::Warning { message } if message.starts_with("the cache"));
        assert!(!events.0.iter().any(of_cache), "{name}");
        (summary.corpus, summary.ngrams, std::fs::read(out.join("model.rbk")).unwrap())
    };
    let without = run_with("without", Cache::disabled());
    assert_eq!(without.0.train_tokens, 6_000);
    assert_eq!(without.1.counted, Some(5_000));
    assert!(!kept.exists());
    assert_eq!(run_with("first", Cache::at(&kept)), without);
    for kind in ["vocabulary", "tokens", "repeated-lines", "ngrams"] {
        assert!(std::fs::read_dir(kept.join(kind)).unwrap().count() > 0, "{kind}");
    }
    assert_eq!(run_with("second", Cache::at(&kept)), without);
    let inside: Vec<_> = std::fs::read_dir(&corpus_folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(inside.len(), 2, "nothing is written to the corpus: {inside:?}");
}
