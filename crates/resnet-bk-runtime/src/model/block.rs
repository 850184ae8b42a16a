//! One block: a mixer over time and a mixture of experts. Equations: [`crate::model`].

use super::layers::{LayerNorm, Linear, MixtureOfExperts};
use crate::architecture::{Architecture, Causality};
use crate::kernels::{rms_norm, silu_gate};
use crate::quantization::fake_quantize_activations;
use crate::resolvent::{Chain, PropagatorInput, PropagatorState, propagate};

/// The weights of a block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The norm before the mixer.
    pub norm: LayerNorm,
    /// The mixer over time.
    pub mixer: MixerWeights,
    /// Spectral shift, `[H]`.
    pub eta: Vec<f32>,
    /// The quantizers of the activations, if they are quantized.
    pub quantizers: Option<ActivationQuantizers>,
    /// The mixture of experts, the feed-forward part.
    pub moe: MixtureOfExperts,
}

/// The weights of either mixer.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model has one for each block, all of the same variant")]
pub(super) enum MixerWeights {
    Diagonal {
        potential: Linear,
        output: Linear,
        scale: f32,
    },
    Propagator {
        hopping: Linear,
        barrier: Linear,
        source: Linear,
        norm: Vec<f32>,
        gate: Linear,
        output: Linear,
        moe_norm: LayerNorm,
    },
}

/// Quantizers with calibrated scales for the input and output of the resolvent.
#[derive(Clone, Debug)]
pub(super) struct ActivationQuantizers {
    /// Bits of a code.
    pub bits: u8,
    /// Scale of the potential (of the barrier in a propagator), `[1]`.
    pub potential: Vec<f32>,
    /// Scales of the features (of the waves in a propagator), `[2H]`.
    pub features: Vec<f32>,
}

impl Block {
    /// Applies the block to the rows `x` `[n, D]` of one sequence, continuing from `state`.
    pub fn forward(&self, architecture: &Architecture, x: &mut [f32], state: &mut PropagatorState) {
        let (width, top_k) = (architecture.d_model, architecture.top_k);
        let normed = self.norm.forward(x);
        match &self.mixer {
            MixerWeights::Diagonal { potential, output, scale } => {
                let ffn = self.moe.forward(&normed, top_k, width);
                let mut v = potential.forward(&ffn);
                clamp(&mut v, architecture.v_max);
                self.quantize_potential(&mut v);
                let chain = Chain {
                    diagonal: &architecture.resolvent.diagonal,
                    hopping: &architecture.resolvent.hopping,
                    eta: &self.eta,
                };
                let mut features = vec![0.0; 2 * v.len()];
                match architecture.causality {
                    Causality::Causal => chain.left(&v, &mut state.ratio, &mut features),
                    Causality::Bidirectional => chain.whole(&v, &mut features),
                }
                clamp(&mut features, architecture.feature_clamp);
                self.quantize_features(&mut features);
                for ((x, f), y) in x.iter_mut().zip(&ffn).zip(output.forward(&features)) {
                    *x += f + y * scale;
                }
            }
            MixerWeights::Propagator { hopping, barrier, source, norm, gate, output, moe_norm } => {
                let mut v = barrier.forward(&normed);
                self.quantize_potential(&mut v);
                let (hopping, source) = (hopping.forward(&normed), source.forward(&normed));
                let input = PropagatorInput { hopping: &hopping, barrier: &v, source: &source, eta: &self.eta };
                let mut waves = vec![0.0; source.len()];
                let mut ratios = vec![0.0; source.len()];
                propagate(input, state, &mut waves, &mut ratios);
                self.quantize_features(&mut waves);
                // Only training uses the ratios, so their buffer is used for the normalized waves.
                let mut mixed = ratios;
                rms_norm(&waves, norm, &mut mixed);
                let mut gated = vec![0.0; x.len()];
                silu_gate(&output.forward(&mixed), &gate.forward(&normed), &mut gated);
                add(x, &gated);
                add(x, &self.moe.forward(&moe_norm.forward(x), top_k, width));
            }
        }
    }

    fn quantize_potential(&self, values: &mut [f32]) {
        if let Some(quantizers) = &self.quantizers {
            fake_quantize_activations(values, &quantizers.potential, quantizers.bits);
        }
    }

    fn quantize_features(&self, values: &mut [f32]) {
        if let Some(quantizers) = &self.quantizers {
            fake_quantize_activations(values, &quantizers.features, quantizers.bits);
        }
    }
}

/// `x += y`, elementwise.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn clamp(values: &mut [f32], bound: f32) {
    for x in values {
        *x = x.clamp(-bound, bound);
    }
}
