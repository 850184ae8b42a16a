//! Tiles of logits in bf16 on the tile unit, with words down and tokens across.
//!
//! ```text
//! l^T [words, tokens] = W x^T      dW [words, D] += g x      dx^T [D, tokens] += W^T g       g = dl^T, rounded
//! ```
//!
//! The target's part of the gradient, one word a token, is added in float32 apart from the products.

use super::{Problem, Share, Tiles, TokenSums};
use crate::kernels::amx::{
    Amx, BLOCK, Block, GradientBlock, Lanes, Layout, MixedShift, Operand, Part, Session, Source,
};
use rayon::prelude::*;
use resnet_bk_runtime::head::Head;
use resnet_bk_runtime::kernels::{Normalizer, Write};
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// Blocks of words, and of tokens, of a tile: its gradient, twice 128 kB, stays in a core's cache.
const TILE: usize = 8;
/// Logit of a word that is not there: its exponential vanishes.
const ABSENT: f32 = -1e4;

/// How a float32 factor becomes bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// Rounded: 8 bits are left.
    Rounded,
    /// As the sum of two, `x = h + l`, which leaves 16 bits; `h h' + h l' + l h'` is a product of three times the depth.
    Pairs,
}

impl Factors {
    /// Parts of a word, and of a token, along the inner size.
    fn parts(self) -> (&'static [Part], &'static [Part]) {
        match self {
            Self::Rounded => (&[Part::High], &[Part::High]),
            Self::Pairs => (&[Part::High, Part::High, Part::Low], &[Part::High, Part::Low, Part::High]),
        }
    }
}

/// A [`Problem`] solved in bf16.
pub struct Bf16Tiles<'a> {
    amx: Amx,
    problem: Problem<'a>,
    hidden: Packed,
    teacher: Option<Packed>,
}

/// Hidden states as right side of the logits' product: `[n / 32][depth]`.
struct Packed {
    operands: Vec<Operand>,
    /// Blocks along the inner size: those of the width, for each part.
    depth: usize,
    factors: Factors,
}

impl Packed {
    fn new(hidden: &[f32], width: usize, factors: Factors) -> Self {
        let blocks = width.div_ceil(BLOCK);
        let (_, parts) = factors.parts();
        let depth = blocks * parts.len();
        let mut operands = vec![Operand::ZERO; (hidden.len() / width).div_ceil(BLOCK) * depth];
        operands.par_iter_mut().enumerate().for_each(|(index, operand)| {
            let corner = (index / depth * BLOCK, index % blocks * BLOCK);
            let source = Source { values: hidden, width, scale: 1.0, part: parts[index % depth / blocks] };
            operand.pack(source, corner, Layout::RightTransposed);
        });
        Self { operands, depth, factors }
    }

    fn token_block(&self, index: usize) -> &[Operand] {
        &self.operands[index * self.depth..][..self.depth]
    }
}

/// A tile's words of a head, as left side of the logits' product.
struct Words {
    /// `[TILE][D / 32]`.
    operands: Vec<Operand>,
    depth: usize,
    factors: Factors,
    /// `[TILE]`.
    bias: [Lanes; TILE],
}

impl Words {
    /// Room for words that go with these tokens.
    fn new(tokens: &Packed) -> Self {
        let (depth, factors) = (tokens.depth, tokens.factors);
        Self { operands: vec![Operand::ZERO; TILE * depth], depth, factors, bias: [[ABSENT; BLOCK]; TILE] }
    }

    /// Packs the words of a range, which at most fills the tile.
    fn load(&mut self, head: Head, words: Range<usize>) {
        let values = &head.table[..words.end * head.width()];
        let (parts, _) = self.factors.parts();
        let blocks = self.depth / parts.len();
        for (index, operand) in self.operands.iter_mut().enumerate() {
            let corner = (words.start + index / self.depth * BLOCK, index % blocks * BLOCK);
            let part = parts[index % self.depth / blocks];
            operand.pack(Source { values, width: head.width(), scale: 1.0, part }, corner, Layout::Left);
        }
        self.bias.as_flattened_mut().fill(ABSENT);
        self.bias.as_flattened_mut()[..words.len()].copy_from_slice(&head.bias[words]);
    }

