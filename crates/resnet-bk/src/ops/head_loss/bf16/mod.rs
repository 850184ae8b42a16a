//! Tiles of logits in bf16 on the tile unit, with words down and tokens across.
//!
//! ```text
//! l^T [words, tokens] = W x^T      dW [words, D] += g x      dx^T [D, tokens] += W^T g       g = dl^T, rounded
//! ```
//!
//! The target's part of the gradient, one word a token, is added in float32 apart from the products.

mod packed;
mod tile;

pub use packed::Factors;

use super::{Problem, Share, Side, Tiles, TokenSums};
use crate::kernels::amx::{Amx, BLOCK, Block, GradientBlock, Lanes, Layout, MixedShift, Operand, Part, Source};
use packed::Packed;
use resnet_bk_runtime::kernels::Write;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;
use tile::{Logits, Shifts, Sums, TileGradient};

/// Blocks of words, and of tokens, of a tile: its gradient, twice 128 kB, stays in a core's cache.
const TILE: usize = 8;
/// Blocks of logits that are made at once: they stay in the first cache until they are used.
const GROUP: usize = 4;
/// Logit of a word that is not there: its exponential vanishes.
const ABSENT: f32 = -1e4;

/// A [`Problem`] solved in bf16.
pub struct Bf16Tiles<'a> {
    amx: Amx,
    problem: Problem<'a>,
    hidden: Packed,
    teacher: Option<Packed>,
}

impl<'a> Bf16Tiles<'a> {
    /// Packs the hidden states.
    pub fn new(amx: Amx, problem: Problem<'a>, factors: Factors) -> Self {
        let pack = |side: Side| Packed::new(side.hidden, side.rows.width(), factors);
        Self { amx, problem, hidden: pack(problem.student), teacher: problem.teacher.map(pack) }
    }

    /// Hidden states over the number of tokens, tokens along the inner size: `[D / 32][n / 32]`.
    fn scaled_hidden(&self) -> Vec<Operand> {
        let Problem { loss, student: Side { hidden: values, rows: head }, .. } = self.problem;
        let (width, token_blocks) = (head.width(), self.token_blocks());
        let source = Source { values, width, scale: 1.0 / loss.targets.len() as f32, part: Part::High };
        let mut operands = vec![Operand::ZERO; width.div_ceil(BLOCK) * token_blocks];
        for (index, operand) in operands.iter_mut().enumerate() {
            operand.pack(source, (index % token_blocks * BLOCK, index / token_blocks * BLOCK), Layout::Right);
        }
        operands
    }

    fn token_blocks(&self) -> usize {
        self.problem.loss.targets.len().div_ceil(BLOCK)
    }

    /// Index and target of the tokens whose target is among some words.
    fn targets_in(&self, words: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let problem = self.problem;
        let targets = (0..problem.loss.targets.len()).filter_map(move |token| Some((token, problem.target(token)?)));
        targets.filter(move |(_, target)| words.contains(target))
    }

    /// Adds the target's part of the gradient.
    fn subtract_targets(&self, share: &mut Share, dhidden: &mut [f32]) {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.problem;
        let (width, weight) = (head.width(), loss.weights().1 / loss.targets.len() as f32);
        for (token, target) in self.targets_in(share.words.clone()) {
            let word = target - share.words.start;
            share.dbias[word] -= weight;
            let (x, w) = (&hidden[token * width..][..width], &head.table[target * width..][..width]);
            share.dtable[word * width..][..width].iter_mut().zip(x).for_each(|(d, x)| *d -= weight * x);
            dhidden[token * width..][..width].iter_mut().zip(w).for_each(|(d, w)| *d -= weight * w);
        }
    }
}

/// Cuts a share's words into tiles.
fn tiles_of(words: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    words.clone().step_by(TILE * BLOCK).map(move |start| start..words.end.min(start + TILE * BLOCK))
}

