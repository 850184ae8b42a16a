//! What a thread holds of a tile: logits, running sums, and the gradient.

use super::packed::{Packed, Words};
use super::{ABSENT, Bf16Tiles, GROUP, TILE};
use crate::kernels::amx::{BLOCK, Block, BothSums, GradientBlock, Lanes, Operand, Session};
use crate::ops::head_loss::TokenSums;
use resnet_bk_runtime::head::Rows;
use resnet_bk_runtime::kernels::Normalizer;
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// A thread's blocks of logits: some words of a tile, one block of tokens.
pub(super) struct Logits<'a> {
    pub session: Session,
    pub student: HeadLogits<'a>,
    pub teacher: Option<HeadLogits<'a>>,
}

/// Those of one head.
pub(super) struct HeadLogits<'a> {
    head: Rows<'a>,
    hidden: &'a Packed,
    pub words: Words,
    /// `[GROUP]`.
    pub blocks: Vec<Block>,
}

impl<'a> HeadLogits<'a> {
    pub fn new(head: Rows<'a>, hidden: &'a Packed) -> Self {
        Self { head, hidden, words: Words::new(hidden), blocks: vec![Block::ZERO; GROUP] }
    }

    pub fn make(&mut self, session: &Session, word_blocks: Range<usize>, token_block: usize) {
        let out = &mut self.blocks[..word_blocks.len()];
        session.multiply_each(out, self.words.blocks(word_blocks), self.hidden.token_block(token_block));
    }
}

impl<'a> Logits<'a> {
    pub fn new(tiles: &'a Bf16Tiles<'a>) -> Self {
        let teacher = tiles.problem.teacher.zip(tiles.teacher.as_ref());
        Self {
            session: tiles.amx.session(),
            student: HeadLogits::new(tiles.problem.student.rows, &tiles.hidden),
            teacher: teacher.map(|(side, hidden)| HeadLogits::new(side.rows, hidden)),
        }
    }

    /// Takes a tile's words.
    pub fn load(&mut self, words: Range<usize>) {
        for logits in std::iter::once(&mut self.student).chain(&mut self.teacher) {
            logits.words.load(logits.head, words.clone());
        }
    }

    /// Makes the logits of the loaded words for a block of tokens, and calls `visit(logits, word block, its place among the
    /// blocks made)`.
    pub fn for_each_block(&mut self, words: usize, token_block: usize, mut visit: impl FnMut(&Self, usize, usize)) {
        let blocks = words.div_ceil(BLOCK);
        for first in (0..blocks).step_by(GROUP) {
            let group = first..blocks.min(first + GROUP);
            for logits in std::iter::once(&mut self.student).chain(&mut self.teacher) {
                logits.make(&self.session, group.clone(), token_block);
            }
            for (place, word_block) in group.enumerate() {
                visit(self, word_block, place);
            }
        }
    }
}

/// Running sums of a block of tokens.
#[derive(Clone)]
pub(super) struct Sums {
    student: BothSums,
    teacher_largest: Lanes,
    teacher: Lanes,
}

impl Sums {
    pub const EMPTY: Self = Self {
        student: BothSums { largest: [f32::MIN; BLOCK], hard: [0.0; BLOCK], soft: [0.0; BLOCK] },
        teacher_largest: [f32::MIN; BLOCK],
        teacher: [0.0; BLOCK],
    };

    /// Takes in the blocks of logits at `place`.
    pub fn extend(&mut self, logits: &Logits, word_block: usize, place: usize, temperature: f32) {
        let (session, student) = (&logits.session, &logits.student);
        let (block, bias) = (&student.blocks[place], &student.words.bias[word_block]);
        if let Some(teacher) = &logits.teacher {
            session.extend_both(block, bias, temperature, &mut self.student);
            let (block, bias) = (&teacher.blocks[place], &teacher.words.bias[word_block]);
            session.extend_sums(block, bias, LOG2_E / temperature, &mut self.teacher_largest, &mut self.teacher);
        } else {
            session.extend_sums(block, bias, LOG2_E, &mut self.student.largest, &mut self.student.hard);
        }
    }

    /// Those of one token; the target's logit is not known here.
    pub fn of_token(&self, lane: usize, temperature: f32) -> TokenSums {
        let student = |sum: &Lanes, tau: f32| Normalizer { largest: self.student.largest[lane] / tau, sum: sum[lane] };
        TokenSums {
            hard: student(&self.student.hard, 1.0),
            student: student(&self.student.soft, temperature),
            teacher: Normalizer { largest: self.teacher_largest[lane] / temperature, sum: self.teacher[lane] },
            target: 0.0,
        }
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

/// Shifts of a block of tokens.
pub(super) struct Shifts {
    pub hard: Lanes,
    pub student: Lanes,
    pub teacher: Lanes,
}

impl Shifts {
    pub fn new(sums: &[TokenSums], block: usize) -> Self {
        Self {
            hard: shift(sums, block, |sum| sum.hard),
            student: shift(sums, block, |sum| sum.student),
            teacher: shift(sums, block, |sum| sum.teacher),
        }
    }
}

/// The logits' gradient of a tile.
pub(super) struct TileGradient {
    /// `[word block][token block]`, left side of the table's gradient.
    pub left: Vec<Operand>,
    /// `[token block][word block]`, right side of the hidden states' gradient.
    pub right: Vec<Operand>,
    /// Sums over tokens.
    pub bias: Vec<[[f32; 16]; BLOCK]>,
}

impl TileGradient {
    pub fn new() -> Self {
        let operands = vec![Operand::ZERO; TILE * TILE];
        Self { left: operands.clone(), right: operands, bias: vec![[[0.0; 16]; BLOCK]; TILE] }
    }

    pub fn block(&mut self, word_block: usize, token_block: usize) -> GradientBlock<'_> {
        GradientBlock {
            left: &mut self.left[word_block * TILE + token_block],
            right: &mut self.right[token_block * TILE + word_block],
            bias: &mut self.bias[word_block],
        }
    }
}
