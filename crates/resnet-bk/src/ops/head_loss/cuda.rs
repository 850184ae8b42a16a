//! CUDA implementation: products by cuBLAS for a group of tokens, and kernels that turn each row of
//! logits into a loss and gradients.
//!
//! Hidden states are multiplied with a column of ones beside them, so that the product with the
//! logits' gradients also gives the gradient of the bias. Logits are float32 in both formats; bf16
//! are the factors of the products, and the logits' gradients. With hard targets and bf16, logits are
//! not in memory at all; see `cuda_tiles.rs`.

use super::{FrozenHead, HeadLoss, HeadLossOp, cuda_tiles};
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Arg, Array, Math, Operand, blocks, launch};
use crate::numerics::Precision;
use crate::tape::CudaOp;
use resnet_bk_runtime::internal::embedding::{EmbeddingBin, TableLayout};
use std::ops::Range;

/// Bytes for logits and their gradients; determines the tokens of a group.
const LOGIT_BYTES: usize = 1 << 30;
/// Threads of a token's block.
const THREADS: usize = 512;
/// Rows of factors begin at a multiple of this many elements, as tensor cores want it.
const ALIGNMENT: usize = 8;

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Mixed {
    temperature: f32,
    alpha: f32,
    scale: f32,
}

/// A matrix in the format of the products.
enum Factor {
    Float32(Array, usize),
    Bf16(Array<u16>, usize),
}

impl Factor {
    /// `x` `[n, width]` with a column of ones.
    fn extended(cuda: &Cuda, x: &Array, width: usize, bf16: bool) -> Self {
        let padded = (width + 1).next_multiple_of(ALIGNMENT);
        let n = x.len() / width * padded;
        if bf16 {
            let out = cuda.array_of(n);
            launch!(cuda, "extend_rows_bf16", blocks(n), 256, x, &out, 1.0, width, padded, n);
            Self::Bf16(out, padded)
        } else {
            let out = cuda.array(n);
            launch!(cuda, "extend_rows_float32", blocks(n), 256, x, &out, 1.0, width, padded, n);
            Self::Float32(out, padded)
        }
    }

    /// An array for gradients of logits.
    fn empty(cuda: &Cuda, rows: usize, row_length: usize, bf16: bool) -> Self {
        match bf16 {
            true => Self::Bf16(cuda.array_of(rows * row_length), row_length),
            false => Self::Float32(cuda.array(rows * row_length), row_length),
        }
    }

    fn row_length(&self) -> usize {
        match self {
            Self::Float32(_, length) | Self::Bf16(_, length) => *length,
        }
    }

    fn matrix(&self, first: usize) -> Operand {
        match self {
            Self::Float32(array, length) => array.matrix(first, *length),
            Self::Bf16(array, length) => array.matrix(first, *length),
        }
    }

    fn arg(&self) -> Arg {
        match self {
            Self::Float32(array, _) => array.into(),
            Self::Bf16(array, _) => array.into(),
        }
    }
}

/// Where a bin is in the packed table.
pub(super) struct Place {
    pub words: Range<usize>,
    pub width: usize,
    /// First element of the rows.
    rows_at: usize,
    /// First element of the projection, if there is one.
    projection_at: Option<usize>,
}

impl Place {
    /// The places of all bins.
    pub fn all(layout: &TableLayout) -> Vec<Self> {
        let (mut first, mut offset) = (0, 0);
        let place = |bin: &EmbeddingBin| {
            let (words, width, rows_at) = (first..first + bin.words, bin.width, offset);
            first += bin.words;
            offset += bin.words * width;
            let projection_at = bin.is_projected(layout.d_model).then(|| {
                offset += width * layout.d_model;
                offset - width * layout.d_model
            });
            Self { words, width, rows_at, projection_at }
        };
        layout.bins.iter().map(place).collect()
    }

    /// The rows in a packed table, or their gradient in that of the table.
    pub fn rows(&self, table: &Array) -> Array {
        table.part(self.rows_at, self.words.len() * self.width)
    }

    /// Hidden states in the width of the bin.
    pub fn narrow(&self, cuda: &Cuda, table: &Array, hidden: &Array, d_model: usize) -> Array {
        let Some(at) = self.projection_at else { return hidden.clone() };
        let (tokens, width) = (hidden.len() / d_model, self.width);
        let narrow = cuda.array(tokens * width);
        let (hidden, projection) = (hidden.matrix(0, d_model), table.matrix(at, d_model).t());
        let out = narrow.matrix(0, width);
        cuda.product(out, false, hidden, projection, [tokens, width, d_model], 1, cuda.forward_math());
        narrow
    }
}

/// A bin of a head with the factors of the products.
struct Bin {
    place: Place,
    rows: Factor,
    /// Hidden states in the width of the bin.
    hidden: Factor,
}

