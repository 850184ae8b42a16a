//! A tensor as it is stored in the file, and its checks for reading and writing.

use super::error::ArtifactError;
use crate::architecture::Architecture;
use crate::quantization::{Quantized, ScaleMode, Scheme};
use crate::tensor_spec::{Role, TensorSpec};

/// A tensor as an artifact stores it.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredTensor {
    /// Values in float32.
    Float(Vec<f32>),
    /// Codes and scales.
    Quantized(Quantized),
}

impl StoredTensor {
    /// The decoded values, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            StoredTensor::Float(values) => values.clone(),
            StoredTensor::Quantized(quantized) => quantized.dequantize(),
        }
    }

    /// As [`to_f32`](Self::to_f32), without copying a float tensor.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            StoredTensor::Float(values) => values,
            StoredTensor::Quantized(quantized) => quantized.dequantize(),
        }
    }
}

/// The tensors that are stored in a file. Learned scales are not among them: they are stored as the
/// scales of their tensors.
pub(super) fn stored(architecture: &Architecture) -> Vec<TensorSpec> {
    architecture.tensors().into_iter().filter(|spec| spec.role != Role::LogScale).collect()
}

/// Checks that `values` are finite and as many as `spec` requires.
pub(super) fn check_values(spec: &TensorSpec, values: &[f32]) -> Result<(), ArtifactError> {
    check_length(spec, "elements", values.len(), spec.len())?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(ArtifactError::NonFinite { tensor: spec.id.to_string(), index, value: values[index] }),
        None => Ok(()),
    }
}

/// Checks that `tensor` matches `spec` and `scheme`.
pub(super) fn check(spec: &TensorSpec, scheme: Option<Scheme>, tensor: &StoredTensor) -> Result<(), ArtifactError> {
    let found = match tensor {
        StoredTensor::Float(_) => None,
        StoredTensor::Quantized(quantized) => Some(quantized.scheme),
    };
    if found != scheme {
        let (found, expected) = (describe(found), describe(scheme));
        return Err(ArtifactError::WrongScheme { tensor: spec.id.to_string(), found, expected });
    }
    match tensor {
        StoredTensor::Float(values) => check_values(spec, values),
        StoredTensor::Quantized(quantized) => check_quantized(spec, quantized),
    }
}

fn check_quantized(spec: &TensorSpec, quantized: &Quantized) -> Result<(), ArtifactError> {
    let Quantized { scheme, codes, scales } = quantized;
    check_length(spec, "codes", codes.len(), spec.len())?;
    check_length(spec, "scales", scales.len(), scheme.scale_count(spec.len()))?;
    if let Some(group) = scales.iter().position(|scale| !scale.is_finite() || scale.to_f32() < 0.0) {
        return Err(ArtifactError::Scale { tensor: spec.id.to_string(), group, value: scales[group].to_f32() });
    }
    let qmax = scheme.qmax;
    if let Some(index) = codes.iter().position(|code| !(-qmax..=qmax).contains(code)) {
        return Err(ArtifactError::Code { tensor: spec.id.to_string(), index, code: codes[index], qmax });
    }
    Ok(())
}

fn check_length(spec: &TensorSpec, what: &'static str, found: usize, expected: usize) -> Result<(), ArtifactError> {
    if found == expected {
        return Ok(());
    }
    Err(ArtifactError::TensorLength { tensor: spec.id.to_string(), what, found, expected })
}

fn describe(scheme: Option<Scheme>) -> String {
    match scheme {
        Some(Scheme { qmax, mode }) => {
            let levels = 2 * u32::from(qmax.unsigned_abs()) + 1;
            match mode {
                ScaleMode::AbsMax(group) => format!("{levels} levels in groups of {group}"),
                ScaleMode::Learned(columns) => format!("{levels} levels with learned scales for {columns} columns"),
            }
        }
        None => "float32".to_owned(),
    }
}
