//! What only training adds to a forward pass.

use crate::ops::{self, DropoutMask, ExpertDropout};
use crate::random::Random;
use crate::tape::Tensor;

/// Whether a forward pass is deterministic.
#[derive(Debug)]
pub enum Mode {
    /// No dropout, no noise.
    Evaluate,
    /// With the noise of one training step.
    Train(Noise),
}

/// Noise of one training step, all drawn from one keyed stream.
#[derive(Debug)]
pub struct Noise {
    /// Where masks and noise are drawn from.
    pub random: Random,
    /// Dropout in the experts and, in propagator blocks, after the mixer.
    pub dropout: f32,
    /// Dropout of the embeddings.
    pub embedding_dropout: f32,
    /// Scale of Gumbel noise on the router's logits; 0 for none.
    pub gumbel_noise: f32,
}

impl Mode {
    /// Mask of the mixer's output in a propagator block.
    pub fn mixer_dropout(&mut self) -> Option<DropoutMask> {
        self.draw(|noise| noise.dropout).map(|(p, key)| DropoutMask::new(p, key))
    }

    /// Masks of the experts' hidden states.
    pub fn expert_dropout(&mut self) -> Option<ExpertDropout> {
        self.draw(|noise| noise.dropout).map(|(p, key)| ExpertDropout { p, key })
    }

    /// Mask of the embeddings.
    pub fn embedding_dropout(&mut self) -> Option<DropoutMask> {
        self.draw(|noise| noise.embedding_dropout).map(|(p, key)| DropoutMask::new(p, key))
    }

    /// A probability above zero, and the key of a mask.
    fn draw(&mut self, probability: impl Fn(&Noise) -> f32) -> Option<(f32, u64)> {
        match self {
            Self::Train(noise) if probability(noise) > 0.0 => Some((probability(noise), noise.random.next_u64())),
            _ => None,
        }
    }

    /// Router logits plus Gumbel noise `-ln(-ln u)`, which turns the choice of the largest into a
    /// draw from the softmax.
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
