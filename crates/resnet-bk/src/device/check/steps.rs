//! Compares training steps of every kind of stage on a GPU with those on the host.

use super::{Comparison, TOLERANCE, difference};
use crate::checkpoint::{Checkpoint, ModelState};
use crate::compress::StageContext;
use crate::config::Recipe;
use crate::device::{Cuda, Device};
use crate::observer::{Event, Observer};
use crate::random::Random;
use crate::train::{Stage, TokenStreams};
use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use std::sync::Arc;

/// The compared run.
const RECIPE: &str = include_str!("recipe.toml");
/// Words of its text.
const WORDS: usize = 100;
/// Tokens to train on: a dozen steps of each stage.
const TOKENS: usize = 850;
/// Later steps start from parameters that differ by the rounding of earlier ones.
const LATER_STEPS: f64 = 10.0 * TOLERANCE;

/// Losses and gradient norms of each step, perplexities of each stage.
#[derive(Default)]
struct Recorded {
    losses: Vec<f32>,
    norms: Vec<f32>,
    perplexities: Vec<f32>,
}

impl Observer for Recorded {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Step { loss, gradient_norm, .. } => {
                self.losses.push(*loss as f32);
                self.norms.push(*gradient_norm as f32);
            }
            Event::EpochEnded { valid_perplexity, .. } => self.perplexities.push(*valid_perplexity as f32),
            _ => {}
        }
    }
}

/// Runs all stages on both devices and compares losses, gradient norms and perplexities.
pub fn check_steps(cuda: &Cuda) -> Vec<Comparison> {
    let recipe = Recipe::parse(RECIPE, "recipe.toml", &[]).expect("the recipe is part of the program");
    let special = [UNKNOWN, END_OF_LINE].map(str::to_owned);
    let words = special.into_iter().chain((2..WORDS).map(|word| word.to_string())).collect();
    let vocabulary = Arc::new(Vocabulary::new(words, Pretokenizer::Whitespace).expect("the words differ"));
    let tokens = |n, salt| {
        let mut random = Random::new(salt);
        (0..n).map(|_| (random.uniform() * random.uniform() * WORDS as f32) as u32).collect::<Vec<u32>>().into()
    };
    let streams = TokenStreams { train: tokens(TOKENS, 1), dev: None, valid: tokens(333, 2) };
    let mut models = [Device::Cpu, Device::Cuda(cuda.clone())].map(|device| {
        let mut model = ModelState::initialize(recipe.model.clone(), vocabulary.clone(), recipe.seed);
        model.parameters.set_device(device);
        Checkpoint::new(model)
    });
    let mut comparisons = Vec::new();
    for (index, config) in recipe.stages.iter().enumerate() {
        let [host, device] = models.each_mut().map(|checkpoint| {
            let mut recorded = Recorded::default();
            let stage = Stage {
                number: index + 1,
                kind: config.kind(),
                schedule: config.schedule(),
                seed: recipe.seed,
                save_to: None,
                budget: None,
            };
            let context = StageContext { stage: &stage, streams: &streams, teacher: None, observer: &mut recorded };
            config.runner().run(checkpoint, context).map(|_| recorded)
        });
        let mut compare = |result: &str, expected: &[f32], found: &[f32], tolerance| {
            comparisons.push(Comparison {
                case: format!("{} steps of a {} stage", expected.len(), config.kind()),
                result: result.to_owned(),
                error: difference(expected, found),
                tolerance,
            });
        };
        match (host, device) {
            (Ok(host), Ok(device)) => {
                compare("loss of the first step", &host.losses[..1], &device.losses[..1], LATER_STEPS);
                compare("losses", &host.losses, &device.losses, LATER_STEPS);
                compare("gradient norms", &host.norms, &device.norms, 10.0 * LATER_STEPS);
                compare("perplexity", &host.perplexities, &device.perplexities, LATER_STEPS);
            }
            _ => compare("result", &[0.0], &[f32::NAN], TOLERANCE),
        }
    }
    comparisons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_is_valid() {
        let recipe = Recipe::parse(RECIPE, "recipe.toml", &[]).unwrap();
        let carrying = recipe.stages.iter().filter(|stage| stage.schedule().carry_windows > 1);
        assert!(carrying.count() >= 2, "a model and a teacher carry their state");
    }
}