impl Tiles for Bf16Tiles<'_> {
    fn sums(&self, words: Range<usize>) -> Vec<TokenSums> {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.problem;
        let temperature = loss.soft.as_ref().map_or(1.0, |soft| soft.temperature);
        let mut found = vec![Sums::EMPTY; self.token_blocks()];
        let mut logits = Logits::new(self);
        for tile in tiles_of(words.clone()) {
            logits.load(tile.clone());
            for (token_block, sums) in found.iter_mut().enumerate() {
                logits.for_each_block(tile.len(), token_block, |logits, word_block, place| {
                    sums.extend(logits, word_block, place, temperature);
                });
            }
        }
        let mut sums: Vec<TokenSums> =
            (0..loss.targets.len()).map(|token| found[token / BLOCK].of_token(token % BLOCK, temperature)).collect();
        let width = head.width();
        for (token, target) in self.targets_in(words) {
            let (x, w) = (&hidden[token * width..][..width], &head.table[target * width..][..width]);
            sums[token].target = x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>() + head.bias[target];
        }
        sums
    }

    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64) {
        let head = self.problem.student.rows;
        let (width, token_blocks) = (head.width(), self.token_blocks());
        let depth = width.div_ceil(BLOCK);
        let scaled_hidden = self.scaled_hidden();
        let shifts: Vec<Shifts> = (0..token_blocks).map(|block| Shifts::new(sums, block)).collect();
        let mut divergence = vec![[0.0; BLOCK]; token_blocks];
        let mut logits = Logits::new(self);
        let mut gradient = TileGradient::new();
        let mut table_left = vec![Operand::ZERO; depth * TILE];
        let mut dhidden = vec![Block::ZERO; depth * token_blocks];
        for tile in tiles_of(share.words.clone()) {
            let blocks = tile.len().div_ceil(BLOCK);
            logits.load(tile.clone());
            for (index, operand) in table_left.iter_mut().enumerate() {
                let corner = (tile.start + index % TILE * BLOCK, index / TILE * BLOCK);
                let values = &head.table[..tile.end * width];
                operand.pack(Source { values, width, scale: 1.0, part: Part::High }, corner, Layout::LeftTransposed);
            }
            let mut dtable = vec![Block::ZERO; blocks * depth];
            gradient.bias.fill([[0.0; 16]; BLOCK]);
            for first in (0..token_blocks).step_by(TILE) {
                let tokens = first..token_blocks.min(first + TILE);
                for (column, token_block) in tokens.clone().enumerate() {
                    logits.for_each_block(tile.len(), token_block, |logits, word_block, place| {
                        let out = &mut gradient.block(word_block, column);
                        let (shifts, divergence) = (&shifts[token_block], &mut divergence[token_block]);
                        self.logit_gradient(logits, (word_block, place), shifts, out, divergence);
                    });
                }
                for (index, dtable) in dtable.iter_mut().enumerate() {
                    let (left, right) = (index / depth * TILE, index % depth * token_blocks);
                    let left = &gradient.left[left..left + tokens.len()];
                    let right = &scaled_hidden[right + tokens.start..right + tokens.end];
                    logits.session.multiply(dtable, Write::Accumulate, left, right);
                }
                for d in 0..depth {
                    let table = &table_left[d * TILE..][..blocks];
                    for (column, token_block) in tokens.clone().enumerate() {
                        let right = &gradient.right[column * TILE..][..blocks];
                        let dhidden = &mut dhidden[d * token_blocks + token_block];
                        logits.session.multiply(dhidden, Write::Accumulate, table, right);
                    }
                }
            }
            let rows = tile.start - share.words.start..tile.end - share.words.start;
            for (index, dtable) in dtable.iter().enumerate() {
                let corner = (rows.start + index / depth * BLOCK, index % depth * BLOCK);
                dtable.store(&mut share.dtable[..rows.end * width], width, corner);
            }
            let lanes = gradient.bias.as_flattened();
            for (dbias, lanes) in share.dbias[rows].iter_mut().zip(lanes) {
                *dbias = lanes.iter().sum::<f32>() / sums.len() as f32;
            }
        }
        let mut found = vec![0.0; sums.len() * width];
        for (index, block) in dhidden.iter_mut().enumerate() {
            let corner = (index % token_blocks * BLOCK, index / token_blocks * BLOCK);
            block.store_transposed(&mut found, width, corner, 1.0 / sums.len() as f32);
        }
        self.subtract_targets(share, &mut found);
        // The divergence of tokens that are not there is not to be counted.
        let divergence = divergence.as_flattened()[..sums.len()].iter().map(|&bits| f64::from(bits)).sum::<f64>();
        (found, divergence * f64::from(LN_2))
    }
}

impl Bf16Tiles<'_> {
    /// Turns a block of logits into its gradient.
    fn logit_gradient(
        &self,
        logits: &Logits,
        (word_block, place): (usize, usize),
        shifts: &Shifts,
        out: &mut GradientBlock,
        divergence: &mut Lanes,
    ) {
        let loss = self.problem.loss;
        let student = (&logits.student.blocks[place], &logits.student.words.bias[word_block]);
        match (&logits.teacher, &loss.soft) {
            (Some(teacher), Some(soft)) => {
                let (soft_weight, hard_weight) = loss.weights();
                let shift = MixedShift {
                    temperature: soft.temperature,
                    hard: &shifts.hard,
                    student: &shifts.student,
                    teacher: &shifts.teacher,
                    soft_weight,
                    hard_weight,
                };
                let teacher = (&teacher.blocks[place], &teacher.words.bias[word_block]);
                logits.session.mixed_block(student, teacher, shift, out, divergence);
            }
            _ => logits.session.softmax_block(student.0, student.1, LOG2_E, &shifts.hard, out),
        }
    }
}
