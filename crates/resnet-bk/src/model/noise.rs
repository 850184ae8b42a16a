//! Random noise of the forward pass in training.

use crate::ops::{self, DropoutMask, ExpertDropout};
use crate::random::Random;
use crate::tape::Tensor;

/// Whether a forward pass has noise.
#[derive(Debug)]
pub enum Mode {
    /// No dropout, no noise.
    Evaluate,
    /// With the noise of one training step.
    Train(Noise),
}

/// Noise of one training step, drawn from one keyed random stream.
#[derive(Debug)]
pub struct Noise {
    /// Random stream of masks and noise.
    pub random: Random,
    /// Dropout probability in the experts and, in propagator blocks, after the mixer.
    pub dropout: f32,
    /// Dropout probability of the embeddings.
    pub embedding_dropout: f32,
    /// Scale of Gumbel noise on the router's logits; 0 for none.
    pub gumbel_noise: f32,
}

impl Mode {
    /// Mask for the mixer's output in a propagator block.
    pub fn mixer_dropout(&mut self) -> Option<DropoutMask> {
        self.draw(|noise| noise.dropout).map(|(p, key)| DropoutMask::new(p, key))
    }

    /// Masks for the hidden states of the experts.
    pub fn expert_dropout(&mut self) -> Option<ExpertDropout> {
        self.draw(|noise| noise.dropout).map(|(p, key)| ExpertDropout { p, key })
    }

    /// Mask for the embeddings.
    pub fn embedding_dropout(&mut self) -> Option<DropoutMask> {
        self.draw(|noise| noise.embedding_dropout).map(|(p, key)| DropoutMask::new(p, key))
    }

    /// The probability and the key of a new mask; `None` if the probability is 0.
    fn draw(&mut self, probability: impl Fn(&Noise) -> f32) -> Option<(f32, u64)> {
        match self {
            Self::Train(noise) if probability(noise) > 0.0 => Some((probability(noise), noise.random.next_u64())),
            _ => None,
        }
    }

    /// Adds Gumbel noise `-ln(-ln u)` to router logits. The largest noisy logit is then a sample
    /// from the softmax.
    pub fn perturb(&mut self, logits: &Tensor) -> Tensor {
        match self {
            Self::Train(noise) if noise.gumbel_noise > 0.0 => {
                let [rows, experts] = logits.shape();
                let mut draw = || {
                    let u = noise.random.uniform().clamp(1e-7, 1.0 - 1e-7);
                    -(-u.ln()).ln() * noise.gumbel_noise
                };
                let values: Vec<f32> = (0..rows * experts).map(|_| draw()).collect();
                ops::shift(logits, values)
            }
            _ => logits.clone(),
        }
    }
}
