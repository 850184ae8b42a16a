//! From the tensors of the original project to those of this one.
//!
//! ```text
//! original                             here                   original shape
//! token_embedding.weight               embedding.weight       [V, D]
//! position_embedding.weight            positions.weight       [T, D]
//! blocks.B.layer_norm.{weight,bias}    blocks.B.norm          [D]
//! blocks.B.bk_layer.
//!     h0_diag_base, z                  a0 = diag - Re z, eta = Im z    [1, T], []
//!     h0_sub_base, h0_super_base       s                      [1, T - 1]
//!     v_proj                           mixer.potential        [1, D], [1]
//!     output_proj                      mixer.output           [D, 2], [D]
//!     bk_scale                         mixer.scale            []
//!     moe_ffn.gating_network           moe.router             [E, D], [E]
//!     moe_ffn.experts.E.{0,3}          moe.experts.E.{up,down}    [F, D], [F]; [D, F], [D]
//! layer_norm_final                     norm                   [D]
//! lm_head                              head                   [V, D], [V]
//! ```
//!
//! Linear maps are `[out, in]` there and `[in, out]` here. The names may have a prefix, such as
//! `model.`: it is what stands before `token_embedding.weight`. Constants that are missing have the
//! original's values: a diagonal of -2, off-diagonals of 1, `z = i`.
//!
//! Source: src/models/resnet_bk.py and src/models/moe.py of Project ResNet-BK.

use super::error::{Fault, REAL};
use super::file::Tensors;
use super::settings::OriginalSettings;
use super::tensor::TensorView;
use crate::config::{ModelConfig, PerHead};
use crate::numerics::Gradient;
use crate::parameters::{Parameter, Parameters};
use resnet_bk_runtime::internal::architecture::{Architecture, Causality};
use resnet_bk_runtime::internal::architecture_validation::MAX_BLOCKS;
use resnet_bk_runtime::internal::tensor_id::{
    BlockTensor, ExpertMap, LinearPart, MixerMap, ModelTensor, NormPart, TensorId,
};
use resnet_bk_runtime::internal::tensor_spec::TensorSpec;

/// Name of the tensor by which a model is known, without its prefix.
pub(super) const EMBEDDING: &str = "token_embedding.weight";
/// Share of the original project's gradient that is not the exact one's.
const BLEND: f32 = 0.5;

/// The model of a checkpoint's tensors.
pub(super) fn model(tensors: Tensors, settings: &OriginalSettings) -> Result<(ModelConfig, Parameters), Fault> {
    let mut source = Source::new(tensors)?;
    let (config, experts) = source.config(settings)?;
    config.validate()?;
    let architecture = Architecture { experts, ..config.architecture() };
    architecture.validate()?;
    let mut failure = None;
    let found = |spec: &TensorSpec| match source.parameter(spec) {
        Ok(parameter) => Some(parameter),
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    };
    let parameters = Parameters::from_found(architecture, found);
    match (failure, source.tensors.into_keys().next()) {
        (Some(failure), _) => Err(failure),
        (None, Some(unknown)) => Err(Fault::Unknown(unknown)),
        (None, None) => Ok((config, parameters.expect("every tensor was found with its sizes"))),
    }
}

/// The tensors that are left.
struct Source<'a> {
    tensors: Tensors<'a>,
    prefix: String,
}

