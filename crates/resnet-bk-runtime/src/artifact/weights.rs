//! The WEIGHTS section: the tensors of [`Architecture::tensors`] one after another, with nothing between them.
//!
//! ```text
//! quantized   f16 scale of each group, then the codes (artifact/bits.rs)
//! float       f32 of each element
//! ```
//!
//! Scales come first so that a reader can dequantize codes as it meets them.

use super::bits;
use super::error::ArtifactError;
use super::tensor::{self, StoredTensor, TensorBytes};
use crate::architecture::{Architecture, TensorSpec};
use crate::quantization::{Quantized, Scheme};
use half::f16;

/// Bytes of the section. The architecture must be valid.
pub(super) fn section_bytes(architecture: &Architecture) -> u64 {
    let bytes = |spec: &TensorSpec| TensorBytes::of(spec.len(), architecture.scheme(spec)).total();
    tensor::stored(architecture).iter().map(bytes).sum()
}

pub(super) fn encode(architecture: &Architecture, tensors: &[StoredTensor]) -> Result<Vec<u8>, ArtifactError> {
    let specs = tensor::stored(architecture);
    if tensors.len() != specs.len() {
        return Err(ArtifactError::TensorCount { found: tensors.len(), expected: specs.len() });
    }
    let mut out = Vec::with_capacity(section_bytes(architecture) as usize);
    for (spec, stored) in specs.iter().zip(tensors) {
        tensor::check(spec, architecture.scheme(spec), stored)?;
        match stored {
            StoredTensor::Float(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            StoredTensor::Quantized(quantized) => {
                out.extend(quantized.scales.iter().flat_map(|scale| scale.to_le_bytes()));
                bits::pack(&quantized.codes, quantized.scheme.bits(), &mut out);
            }
        }
    }
    Ok(out)
}

/// Reads the tensors of a valid architecture.
pub(super) fn decode(architecture: &Architecture, bytes: &[u8]) -> Result<Vec<StoredTensor>, ArtifactError> {
    let (needed, available) = (section_bytes(architecture), bytes.len() as u64);
    // Before anything is allocated: from here on no tensor is larger than the file's bytes allow.
    if needed != available {
        return Err(ArtifactError::WeightsLength { needed, available });
    }
    let mut rest = bytes;
    let mut take = |bytes: u64| {
        let (taken, after) = rest.split_at(bytes as usize);
        rest = after;
        taken
    };
    let mut tensors = Vec::new();
    for spec in tensor::stored(architecture) {
        let scheme = architecture.scheme(&spec);
        let bytes = TensorBytes::of(spec.len(), scheme);
        let stored = match scheme {
            Some(scheme) => {
                let (scales, codes) = (take(bytes.scales), take(bytes.codes));
                StoredTensor::Quantized(decode_quantized(&spec, scheme, scales, codes)?)
            }
            None => {
                StoredTensor::Float(take(bytes.floats).as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
            }
        };
        tensor::check(&spec, scheme, &stored)?;
        tensors.push(stored);
    }
    Ok(tensors)
}

fn decode_quantized(
    spec: &TensorSpec,
    scheme: Scheme,
    scales: &[u8],
    codes: &[u8],
) -> Result<Quantized, ArtifactError> {
    let padding = bits::padding(codes, scheme.bits(), spec.len());
    if padding != 0 {
        return Err(ArtifactError::Padding { tensor: spec.name.clone(), bits: padding });
    }
    let scales = scales.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x)).collect();
    Ok(Quantized { scheme, codes: bits::unpack(codes, scheme.bits(), spec.len()), scales })
}
