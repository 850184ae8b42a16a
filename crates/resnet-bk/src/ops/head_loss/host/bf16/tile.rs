//! What a thread keeps of its words: logits, running sums, exponentials, and gradients.

use super::packed::{Packed, Words};
use super::{ABSENT, Bf16Tiles, STRIP, TILE};
use crate::kernels::amx::{
    BLOCK, Block, Exponentials, GradientBlock, LIFT, Lanes, MixedSums, Operand, PlainSums, Session, TokenNormalizers,
};
use crate::ops::head_loss::HeadLoss;
use crate::ops::head_loss::host::token_sums::TokenSums;
use resnet_bk_runtime::internal::kernels::Normalizer;
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// A thread's words of a problem.
pub(super) struct ThreadWords {
    /// Counted from the problem's first.
    pub words: Range<usize>,
    pub student: Words,
    pub teacher: Option<Words>,
}

impl ThreadWords {
    /// Blocks of words.
    pub fn blocks(&self) -> usize {
        self.words.len().div_ceil(BLOCK)
    }

    /// Blocks of words, a tile at a time.
    pub fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let blocks = self.blocks();
        (0..blocks).step_by(TILE).map(move |start| start..blocks.min(start + TILE))
    }
}

/// A thread's words of a problem, and what it needs for their gradients.
pub struct Held {
    pub(super) words: ThreadWords,
    pub(super) kept: Kept,
    /// The words' table, words along the inner dimension: `[D / 32][words / 32]`.
    pub(super) table: Vec<Operand>,
    /// `[words / 32][D / 32]`.
    pub(super) dtable: Vec<Block>,
    pub(super) gradient: TileGradient,
}

impl Held {
    pub(super) fn new(words: ThreadWords, loss: &HeadLoss, table: Vec<Operand>) -> Self {
        let planes = loss.soft.as_ref().map_or(1, |soft| MixedSums::planes(soft.temperature));
        Self {
            kept: Kept { blocks: vec![Exponentials::ZERO; words.blocks() * TILE * planes], planes },
            dtable: vec![Block::ZERO; table.len()],
            table,
            gradient: TileGradient::new(),
            words,
        }
    }
}

/// Exponentials of a group of tokens, in the order in which they are computed and used:
/// `[tile of words][token block][word block][plane]`.
pub(super) struct Kept {
    blocks: Vec<Exponentials>,
    planes: usize,
}

impl Kept {
    /// The planes of one block of logits; `columns` are the group's token blocks.
    pub fn of(&mut self, tile: &Range<usize>, word_block: usize, column: usize, columns: usize) -> &mut [Exponentials] {
        let place = tile.start * columns + column * tile.len() + word_block - tile.start;
        &mut self.blocks[place * self.planes..][..self.planes]
    }
}

/// A thread's blocks of logits: some words of a tile, one block of tokens.
pub(super) struct Logits<'a> {
    pub session: Session,
    pub student: HeadLogits<'a>,
    pub teacher: Option<HeadLogits<'a>>,
}

/// Those of one head.
pub(super) struct HeadLogits<'a> {
    words: &'a Words,
    hidden: &'a Packed,
    /// `[STRIP]`.
    blocks: Vec<Block>,
}

impl<'a> HeadLogits<'a> {
    fn new(words: &'a Words, hidden: &'a Packed) -> Self {
        Self { words, hidden, blocks: vec![Block::ZERO; STRIP] }
    }

    fn make(&mut self, session: &Session, word_blocks: Range<usize>, token_block: usize) {
        let out = &mut self.blocks[..word_blocks.len()];
        session.multiply_each(out, self.words.blocks(word_blocks), self.hidden.token_block(token_block));
    }

    /// The block at a place among those computed, and its words' bias.
    pub fn block(&self, word_block: usize, place: usize) -> (&Block, &Lanes) {
        (&self.blocks[place], &self.words.bias[word_block])
    }
}

impl<'a> Logits<'a> {
    pub fn new(tiles: &'a Bf16Tiles<'a>, words: &'a ThreadWords) -> Self {
        let teacher = words.teacher.as_ref().zip(tiles.teacher.as_ref());
        Self {
            session: tiles.amx.session(),
            student: HeadLogits::new(&words.student, &tiles.hidden),
            teacher: teacher.map(|(words, hidden)| HeadLogits::new(words, hidden)),
        }
    }