impl<'a> Source<'a> {
    fn new(tensors: Tensors<'a>) -> Result<Self, Fault> {
        let prefix = tensors.keys().find_map(|name| name.strip_suffix(EMBEDDING)).ok_or(Fault::NoModel)?;
        Ok(Self { prefix: prefix.to_owned(), tensors })
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Sizes of a matrix.
    fn matrix(&self, name: &str) -> Result<[usize; 2], Fault> {
        let name = self.name(name);
        let tensor = self.tensors.get(&name).ok_or_else(|| Fault::Missing(name.clone()))?;
        tensor.sizes().try_into().map_err(|_| Fault::Elements {
            name,
            found: format!("{} dimensions", tensor.sizes().len()),
            expected: "2 dimensions",
        })
    }

    /// How many of the tensors `name(0)`, `name(1)`, ... there are, at most `most`.
    fn count(&self, most: usize, name: impl Fn(usize) -> String) -> usize {
        (0..most).take_while(|&index| self.tensors.contains_key(&self.name(&name(index)))).count()
    }

    /// The configuration, and the number of experts of each block. Takes the constants.
    fn config(&mut self, settings: &OriginalSettings) -> Result<(ModelConfig, Vec<usize>), Fault> {
        let [vocab_size, d_model] = self.matrix(EMBEDDING)?;
        let [n_seq, _] = self.matrix("position_embedding.weight")?;
        // One more than is allowed, so that the number is refused.
        let n_layers = self.count(MAX_BLOCKS + 1, |block| format!("blocks.{block}.layer_norm.weight"));
        let expert = |block, expert| format!("blocks.{block}.bk_layer.moe_ffn.experts.{expert}.0.weight");
        let all = self.tensors.len();
        let experts: Vec<usize> = (0..n_layers).map(|block| self.count(all, |index| expert(block, index))).collect();
        let [d_ff, _] = self.matrix(&expert(0, 0))?;
        let [mut diagonal, mut hopping, mut eta] = [const { None }; 3];
        for block in 0..n_layers {
            let name = |constant: &str| format!("blocks.{block}.bk_layer.{constant}");
            let (real, imaginary) = self.shift(&name("z"))?;
            same(&mut eta, &name("z"), imaginary)?;
            for value in self.constant(&name("h0_diag_base"), -2.0)? {
                same(&mut diagonal, &name("h0_diag_base"), value - real)?;
            }
            for side in ["h0_sub_base", "h0_super_base"] {
                for value in self.constant(&name(side), 1.0)? {
                    same(&mut hopping, &name(side), value)?;
                }
            }
        }
        let preset = ModelConfig::preset("seed").expect("a preset");
        let config = ModelConfig {
            vocab_size,
            d_model,
            n_layers,
            n_seq,
            num_experts: experts.iter().copied().max().unwrap_or(0),
            d_ff,
            causality: Causality::Bidirectional,
            gradient: Gradient::Blended(BLEND),
            a0: PerHead::All(diagonal.unwrap_or(-2.0)),
            s: PerHead::All(hopping.unwrap_or(1.0)),
            eta: PerHead::All(eta.unwrap_or(1.0)),
            ..preset
        };
        Ok((settings.apply(config), experts))
    }

    /// Values of a constant; the default where it is missing.
    fn constant(&mut self, name: &str, default: f32) -> Result<Vec<f32>, Fault> {
        let name = self.name(name);
        match self.tensors.remove(&name) {
            Some(tensor) => values(name, &tensor),
            None => Ok(vec![default]),
        }
    }

    /// Real and imaginary part of the spectral shift `z`.
    fn shift(&mut self, name: &str) -> Result<(f32, f32), Fault> {
        let name = self.name(name);
        let Some(tensor) = self.tensors.remove(&name) else { return Ok((0.0, 1.0)) };
        tensor.complex().ok_or_else(|| Fault::Elements {
            found: format!("{} with the sizes {:?}", tensor.kind(), tensor.sizes()),
            name,
            expected: "one complex64 number",
        })
    }

    /// Takes the values of a tensor.
    fn parameter(&mut self, spec: &TensorSpec) -> Result<Parameter, Fault> {
        let name = self.name(&original_name(spec.id));
        let tensor = self.tensors.remove(&name).ok_or_else(|| Fault::Missing(name.clone()))?;
        let transposed = is_linear_weight(spec.id);
        let mut expected = spec.shape.clone();
        if transposed {
            expected.reverse();
        }
        let is_scalar = tensor.sizes().is_empty() && expected == [1];
        if !is_scalar && tensor.sizes() != expected {
            return Err(Fault::Sizes { name, found: tensor.sizes().to_vec(), expected });
        }
        let values = values(name, &tensor)?;
        Ok(Parameter::new(spec.clone(), if transposed { transpose(&values, spec.shape[0]) } else { values }))
    }
}

/// Checks that a constant has one value.
fn same(known: &mut Option<f32>, name: &str, value: f32) -> Result<(), Fault> {
    let expected = *known.get_or_insert(value);
    if value == expected { Ok(()) } else { Err(Fault::NotConstant { name: name.to_owned(), found: value, expected }) }
}

/// The finite values of a tensor.
fn values(name: String, tensor: &TensorView) -> Result<Vec<f32>, Fault> {
    let Some(values) = tensor.values() else {
        return Err(Fault::Elements { name, found: tensor.kind().to_string(), expected: REAL });
    };
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Fault::NonFinite { name, index }),
        None => Ok(values),
    }
}

/// From `[out, in]` to `[in, out]`.
fn transpose(values: &[f32], inputs: usize) -> Vec<f32> {
    (0..inputs).flat_map(|input| values.iter().skip(input).step_by(inputs).copied()).collect()
}

fn is_linear_weight(id: TensorId) -> bool {
    matches!(
        id.tensor(),
        ModelTensor::Block(
            _,
            BlockTensor::Mixer(_, LinearPart::Weight)
                | BlockTensor::Router(LinearPart::Weight)
                | BlockTensor::Expert(_, _, LinearPart::Weight)
        )
    )
}

/// The name in the original project, without its prefix.
fn original_name(id: TensorId) -> String {
    let norm = |part| match part {
        NormPart::Gamma => "weight",
        NormPart::Beta => "bias",
    };
    match id.tensor() {
        ModelTensor::Embedding => EMBEDDING.to_owned(),
        ModelTensor::Positions => "position_embedding.weight".to_owned(),
        ModelTensor::Norm(part) => format!("layer_norm_final.{}", norm(part)),
        ModelTensor::Head => "lm_head.weight".to_owned(),
        ModelTensor::HeadBias => "lm_head.bias".to_owned(),
        ModelTensor::Block(block, tensor) => match tensor {
            BlockTensor::Norm(part) => format!("blocks.{block}.layer_norm.{}", norm(part)),
            BlockTensor::Mixer(MixerMap::Potential, part) => format!("blocks.{block}.bk_layer.v_proj.{part}"),
            BlockTensor::Mixer(MixerMap::Output, part) => format!("blocks.{block}.bk_layer.output_proj.{part}"),
            BlockTensor::MixerScale => format!("blocks.{block}.bk_layer.bk_scale"),
            BlockTensor::Router(part) => format!("blocks.{block}.bk_layer.moe_ffn.gating_network.{part}"),
            BlockTensor::Expert(expert, map, part) => {
                let place = match map {
                    ExpertMap::Up => 0,
                    ExpertMap::Down => 3,
                };
                format!("blocks.{block}.bk_layer.moe_ffn.experts.{expert}.{place}.{part}")
            }
            other => unreachable!("a diagonal block in float32 has no {other}"),
        },
        other => unreachable!("a model with an untied head in float32 has no {other}"),
    }
}