/// The bins of a head for some hidden states.
fn bins(cuda: &Cuda, layout: &TableLayout, table: &Array, hidden: &Array, bf16: bool) -> Vec<Bin> {
    let bin = |place: Place| {
        let narrow = place.narrow(cuda, table, hidden, layout.d_model);
        let rows = Factor::extended(cuda, &place.rows(table), place.width, bf16);
        Bin { rows, hidden: Factor::extended(cuda, &narrow, place.width, bf16), place }
    };
    Place::all(layout).into_iter().map(bin).collect()
}

/// Logits without biases of a group of tokens, `[tokens, row_length]`.
fn logits(cuda: &Cuda, bins: &[Bin], tokens: &Range<usize>, row_length: usize) -> Array {
    let out = cuda.array(tokens.len() * row_length);
    for Bin { place: Place { words, width, .. }, rows, hidden } in bins {
        let (hidden, rows) = (hidden.matrix(tokens.start * hidden.row_length()), rows.matrix(0).t());
        let sizes = [tokens.len(), words.len(), *width];
        cuda.product(out.matrix(words.start, row_length), false, hidden, rows, sizes, 1, Math::Float32);
    }
    out
}

/// Groups of tokens whose logits fit.
fn groups(tokens: usize, row_length: usize, bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (LOGIT_BYTES / (bytes * row_length)).max(1).min(tokens.max(1));
    (0..tokens).step_by(size).map(move |first| first..tokens.min(first + size))
}

/// Mean of the tokens' losses.
pub(super) fn mean_loss(cuda: &Cuda, losses: &Array) -> Array {
    let mean = cuda.array(1);
    let (grid, partial) = cuda.element_grid(losses.len());
    launch!(cuda, "mean_loss", grid, 256, losses, &mean, losses.len(), &partial, cuda.counters());
    mean
}

/// Gradients of one bin, summed over the groups.
struct BinGradients {
    /// Of the rows, with the bias's beside them, `[words, padded]`.
    extended: Array,
    /// Of the narrowed hidden states, `[n, d]`.
    narrow: Array,
}

/// Mean loss, and gradients of hidden states, packed table and bias.
fn loss_and_gradients_on(
    cuda: &Cuda,
    loss: &HeadLoss,
    layout: &TableLayout,
    [hidden, table, bias]: [&Array; 3],
) -> (Array, [Array; 3]) {
    let bf16 = loss.precision == Precision::Bf16 && cuda.has_bf16();
    if bf16 && loss.soft.is_none() && cuda_tiles::fits(layout) {
        return cuda_tiles::loss_and_gradients(cuda, loss, layout, [hidden, table, bias]);
    }
    let (tokens, words) = (loss.targets.len(), bias.len());
    let row_length = words.next_multiple_of(ALIGNMENT);
    let student = bins(cuda, layout, table, hidden, bf16);
    let teacher = loss.soft.as_ref().map(|soft| {
        let FrozenHead { layout, table, bias } = &*soft.head;
        (bins(cuda, layout, table.array(cuda), soft.hidden.array(cuda), bf16), bias.array(cuda))
    });
    let sums: Vec<BinGradients> = student
        .iter()
        .map(|bin| BinGradients {
            extended: cuda.array(bin.place.words.len() * bin.hidden.row_length()),
            narrow: cuda.array(tokens * bin.place.width),
        })
        .collect();
    let losses: Array = cuda.array(tokens);
    let targets = &loss.targets.on(cuda).ids;
    let scale = 1.0 / tokens as f32;
    for group in groups(tokens, row_length, if teacher.is_some() { 12 } else { 8 }) {
        let logits_of_group = logits(cuda, &student, &group, row_length);
        let gradients = Factor::empty(cuda, group.len(), row_length, bf16);
        let (targets, losses) = (targets.part(group.start, group.len()), losses.part(group.start, group.len()));
        match (&teacher, &loss.soft) {
            (Some((teacher, teacher_bias)), Some(soft)) => {
                let teacher_logits = logits(cuda, teacher, &group, row_length);
                let mixed = Mixed { temperature: soft.temperature, alpha: soft.alpha, scale };
                launch!(
                    cuda,
                    if bf16 { "head_mixed_bf16" } else { "head_mixed_float32" },
                    group.len(),
                    THREADS,
                    &logits_of_group,
                    bias,
                    &teacher_logits,
                    *teacher_bias,
                    &targets,
                    gradients.arg(),
                    &losses,
                    words,
                    row_length,
                    Arg::by_value(&mixed)
                );
            }
            _ => launch!(
                cuda,
                if bf16 { "head_hard_bf16" } else { "head_hard_float32" },
                group.len(),
                THREADS,
                &logits_of_group,
                bias,
                &targets,
                gradients.arg(),
                &losses,
                words,
                row_length,
                scale
            ),
        }
        for (bin, sums) in student.iter().zip(&sums) {
            let Place { words, width, .. } = &bin.place;
            let (dlogits, padded) = (gradients.matrix(words.start), bin.hidden.row_length());
            let (rows, hidden) = (bin.rows.matrix(0), bin.hidden.matrix(group.start * padded));
            let out = sums.narrow.matrix(group.start * width, *width);
            let sizes = [group.len(), *width, words.len()];
            cuda.product(out, false, dlogits, rows, sizes, 1, Math::Float32);
            let sizes = [words.len(), padded, group.len()];
            let out = sums.extended.matrix(0, padded);
            cuda.product(out, group.start > 0, dlogits.t(), hidden, sizes, 1, Math::Float32);
        }
    }
    let mean = mean_loss(cuda, &losses);
    let (dtable, dbias) = (cuda.array(table.len()), cuda.array(bias.len()));
    let dnarrow = student.iter().zip(sums).map(|(Bin { place, hidden, .. }, sums)| {
        let (drows, dbias) = (place.rows(&dtable), dbias.part(place.words.start, place.words.len()));
        let (padded, n) = (hidden.row_length(), place.words.len() * (place.width + 1));
        launch!(cuda, "split_extended", blocks(n), 256, &sums.extended, &drows, &dbias, place.width, padded, n);
        sums.narrow
    });
    let dnarrow: Vec<Array> = dnarrow.collect();
    let dhidden = widen_gradients(cuda, layout, [hidden, table], &dnarrow, &dtable);
    (mean, [dhidden, dtable, dbias])
}