    /// Computes the logits of a tile for a block of tokens, and calls `visit(logits, word block,
    /// its place among the blocks computed)`.
    pub fn for_each_block(
        &mut self,
        tile: Range<usize>,
        token_block: usize,
        mut visit: impl FnMut(&Self, usize, usize),
    ) {
        for first in tile.clone().step_by(STRIP) {
            let strip = first..tile.end.min(first + STRIP);
            for logits in std::iter::once(&mut self.student).chain(&mut self.teacher) {
                logits.make(&self.session, strip.clone(), token_block);
            }
            for (place, word_block) in strip.enumerate() {
                visit(self, word_block, place);
            }
        }
    }
}

/// Running sums of a block of tokens.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "the sums of a loss are all of one variant")]
pub(super) enum Sums {
    Plain(PlainSums),
    Mixed(MixedSums, f32),
}

impl Sums {
    /// Of no words.
    pub fn new(loss: &HeadLoss) -> Self {
        loss.soft.as_ref().map_or(Self::Plain(PlainSums::EMPTY), |soft| Self::Mixed(MixedSums::EMPTY, soft.temperature))
    }

    /// Adds the student's block of logits at `place`.
    pub fn extend(&mut self, logits: &Logits, word_block: usize, place: usize) {
        let Self::Plain(sums) = self else { unreachable!("only gradients need a teacher") };
        let (block, bias) = logits.student.block(word_block, place);
        logits.session.extend(block, bias, sums);
    }

    /// Adds the blocks of logits at `place`, and keeps their exponentials.
    pub fn extend_and_keep(&mut self, logits: &Logits, word_block: usize, place: usize, kept: &mut [Exponentials]) {
        let student = logits.student.block(word_block, place);
        match (self, &logits.teacher) {
            (Self::Plain(sums), _) => logits.session.extend_and_keep(student.0, student.1, sums, &mut kept[0]),
            (Self::Mixed(sums, temperature), Some(teacher)) => {
                let teacher = teacher.block(word_block, place);
                logits.session.extend_mixed(student, teacher, *temperature, sums, kept);
            }
            (Self::Mixed(..), None) => unreachable!("a mixed loss has a teacher"),
        }
    }

    /// Those of one token; the target's logit is not known here.
    pub fn of_token(&self, lane: usize) -> TokenSums {
        let lowered = |largest: &Lanes, sum: &Lanes, tau: f32, lift: f32| Normalizer {
            largest: largest[lane] / tau,
            sum: sum[lane] * (-lift).exp2(),
        };
        match self {
            Self::Plain(sums) => TokenSums { hard: lowered(&sums.largest, &sums.sum, 1.0, LIFT), ..TokenSums::EMPTY },
            Self::Mixed(sums, tau) => TokenSums {
                hard: lowered(&sums.largest, &sums.hard, 1.0, MixedSums::lift(*tau)),
                student: lowered(&sums.largest, &sums.soft, *tau, LIFT),
                teacher: lowered(&sums.teacher_largest, &sums.teacher, *tau, LIFT),
                difference: sums.difference[lane] * (-LIFT).exp2() / tau,
                target: 0.0,
            },
        }
    }
}

/// `log2 sum` of a block's tokens. Beyond the last token it is so large that the gradient vanishes.
fn log2_sums(sums: &[TokenSums], normalizer: impl Fn(&TokenSums) -> Normalizer) -> Lanes {
    let mut lanes = [-ABSENT; BLOCK];
    for (lane, sum) in lanes.iter_mut().zip(sums) {
        *lane = normalizer(sum).ln() * LOG2_E;
    }
    lanes
}

/// Normalizers of a block of tokens, from their sums.
pub(super) fn normalizers(sums: &[TokenSums]) -> TokenNormalizers {
    TokenNormalizers {
        hard: log2_sums(sums, |sum| sum.hard),
        student: log2_sums(sums, |sum| sum.student),
        teacher: log2_sums(sums, |sum| sum.teacher),
    }
}

/// The logits' gradient of a tile.
pub(super) struct TileGradient {
    /// `[word block][token block]`, left factor of the table's gradient.
    pub left: Vec<Operand>,
    /// `[token block][word block]`, right factor of the hidden states' gradient.
    pub right: Vec<Operand>,
    /// Sums over tokens.
    pub bias: Vec<[[f32; 16]; BLOCK]>,
}

impl TileGradient {
    fn new() -> Self {
        let operands = vec![Operand::ZERO; TILE * TILE];
        Self { left: operands.clone(), right: operands, bias: vec![[[0.0; 16]; BLOCK]; TILE] }
    }

    /// Of a block of the tile's words and one of the tokens.
    pub fn block(&mut self, word_block: usize, token_block: usize) -> GradientBlock<'_> {
        GradientBlock {
            left: &mut self.left[word_block * TILE + token_block],
            right: &mut self.right[token_block * TILE + word_block],
            bias: &mut self.bias[word_block],
        }
    }
}
