//! A student that begins with parts of its teacher.

mod common;

use common::{config, recipe, streams_and_checkpoint};
use resnet_bk::checkpoint::ModelState;
use resnet_bk::compress::{FromTeacher, StageContext, init_from_teacher};
use resnet_bk::config::{ModelConfig, StageConfig};
use resnet_bk::observer::{Event, Observer};
use resnet_bk::random::Random;
use resnet_bk::train::{Stage, TokenStreams};
use resnet_bk_runtime::internal::architecture::Mixer;
use resnet_bk_runtime::internal::embedding::EmbeddingBin;
use resnet_bk_runtime::internal::tensor_spec::Role;

/// Rows are products of narrow rows with a projection, rounded to float32.
const TOLERANCE: f32 = 2e-4;

/// Bins of the grammar's words with rows of these widths.
fn bins(widths: [usize; 3]) -> Vec<EmbeddingBin> {
    [4, 6, 100].into_iter().zip(widths).map(|(words, width)| EmbeddingBin { words, width }).collect()
}

fn propagator(change: impl Fn(&mut ModelConfig)) -> ModelConfig {
    let mut config = config(Mixer::Propagator);
    change(&mut config);
    config
}

/// A random model whose bias, curve and gains are random too.
fn random_model(config: ModelConfig) -> (ModelState, TokenStreams) {
    let (streams, checkpoint) = streams_and_checkpoint(config);
    let mut model = checkpoint.model;
    let mut random = Random::new(5);
    for parameter in model.parameters.as_mut_slice() {
        if matches!(parameter.spec.role, Role::HeadBias | Role::Small) {
            parameter.values.iter_mut().for_each(|value| *value += 0.3 * random.normal());
        }
    }
    (model, streams)
}

/// A student of this configuration, and what it has from the teacher.
fn student(config: ModelConfig, teacher: &ModelState, streams: &TokenStreams) -> (ModelState, FromTeacher) {
    let mut student = ModelState::initialize(config, teacher.vocabulary.clone(), 9);
    let from_teacher = init_from_teacher(&mut student, teacher, &streams.train);
    (student, from_teacher)
}

fn logits(model: &ModelState, tokens: &[u32]) -> Vec<f32> {
    let model = model.parameters.to_model();
    let mut state = model.start();
    tokens.iter().flat_map(|token| model.next_logits(&[*token], &mut state).expect("causal")).collect()
}

#[test]
fn a_student_of_full_rank_has_the_teachers_logits() {
    let one_table = propagator(|_| {});
    let with_curve = propagator(|config| config.bias_knots = 5);
    let in_bins = propagator(|config| config.embedding_bins = bins([16, 9, 3]));
    let curve_and_bins = propagator(|config| (config.embedding_bins, config.bias_knots) = (bins([16, 16, 4]), 7));
    let untied = propagator(|config| config.tied_embeddings = false);
    for (teacher, of_student) in [
        (&one_table, &one_table),
        (&one_table, &with_curve),
        (&with_curve, &one_table),
        (&in_bins, &one_table),
        (&in_bins, &in_bins),
        (&in_bins, &curve_and_bins),
        (&one_table, &untied),
        (&untied, &untied),
        (&config(Mixer::Diagonal), &config(Mixer::Diagonal)),
    ] {
        let (teacher, streams) = random_model(teacher.clone());
        let (student, from_teacher) = student(of_student.clone(), &teacher, &streams);
        assert_eq!(from_teacher.blocks, 2);
        assert!((from_teacher.energy - 1.0).abs() < 1e-6, "{} of the energy", from_teacher.energy);
        let tokens = &streams.valid[..12];
        let differences =
            logits(&student, tokens).into_iter().zip(logits(&teacher, tokens)).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest < TOLERANCE, "{largest}: {of_student:?}");
    }
}

