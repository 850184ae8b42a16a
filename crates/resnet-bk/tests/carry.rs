//! Training in which the state goes on from window to window.

mod common;

use common::{Events, config, streams_and_checkpoint};
use resnet_bk::batch::{Batch, Carried};
use resnet_bk::checkpoint::Checkpoint;
use resnet_bk::compress::{CrossEntropy, StageContext};
use resnet_bk::config::{ModelConfig, Recipe, Schedule, StageKind};
use resnet_bk::device::Device;
use resnet_bk::evaluate::{evaluate_model, evaluate_streaming};
use resnet_bk::model::{CarriedState, LanguageModel, Leaves, Mode};
use resnet_bk::numerics::{Gradient, Precision};
use resnet_bk::observer::{Event, Observer};
use resnet_bk::train::{Stage, TokenStreams, train};
use resnet_bk_runtime::internal::architecture::Mixer;

fn carrying(mixer: Mixer) -> ModelConfig {
    ModelConfig { positions: false, ..config(mixer) }
}

/// Windows `from..to` of two rows of the training text.
fn batch(tokens: &[u32], from: usize, to: usize, carried: Carried) -> Batch {
    let rows = |shift: usize| {
        let row = |start: usize| &tokens[start + from + shift..start + to + shift];
        [row(0), row(500)].concat().into()
    };
    Batch { inputs: rows(0), targets: rows(1), batch_size: 2, n_seq: to - from, carried }
}

/// The hidden states of rows of `columns` numbers, position by position.
fn by_row(hidden: &[f32]) -> [&[f32]; 2] {
    hidden.split_at(hidden.len() / 2).into()
}

#[test]
fn two_windows_of_8_equal_one_of_16() {
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        let (streams, checkpoint) = streams_and_checkpoint(carrying(mixer));
        let parameters = &checkpoint.model.parameters;
        let architecture = parameters.architecture();
        let model = LanguageModel::bind(architecture, Gradient::Exact, &Leaves::plain(parameters));
        let mut state = CarriedState::default();
        let mut run = |from: usize, to: usize, carried| {
            let batch = batch(&streams.train, from, to, carried);
            let before = state.before(&batch, architecture, &Device::Cpu);
            let (output, after) = model.forward_batch(before, &batch, &mut Mode::Evaluate);
            state.replace(after);
            output.hidden.values().to_vec()
        };
        let whole = run(0, 16, Carried::No);
        let (first, second) = (run(0, 8, Carried::Begin), run(8, 16, Carried::Continue));
        for row in 0..2 {
            let joined = [by_row(&first)[row], by_row(&second)[row]].concat();
            assert_eq!(joined, by_row(&whole)[row], "{mixer:?}, row {row}");
        }
        assert_ne!(run(8, 16, Carried::No), second, "{mixer:?}: the state matters");
    }
}

fn trained(mixer: Mixer, schedule: &Schedule) -> (TokenStreams, Checkpoint, Events) {
    let (streams, mut checkpoint) = streams_and_checkpoint(carrying(mixer));
    let stage = Stage { number: 1, kind: StageKind::Train, schedule, seed: 1, save_to: None, budget: None };
    let (mut objective, mut events) = (CrossEntropy { precision: Precision::Float32 }, Events::default());
    train(&mut checkpoint, &stage, &streams, &mut objective, &mut events).unwrap();
    (streams, checkpoint, events)
}

fn schedule(carry_windows: usize, window_lengths: &[usize]) -> Schedule {
    Schedule {
        epochs: Some(3),
        batch_size: 8,
        learning_rate: 1e-2,
        carry_windows,
        window_lengths: window_lengths.to_vec(),
        ..Schedule::default()
    }
}

#[test]
fn a_model_learns_over_carried_windows_and_predicts_over_more() {
    for mixer in [Mixer::Diagonal, Mixer::Propagator] {
        let (streams, checkpoint, _) = trained(mixer, &schedule(10, &[16, 8]));
        let model = checkpoint.model.parameters.to_model();
        let (reset, carried) = (evaluate_model(&model, &streams.valid), evaluate_streaming(&model, &streams.valid));
        // A uniform guess among the words has 21, the grammar about 2.5.
        assert!(reset.perplexity() < 8.0 && carried.perplexity() < 8.0, "{mixer:?}: {reset:?} {carried:?}");
    }
}

#[test]
fn the_rate_of_a_shorter_window_is_its_share_of_the_longest() {
    let constant =
        Schedule { shape: resnet_bk::config::LearningRateShape::Constant, warmup: 0.0, ..schedule(4, &[16, 8, 16, 4]) };
    let (_, _, events) = trained(Mixer::Propagator, &constant);
    let rate = |event: &Event| match event {
        Event::Step { learning_rate, .. } => Some(*learning_rate),
        _ => None,
    };
    let mut first: Vec<f64> = events.0.iter().filter_map(rate).take(4).collect();
    first.sort_by(f64::total_cmp);
    assert_eq!(first, [0.0025, 0.005, 0.01, 0.01]);
}

