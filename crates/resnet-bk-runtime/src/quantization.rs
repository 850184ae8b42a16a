//! Symmetric quantization: scale, round, saturate. Fake quantization in training and the artifact
//! share this one definition.
//!
//! ```text
//! code = clamp( round_half_even( x / scale ), -qmax, qmax )        x' = code * scale
//!
//! AbsMax    scale = f16( max|x| / qmax )    one per group of elements in row-major order (the last may be shorter)
//! Learned   scale = f16( e^log_scale )      one per column; trained with the weights (LSQ, arXiv 1902.08153)
//! ```
//!
//! There are `2 qmax + 1` levels. Where a number of bits is given, `qmax = 2^(bits-1) - 1`. Scales
//! are rounded to half precision *before* codes are computed, so the stored scales are the ones
//! used in training. The rounding itself is [`nearest_code`].

use crate::kernels::{exp, largest_magnitude, nearest_code, round_to_scale, round_to_scales};
use crate::tensor_id::ModelTensor;
use crate::tensor_spec::{Role, TensorSpec};
use half::f16;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Fewest bits of a code.
pub const MIN_BITS: u8 = 2;
/// Most bits of a code.
pub const MAX_BITS: u8 = 16;

/// How one tensor is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Largest code, at least 1. Ternary weights have 1.
    pub qmax: i16,
    /// How the scales are determined.
    pub mode: ScaleMode,
}

/// How the scales of a tensor are determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMode {
    /// One scale per group of this many elements: the largest magnitude of the group over qmax.
    AbsMax(u32),
    /// One trained scale for each of this many columns.
    Learned(u32),
}

/// Bits for each part of the model. `None` keeps a part in float32 and is written as 32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizationPolicy {
    /// Bits of the embedding table, the positions and the head table.
    #[serde(with = "bits_or_float")]
    pub embedding_bits: Option<u8>,
    /// Bits of the experts' matrices.
    #[serde(with = "bits_or_float")]
    pub expert_bits: Option<u8>,
    /// Bits of the routers' matrices.
    #[serde(with = "bits_or_float")]
    pub router_bits: Option<u8>,
    /// Bits of the mixers' matrices.
    #[serde(with = "bits_or_float")]
    pub mixer_bits: Option<u8>,
    /// Bits of the head's bias.
    #[serde(with = "bits_or_float")]
    pub bias_bits: Option<u8>,
    /// Bits of the mixers' potentials and features.
    #[serde(with = "bits_or_float")]
    pub activation_bits: Option<u8>,
    /// Elements that share a scale.
    pub group_size: u32,
    /// Trained scales with their numbers of levels. Where present, it replaces all other fields but
    /// `activation_bits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedScales>,
}

/// Numbers of levels for each part of a model with trained scales. A number of levels is odd and at
/// least 3. There is one scale per column of a matrix or table, and one per vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnedScales {
    /// Levels of each frequency bin of the embedding table. The last entry also applies to further
    /// bins and to the table of a head that is not tied.
    pub embedding: Vec<u16>,
    /// Levels of the projections from the width of a bin to that of the model.
    pub projection: u16,
    /// Levels of the experts' matrices.
    pub expert: u16,
    /// Levels of the routers' matrices.
    pub router: u16,
    /// Levels of the mixers' matrices.
    pub mixer: u16,
    /// Levels of the bias of the head, which has one scale.
    pub bias: u16,
    /// Levels of norms, small biases and positions.
    pub small: u16,
}

impl Default for LearnedScales {
    fn default() -> Self {
        Self { embedding: vec![9, 5], projection: 31, expert: 9, router: 31, mixer: 15, bias: 5, small: 255 }
    }
}