/// The gradient of the hidden states from those in the widths of the bins, `[n, d]` each; writes the
/// gradients of the projections into that of the table.
pub(super) fn widen_gradients(
    cuda: &Cuda,
    layout: &TableLayout,
    [hidden, table]: [&Array; 2],
    dnarrow: &[Array],
    dtable: &Array,
) -> Array {
    let (d_model, math) = (layout.d_model, cuda.gradient_math());
    let tokens = hidden.len() / d_model;
    let mut dhidden: Option<Array> = None;
    for (Place { width, projection_at, .. }, own) in Place::all(layout).iter().zip(dnarrow) {
        let (width, dnarrow) = (*width, own.matrix(0, *width));
        let Some(at) = *projection_at else {
            dhidden = Some(match dhidden {
                None => own.clone(),
                Some(before) => {
                    let sum = cuda.array(before.len());
                    launch!(cuda, "add", blocks(sum.len()), 256, &before, own, &sum, sum.len());
                    sum
                }
            });
            continue;
        };
        // The array of the first bin may be shared.
        let (sum, accumulate) = match dhidden {
            Some(before) if before.is_unique() => (before, true),
            Some(before) => (cuda.copy(&before), true),
            None => (cuda.array(hidden.len()), false),
        };
        let (out, projection) = (sum.matrix(0, d_model), table.matrix(at, d_model));
        cuda.product(out, accumulate, dnarrow, projection, [tokens, d_model, width], 1, math);
        let (out, hidden) = (dtable.matrix(at, d_model), hidden.matrix(0, d_model));
        cuda.product(out, false, dnarrow.t(), hidden, [width, d_model, tokens], 1, math);
        dhidden = Some(sum);
    }
    dhidden.expect("a table has a bin")
}

impl CudaOp<3> for HeadLossOp {
    fn forward(&mut self, cuda: &Cuda, inputs: [&Array; 3]) -> Array {
        let (loss, gradients) = loss_and_gradients_on(cuda, &self.loss, &self.layout, inputs);
        self.gradients = gradients.map(|array| Buffer::on(cuda, array));
        loss
    }

    fn backward(self, cuda: &Cuda, _: [&Array; 3], _: &Array, gradient: Array, _: [bool; 3]) -> [Option<Array>; 3] {
        let [dhidden, dtable, dbias] = self.gradients.map(|buffer| buffer.array(cuda).clone());
        let scale = |array: &Array| {
            let grid = 2 * cuda.multiprocessors() as usize;
            launch!(cuda, "scale_by", grid, 256, array, &gradient, array.len());
        };
        scale(&dhidden);
        // Those of table and bias may still be on their way, beside the main stream.
        cuda.beside(&[gradient.kept()], &[&dtable, &dbias], || [&dtable, &dbias].into_iter().for_each(scale));
        [Some(dhidden), Some(dtable), Some(dbias)]
    }
}

/// `-ln p(target)` of every token, in float32.
pub(super) fn negative_log_likelihoods_on(cuda: &Cuda, hidden: &Array, targets: &[u32], head: &FrozenHead) -> Vec<f32> {
    let FrozenHead { layout, table, bias } = head;
    let (table, bias, targets) = (table.array(cuda), bias.array(cuda), cuda.upload(targets));
    let (tokens, words) = (targets.len(), bias.len());
    let row_length = words.next_multiple_of(ALIGNMENT);
    let bins = bins(cuda, layout, table, hidden, false);
    let losses: Array = cuda.array(tokens);
    for group in groups(tokens, row_length, 4) {
        let logits = logits(cuda, &bins, &group, row_length);
        let (targets, losses) = (targets.part(group.start, group.len()), losses.part(group.start, group.len()));
        launch!(cuda, "head_likelihood", group.len(), THREADS, &logits, bias, &targets, &losses, words, row_length);
    }
    cuda.download(&losses)
}
