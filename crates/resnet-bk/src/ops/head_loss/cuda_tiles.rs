//! CUDA implementation for hard targets in bf16: logits are computed tile by tile where they are
//! used, and never stored. The kernels are in `tiles.cu`.

use super::HeadLoss;
use super::cuda::{Place, mean_loss, widen_gradients};
use crate::device::Cuda;
use crate::device::cuda::{Arg, Array, blocks, launch};
use resnet_bk_runtime::internal::embedding::TableLayout;

/// Rows of a tile, as in `tiles.cu`.
const ROWS: usize = 64;
/// Tiles of a block's own rows, by width.
const OWN_TILES: [usize; 4] = [2, 2, 2, 1];
/// Threads of a block.
const THREADS: usize = 128;
/// Widths that there are kernels for. Narrower rows are padded with zeros.
const WIDTHS: [usize; 4] = [16, 32, 64, 128];

/// As in `tiles.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct HeadTiles {
    tokens: u32,
    words: u32,
    first_word: u32,
    tiles_of_block: u32,
}

/// Whether there are kernels for all bins of a table.
pub(super) fn fits(layout: &TableLayout) -> bool {
    layout.bins.iter().all(|bin| bin.width <= WIDTHS[WIDTHS.len() - 1])
}

/// A bin's work.
struct Bin {
    place: Place,
    /// Index of the kernels' width.
    kernel: usize,
    rows: Array<u16>,
    hidden: Array<u16>,
    sizes: HeadTiles,
    /// Blocks that share the words.
    parts: usize,
}

impl Bin {
    fn new(cuda: &Cuda, layout: &TableLayout, place: Place, [hidden, table]: [&Array; 2]) -> Self {
        let kernel = WIDTHS.iter().position(|&width| width >= place.width).expect("the widths were checked");
        let padded = WIDTHS[kernel];
        let convert = |x: &Array| {
            let out = cuda.array_of(x.len() / place.width * padded);
            launch!(cuda, "extend_rows_bf16", blocks(out.len()), 256, x, &out, 0.0, place.width, padded, out.len());
            out
        };
        let rows = convert(&place.rows(table));
        let hidden_states = convert(&place.narrow(cuda, table, hidden, layout.d_model));
        let (tokens, tiles) = (hidden.len() / layout.d_model, place.words.len().div_ceil(ROWS));
        let wanted = (4 * cuda.multiprocessors() as usize).div_ceil(tokens.div_ceil(ROWS * OWN_TILES[kernel]));
        let tiles_of_block = tiles.div_ceil(wanted.clamp(1, tiles));
        let [tokens, words, first_word, tiles_of_block] =
            [tokens, place.words.len(), place.words.start, tiles_of_block].map(|size| size as u32);
        Self {
            parts: tiles.div_ceil(tiles_of_block as usize),
            place,
            kernel,
            rows,
            hidden: hidden_states,
            sizes: HeadTiles { tokens, words, first_word, tiles_of_block },
        }
    }
}

/// Mean loss, and gradients of hidden states, packed table and bias.
pub(super) fn loss_and_gradients(
    cuda: &Cuda,
    loss: &HeadLoss,
    layout: &TableLayout,
    [hidden, table, bias]: [&Array; 3],
) -> (Array, [Array; 3]) {
    let tokens = loss.targets.len();
    let targets = &loss.targets.on(cuda).ids;
    let bins: Vec<Bin> =
        Place::all(layout).into_iter().map(|place| Bin::new(cuda, layout, place, [hidden, table])).collect();
    let parts: usize = bins.iter().map(|bin| bin.parts).sum();
    let (sums, target_logits) = (cuda.array(2 * parts * tokens), cuda.array(tokens));
    let mut first = 0;
    for bin in &bins {
        let kernel = ["head_sums_16", "head_sums_32", "head_sums_64", "head_sums_128"][bin.kernel];
        let words = &bin.place.words;
        launch!(
            cuda,
            kernel,
            [tokens.div_ceil(ROWS * OWN_TILES[bin.kernel]), bin.parts, 1],
            THREADS,
            &bin.hidden,
            &bin.rows,
            &bias.part(words.start, words.len()),
            targets,
            &sums.part(2 * first * tokens, 2 * bin.parts * tokens),
            &target_logits,
            Arg::by_value(&bin.sizes)
        );
        first += bin.parts;
    }
    let (normalizers, losses) = (cuda.array(tokens), cuda.array(tokens));
    let grid = blocks(tokens);
    launch!(cuda, "head_merge", grid, 256, &sums, &target_logits, &normalizers, &losses, tokens, parts);
    let (dtable, dbias) = (cuda.array(table.len()), cuda.array(bias.len()));
    let mut dnarrow = Vec::with_capacity(bins.len());
    for bin in &bins {
        let Place { words, width, .. } = &bin.place;
        let bias = bias.part(words.start, words.len());
        let padded = WIDTHS[bin.kernel];
        let kernel = ["head_hidden_16", "head_hidden_32", "head_hidden_64", "head_hidden_128"][bin.kernel];
        let gradients = cuda.array(bin.parts * tokens * padded);
        launch!(
            cuda,
            kernel,
            [tokens.div_ceil(ROWS * OWN_TILES[bin.kernel]), bin.parts, 1],
            THREADS,
            &bin.hidden,
            &bin.rows,
            &bias,
            targets,
            &normalizers,
            &gradients,
            Arg::by_value(&bin.sizes)
        );
        let sum = cuda.array(tokens * width);
        launch!(cuda, "head_collect", blocks(sum.len()), 256, &gradients, &sum, bin.parts, tokens, *width, padded);
        dnarrow.push(sum);
        let kernel = ["head_table_16", "head_table_32", "head_table_64", "head_table_128"][bin.kernel];
        let read = [bin.hidden.kept(), bin.rows.kept(), normalizers.kept(), bias.kept()];
        let (drows, dbias) = (bin.place.rows(&dtable), dbias.part(words.start, words.len()));
        cuda.beside(&read, &[&drows, &dbias], || {
            launch!(
                cuda,
                kernel,
                words.len().div_ceil(ROWS * OWN_TILES[bin.kernel]),
                THREADS,
                &bin.hidden,
                &bin.rows,
                &bias,
                targets,
                &normalizers,
                &drows,
                &dbias,
                *width,
                Arg::by_value(&bin.sizes)
            );
        });
    }
    let dhidden = widen_gradients(cuda, layout, [hidden, table], &dnarrow, &dtable);
    (mean_loss(cuda, &losses), [dhidden, dtable, dbias])
}