impl LearnedScales {
    /// The quantizer of a tensor; `None` for activation scales and for the learned scales
    /// themselves.
    fn scheme(&self, spec: &TensorSpec) -> Option<Scheme> {
        let levels = match spec.role {
            Role::Embedding | Role::Head => {
                // A table without bins is bin 0. The table of an untied head uses the last entry.
                let without_bins = if spec.role == Role::Head { usize::MAX } else { 0 };
                let bin = match spec.id.tensor() {
                    ModelTensor::BinRows(bin) => bin,
                    _ => without_bins,
                };
                self.embedding[bin.min(self.embedding.len() - 1)]
            }
            Role::Projection => self.projection,
            Role::Expert => self.expert,
            Role::Router => self.router,
            Role::Mixer => self.mixer,
            Role::HeadBias => self.bias,
            Role::Small | Role::Positions => self.small,
            Role::ActivationScale | Role::LogScale => return None,
        };
        Some(Scheme { qmax: (levels / 2) as i16, mode: ScaleMode::Learned(spec.columns() as u32) })
    }
}

/// Serializes bits as a number, 32 for `None`. TOML has no null, and an absent field takes its
/// default.
mod bits_or_float {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const FLOAT: u8 = 32;

    #[expect(clippy::trivially_copy_pass_by_ref, clippy::ref_option, reason = "the signature that serde requires")]
    pub fn serialize<S: Serializer>(bits: &Option<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        bits.unwrap_or(FLOAT).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
        // Older checkpoints contain null for `None`.
        Option::<u8>::deserialize(deserializer).map(|bits| bits.filter(|&bits| bits != FLOAT))
    }
}

impl Default for QuantizationPolicy {
    fn default() -> Self {
        Self {
            embedding_bits: Some(4),
            expert_bits: Some(4),
            router_bits: Some(8),
            mixer_bits: Some(8),
            bias_bits: Some(8),
            activation_bits: Some(8),
            group_size: 128,
            learned: None,
        }
    }
}

impl QuantizationPolicy {
    /// The quantizer of a tensor; `None` keeps it in float32.
    pub fn scheme(&self, spec: &TensorSpec) -> Option<Scheme> {
        if let Some(learned) = &self.learned {
            return learned.scheme(spec);
        }
        let bits = match spec.role {
            Role::Embedding | Role::Head | Role::Positions => self.embedding_bits,
            Role::Projection | Role::Expert => self.expert_bits,
            Role::Router => self.router_bits,
            Role::Mixer => self.mixer_bits,
            Role::HeadBias => self.bias_bits,
            Role::Small | Role::ActivationScale | Role::LogScale => None,
        }?;
        Some(Scheme { qmax: q_max(bits), mode: ScaleMode::AbsMax(self.group_size) })
    }
}

/// Codes and scales of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The scheme it was quantized with.
    pub scheme: Scheme,
    /// One code per element, each within `±qmax`.
    pub codes: Vec<i16>,
    /// [`Scheme::scale_count`] scales.
    pub scales: Vec<f16>,
}

impl Scheme {
    /// Number of scales of a tensor of `len` elements.
    pub fn scale_count(self, len: usize) -> usize {
        match self.mode {
            ScaleMode::AbsMax(group) => len.div_ceil(group as usize),
            ScaleMode::Learned(columns) => columns as usize,
        }
    }

    /// The scales of a tensor. `log_scales` are the logarithms of trained scales.
    ///
    /// # Panics
    /// If the scales of the scheme are trained and `log_scales` is `None`.
    pub fn scales(self, values: &[f32], log_scales: Option<&[f32]>) -> Vec<f16> {
        match self.mode {
            ScaleMode::AbsMax(group) => values.chunks(group as usize).map(|group| self.group_scale(group)).collect(),
            ScaleMode::Learned(_) => {
                let log_scales = log_scales.expect("the log scales of a tensor with trained scales");
                log_scales.iter().map(|&log_scale| f16::from_f32(exp(log_scale).min(f16::MAX.to_f32()))).collect()
            }
        }
    }

