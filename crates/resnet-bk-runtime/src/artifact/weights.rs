//! The WEIGHTS section: all tensors of the file, one after another, in one run of the range coder.
//!
//! ```text
//! quantized   scales (coding/halves.rs), then codes (coding/codes.rs)
//! float       the upper halves of all float32 numbers, then the lower ones (coding/halves.rs)
//! ```
//!
//! Scales come first so that a reader can dequantize each code as soon as it is decoded.

use super::error::ArtifactError;
use super::size_breakdown::SizeKind;
use super::tensor::{self, StoredTensor};
use crate::architecture::Architecture;
use crate::coding::{
    CodingError, Decoder, Encoder, Recorder, decode_codes, decode_halves, encode_codes, encode_halves,
};
use crate::quantization::{Quantized, Scheme};
use crate::tensor_id::TensorId;
use crate::tensor_spec::{Role, TensorSpec};
use half::f16;
#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Limit on the decoded size: at most this many elements per coded byte, plus a constant.
const MAX_ELEMENTS_PER_BYTE: u64 = 1 << 9;
const MAX_EXTRA_ELEMENTS: u64 = 1 << 16;
/// Tensors with up to this many elements in total are modeled side by side. Their decisions take
/// about 16 bytes an element until they are written.
const GROUP_ELEMENTS: usize = 1 << 22;

/// A coded section.
pub(super) struct CodedWeights {
    pub bytes: Vec<u8>,
    /// Bytes of each part of each tensor, in the order of the file. They sum to the length of the
    /// section. A byte is counted where the encoder settles it.
    pub parts: Vec<(Role, SizeKind, u64)>,
}

pub(super) fn encode(architecture: &Architecture, tensors: &[StoredTensor]) -> Result<CodedWeights, ArtifactError> {
    let specs = tensor::stored(architecture);
    if tensors.len() != specs.len() {
        return Err(ArtifactError::TensorCount { found: tensors.len(), expected: specs.len() });
    }
    for (spec, stored) in specs.iter().zip(tensors) {
        tensor::check(spec, architecture.scheme(spec), stored)?;
    }
    let coded = encode_unchecked(architecture, tensors);
    check_expansion(&specs, coded.bytes.len() as u64)?;
    Ok(coded)
}

/// Checks that a section is not implausibly short for its elements. The weights of a trained model
/// have at most a few dozen elements per byte.
fn check_expansion(specs: &[TensorSpec], bytes: u64) -> Result<(), ArtifactError> {
    let elements = specs.iter().map(|spec| spec.len() as u64).sum();
    if elements <= bytes.saturating_mul(MAX_ELEMENTS_PER_BYTE).saturating_add(MAX_EXTRA_ELEMENTS) {
        return Ok(());
    }
    Err(ArtifactError::Expansion { elements, bytes })
}

/// As [`encode`], without checks. The numbers may be ones that a reader refuses.
pub(super) fn encode_unchecked(architecture: &Architecture, tensors: &[StoredTensor]) -> CodedWeights {
    let mut encoder = Encoder::new();
    let mut ends = Vec::new();
    let specs = tensor::stored(architecture);
    let mut rest: Vec<(&TensorSpec, &StoredTensor)> = specs.iter().zip(tensors).collect();
    while !rest.is_empty() {
        let later = rest.split_off(group_length(&rest));
        let decisions = record_codes(&rest);
        for ((spec, stored), decisions) in rest.into_iter().zip(decisions) {
            match stored {
                StoredTensor::Float(values) => {
                    let halves =
                        |shift: u32| values.iter().map(|x| (x.to_bits() >> shift) as u16).collect::<Vec<u16>>();
                    encode_halves(&halves(16), &mut encoder);
                    encode_halves(&halves(0), &mut encoder);
                    ends.push((spec.role, SizeKind::Floats, encoder.bytes_so_far()));
                }
                StoredTensor::Quantized(Quantized { scales, .. }) => {
                    let scales: Vec<u16> = scales.iter().map(|scale| scale.to_bits()).collect();
                    encode_halves(&scales, &mut encoder);
                    ends.push((spec.role, SizeKind::Scales, encoder.bytes_so_far()));
                    decisions.replay(&mut encoder);
                    ends.push((spec.role, SizeKind::Codes, encoder.bytes_so_far()));
                }
            }
        }
        rest = later;
    }
    let bytes = encoder.finish();
    let mut parts = Vec::with_capacity(ends.len());
    let mut before = 0;
    for (index, (role, kind, end)) in ends.iter().enumerate() {
        // The last part contains what the coder still held.
        let end = if index + 1 == ends.len() { bytes.len() as u64 } else { (*end).min(bytes.len() as u64) };
        parts.push((*role, *kind, end - before));
        before = end;
    }
    CodedWeights { bytes, parts }
}