    fn block(&self, index: usize) -> &[Operand] {
        &self.operands[index * self.depth..][..self.depth]
    }
}

/// Running sums of a block of tokens.
#[derive(Clone)]
struct Sums {
    largest: Lanes,
    sum: Lanes,
}

impl Sums {
    const EMPTY: Self = Self { largest: [f32::MIN; BLOCK], sum: [0.0; BLOCK] };

    fn extend(&mut self, session: &Session, block: &Block, bias: &Lanes, temperature: f32) {
        session.extend_sums(block, bias, LOG2_E / temperature, &mut self.largest, &mut self.sum);
    }

    fn normalizer(&self, lane: usize, temperature: f32) -> Normalizer {
        Normalizer { largest: self.largest[lane] / temperature, sum: self.sum[lane] }
    }
}

/// `log2 sum` of a block's tokens, so large for tokens that are not there that their gradient vanishes.
fn shift(sums: &[TokenSums], block: usize, normalizer: impl Fn(&TokenSums) -> Normalizer) -> Lanes {
    let mut shift = [-ABSENT; BLOCK];
    for (shift, sum) in shift.iter_mut().zip(&sums[block * BLOCK..]) {
        *shift = normalizer(sum).ln() * LOG2_E;
    }
    shift
}

impl<'a> Bf16Tiles<'a> {
    /// Packs the hidden states.
    pub fn new(amx: Amx, problem: Problem<'a>, factors: Factors) -> Self {
        let hidden = Packed::new(problem.hidden, problem.head.width(), factors);
        let teacher = problem.loss.soft.as_ref().map(|soft| Packed::new(&soft.hidden, soft.head().width(), factors));
        Self { amx, problem, hidden, teacher }
    }

    /// Hidden states over the number of tokens, tokens along the inner size: `[D / 32][n / 32]`.
    fn scaled_hidden(&self) -> Vec<Operand> {
        let Problem { loss, hidden: values, head } = self.problem;
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
        let targets = self.problem.loss.targets.iter().map(|&target| target as usize).enumerate();
        targets.filter(move |(_, target)| words.contains(target))
    }

    /// Adds the target's part of the gradient.
    fn subtract_targets(&self, share: &mut Share, dhidden: &mut [f32]) {
        let Problem { loss, hidden, head } = self.problem;
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

/// A thread's blocks of logits.
struct Logits<'a> {
    tiles: &'a Bf16Tiles<'a>,
    session: Session,
    words: Words,
    block: Block,
    teacher: Option<TeacherLogits<'a>>,
}

struct TeacherLogits<'a> {
    head: Head<'a>,
    hidden: &'a Packed,
    words: Words,
    block: Block,
}

impl<'a> Logits<'a> {
    fn new(tiles: &'a Bf16Tiles<'a>) -> Self {
        let teacher = tiles.problem.loss.soft.as_ref().zip(tiles.teacher.as_ref()).map(|(soft, hidden)| {
            TeacherLogits { head: soft.head(), hidden, words: Words::new(hidden), block: Block::ZERO }
        });
        let words = Words::new(&tiles.hidden);
        Self { tiles, session: tiles.amx.session(), words, block: Block::ZERO, teacher }
    }

    /// Takes a tile's words.
    fn load(&mut self, words: Range<usize>) {
        self.words.load(self.tiles.problem.head, words.clone());
        if let Some(teacher) = &mut self.teacher {
            teacher.words.load(teacher.head, words);
        }
    }

    /// Makes a block of the student's logits, and of the teacher's.
    fn make(&mut self, word_block: usize, token_block: usize) {
        let (words, hidden) = (self.words.block(word_block), self.tiles.hidden.token_block(token_block));
        self.session.multiply(&mut self.block, Write::Overwrite, words, hidden);
        if let Some(teacher) = &mut self.teacher {
            let (words, hidden) = (teacher.words.block(word_block), teacher.hidden.token_block(token_block));
            self.session.multiply(&mut teacher.block, Write::Overwrite, words, hidden);
        }
    }
}

/// Cuts a share's words into tiles.
fn tiles_of(words: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    words.clone().step_by(TILE * BLOCK).map(move |start| start..words.end.min(start + TILE * BLOCK))
}

