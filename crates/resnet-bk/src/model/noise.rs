//! Random noise of the forward pass in training.

use crate::ops::{self, DropoutMask, EmbeddingDropout};
use crate::random::StepStream;
use crate::ranks::Share;
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
    pub stream: StepStream,
    /// The tokens of the forward pass in the global batch. All ranks draw from one stream, each at
    /// the places of its tokens.
    pub share: Share,
    /// Dropout probability in the experts and, in propagator blocks, after the mixer.
    pub dropout: f32,
    /// Dropout probability of the embeddings.
    pub embedding_dropout: f32,
    /// Probability of a word of the vocabulary to be dropped from the embeddings.
    pub word_dropout: f32,
    /// Dropout probability of the hidden states before the head.
    pub head_dropout: f32,
    /// Dropout probability of the weights of the mixers' maps.
    pub weight_dropout: f32,
    /// Scale of Gumbel noise on the router's logits; 0 for none.
    pub gumbel_noise: f32,
}

impl Mode {
    /// Mask for the mixer's output in a propagator block.
    pub fn mixer_dropout(&mut self) -> Option<DropoutMask> {
        self.mask_of_tokens(|noise| noise.dropout)
    }

    /// Mask for the hidden states of the experts; each expert has its part.
    pub fn expert_dropout(&mut self) -> Option<DropoutMask> {
        self.mask_of_tokens(|noise| noise.dropout)
    }

    /// Masks for the embeddings.
    pub fn embedding_dropout(&mut self) -> EmbeddingDropout {
        EmbeddingDropout {
            words: self.mask(|noise| noise.word_dropout),
            elements: self.mask_of_tokens(|noise| noise.embedding_dropout),
        }
    }

    /// Mask for the hidden states before the head.
    pub fn head_dropout(&mut self) -> Option<DropoutMask> {
        self.mask_of_tokens(|noise| noise.head_dropout)
    }

    /// Mask for the weights of a mixer's map.
    pub fn weight_dropout(&mut self) -> Option<DropoutMask> {
        self.mask(|noise| noise.weight_dropout)
    }

    /// A new mask over tokens. Each rank has the part of its own.
    fn mask_of_tokens(&mut self, probability: impl Fn(&Noise) -> f32) -> Option<DropoutMask> {
        let mask = self.mask(probability)?;
        match self {
            Self::Train(noise) => Some(mask.at(noise.share.first)),
            Self::Evaluate => None,
        }
    }

    /// A new mask, the same on all ranks; `None` if the probability is 0.
    fn mask(&mut self, probability: impl Fn(&Noise) -> f32) -> Option<DropoutMask> {
        match self {
            Self::Train(noise) if probability(noise) > 0.0 => {
                Some(DropoutMask::new(probability(noise), noise.stream.take(1)))
            }
            _ => None,
        }
    }

    /// Adds Gumbel noise `-ln(-ln u)` to router logits. The largest noisy logit is then a sample
    /// from the softmax.
    pub fn perturb(&mut self, logits: &Tensor) -> Tensor {
        match self {
            Self::Train(noise) if noise.gumbel_noise > 0.0 => {
                let (experts, share) = (logits.columns(), noise.share);
                let all = noise.stream.take((share.total * experts) as u64);
                let draw = all.skip((share.first * experts) as u64);
                ops::add_gumbel(logits, noise.gumbel_noise, draw)
            }
            _ => logits.clone(),
        }
    }
}