    /// The AbsMax scale of a group, `f16(max|x| / qmax)`, saturated to the largest half-precision
    /// number. If rounding to half precision would clip the largest element by more than half a
    /// scale, it is the next larger number: with many levels or small weights, scales are
    /// subnormal, and their relative error is large.
    fn group_scale(self, group: &[f32]) -> f16 {
        let (largest, qmax) = (largest_magnitude(group), f32::from(self.qmax));
        let scale = f16::from_f32((largest / qmax).min(f16::MAX.to_f32()));
        let clips = largest > (qmax + 0.5) * scale.to_f32();
        // The bits of a finite positive number, plus 1, are those of the next larger one.
        if clips && scale < f16::MAX { f16::from_bits(scale.to_bits() + 1) } else { scale }
    }

    /// Quantizes `values` with the given scales.
    pub fn quantize(self, values: &[f32], scales: Vec<f16>) -> Quantized {
        let qmax = f32::from(self.qmax);
        let mut codes = Vec::with_capacity(values.len());
        self.for_each_part(values.len(), &scales, |range, scales| {
            let values = values[range].iter().zip(scales.iter().cycle());
            codes.extend(values.map(|(&x, &scale)| nearest_code(x, scale, qmax) as i16));
        });
        Quantized { scheme: self, codes, scales }
    }

    /// Quantizes and dequantizes `values` in place. The result equals `quantize` followed by
    /// [`Quantized::dequantize`], bit for bit.
    pub fn fake_quantize(self, values: &mut [f32], scales: &[f16]) {
        let qmax = f32::from(self.qmax);
        self.for_each_part(values.len(), scales, |range, scales| match *scales {
            [scale] => round_to_scale(&mut values[range], scale, qmax),
            _ => round_to_scales(&mut values[range], scales, qmax),
        });
    }

    /// Calls `visit(range of elements, their scales)` for consecutive parts of a tensor. If there
    /// is one scale, it applies to the whole part.
    fn for_each_part(self, len: usize, scales: &[f16], mut visit: impl FnMut(Range<usize>, &[f32])) {
        assert_eq!(scales.len(), self.scale_count(len), "scales of {len} elements");
        let scales: Vec<f32> = scales.iter().map(|scale| scale.to_f32()).collect();
        match self.mode {
            ScaleMode::AbsMax(group) => {
                let group = group as usize;
                (0..len).step_by(group).zip(&scales).for_each(|(start, scale)| {
                    visit(start..len.min(start + group), std::slice::from_ref(scale));
                });
            }
            ScaleMode::Learned(1) => visit(0..len, &scales),
            ScaleMode::Learned(columns) => {
                let columns = columns as usize;
                (0..len).step_by(columns).for_each(|start| visit(start..start + columns, &scales));
            }
        }
    }
}

impl Quantized {
    /// The values `code * scale`.
    pub fn dequantize(&self) -> Vec<f32> {
        // Tables have millions of elements. `flat_map` does not know the number, so the vector
        // would be reallocated as it grows.
        let mut values = Vec::with_capacity(self.codes.len());
        self.scheme.for_each_part(self.codes.len(), &self.scales, |range, scales| {
            let codes = self.codes[range].iter().zip(scales.iter().cycle());
            values.extend(codes.map(|(&code, scale)| f32::from(code) * scale));
        });
        values
    }
}

/// Largest code of `bits` bits: `2^(bits-1) - 1`.
pub fn q_max(bits: u8) -> i16 {
    ((1i32 << (bits - 1)) - 1) as i16
}

