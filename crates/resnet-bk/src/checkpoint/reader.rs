//! Reads the tensors of a checkpoint file and checks bytes, type and shape of each.

use super::error::ContentError;
use super::file::{AUXILIARY, METADATA_CHECKSUM};
use crate::parameters::{Moments, Parameter};
use resnet_bk_runtime::internal::tensor_id::{ModelTensor, TensorId};
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::{BTreeMap, BTreeSet};

/// Takes tensors from a file and tracks which are left.
pub(super) struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
    left: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    /// Checks the bytes of every tensor. The caller has checked the metadata.
    pub(super) fn new(tensors: &'a SafeTensors<'a>, checksums: &BTreeMap<String, u32>) -> Result<Self, ContentError> {
        let left: BTreeSet<&str> = tensors.iter().map(|(name, _)| name).collect();
        if let Some(missing) = checksums.keys().find(|name| !left.contains(name.as_str())) {
            return Err(ContentError::Missing(missing.clone()));
        }
        let mut reader = Self { tensors, left };
        reader.take(METADATA_CHECKSUM, Dtype::U32, &[1])?;
        for &name in &reader.left {
            let view = tensors.tensor(name).map_err(|_| ContentError::Missing(name.to_owned()))?;
            let expected = checksums.get(name).ok_or_else(|| ContentError::Unknown(name.to_owned()))?;
            if crc32fast::hash(view.data()) != *expected {
                return Err(ContentError::Checksum(format!("tensor {name}")));
            }
        }
        Ok(reader)
    }

    /// Bytes of a tensor. `None` if the file does not have it.
    fn take(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Option<&'a [u8]>, ContentError> {
        let Ok(view) = self.tensors.tensor(name) else { return Ok(None) };
        if (view.dtype(), view.shape()) != (dtype, shape) {
            return Err(ContentError::Tensor {
                name: name.to_owned(),
                found: view.dtype(),
                found_shape: view.shape().to_vec(),
                expected: dtype,
                expected_shape: shape.to_vec(),
            });
        }
        self.left.remove(name);
        Ok(Some(view.data()))
    }

    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, ContentError> {
        let Some(bytes) = self.take(name, Dtype::F32, shape)? else { return Ok(None) };
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        match values.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(ContentError::NonFinite { name: name.to_owned(), index }),
            None => Ok(Some(values)),
        }
    }

    /// One parameter with its mask and, in an unfinished stage, its moments and average. `None` if the file
    /// does not have it.
    pub(super) fn parameter(
        &mut self,
        prefix: &str,
        spec: &TensorSpec,
        is_unfinished: bool,
    ) -> Result<Option<Parameter>, ContentError> {
        let name = format!("{prefix}{}", spec.id);
        let Some(values) = self.floats(&name, &spec.shape)? else { return Ok(None) };
        let moments = if is_unfinished { self.moments(&name, &spec.shape)? } else { Moments::default() };
        let average = if is_unfinished { self.floats(&format!("average/{name}"), &spec.shape)? } else { None };
        let mask_name = format!("mask/{name}");
        let mask = self.take(&mask_name, Dtype::U8, &spec.shape)?;
        if mask.is_some_and(|mask| mask.iter().any(|&keep| keep > 1)) {
            return Err(ContentError::Mask(mask_name));
        }
        let mask = mask.map(|mask| mask.iter().map(|&keep| keep == 1).collect());
        Ok(Some(Parameter {
            spec: spec.clone(),
            values: values.into(),
            mask,
            moments,
            average: average.unwrap_or_default().into(),
        }))
    }

    fn moments(&mut self, name: &str, shape: &[usize]) -> Result<Moments, ContentError> {
        let first = self.floats(&format!("first/{name}"), shape)?;
        let second = self.floats(&format!("second/{name}"), shape)?;
        let steps = self.take(&format!("steps/{name}"), Dtype::U64, &[1])?.map(|bytes| bytes.as_chunks::<8>().0[0]);
        match (first, second, steps.map(u64::from_le_bytes)) {
            (Some(first), Some(second), Some(steps)) => {
                Ok(Moments { first: first.into(), second: second.into(), steps: vec![steps as f32].into() })
            }
            (None, None, None) => Ok(Moments::default()),
            _ => Err(ContentError::Moments(name.to_owned())),
        }
    }

    /// Specifications of the feature projections that the file has for the first `blocks` blocks.
    /// Their shapes are taken from the file.
    pub(super) fn feature_projections(&self, blocks: usize) -> Vec<TensorSpec> {
        let spec = |block| {
            let id = TensorId::from(ModelTensor::FeatureProjection(block));
            let shape = self.tensors.tensor(&format!("{AUXILIARY}{id}")).ok()?.shape().to_vec();
            Some(TensorSpec { id, shape, role: Role::Mixer })
        };
        (0..blocks).filter_map(spec).collect()
    }

    pub(super) fn words(&mut self, expected: usize) -> Result<Vec<String>, ContentError> {
        let length = self.tensors.tensor("vocabulary").map_or(0, |view| view.data().len());
        let bytes = self.take("vocabulary", Dtype::U8, &[length])?;
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(ContentError::Words)?;
        let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
        match words.len() {
            found if found == expected => Ok(words),
            found => Err(ContentError::VocabularySize { found, expected }),
        }
    }

    /// Refuses a file with unknown tensors.
    pub(super) fn finish(self) -> Result<(), ContentError> {
        self.left.first().map_or(Ok(()), |name| Err(ContentError::Unknown((*name).to_owned())))
    }
}
