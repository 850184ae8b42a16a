//! A small language, small models and small stages that the integration tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use resnet_bk::checkpoint::{Checkpoint, ModelState};
use resnet_bk::config::{ModelConfig, Recipe};
use resnet_bk::corpus::{Corpus, build_vocabulary};
use resnet_bk::observer::{Event, Observer};
use resnet_bk::random::Random;
use resnet_bk::train::TokenStreams;
use resnet_bk_runtime::internal::architecture::Mixer;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use std::sync::Arc;

/// Sentences of a small grammar: the next word follows from the last one, with some choice.
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
        train: text(400, 1),
        valid: text(60, 2),
        test: None,
        pretokenizer: Pretokenizer::Whitespace,
        licence: None,
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
    let [train, valid] = [&corpus.train, &corpus.valid].map(|text| vocabulary.encode(text).into());
    let streams = TokenStreams { train, dev: None, valid };
    (streams, Checkpoint::new(ModelState::initialise(config, Arc::new(vocabulary), 1)))
}

/// A recipe over the tiny model with the given stages, each `kind` with more TOML lines.
pub fn recipe(stages: &[(&str, &str)]) -> Recipe {
    let mut text =
        "seed = 1\n[model]\npreset = \"tiny\"\n[schedule]\nbatch_size = 8\nlearning_rate = 1e-2\n".to_owned();
    for (kind, more) in stages {
        text.push_str(&format!("[[stage]]\nkind = \"{kind}\"\n{more}\n"));
    }
    Recipe::parse(&text, "test", &[]).unwrap()
}

/// Gives up, as an interruption would, after some epochs of a stage.
pub struct Interrupt {
    pub stage: usize,
    pub epoch: usize,
}

impl Observer for Interrupt {
    fn event(&mut self, event: &Event) {
        // The checkpoint of an epoch is written after its event, so the first step of the next
        // epoch is the place to stop.
        if let Event::Step { stage, step, .. } = event {
            assert!(*stage < self.stage || *step < self.epoch * STEPS, "interrupted");
        }
    }
}

/// Steps of an epoch of the grammar with batches of 8 windows of 16.
pub const STEPS: usize = 40;
