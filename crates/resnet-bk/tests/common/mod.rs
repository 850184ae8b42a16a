//! A small language, small models and short stages for the integration tests.

#![allow(dead_code, reason = "each test file uses a part of it")]

use resnet_bk::checkpoint::{Checkpoint, ModelState};
use resnet_bk::config::{ModelConfig, Recipe};
use resnet_bk::corpus::{Cache, Corpus, build_vocabulary, encode};
use resnet_bk::observer::{Event, Observer, Silent};
use resnet_bk::random::Random;
use resnet_bk::train::TokenStreams;
use resnet_bk_runtime::internal::architecture::Mixer;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use std::sync::Arc;

/// Sentences of a small grammar: each word determines a few possible next words.
pub fn text(lines: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::new();
    for _ in 0..lines {
        let mut word = random.below(20);
        for _ in 0..12 {
            text.push_str(&format!("w{word} "));
            word = (word * 3 + 1 + random.below(2)) % 20;
        }
        text.push('\n');
    }
    text
}

pub fn corpus() -> Corpus {
    Corpus {
        name: "grammar".to_owned(),
        train: text(400, 1).into(),
        valid: text(60, 2).into(),
        test: None,
        pretokenizer: Pretokenizer::Whitespace,
        license: None,
    }
}

pub fn config(mixer: Mixer) -> ModelConfig {
    let preset = match mixer {
        Mixer::Diagonal => ModelConfig::preset("tiny").unwrap(),
        Mixer::Propagator => {
            let memory = ModelConfig::preset("memory").unwrap();
            let tiny = ModelConfig::preset("tiny").unwrap();
            ModelConfig { mixer, eta: memory.eta, positions: false, tied_embeddings: true, ..tiny }
        }
    };
    ModelConfig { dropout: 0.0, embedding_dropout: 0.0, ..preset }
}

pub fn streams_and_checkpoint(config: ModelConfig) -> (TokenStreams, Checkpoint) {
    let corpus = corpus();
    let vocabulary =
        build_vocabulary(&corpus.train, config.vocab_size, corpus.pretokenizer, BlankLines::Dropped).unwrap();
    let tokens = |text| encode(text, &vocabulary, None, &Cache::disabled(), &mut Silent).unwrap().tokens;
    let [train, valid] = [&corpus.train, &corpus.valid].map(tokens);
    let streams = TokenStreams { train, dev: None, valid };
    (streams, Checkpoint::new(ModelState::initialize(config, Arc::new(vocabulary), 1)))
}

/// A recipe for the tiny model with these stages, each with its `kind` and more TOML lines.
pub fn recipe(stages: &[(&str, &str)]) -> Recipe {
    let mut text =
        "seed = 1\n[model]\npreset = \"tiny\"\n[schedule]\nbatch_size = 8\nlearning_rate = 1e-2\n".to_owned();
    for (kind, more) in stages {
        text.push_str(&format!("[[stage]]\nkind = \"{kind}\"\n{more}\n"));
    }
    Recipe::parse(&text, "test", &[]).unwrap()
}

/// Panics after some epochs of a stage, like an interruption.
pub struct Interrupt {
    pub stage: usize,
    pub epoch: usize,
}

impl Observer for Interrupt {
    fn event(&mut self, event: &Event) {
        // The checkpoint of an epoch is written after its event, so stop at the first step of the
        // next epoch.
        if let Event::Step { stage, step, .. } = event {
            assert!(*stage < self.stage || *step < self.epoch * STEPS, "interrupted");
        }
    }
}

/// Steps per epoch of the grammar with batches of 8 windows of 16 tokens.
pub const STEPS: usize = 40;

/// Records events.
#[derive(Default)]
pub struct Events(pub Vec<Event>);

impl Observer for Events {
    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

impl Events {
    /// Losses of the steps of a stage.
    pub fn losses(&self, of_stage: usize) -> Vec<f64> {
        let loss = |event: &Event| match event {
            Event::Step { stage, loss, .. } if *stage == of_stage => Some(*loss),
            _ => None,
        };
        self.0.iter().filter_map(loss).collect()
    }

    /// Messages of the warnings.
    pub fn warnings(&self) -> Vec<&str> {
        let mut messages = Vec::new();
        for event in &self.0 {
            if let Event::Warning { message } = event {
                messages.push(message.as_str());
            }
        }
        messages
    }

    /// Perplexities of the dev slice after the epochs of a stage.
    pub fn dev_perplexities(&self, of: usize) -> Vec<f64> {
        let dev = |event: &Event| match event {
            Event::EpochEnded { stage, dev_perplexity, .. } if *stage == of => *dev_perplexity,
            _ => None,
        };
        self.0.iter().filter_map(dev).collect()
    }
}