/// Fake quantization of activations, with one scale per channel.
///
/// # Shapes
/// - `values`: `[n, C]`, changed in place
/// - `scales`: `[C]`, or `[1]` for one scale per tensor
pub fn fake_quantize_activations(values: &mut [f32], scales: &[f32], bits: u8) {
    let qmax = f32::from(q_max(bits));
    match *scales {
        [scale] => round_to_scale(values, scale, qmax),
        _ => values.chunks_mut(scales.len()).for_each(|row| round_to_scales(row, scales, qmax)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abs_max(bits: u8, group: u32) -> Scheme {
        Scheme { qmax: q_max(bits), mode: ScaleMode::AbsMax(group) }
    }

    fn round_trip(scheme: Scheme, values: &[f32], log_scales: Option<&[f32]>) -> Vec<f32> {
        scheme.quantize(values, scheme.scales(values, log_scales)).dequantize()
    }

    #[test]
    fn fake_quantization_equals_quantize_then_dequantize() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013).collect();
        let all_log_scales: Vec<f32> = (0..1000).map(|i| -2.0 - (i % 7) as f32 * 0.3).collect();
        let schemes =
            [2, 3, 4, 8, 16].into_iter().flat_map(|bits| [1, 7, 128, 1000, 4096].map(|group| abs_max(bits, group)));
        let learned = [1, 2, 4, 127]
            .into_iter()
            .flat_map(|qmax| [1, 8, 40, 1000].map(|columns| Scheme { qmax, mode: ScaleMode::Learned(columns) }));
        for scheme in schemes.chain(learned) {
            let log_scales = Some(&all_log_scales[..scheme.scale_count(1000)])
                .filter(|_| matches!(scheme.mode, ScaleMode::Learned(_)));
            let mut fake = values.clone();
            scheme.fake_quantize(&mut fake, &scheme.scales(&values, log_scales));
            let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|x| x.to_bits()).collect() };
            assert_eq!(bits(&fake), bits(&round_trip(scheme, &values, log_scales)), "{scheme:?}");
        }
    }

    #[test]
    fn error_is_at_most_half_a_scale_at_any_size_and_number_of_bits() {
        let waves: Vec<f32> = (0..640).map(|i| (i as f32 * 0.37).sin()).collect();
        for (bits, size) in
            [2, 3, 4, 8, 12, 16].into_iter().flat_map(|bits| [1e4, 1.0, 0.02, 1e-4].map(|size| (bits, size)))
        {
            let scheme = abs_max(bits, 64);
            let values: Vec<f32> = waves.iter().map(|wave| size * wave).collect();
            let quantized = scheme.quantize(&values, scheme.scales(&values, None));
            for (index, (x, y)) in values.iter().zip(quantized.dequantize()).enumerate() {
                let scale = quantized.scales[index / 64].to_f32();
                let message = format!("{x} became {y} with scale {scale}, {bits} bits");
                assert!((x - y).abs() <= 0.5 * scale * (1.0 + 1e-5) + size * 1e-6, "{message}");
                // Half precision has steps of 2^-10, and of 2^-24 for the smallest numbers.
                let ideal = largest_magnitude(&values[index / 64 * 64..][..64]) / f32::from(scheme.qmax);
                assert!(scale <= ideal * (1.0 + 1.0 / 1024.0) + 6e-8, "{message}, {ideal} is enough");
            }
        }
    }

    #[test]
    fn zeros_stay_zero_and_huge_values_saturate() {
        let scheme = abs_max(4, 4);
        assert_eq!(round_trip(scheme, &[0.0; 4], None), [0.0; 4]);
        let values = [1e9, -1e9, 0.0, 1.0];
        assert_eq!(scheme.quantize(&values, scheme.scales(&values, None)).codes, [7, -7, 0, 0]);
    }

    #[test]
    fn each_column_has_its_trained_scale() {
        let scheme = Scheme { qmax: 1, mode: ScaleMode::Learned(2) };
        let log_scales = [0.0, 2.0f32.ln()];
        assert_eq!(
            round_trip(scheme, &[0.6, 0.6, -7.0, -7.0, 0.4, 1.2], Some(&log_scales)),
            [1.0, 0.0, -1.0, -2.0, 0.0, 2.0]
        );
    }

    #[test]
    fn a_quantized_tensor_is_a_fixed_point() {
        let values: Vec<f32> = (0..160).map(|i| (i as f32 * 1.7).cos()).collect();
        let once = round_trip(abs_max(4, 16), &values, None);
        assert_eq!(round_trip(abs_max(4, 16), &once, None), once);
    }
}