/// Panics at the first step of an epoch, like an interruption.
struct Interrupt(usize);

impl Observer for Interrupt {
    fn event(&mut self, event: &Event) {
        if let Event::EpochEnded { epoch, .. } = event {
            // The checkpoint of the epoch is written after its event.
            self.0 = if *epoch == self.0 { usize::MAX } else { self.0 };
        }
        assert!(self.0 != usize::MAX || !matches!(event, Event::Step { .. }), "interrupted");
    }
}

#[test]
fn resume_equals_uninterrupted() {
    let text = |stage: &str| {
        format!(
            "seed = 1\n[model]\npreset = \"tiny\"\npositions = false\ndropout = 0.1\n[schedule]\nbatch_size = 8\n\
             learning_rate = 1e-2\ncarry_windows = 6\nwindow_lengths = [16, 11]\nepochs = 3\n[[stage]]\n{stage}"
        )
    };
    for stage in ["kind = \"train\"\n", "kind = \"distill\"\ncompress_at = 0.4\nquantization.learned = {}\n"] {
        let recipe = Recipe::parse(&text(stage), "test", &[]).unwrap();
        let config = &recipe.stages[0];
        let folder = tempfile::tempdir().unwrap();
        let run = |start: Checkpoint, teacher: Option<_>, name: &str, observer: &mut dyn Observer| {
            let mut checkpoint = start;
            let save_to = Some(folder.path().join(name));
            let (kind, schedule) = (config.kind(), config.schedule());
            let stage = Stage { number: 1, kind, schedule, seed: 1, save_to, budget: None };
            let (streams, _) = streams_and_checkpoint(recipe.model.clone());
            let context = StageContext { stage: &stage, streams: &streams, teacher, observer };
            config.runner().run(&mut checkpoint, context).unwrap();
            checkpoint.model.parameters.iter().map(|parameter| parameter.values.to_vec()).collect::<Vec<_>>()
        };
        let start = || streams_and_checkpoint(recipe.model.clone()).1;
        let whole = run(start(), None, "whole", &mut Events::default());
        for epoch in [1, 2] {
            let name = format!("part-{epoch}");
            let broken = std::panic::catch_unwind(|| run(start(), None, &name, &mut Interrupt(epoch)));
            assert!(broken.is_err(), "{stage}: not interrupted");
            let saved = Checkpoint::read(&folder.path().join(&name)).unwrap();
            let teacher = Some(start().model);
            assert!(run(saved, teacher, &name, &mut Events::default()) == whole, "{stage}, {epoch} epochs");
        }
    }
}

#[test]
fn models_that_cannot_go_on_are_refused() {
    let base = "seed = 1\n[model]\npreset = \"tiny\"\n[schedule]\ncarry_windows = 8\n[[stage]]\nkind = \"train\"\n";
    let error = |text: &str| Recipe::parse(text, "test", &[]).unwrap_err().to_string();
    let positions = error(base);
    assert!(
        positions.contains("carry_windows is 8, but must be 1 where a model has position embeddings"),
        "{positions}"
    );
    let bidirectional = base.replace("\"tiny\"", "\"tiny\"\npositions = false\ncausality = \"bidirectional\"");
    let bidirectional = error(&bidirectional);
    assert!(
        bidirectional.contains("carry_windows is 8, but must be 1 where a model is bidirectional"),
        "{bidirectional}"
    );
    // The student can, but its teacher cannot.
    let student =
        "[[stage]]\nkind = \"distill\"\nschedule.carry_windows = 8\n[stage.model]\npreset = \"memory\"\nn_seq = 16\n";
    let of_teacher = error(&format!("{}{student}", base.replace("carry_windows = 8", "")));
    assert!(of_teacher.contains("[[stage]] 2 (distill): carry_windows is 8, but must be 1"), "{of_teacher}");
    let lengths = error(&base.replace("carry_windows = 8", "window_lengths = [16, 8]"));
    assert!(
        lengths.contains("window_lengths is [16, 8], but must be at most 8 lengths, no more than carry_windows"),
        "{lengths}"
    );
    let one = error(&base.replace("carry_windows = 8", "window_lengths = [16]"));
    assert!(one.contains("window_lengths is [16], but"), "{one}");
    let zero = error(&base.replace("carry_windows = 8", "carry_windows = 8\nwindow_lengths = [16, 0]"));
    assert!(zero.contains("window_lengths is 0"), "{zero}");
}
