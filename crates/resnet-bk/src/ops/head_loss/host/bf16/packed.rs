//! Both factors of the logits' product as bf16 operands.

use super::ABSENT;
use crate::kernels::amx::{BLOCK, Lanes, Layout, Operand, Part, Source};
use rayon::prelude::*;
use resnet_bk_runtime::internal::head::Rows;
use std::ops::Range;

/// How a float32 factor becomes bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// Rounded: 8 bits are left.
    Rounded,
    /// As the sum of two, `x = h + l`, which leaves 16 bits; `h h' + h l' + l h'` is a product of
    /// three times the depth.
    Pairs,
}

impl Factors {
    /// Parts of a word, and of a token, along the inner dimension.
    pub fn parts(self) -> (&'static [Part], &'static [Part]) {
        match self {
            Self::Rounded => (&[Part::High], &[Part::High]),
            Self::Pairs => (&[Part::High, Part::High, Part::Low], &[Part::High, Part::Low, Part::High]),
        }
    }
}

/// Hidden states as right factor of the logits' product: `[n / 32][depth]`.
pub(super) struct Packed {
    operands: Vec<Operand>,
    /// Blocks along the inner dimension: those of the width, for each part.
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

/// Some words of a head, as left factor of the logits' product.
pub(super) struct Words {
    /// `[words / 32][depth]`.
    operands: Vec<Operand>,
    depth: usize,
    /// `[words / 32]`.
    pub bias: Vec<Lanes>,
}

impl Words {
    /// Packs words that go with these tokens.
    pub fn new(head: Rows, words: Range<usize>, tokens: &Packed) -> Self {
        let values = &head.table[..words.end * head.width()];
        let (parts, _) = tokens.factors.parts();
        let (count, depth) = (words.len().div_ceil(BLOCK), tokens.depth);
        let blocks = depth / parts.len();
        let mut operands = vec![Operand::ZERO; count * depth];
        for (index, operand) in operands.iter_mut().enumerate() {
            let corner = (words.start + index / depth * BLOCK, index % blocks * BLOCK);
            let part = parts[index % depth / blocks];
            operand.pack(Source { values, width: head.width(), scale: 1.0, part }, corner, Layout::Left);
        }
        let mut bias = vec![[ABSENT; BLOCK]; count];
        bias.as_flattened_mut()[..words.len()].copy_from_slice(&head.bias[words]);
        Self { operands, depth, bias }
    }

    pub fn blocks(&self, range: Range<usize>) -> &[Operand] {
        &self.operands[range.start * self.depth..range.end * self.depth]
    }
}
