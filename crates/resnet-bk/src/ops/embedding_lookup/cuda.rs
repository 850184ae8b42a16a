//! CUDA implementation. Rows of the table's gradient are added by word: the batch comes with its
//! positions sorted by word, so no two blocks write to one row.

use super::Embed;
use crate::config::{MAX_BINS, MAX_D_MODEL};
use crate::device::Cuda;
use crate::device::cuda::{Arg, Array, blocks, launch};
use crate::kernels::DropoutMask;
use crate::ops::dropout::drop;
use crate::tape::CudaOp;
use resnet_bk_runtime::internal::embedding::TableLayout;

/// Threads of a token's block.
const THREADS: usize = 128;

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Bins {
    count: u32,
    width_of_model: u32,
    end: [u32; MAX_BINS],
    width: [u32; MAX_BINS],
    rows: [u32; MAX_BINS],
    projection: [u32; MAX_BINS],
}

impl Bins {
    fn new(layout: &TableLayout) -> Self {
        let (bins, width) = (layout.bins.len(), layout.d_model);
        assert!(bins <= MAX_BINS && width <= MAX_D_MODEL, "a table of {bins} bins and {width} columns");
        let mut bins =
            Self { count: layout.bins.len() as u32, width_of_model: layout.d_model as u32, ..Self::default() };
        let (mut words, mut offset) = (0, 0);
        for (index, bin) in layout.bins.iter().enumerate() {
            words += bin.words;
            bins.end[index] = words as u32;
            bins.width[index] = bin.width as u32;
            bins.rows[index] = offset as u32;
            offset += bin.words * bin.width;
            bins.projection[index] = offset as u32;
            offset += if bin.is_projected(layout.d_model) { bin.width * layout.d_model } else { 0 };
        }
        bins
    }
}

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct WordMask {
    draw: u64,
    threshold: u32,
    keep: f32,
}

impl WordMask {
    fn new(mask: Option<DropoutMask>) -> Self {
        let (draw, threshold, keep, _) = DropoutMask::on_device(mask);
        Self { draw, threshold, keep }
    }
}

impl Embed {
    fn look_up_on(&self, cuda: &Cuda, table: &Array, positions: Option<&Array>) -> Array {
        let (tokens, bins) = (self.tokens.on(cuda), Bins::new(&self.layout));
        let out = cuda.array(self.tokens.len() * self.layout.d_model);
        let words = WordMask::new(self.dropout.words);
        let (draw, threshold, keep, first_token) = DropoutMask::on_device(self.dropout.elements);
        launch!(
            cuda,
            "embed_forward",
            self.tokens.len(),
            THREADS,
            &tokens.ids,
            table,
            positions.map_or(0, Array::pointer),
            &out,
            Arg::by_value(&bins),
            self.length,
            cuda.step_numbers(),
            Arg::by_value(&words),
            draw,
            threshold,
            keep,
            first_token
        );
        out
    }

    fn scatter_on(&self, cuda: &Cuda, table: &Array, gradient: &Array) -> Array {
        let (tokens, bins) = (self.tokens.on(cuda), Bins::new(&self.layout));
        let (n, width) = (self.tokens.len(), self.layout.d_model);
        let dtable = cuda.zeros(table.len());
        let (ids, order) = (&tokens.ids, tokens.order(cuda));
        let (step, words) = (cuda.step_numbers(), WordMask::new(self.dropout.words));
        let (by_value, words) = (Arg::by_value(&bins), Arg::by_value(&words));
        launch!(cuda, "embed_rows_backward", n, 256, ids, order, table, gradient, &dtable, by_value, step, words, n);
        for (index, bin) in self.layout.bins.iter().enumerate().filter(|(_, bin)| bin.is_projected(width)) {
            let rows: Array = cuda.array(n * bin.width);
            let count = rows.len();
            launch!(cuda, "embed_gather", blocks(count), 256, ids, table, &rows, by_value, index, step, words, count);
            let out = dtable.matrix(bins.projection[index] as usize, width);
            let (rows, gradient) = (rows.matrix(0, bin.width).t(), gradient.matrix(0, width));
            cuda.product(out, false, rows, gradient, [bin.width, width, n], 1, cuda.gradient_math());
        }
        dtable
    }

    fn unmask_on(&self, cuda: &Cuda, gradient: Array) -> Array {
        self.dropout.elements.map_or(gradient.clone(), |mask| drop(cuda, &gradient, mask, self.layout.d_model))
    }
}

impl CudaOp<1> for Embed {
    fn forward(&mut self, cuda: &Cuda, [table]: [&Array; 1]) -> Array {
        self.look_up_on(cuda, table, None)
    }

    fn backward(
        self,
        cuda: &Cuda,
        [table]: [&Array; 1],
        _: &Array,
        gradient: Array,
        _: [bool; 1],
    ) -> [Option<Array>; 1] {
        let gradient = self.unmask_on(cuda, gradient);
        [Some(self.scatter_on(cuda, table, &gradient))]
    }
}

impl CudaOp<2> for Embed {
    fn forward(&mut self, cuda: &Cuda, [table, positions]: [&Array; 2]) -> Array {
        self.look_up_on(cuda, table, Some(positions))
    }

    fn backward(
        self,
        cuda: &Cuda,
        [table, positions]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let gradient = self.unmask_on(cuda, gradient);
        let (width, n, dpositions) = (self.layout.d_model, positions.len(), cuda.array(positions.len()));
        let sequences = self.tokens.len() / self.length;
        launch!(
            cuda,
            "embed_positions_backward",
            blocks(n),
            256,
            &gradient,
            &dpositions,
            sequences,
            self.length,
            width,
            n
        );
        [Some(self.scatter_on(cuda, table, &gradient)), Some(dpositions)]
    }
}
