//! Parameters on a GPU: rounding, packing, and gradients through quantizers, of all parameters with
//! a few launches. The step's lambda is read from device memory.

use super::ParameterGradients;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Arg, Array, blocks, launch};
use crate::parameters::{Parameter, Parameters};
use resnet_bk_runtime::internal::quantization::{ScaleMode, Scheme};
use resnet_bk_runtime::internal::tensor_id::TensorId;

/// Parameters of a launch, and elements of a block; as in `cuda.cu`.
const LEAVES: usize = 80;
const LEAF_CHUNK: usize = 2048;
const QUANTIZERS: usize = 44;

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Leaf {
    x: u64,
    log_scales: u64,
    out: u64,
    qmax: f32,
    columns: u32,
    len: u32,
}

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Quantized {
    x: u64,
    log_scales: u64,
    gradient: u64,
    dx: u64,
    dlog_scales: u64,
    partial: u64,
    qmax: f32,
    rows: u32,
    columns: u32,
    parts: u32,
    first_level: u32,
    first_tile: u32,
}

/// Up to `N` items of a launch, each with a number of blocks; as `Leaves` and `Quantizers` in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Items<T, const N: usize> {
    of: [T; N],
    ends: [u32; N],
    count: u32,
}

impl<T: Copy + Default, const N: usize> Items<T, N> {
    /// `items` with their numbers of blocks, in launches.
    fn launches(items: &[(T, usize)]) -> impl Iterator<Item = Self> {
        items.chunks(N).map(|items| {
            let mut launch = Self { of: [T::default(); N], ends: [0; N], count: items.len() as u32 };
            let mut end = 0;
            for (index, &(item, blocks)) in items.iter().enumerate() {
                end += blocks as u32;
                (launch.of[index], launch.ends[index]) = (item, end);
            }
            launch
        })
    }

    fn blocks(&self) -> usize {
        self.ends[self.count as usize - 1] as usize
    }
}

/// The values of each group of parameters one after another, rounded where there is a quantizer, on the
/// GPU wherever the parameters are. A single parameter without a quantizer is not copied.
pub(super) fn leaf_values(cuda: &Cuda, parameters: &Parameters, groups: &[&[&Parameter]]) -> Vec<Buffer> {
    let mut leaves = Vec::new();
    let values = groups
        .iter()
        .map(|group| {
            let scheme = |parameter: &Parameter| parameters.architecture().scheme(&parameter.spec);
            if let [single] = group
                && scheme(single).is_none()
            {
                // With its copy on the host, if it has one: a frozen model's may be read while a step is recorded.
                return single.values.to_device(parameters.device());
            }
            let whole = cuda.array(group.iter().map(|parameter| parameter.values.len()).sum());
            let mut first = 0;
            for parameter in *group {
                let out = whole.part(first, parameter.values.len());
                first += out.len();
                leaves.extend(leaf(cuda, parameters, parameter, scheme(parameter), &out));
            }
            Buffer::on(cuda, whole)
        })
        .collect();
    for launch in Items::<Leaf, LEAVES>::launches(&leaves) {
        launch!(cuda, "leaf_values", launch.blocks(), 256, Arg::by_value(&launch));
    }
    values
}

/// How `out` is computed, with its blocks. An AbsMax quantizer has a kernel of its own, which is launched.
fn leaf(
    cuda: &Cuda,
    parameters: &Parameters,
    parameter: &Parameter,
    scheme: Option<Scheme>,
    out: &Array,
) -> Option<(Leaf, usize)> {
    let (values, n) = (parameter.values.array(cuda), out.len());
    let copy = Leaf { x: values.pointer(), out: out.pointer(), len: n as u32, ..Leaf::default() };
    let leaf = match scheme.map(|Scheme { qmax, mode }| (f32::from(qmax), mode)) {
        None => copy,
        Some((qmax, ScaleMode::AbsMax(group))) => {
            let groups = n.div_ceil(group as usize);
            launch!(cuda, "round_abs_max", blocks(32 * groups), 256, values, out, qmax, group, n);
            return None;
        }
        Some((qmax, ScaleMode::Learned(columns))) => {
            Leaf { log_scales: log_scales(cuda, parameters, parameter).pointer(), qmax, columns, ..copy }
        }
    };
    Some((leaf, n.div_ceil(LEAF_CHUNK)))
}

fn log_scales<'a>(cuda: &Cuda, parameters: &'a Parameters, parameter: &Parameter) -> &'a Array {
    let scales = parameters.get(parameter.spec.id.log_scales());
    scales.expect("a learned quantizer has its scales").values.array(cuda)
}

/// The gradients of packed parameters, as parts of one array.
pub(super) fn split(cuda: &Cuda, whole: &Buffer, parts: &[(TensorId, usize)], found: &mut ParameterGradients) {
    let mut first = 0;
    for &(id, len) in parts {
        found.insert(id, Buffer::on(cuda, whole.array(cuda).part(first, len)));
        first += len;
    }
}

/// Replaces the gradients of rounded values by those of the values, and adds those of the log scales;
/// see [`super::quantizer_gradient`].
pub(super) fn through_quantizers(cuda: &Cuda, parameters: &Parameters, found: &mut ParameterGradients) {
    let (mut quantized, mut levels, mut tiles, mut kept) = (Vec::new(), 0, 0, Vec::new());
    for parameter in parameters.iter() {
        let Some(Scheme { qmax, mode: ScaleMode::Learned(columns) }) =
            parameters.architecture().scheme(&parameter.spec)
        else {
            continue;
        };
        let Some(gradient) = found.get_mut(&parameter.spec.id) else { continue };
        let columns = columns as usize;
        let (values, rows) = (parameter.values.array(cuda), parameter.values.len() / columns);
        let (dx, dlog_scales) = (cuda.array(values.len()), cuda.array(columns));
        let ([of_columns, parts, _], partial) = cuda.column_grid(1, rows, columns, 1);
        let item = Quantized {
            x: values.pointer(),
            log_scales: log_scales(cuda, parameters, parameter).pointer(),
            gradient: gradient.array(cuda).pointer(),
            dx: dx.pointer(),
            dlog_scales: dlog_scales.pointer(),
            partial: partial.pointer(),
            qmax: f32::from(qmax),
            rows: rows as u32,
            columns: columns as u32,
            parts: parts as u32,
            first_level: levels as u32,
            first_tile: tiles as u32,
        };
        quantized.push((item, of_columns * parts));
        (levels, tiles) = (levels + qmax as usize + 1, tiles + of_columns);
        // Until the launches below.
        kept.push((std::mem::replace(gradient, Buffer::on(cuda, dx)), partial));
        found.insert(parameter.spec.id.log_scales(), Buffer::on(cuda, dlog_scales));
    }
    let (counts, slopes) = (cuda.zeros_of::<u32>(levels), cuda.array(levels));
    for launch in Items::<Quantized, QUANTIZERS>::launches(&quantized) {
        let (items, grid) = (launch.count as usize, launch.blocks());
        launch!(cuda, "count_codes", grid, 256, Arg::by_value(&launch), &counts);
        launch!(cuda, "rate_slopes", items, 256, Arg::by_value(&launch), &counts, &slopes, cuda.step_numbers());
        launch!(cuda, "quantizer_backward", grid, 256, Arg::by_value(&launch), &slopes, cuda.counters());
    }
}
