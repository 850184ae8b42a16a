//! Scale, round, saturate: the one definition that training's fake quantization and the artifact share.
//!
//! Symmetric uniform quantization with `2^(bits-1) - 1` steps on each side of zero:
//!
//! ```text
//! scale = f16( max|x| / q_max )        code = clamp( round_half_even( x / scale ), -q_max, q_max )        x' = code * scale
//! ```
//!
//! A tensor is read in row-major order in groups of [`Scheme::group`] elements (the last may be shorter), each with a
//! scale of its own, so one number expresses per-tensor (`group` = length), per-row (`group` = columns) and grouped
//! quantization. Scales are rounded to half precision *before* codes are computed: what is stored is what was trained.

use crate::architecture::Role;
use crate::kernels::{largest_magnitude, round_to_step, round_to_steps};
use half::f16;
use serde::{Deserialize, Serialize};

/// Fewest bits of a code.
pub const MIN_BITS: u8 = 2;
/// Most bits of a code.
pub const MAX_BITS: u8 = 16;

/// How one tensor is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Bits of a code, from [`MIN_BITS`] to [`MAX_BITS`].
    pub bits: u8,
    /// Elements that share a scale, at least 1.
    pub group: u32,
}

/// Bits per part of the model; `None` keeps a part in float32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizationPolicy {
    /// Bits of the embedding table, the positions and the head table.
    pub embedding_bits: Option<u8>,
    /// Bits of the experts' matrices.
    pub expert_bits: Option<u8>,
    /// Bits of the routers' matrices.
    pub router_bits: Option<u8>,
    /// Bits of the mixers' matrices.
    pub mixer_bits: Option<u8>,
    /// Bits of the head's bias.
    pub bias_bits: Option<u8>,
    /// Bits of the mixers' potentials and features.
    pub activation_bits: Option<u8>,
    /// Elements that share a scale.
    pub group_size: u32,
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
        }
    }
}

impl QuantizationPolicy {
    /// The quantizer of a tensor that plays `role`.
    pub fn scheme(&self, role: Role) -> Option<Scheme> {
        let bits = match role {
            Role::Embedding | Role::Head | Role::Positions => self.embedding_bits,
            Role::Projection | Role::Expert => self.expert_bits,
            Role::Router => self.router_bits,
            Role::Mixer => self.mixer_bits,
            Role::HeadBias => self.bias_bits,
            Role::Small | Role::ActivationScale => None,
        }?;
        Some(Scheme { bits, group: self.group_size })
    }
}

/// Codes and scales of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// How it was quantized.
    pub scheme: Scheme,
    /// One code per element, each within `±q_max`.
    pub codes: Vec<i16>,
    /// One scale per group.
    pub scales: Vec<f16>,
}

impl Scheme {
    /// Largest code.
    pub fn q_max(self) -> i16 {
        q_max(self.bits)
    }

    /// Number of groups, hence scales, of a tensor of `len` elements.
    pub fn groups(self, len: usize) -> usize {
        len.div_ceil(self.group as usize)
    }

    /// The scale of one group: `f16(max|x| / q_max)`, saturated to the largest half-precision number.
    pub fn scale(self, group: &[f32]) -> f16 {
        f16::from_f32((largest_magnitude(group) / f32::from(self.q_max())).min(f16::MAX.to_f32()))
    }

    /// Quantizes `values`.
    pub fn quantize(self, values: &[f32]) -> Quantized {
        let mut codes = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(self.groups(values.len()));
        for group in values.chunks(self.group as usize) {
            let scale = self.scale(group);
            let step = scale.to_f32();
            codes.extend(group.iter().map(|&x| quantize(x, step, self.q_max())));
            scales.push(scale);
        }
        Quantized { scheme: self, codes, scales }
    }

    /// Quantizes and dequantizes `values` in place; equal to `quantize` then [`Quantized::dequantize`], bit for bit.
    pub fn fake_quantize(self, values: &mut [f32]) {
        for group in values.chunks_mut(self.group as usize) {
            let step = self.scale(group).to_f32();
            round_to_step(group, step, f32::from(self.q_max()));
        }
    }
}

impl Quantized {
    /// The values that the codes stand for.
    pub fn dequantize(&self) -> Vec<f32> {
        // Tables have millions of elements: `flat_map` would not know how many, and grow as it goes.
        let mut values = Vec::with_capacity(self.codes.len());
        for (group, scale) in self.codes.chunks(self.scheme.group as usize).zip(&self.scales) {
            let step = scale.to_f32();
            values.extend(group.iter().map(|&code| f32::from(code) * step));
        }
        values
    }
}

/// Largest code of `bits` bits.
pub fn q_max(bits: u8) -> i16 {
    ((1i32 << (bits - 1)) - 1) as i16
}

/// The code of one value: nearest multiple of `step` (ties to even), saturated to `±q_max`. A zero step gives 0.
#[inline]
pub fn quantize(x: f32, step: f32, q_max: i16) -> i16 {
    if step == 0.0 {
        return 0;
    }
    let limit = f32::from(q_max);
    (x / step).round_ties_even().clamp(-limit, limit) as i16
}

/// Fake quantization of activations with one step per channel.
///
/// # Shapes
/// - `values`: `[n, C]`, changed in place
/// - `steps`: `[C]`, or `[1]` for a per-tensor step
pub fn fake_quantize_channels(values: &mut [f32], steps: &[f32], bits: u8) {
    let limit = f32::from(q_max(bits));
    match *steps {
        [step] => round_to_step(values, step, limit),
        _ => values.chunks_mut(steps.len()).for_each(|row| round_to_steps(row, steps, limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_quantization_equals_quantize_then_dequantize() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013).collect();
        for bits in [2, 3, 4, 8, 16] {
            for group in [1, 7, 128, 1000, 4096] {
                let scheme = Scheme { bits, group };
                let mut fake = values.clone();
                scheme.fake_quantize(&mut fake);
                let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|x| x.to_bits()).collect() };
                assert_eq!(bits(&fake), bits(&scheme.quantize(&values).dequantize()), "{scheme:?}");
            }
        }
    }

    #[test]
    fn error_is_at_most_half_a_step_inside_the_range() {
        let scheme = Scheme { bits: 8, group: 64 };
        let values: Vec<f32> = (0..640).map(|i| (i as f32 * 0.37).sin()).collect();
        let quantized = scheme.quantize(&values);
        for (index, (x, y)) in values.iter().zip(quantized.dequantize()).enumerate() {
            let step = quantized.scales[index / 64].to_f32();
            // The scale is rounded to half precision (relative 2^-11), which can cut off the largest code.
            assert!((x - y).abs() <= 0.5 * step + x.abs() / 1024.0, "{x} became {y} with step {step}");
        }
    }

    #[test]
    fn zeros_stay_zero_and_huge_values_saturate() {
        let scheme = Scheme { bits: 4, group: 4 };
        assert_eq!(scheme.quantize(&[0.0; 4]).dequantize(), [0.0; 4]);
        let huge = scheme.quantize(&[1e9, -1e9, 0.0, 1.0]);
        assert_eq!(huge.codes, [7, -7, 0, 0]);
    }

    #[test]
    fn a_quantized_tensor_is_a_fixed_point() {
        let scheme = Scheme { bits: 4, group: 16 };
        let mut once: Vec<f32> = (0..160).map(|i| (i as f32 * 1.7).cos()).collect();
        scheme.fake_quantize(&mut once);
        let mut twice = once.clone();
        scheme.fake_quantize(&mut twice);
        assert_eq!(once, twice);
    }
}
