//! Builds the layers of a model from its tensors.

use super::ModelError;
use super::block::{ActivationQuantizers, Block, MixerWeights};
use super::layers::{LayerNorm, Linear, MixtureOfExperts};
use crate::architecture::{Architecture, Mixer};
use crate::kernels::exp;
use crate::rank_curve::rank_curve;
use crate::tensor_id::{BlockTensor, ExpertMap, LinearPart, MixerMap, ModelTensor, NormPart, TensorId};
use std::collections::HashMap;

/// Looks up tensors by their identity and checks their sizes.
pub(super) struct Tensors<F> {
    lengths: HashMap<TensorId, usize>,
    find: F,
}

impl<F: FnMut(TensorId) -> Option<Vec<f32>>> Tensors<F> {
    /// For a valid architecture. `find` returns the values of a tensor.
    pub fn new(architecture: &Architecture, find: F) -> Self {
        let lengths = architecture.tensors().into_iter().map(|spec| (spec.id, spec.len())).collect();
        Self { lengths, find }
    }

    /// The values of one tensor.
    pub fn take(&mut self, tensor: ModelTensor) -> Result<Vec<f32>, ModelError> {
        let id = TensorId::Values(tensor);
        let expected = self.lengths[&id];
        let values = (self.find)(id).unwrap_or_default();
        if values.len() != expected {
            return Err(ModelError::Tensor { id, found: values.len(), expected });
        }
        Ok(values)
    }

    /// The packed embedding table: rows and projections of all bins.
    pub fn embedding_table(&mut self, architecture: &Architecture) -> Result<Vec<f32>, ModelError> {
        if architecture.embedding_bins.is_empty() {
            return self.take(ModelTensor::Embedding);
        }
        let mut table = Vec::new();
        for (index, bin) in architecture.embedding_bins.iter().enumerate() {
            table.extend(self.take(ModelTensor::BinRows(index))?);
            if bin.is_projected(architecture.d_model) {
                table.extend(self.take(ModelTensor::BinProjection(index))?);
            }
        }
        Ok(table)
    }

    /// Bias of the head, including its curve.
    pub fn head_bias(&mut self, architecture: &Architecture) -> Result<Vec<f32>, ModelError> {
        let mut bias = self.take(ModelTensor::HeadBias)?;
        if architecture.bias_knots > 0 {
            let curve = rank_curve(&self.take(ModelTensor::HeadCurve)?, bias.len());
            bias.iter_mut().zip(curve).for_each(|(bias, curve)| *bias += curve);
        }
        Ok(bias)
    }

    /// Gain and shift of a layer norm.
    pub fn layer_norm(&mut self, tensor: impl Fn(NormPart) -> ModelTensor) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm { gamma: self.take(tensor(NormPart::Gamma))?, beta: self.take(tensor(NormPart::Beta))? })
    }

    /// The weights of block `index`.
    pub fn block(&mut self, architecture: &Architecture, index: usize) -> Result<Block, ModelError> {
        let tensor = |tensor| ModelTensor::Block(index, tensor);
        Ok(Block {
            norm: self.layer_norm(|part| tensor(BlockTensor::Norm(part)))?,
            mixer: match architecture.mixer {
                Mixer::Diagonal => self.diagonal(index)?,
                Mixer::Propagator => self.propagator(index)?,
            },
            eta: if architecture.learned_eta {
                self.take(tensor(BlockTensor::LogEta))?.into_iter().map(exp).collect()
            } else {
                architecture.resolvent.eta.clone()
            },
            quantizers: self.quantizers(architecture, index)?,
            moe: self.mixture_of_experts(index, architecture.experts[index])?,
        })
    }

    fn linear(&mut self, tensor: impl Fn(LinearPart) -> ModelTensor) -> Result<Linear, ModelError> {
        Ok(Linear { weight: self.take(tensor(LinearPart::Weight))?, bias: self.take(tensor(LinearPart::Bias))? })
    }

    fn mixer_map(&mut self, block: usize, map: MixerMap) -> Result<Linear, ModelError> {
        self.linear(|part| ModelTensor::Block(block, BlockTensor::Mixer(map, part)))
    }

    fn diagonal(&mut self, block: usize) -> Result<MixerWeights, ModelError> {
        Ok(MixerWeights::Diagonal {
            potential: self.mixer_map(block, MixerMap::Potential)?,
            output: self.mixer_map(block, MixerMap::Output)?,
            scale: self.take(ModelTensor::Block(block, BlockTensor::MixerScale))?[0],
        })
    }

    fn propagator(&mut self, block: usize) -> Result<MixerWeights, ModelError> {
        Ok(MixerWeights::Propagator {
            hopping: self.mixer_map(block, MixerMap::Hopping)?,
            barrier: self.mixer_map(block, MixerMap::Barrier)?,
            source: self.mixer_map(block, MixerMap::Source)?,
            norm: self.take(ModelTensor::Block(block, BlockTensor::MixerNorm))?,
            gate: self.mixer_map(block, MixerMap::Gate)?,
            output: self.mixer_map(block, MixerMap::Output)?,
            moe_norm: self.layer_norm(|part| ModelTensor::Block(block, BlockTensor::ExpertNorm(part)))?,
        })
    }

    fn quantizers(
        &mut self,
        architecture: &Architecture,
        block: usize,
    ) -> Result<Option<ActivationQuantizers>, ModelError> {
        let Some(bits) = architecture.quantization.as_ref().and_then(|policy| policy.activation_bits) else {
            return Ok(None);
        };
        Ok(Some(ActivationQuantizers {
            bits,
            potential: self.take(ModelTensor::Block(block, BlockTensor::PotentialScale))?,
            features: self.take(ModelTensor::Block(block, BlockTensor::FeatureScales))?,
        }))
    }

    fn mixture_of_experts(&mut self, block: usize, experts: usize) -> Result<MixtureOfExperts, ModelError> {
        let router = self.linear(|part| ModelTensor::Block(block, BlockTensor::Router(part)))?;
        let mut map =
            |expert, map| self.linear(|part| ModelTensor::Block(block, BlockTensor::Expert(expert, map, part)));
        let experts = (0..experts)
            .map(|expert| Ok((map(expert, ExpertMap::Up)?, map(expert, ExpertMap::Down)?)))
            .collect::<Result<_, _>>()?;
        Ok(MixtureOfExperts { router, experts })
    }
}