/// Number of tensors at the start of the list that are modeled side by side, at least one.
fn group_length(tensors: &[(&TensorSpec, &StoredTensor)]) -> usize {
    let mut elements = 0;
    let fits = |(spec, _): &&(&TensorSpec, &StoredTensor)| {
        elements += spec.len();
        elements <= GROUP_ELEMENTS
    };
    tensors.iter().take_while(fits).count().max(1)
}

/// The decisions of the codes of each tensor; none for a float tensor.
fn record_codes(tensors: &[(&TensorSpec, &StoredTensor)]) -> Vec<Recorder> {
    #[cfg(feature = "rayon")]
    let tensors = tensors.par_iter();
    #[cfg(not(feature = "rayon"))]
    let tensors = tensors.iter();
    let record = |(spec, stored): &(&TensorSpec, &StoredTensor)| {
        let mut recorder = Recorder::default();
        if let StoredTensor::Quantized(Quantized { scheme, codes, .. }) = stored {
            encode_codes(codes, spec.columns(), scheme.qmax, &mut recorder);
        }
        recorder
    };
    tensors.map(record).collect()
}

/// Decodes the tensors of a valid architecture.
pub(super) fn decode(architecture: &Architecture, bytes: &[u8]) -> Result<Vec<StoredTensor>, ArtifactError> {
    let specs = tensor::stored(architecture);
    let failed = |tensor: TensorId| {
        move |source: CodingError| ArtifactError::TensorCoding { tensor: tensor.to_string(), source }
    };
    let mut decoder = Decoder::new(bytes).map_err(failed(specs[0].id))?;
    // Checked before memory is allocated.
    check_expansion(&specs, bytes.len() as u64)?;
    let mut tensors = Vec::new();
    for spec in &specs {
        let scheme = architecture.scheme(spec);
        let stored = decode_tensor(spec, scheme, &mut decoder).map_err(failed(spec.id))?;
        tensor::check(spec, scheme, &stored)?;
        tensors.push(stored);
    }
    decoder.finish().map_err(failed(specs[specs.len() - 1].id))?;
    Ok(tensors)
}

fn decode_tensor(
    spec: &TensorSpec,
    scheme: Option<Scheme>,
    decoder: &mut Decoder,
) -> Result<StoredTensor, CodingError> {
    let Some(scheme) = scheme else {
        let upper = decode_halves(spec.len(), decoder)?;
        let lower = decode_halves(spec.len(), decoder)?;
        let join = |(upper, lower): (u16, u16)| f32::from_bits(u32::from(upper) << 16 | u32::from(lower));
        return Ok(StoredTensor::Float(upper.into_iter().zip(lower).map(join).collect()));
    };
    let scales = decode_halves(scheme.scale_count(spec.len()), decoder)?;
    let codes = decode_codes(spec.len(), spec.columns(), scheme.qmax, decoder)?;
    Ok(StoredTensor::Quantized(Quantized { scheme, codes, scales: scales.into_iter().map(f16::from_bits).collect() }))
}