impl Tiles for Bf16Tiles<'_> {
    fn sums(&self, words: Range<usize>) -> Vec<TokenSums> {
        let Problem { loss, hidden, head } = self.problem;
        let temperature = loss.soft.as_ref().map_or(1.0, |soft| soft.temperature);
        let mut found = vec![[Sums::EMPTY; 3]; self.token_blocks()];
        let mut logits = Logits::new(self);
        for tile in tiles_of(words.clone()) {
            logits.load(tile.clone());
            for (token_block, [hard, student, teacher]) in found.iter_mut().enumerate() {
                for word_block in 0..tile.len().div_ceil(BLOCK) {
                    logits.make(word_block, token_block);
                    let Logits { session, words, block, teacher: soft, .. } = &logits;
                    hard.extend(session, block, &words.bias[word_block], 1.0);
                    if let Some(soft) = soft {
                        student.extend(session, block, &words.bias[word_block], temperature);
                        teacher.extend(session, &soft.block, &soft.words.bias[word_block], temperature);
                    }
                }
            }
        }
        let mut sums: Vec<TokenSums> = (0..loss.targets.len())
            .map(|token| {
                let [hard, student, teacher] = &found[token / BLOCK];
                let lane = token % BLOCK;
                TokenSums {
                    hard: hard.normalizer(lane, 1.0),
                    student: student.normalizer(lane, temperature),
                    teacher: teacher.normalizer(lane, temperature),
                    target: 0.0,
                }
            })
            .collect();
        let width = head.width();
        for (token, target) in self.targets_in(words) {
            let (x, w) = (&hidden[token * width..][..width], &head.table[target * width..][..width]);
            sums[token].target = x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>() + head.bias[target];
        }
        sums
    }

    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64) {
        let head = self.problem.head;
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
                    for word_block in 0..blocks {
                        logits.make(word_block, token_block);
                        let out = &mut gradient.block(word_block, column);
                        logits.gradient(word_block, &shifts[token_block], out, &mut divergence[token_block]);
                    }
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

/// Shifts of a block of tokens.
struct Shifts {
    hard: Lanes,
    student: Lanes,
    teacher: Lanes,
}

impl Shifts {
    fn new(sums: &[TokenSums], block: usize) -> Self {
        Self {
            hard: shift(sums, block, |sum| sum.hard),
            student: shift(sums, block, |sum| sum.student),
            teacher: shift(sums, block, |sum| sum.teacher),
        }
    }
}

impl Logits<'_> {
    /// Turns the block of logits into its gradient.
    fn gradient(&self, word_block: usize, shifts: &Shifts, out: &mut GradientBlock, divergence: &mut Lanes) {
        let bias = &self.words.bias[word_block];
        let loss = self.tiles.problem.loss;
        match (&self.teacher, &loss.soft) {
            (Some(teacher), Some(soft)) => {
                let (soft_weight, hard_weight) = loss.weights();
                let shift = MixedShift {
                    hard_scale: LOG2_E,
                    soft_scale: LOG2_E / soft.temperature,
                    hard: &shifts.hard,
                    student: &shifts.student,
                    teacher: &shifts.teacher,
                    soft_weight,
                    hard_weight,
                };
                let teacher = (&teacher.block, &teacher.words.bias[word_block]);
                self.session.mixed_block((&self.block, bias), teacher, shift, out, divergence);
            }
            _ => self.session.softmax_block(&self.block, bias, LOG2_E, &shifts.hard, out),
        }
    }
}

/// The logits' gradient of a tile.
struct TileGradient {
    /// `[word block][token block]`, left side of the table's gradient.
    left: Vec<Operand>,
    /// `[token block][word block]`, right side of the hidden states' gradient.
    right: Vec<Operand>,
    /// Sums over tokens.
    bias: Vec<[[f32; 16]; BLOCK]>,
}

impl TileGradient {
    fn new() -> Self {
        let operands = vec![Operand::ZERO; TILE * TILE];
        Self { left: operands.clone(), right: operands, bias: vec![[[0.0; 16]; BLOCK]; TILE] }
    }

    fn block(&mut self, word_block: usize, token_block: usize) -> GradientBlock<'_> {
        GradientBlock {
            left: &mut self.left[word_block * TILE + token_block],
            right: &mut self.right[token_block * TILE + word_block],
            bias: &mut self.bias[word_block],
        }
    }
}