#[test]
fn wider_rows_keep_more_energy() {
    let (teacher, streams) = random_model(propagator(|_| {}));
    let energy = |d_model: usize, widths: [usize; 3]| {
        let narrow = propagator(|config| (config.d_model, config.embedding_bins) = (d_model, bins(widths)));
        student(narrow, &teacher, &streams).1.energy
    };
    let growing = [[1, 1, 1], [4, 2, 1], [8, 4, 2], [12, 8, 4], [16, 12, 9]].map(|widths| energy(16, widths));
    assert!(growing.is_sorted_by(|a, b| a + 0.01 < *b), "{growing:?}");
    assert!(growing[0] > 0.05 && growing[4] < 1.0, "{growing:?}");
    let narrower = [2, 4, 8, 12].map(|d_model| energy(d_model, [d_model; 3]));
    assert!(narrower.is_sorted_by(|a, b| a + 0.01 < *b) && narrower[3] < 1.0, "{narrower:?}");
    // A wider student has all of the teacher's columns and further ones.
    assert!((energy(24, [24; 3]) - 1.0).abs() < 1e-6);
}

#[test]
fn frequent_words_are_kept_best() {
    let (teacher, _) = random_model(propagator(|_| {}));
    let narrow = propagator(|config| config.embedding_bins = vec![EmbeddingBin { words: 100, width: 6 }]);
    let words = teacher.vocabulary.len();
    let row = |model: &ModelState, word: u32| {
        let model = model.parameters.to_model();
        // Hidden states do not show rows, so compare logits of the word after every other.
        let mut state = model.start();
        (0..words as u32).map(|token| model.next_logits(&[token], &mut state).expect("causal")[word as usize]).collect()
    };
    let distance = |word: u32, frequent: u32| {
        let tokens = vec![frequent; 10_000];
        let mut student = ModelState::initialize(narrow.clone(), teacher.vocabulary.clone(), 9);
        init_from_teacher(&mut student, &teacher, &tokens);
        let (own, wanted): (Vec<f32>, Vec<f32>) = (row(&student, word), row(&teacher, word));
        own.iter().zip(wanted).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
    };
    assert!(distance(3, 3) < 0.8 * distance(3, 7), "{} and {}", distance(3, 3), distance(3, 7));
}

#[test]
fn blocks_of_other_sizes_are_not_copied() {
    let (teacher, streams) = random_model(propagator(|_| {}));
    let blocks = |change: fn(&mut ModelConfig)| student(propagator(change), &teacher, &streams).1.blocks;
    assert_eq!(blocks(|config| config.n_layers = 1), 1);
    assert_eq!(blocks(|config| config.n_layers = 4), 4);
    assert_eq!(blocks(|config| config.heads = 3), 0);
    assert_eq!(blocks(|config| config.num_experts = 1), 0);
    assert_eq!(blocks(|config| config.d_model = 8), 0);
}

/// Keeps the perplexities of epochs, and what students had from their teacher.
#[derive(Default)]
struct Log {
    perplexities: Vec<f64>,
    begun: usize,
}

impl Observer for Log {
    fn event(&mut self, event: &Event) {
        match event {
            Event::EpochEnded { valid_perplexity, .. } => self.perplexities.push(*valid_perplexity),
            Event::BegunFromTeacher { energy, .. } => {
                assert!((0.2..1.0).contains(energy), "{energy}");
                self.begun += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn a_student_that_begins_with_its_teachers_rows_learns_faster() {
    let perplexity = |init: &str| {
        let student = format!(
            "{init}\nschedule.epochs = 1\nschedule.learning_rate = 2e-3\nfeature_weight = 0.0\ncompress_at = 1.0\n\
             student.d_model = 8\nstudent.n_layers = 1"
        );
        let recipe = recipe(&[("train", "schedule.epochs = 2"), ("distill", &student)]);
        let (streams, mut checkpoint) = streams_and_checkpoint(config(Mixer::Propagator));
        let mut log = Log::default();
        for (index, config) in recipe.stages.iter().enumerate() {
            let stage = Stage {
                number: index + 1,
                kind: config.kind(),
                schedule: config.schedule(),
                seed: 1,
                save_to: None,
                budget: None,
            };
            let context = StageContext { stage: &stage, streams: &streams, teacher: None, observer: &mut log };
            StageConfig::runner(config).run(&mut checkpoint, context).expect("trained");
        }
        assert_eq!(log.begun, usize::from(init.contains("teacher")));
        *log.perplexities.last().expect("an epoch")
    };
    let (with, without) = (perplexity("init = \"teacher\""), perplexity(""));
    assert!(with < 0.9 * without, "{with} with the teacher's rows, {without} without");
}
