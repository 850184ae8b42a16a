//! From named tensors to layers.

use super::ModelError;
use super::block::{ActivationQuantizers, Block, MixerWeights};
use super::layers::{LayerNorm, Linear, MixtureOfExperts};
use crate::architecture::{Architecture, Mixer};
use crate::kernels::exp;
use crate::rank_curve::rank_curve;
use std::collections::HashMap;

/// Takes tensors by their canonical names and checks their sizes.
pub(super) struct Tensors<F> {
    lengths: HashMap<String, usize>,
    find: F,
}

impl<F: FnMut(&str) -> Option<Vec<f32>>> Tensors<F> {
    /// Of a valid architecture; `find` gives the values of a tensor.
    pub fn new(architecture: &Architecture, find: F) -> Self {
        let lengths = architecture.tensors().into_iter().map(|spec| (spec.name.clone(), spec.len())).collect();
        Self { lengths, find }
    }

    /// The values of one tensor.
    pub fn take(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        let expected = self.lengths[name];
        let values = (self.find)(name).unwrap_or_default();
        if values.len() != expected {
            return Err(ModelError::Tensor { name: name.to_owned(), found: values.len(), expected });
        }
        Ok(values)
    }

    /// Rows and projections of the embedding table.
    pub fn embedding_bank(&mut self, architecture: &Architecture) -> Result<Vec<f32>, ModelError> {
        if architecture.embedding_bins.is_empty() {
            return self.take("embedding.weight");
        }
        let mut bank = Vec::new();
        for (index, bin) in architecture.embedding_bins.iter().enumerate() {
            bank.extend(self.take(&format!("embedding.bins.{index}.weight"))?);
            if bin.is_projected(architecture.d_model) {
                bank.extend(self.take(&format!("embedding.bins.{index}.projection"))?);
            }
        }
        Ok(bank)
    }

    /// Bias of the head, with its curve.
    pub fn head_bias(&mut self, architecture: &Architecture) -> Result<Vec<f32>, ModelError> {
        let mut bias = self.take("head.bias")?;
        if architecture.bias_knots > 0 {
            let curve = rank_curve(&self.take("head.curve")?, bias.len());
            bias.iter_mut().zip(curve).for_each(|(bias, curve)| *bias += curve);
        }
        Ok(bias)
    }

    /// Gain and shift of a layer norm.
    pub fn layer_norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm { gamma: self.take(&format!("{name}.gamma"))?, beta: self.take(&format!("{name}.beta"))? })
    }

    /// The weights of block `index`.
    pub fn block(&mut self, architecture: &Architecture, index: usize) -> Result<Block, ModelError> {
        let block = format!("blocks.{index}");
        let mixer = format!("{block}.mixer");
        Ok(Block {
            norm: self.layer_norm(&format!("{block}.norm"))?,
            mixer: match architecture.mixer {
                Mixer::Diagonal => self.diagonal(&mixer)?,
                Mixer::Propagator => self.propagator(&mixer, &format!("{block}.moe_norm"))?,
            },
            eta: if architecture.learned_eta {
                self.take(&format!("{mixer}.log_eta"))?.into_iter().map(exp).collect()
            } else {
                architecture.resolvent.eta.clone()
            },
            quantizers: self.quantizers(architecture, &mixer)?,
            moe: self.mixture_of_experts(&format!("{block}.moe"), architecture.experts[index])?,
        })
    }

    fn linear(&mut self, name: &str) -> Result<Linear, ModelError> {
        Ok(Linear { weight: self.take(&format!("{name}.weight"))?, bias: self.take(&format!("{name}.bias"))? })
    }

    fn diagonal(&mut self, mixer: &str) -> Result<MixerWeights, ModelError> {
        Ok(MixerWeights::Diagonal {
            potential: self.linear(&format!("{mixer}.potential"))?,
            output: self.linear(&format!("{mixer}.output"))?,
            scale: self.take(&format!("{mixer}.scale"))?[0],
        })
    }

    fn propagator(&mut self, mixer: &str, moe_norm: &str) -> Result<MixerWeights, ModelError> {
        Ok(MixerWeights::Propagator {
            hopping: self.linear(&format!("{mixer}.hopping"))?,
            barrier: self.linear(&format!("{mixer}.barrier"))?,
            source: self.linear(&format!("{mixer}.source"))?,
            norm: self.take(&format!("{mixer}.norm.gamma"))?,
            gate: self.linear(&format!("{mixer}.gate"))?,
            output: self.linear(&format!("{mixer}.output"))?,
            moe_norm: self.layer_norm(moe_norm)?,
        })
    }

    fn quantizers(
        &mut self,
        architecture: &Architecture,
        mixer: &str,
    ) -> Result<Option<ActivationQuantizers>, ModelError> {
        let Some(bits) = architecture.quantization.as_ref().and_then(|policy| policy.activation_bits) else {
            return Ok(None);
        };
        Ok(Some(ActivationQuantizers {
            bits,
            potential: self.take(&format!("{mixer}.potential_step"))?,
            features: self.take(&format!("{mixer}.feature_step"))?,
        }))
    }

    fn mixture_of_experts(&mut self, moe: &str, experts: usize) -> Result<MixtureOfExperts, ModelError> {
        let router = self.linear(&format!("{moe}.router"))?;
        let experts = (0..experts)
            .map(|expert| {
                let expert = format!("{moe}.experts.{expert}");
                Ok((self.linear(&format!("{expert}.up"))?, self.linear(&format!("{expert}.down"))?))
            })
            .collect::<Result<_, _>>()?;
        Ok(MixtureOfExperts { router, experts })
    }
}
