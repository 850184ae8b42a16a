//! Parameters on a GPU: rounding, packing, and gradients through quantizers. The step's lambda is
//! read from device memory.

use super::ParameterGradients;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::parameters::{Parameter, Parameters};
use resnet_bk_runtime::internal::quantization::ScaleMode;
use resnet_bk_runtime::internal::tensor_id::TensorId;

/// The values of a parameter, rounded if it has a quantizer.
pub(super) fn rounded(cuda: &Cuda, parameters: &Parameters, parameter: &Parameter) -> Buffer {
    let values = parameter.values.array(cuda);
    let Some(scheme) = parameters.architecture().scheme(&parameter.spec) else { return parameter.values.clone() };
    let (n, out, qmax) = (values.len(), cuda.array(values.len()), f32::from(scheme.qmax));
    match scheme.mode {
        ScaleMode::AbsMax(group) => {
            let groups = n.div_ceil(group as usize);
            launch!(cuda, "round_abs_max", blocks(32 * groups), 256, values, &out, qmax, group, n);
        }
        ScaleMode::Learned(columns) => {
            let log_scales = log_scales(cuda, parameters, parameter);
            launch!(cuda, "round_learned", blocks(n), 256, values, log_scales, &out, qmax, columns, n);
        }
    }
    Buffer::on(cuda, out)
}

fn log_scales<'a>(cuda: &Cuda, parameters: &'a Parameters, parameter: &Parameter) -> &'a Array {
    let scales = parameters.get(parameter.spec.id.log_scales());
    scales.expect("a learned quantizer has its scales").values.array(cuda)
}

/// The parts one after another.
pub(super) fn joined(parts: &[Buffer]) -> Buffer {
    let cuda = parts[0].cuda().expect("parts on a GPU");
    let whole = cuda.array(parts.iter().map(Buffer::len).sum());
    let mut first = 0;
    for part in parts {
        cuda.copy_into(part.array(cuda), &whole.part(first, part.len()));
        first += part.len();
    }
    Buffer::on(cuda, whole)
}

/// The gradients of packed parameters, as parts of one array.
pub(super) fn split(cuda: &Cuda, whole: &Buffer, parts: &[(TensorId, usize)], found: &mut ParameterGradients) {
    let mut first = 0;
    for &(id, len) in parts {
        found.insert(id, Buffer::on(cuda, whole.array(cuda).part(first, len)));
        first += len;
    }
}

/// As on the host; see [`super::quantizer_gradient`].
pub(super) fn through_quantizer(
    cuda: &Cuda,
    parameters: &Parameters,
    parameter: &Parameter,
    gradient: &mut Buffer,
) -> Option<Buffer> {
    let scheme = parameters.architecture().scheme(&parameter.spec)?;
    let ScaleMode::Learned(columns) = scheme.mode else { return None };
    let (columns, qmax) = (columns as usize, f32::from(scheme.qmax));
    let (values, log_scales) = (parameter.values.array(cuda), log_scales(cuda, parameters, parameter));
    let (n, levels) = (values.len(), scheme.qmax as usize + 1);
    let counts: Array<u32> = cuda.zeros_of(levels);
    let grid = blocks(n).min(2 * cuda.multiprocessors() as usize);
    launch!(cuda, "count_codes", grid, 256, values, log_scales, &counts, qmax, columns, n);
    let slopes = cuda.array(levels);
    launch!(cuda, "rate_slopes", blocks(levels), 256, &counts, &slopes, cuda.step_numbers(), levels, n);
    let (dvalues, dscales, rows) = (cuda.array(n), cuda.array(columns), n / columns);
    let (grid, partial) = cuda.column_grid(1, rows, columns, 1);
    launch!(
        cuda,
        "quantizer_backward",
        grid,
        256,
        values,
        log_scales,
        &slopes,
        gradient.array(cuda),
        &dvalues,
        &dscales,
        qmax,
        rows,
        columns,
        &partial,
        cuda.counters()
    );
    *gradient = Buffer::on(cuda, dvalues);
    Some(Buffer::on(cuda, dscales))
}
