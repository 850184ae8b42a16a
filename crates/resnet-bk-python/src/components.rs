//! The quantizer, the pruner and the distillation loss on NumPy arrays.

use crate::array::{elements, reshaped};
use crate::error::{argument, exception};
use pyo3::prelude::*;
use resnet_bk::components;

#[pyfunction]
#[pyo3(signature = (array, bits, group=128))]
pub fn quantize<'py>(array: &Bound<'py, PyAny>, bits: u8, group: u32) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let (values, shape) = elements::<f32>(array)?;
    let quantized = py.detach(|| components::quantize(&values, bits, group)).map_err(exception)?;
    let scales: Vec<f32> = quantized.scales.iter().map(|scale| scale.to_f32()).collect();
    let codes = reshaped(py, &quantized.codes, &shape)?;
    let values = reshaped(py, &quantized.dequantize(), &shape)?;
    py.import("resnet_bk.types")?.getattr("Quantized")?.call1((codes, crate::array::array(py, &scales)?, values))
}

#[pyfunction]
pub fn prune_mask<'py>(array: &Bound<'py, PyAny>, sparsity: f32) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let (values, shape) = elements::<f32>(array)?;
    let keep = py.detach(|| components::prune_mask(&values, sparsity)).map_err(exception)?;
    reshaped(py, &keep.into_iter().map(u8::from).collect::<Vec<u8>>(), &shape)?.call_method1("astype", ("bool",))
}

#[pyfunction]
#[pyo3(signature = (student_logits, teacher_logits, targets, temperature=2.0, alpha=0.7))]
pub fn distillation_loss<'py>(
    student_logits: &Bound<'py, PyAny>,
    teacher_logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    temperature: f32,
    alpha: f32,
) -> PyResult<(f64, Bound<'py, PyAny>)> {
    let py = student_logits.py();
    let (student, shape) = elements::<f32>(student_logits)?;
    let (teacher, teacher_shape) = elements::<f32>(teacher_logits)?;
    let (targets, target_shape) = elements::<i64>(targets)?;
    let expected = shape.split_last().map(|(_, tokens)| tokens.to_vec());
    if shape != teacher_shape || expected.as_ref() != Some(&target_shape) {
        return Err(argument(&format!(
            "student_logits have the shape {shape:?}, teacher_logits {teacher_shape:?} and targets {target_shape:?}: \
             logits need one shape [..., words], and targets the same without the last axis"
        )));
    }
    let ids = targets.iter().map(|&target| u32::try_from(target)).collect::<Result<Vec<u32>, _>>();
    let ids = ids.map_err(|_| argument("targets are indices of words: none may be negative or above 4294967295"))?;
    let computed = py.detach(|| components::distillation_loss(&student, &teacher, &ids, temperature, alpha));
    let (loss, gradient) = computed.map_err(exception)?;
    Ok((loss, reshaped(py, &gradient, &shape)?))
}
