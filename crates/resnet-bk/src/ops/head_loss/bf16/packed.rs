//! Both sides of the logits' product as bf16 operands.

use super::{ABSENT, TILE};
use crate::kernels::amx::{BLOCK, Lanes, Layout, Operand, Part, Source};
use rayon::prelude::*;
use resnet_bk_runtime::head::Rows;
use std::ops::Range;

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
    pub fn parts(self) -> (&'static [Part], &'static [Part]) {
        match self {
            Self::Rounded => (&[Part::High], &[Part::High]),
            Self::Pairs => (&[Part::High, Part::High, Part::Low], &[Part::High, Part::Low, Part::High]),
        }
    }
}

/// Hidden states as right side of the logits' product: `[n / 32][depth]`.
pub(super) struct Packed {
    operands: Vec<Operand>,
    /// Blocks along the inner size: those of the width, for each part.
    depth: usize,
    factors: Factors,
}

impl Packed {
    pub fn new(hidden: &[f32], width: usize, factors: Factors) -> Self {
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

    pub fn token_block(&self, index: usize) -> &[Operand] {
        &self.operands[index * self.depth..][..self.depth]
    }
}

/// A tile's words of a head, as left side of the logits' product.
pub(super) struct Words {
    /// `[TILE][D / 32]`.
    operands: Vec<Operand>,
    depth: usize,
    factors: Factors,
    /// `[TILE]`.
    pub bias: [Lanes; TILE],
}

impl Words {
    /// Room for words that go with these tokens.
    pub fn new(tokens: &Packed) -> Self {
        let (depth, factors) = (tokens.depth, tokens.factors);
        Self { operands: vec![Operand::ZERO; TILE * depth], depth, factors, bias: [[ABSENT; BLOCK]; TILE] }
    }

    /// Packs the words of a range, which at most fills the tile.
    pub fn load(&mut self, head: Rows, words: Range<usize>) {
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

    pub fn blocks(&self, range: Range<usize>) -> &[Operand] {
        &self.operands[range.start * self.depth..range.end * self.depth]
    }
}
