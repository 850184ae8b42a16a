//! Tiles of logits in bf16 on the tile unit, with words down and tokens across.
//!
//! ```text
//! l^T [words, tokens] = W x^T      dW [words, D] += g x      dx^T [D, tokens] += W^T g
//! g = dl^T, rounded
//! ```
//!
//! The exponentials of a group of tokens are kept in half precision. The target's part of the
//! gradient, one word for each token, is added in float32 apart from the products.

mod packed;
mod tile;

use super::groups::{Share, TOKENS, Tiles, words_of_threads};
use super::problem::{Problem, Side};
use super::token_sums::{TokenSums, merged};
use crate::kernels::amx::{Amx, BLOCK, Block, Layout, Mixture, Operand, Part, Source};
use packed::{Factors, Packed, Words};
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::Write;
use std::ops::Range;
use tile::{Held, Logits, Sums, ThreadWords, normalizers};

/// Blocks of words, and of tokens, of a tile: its gradient, twice 128 kB, stays in a core's cache.
const TILE: usize = 8;
/// Blocks of logits that are computed at once: they stay in the first-level cache until they are
/// used.
const STRIP: usize = 4;
/// Logit of a word that is not there: its exponential vanishes.
const ABSENT: f32 = -1e4;

const _: () = assert!(TOKENS == TILE * BLOCK, "a group of tokens is one tile wide");

/// A [`Problem`] solved in bf16.
pub struct Bf16Tiles<'a> {
    amx: Amx,
    problem: Problem<'a>,
    hidden: Packed,
    teacher: Option<Packed>,
}

/// Every token's hard normalizer and target over all words of some problems without a teacher. The
/// factors are pairs of bf16.
pub fn evaluated<'a>(amx: Amx, problems: impl Iterator<Item = Problem<'a>>, tokens: usize) -> Vec<TokenSums> {
    let sums_of = |problem: Problem<'a>| {
        let tiles = Bf16Tiles::packed(amx, problem, Factors::Pairs);
        let words: Vec<_> = words_of_threads(problem.words()).collect();
        let parts: Vec<_> = words.into_par_iter().map(|words| tiles.sums_alone(words)).collect();
        merged(parts, tokens)
    };
    merged(problems.map(sums_of), tokens)
}

impl<'a> Bf16Tiles<'a> {
    /// For training.
    pub fn new(amx: Amx, problem: Problem<'a>) -> Self {
        Self::packed(amx, problem, Factors::Rounded)
    }

    /// Packs the hidden states.
    fn packed(amx: Amx, problem: Problem<'a>, factors: Factors) -> Self {
        let pack = |side: Side| Packed::new(side.hidden, side.rows.width(), factors);
        Self { amx, problem, hidden: pack(problem.student), teacher: problem.teacher.map(pack) }
    }

    /// Every token's sums over some words, with nothing kept.
    fn sums_alone(&self, words: Range<usize>) -> Vec<TokenSums> {
        let words = self.words(words);
        let mut logits = Logits::new(self, &words);
        self.sums_by(&words, 0..self.problem.loss.targets.len(), |tile, _, token_block, sums| {
            logits.for_each_block(tile, token_block, |logits, word_block, place| {
                sums.extend(logits, word_block, place);
            });
        })
    }

    fn words(&self, words: Range<usize>) -> ThreadWords {
        let pack = |side: Side, hidden: &Packed| Words::new(side.rows, words.clone(), hidden);
        let teacher = self.problem.teacher.zip(self.teacher.as_ref());
        ThreadWords {
            student: pack(self.problem.student, &self.hidden),
            teacher: teacher.map(|(side, hidden)| pack(side, hidden)),
            words,
        }
    }

    /// The tokens' sums over a thread's words, which `visit(tile, column, block of tokens, sums)`
    /// extends; a column is a block of tokens, counted from the first of these tokens.
    fn sums_by(
        &self,
        words: &ThreadWords,
        tokens: Range<usize>,
        mut visit: impl FnMut(Range<usize>, usize, usize, &mut Sums),
    ) -> Vec<TokenSums> {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.problem;
        let first = tokens.start / BLOCK;
        let mut blocks = vec![Sums::new(loss); tokens.len().div_ceil(BLOCK)];
        for tile in words.tiles() {
            for (column, sums) in blocks.iter_mut().enumerate() {
                visit(tile.clone(), column, first + column, sums);
            }
        }
        let mut sums: Vec<TokenSums> =
            (0..tokens.len()).map(|index| blocks[index / BLOCK].of_token(index % BLOCK)).collect();
        let width = head.width();
        for (token, target) in self.targets_in(tokens.clone(), &words.words) {
            let (x, w) = (&hidden[token * width..][..width], &head.table[target * width..][..width]);
            let product = x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
            sums[token - tokens.start].target = product + head.bias[target];
        }
        sums
    }

    /// A group's hidden states over the number of all tokens, tokens along the inner dimension:
    /// `[D / 32][group / 32]`.
    fn scaled_hidden(&self, tokens: Range<usize>) -> Vec<Operand> {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.problem;
        let (width, blocks) = (head.width(), tokens.len().div_ceil(BLOCK));
        let values = &hidden[..tokens.end * width];
        let source = Source { values, width, scale: 1.0 / loss.targets.len() as f32, part: Part::High };
        let mut operands = vec![Operand::ZERO; width.div_ceil(BLOCK) * blocks];
        for (index, operand) in operands.iter_mut().enumerate() {
            let corner = (tokens.start + index % blocks * BLOCK, index / blocks * BLOCK);
            operand.pack(source, corner, Layout::Right);
        }
        operands
    }

    /// Index and target of the tokens whose target is among some words.
    fn targets_in(&self, tokens: Range<usize>, words: &Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let (problem, words) = (self.problem, words.clone());
        let targets = tokens.filter_map(move |token| Some((token, problem.target(token)?)));
        targets.filter(move |(_, target)| words.contains(target))
    }

    /// The target's part of a logit's gradient, with its sign.
    fn target_weight(&self) -> f32 {
        let loss = self.problem.loss;
        -loss.weights().1 / loss.targets.len() as f32
    }
}

impl Tiles for Bf16Tiles<'_> {
    type Held = Held;

    fn hold(&self, words: Range<usize>) -> Held {
        let Side { rows: head, .. } = self.problem.student;
        let width = head.width();
        let (values, blocks) = (&head.table[..words.end * width], words.len().div_ceil(BLOCK));
        let source = Source { values, width, scale: 1.0, part: Part::High };
        let mut table = vec![Operand::ZERO; width.div_ceil(BLOCK) * blocks];
        for (index, operand) in table.iter_mut().enumerate() {
            let corner = (words.start + index % blocks * BLOCK, index / blocks * BLOCK);
            operand.pack(source, corner, Layout::LeftTransposed);
        }
        Held::new(self.words(words), self.problem.loss, table)
    }

    fn sums(&self, Held { words, kept, .. }: &mut Held, tokens: Range<usize>) -> Vec<TokenSums> {
        let columns = tokens.len().div_ceil(BLOCK);
        let mut logits = Logits::new(self, words);
        self.sums_by(words, tokens, |tile, column, token_block, sums| {
            logits.for_each_block(tile.clone(), token_block, |logits, word_block, place| {
                sums.extend_and_keep(logits, word_block, place, kept.of(&tile, word_block, column, columns));
            });
        })
    }

    fn gradients(&self, held: &mut Held, share: &mut Share, tokens: Range<usize>, sums: &[TokenSums]) -> Vec<f32> {
        let Problem { loss, student: Side { rows: head, .. }, .. } = self.problem;
        let (width, columns) = (head.width(), tokens.len().div_ceil(BLOCK));
        let (depth, scale) = (width.div_ceil(BLOCK), 1.0 / loss.targets.len() as f32);
        let hidden = self.scaled_hidden(tokens.clone());
        let normalizers: Vec<_> = sums.chunks(BLOCK).map(normalizers).collect();
        let (soft_weight, hard_weight) = loss.weights();
        let mixture = |temperature: f32| Mixture { temperature, soft_weight, hard_weight };
        let mixture = loss.soft.as_ref().map(|soft| mixture(soft.temperature));
        let mut dhidden = vec![Block::ZERO; depth * columns];
        let Held { words, kept, table, dtable, gradient } = held;
        let blocks = words.blocks();
        let session = self.amx.session();
        for tile in words.tiles() {
            gradient.bias.fill([[0.0; 16]; BLOCK]);
            for (column, normalizers) in normalizers.iter().enumerate() {
                for word_block in tile.clone() {
                    let out = &mut gradient.block(word_block - tile.start, column);
                    let kept = kept.of(&tile, word_block, column, columns);
                    match mixture {
                        None => session.plain_gradient(&kept[0], &normalizers.hard, out),
                        Some(mixture) => session.mixed_gradient(kept, mixture, normalizers, out),
                    }
                }
            }
            for word_block in tile.clone() {
                let left = &gradient.left[(word_block - tile.start) * TILE..][..columns];
                for d in 0..depth {
                    let right = &hidden[d * columns..][..columns];
                    session.multiply(&mut dtable[word_block * depth + d], Write::Accumulate, left, right);
                }
            }
            for d in 0..depth {
                let table = &table[d * blocks..][tile.clone()];
                for column in 0..columns {
                    let right = &gradient.right[column * TILE..][..tile.len()];
                    session.multiply(&mut dhidden[d * columns + column], Write::Accumulate, table, right);
                }
            }
            let rows = tile.start * BLOCK..words.words.len().min(tile.end * BLOCK);
            let lanes = gradient.bias.as_flattened();
            for (dbias, lanes) in share.dbias[rows].iter_mut().zip(lanes) {
                *dbias += lanes.iter().sum::<f32>() * scale;
            }
        }
        let mut out = vec![0.0; tokens.len() * width];
        for (index, block) in dhidden.iter().enumerate() {
            let corner = (index % columns * BLOCK, index / columns * BLOCK);
            block.store_transposed(&mut out, width, corner, scale);
        }
        let weight = self.target_weight();
        for (token, target) in self.targets_in(tokens.clone(), &words.words) {
            let w = &head.table[target * width..][..width];
            let dhidden = &mut out[(token - tokens.start) * width..][..width];
            dhidden.iter_mut().zip(w).for_each(|(d, w)| *d += weight * w);
        }
        out
    }

    fn finish(&self, held: Held, share: &mut Share) {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.problem;
        let (width, weight) = (head.width(), self.target_weight());
        let depth = width.div_ceil(BLOCK);
        for (index, dtable) in held.dtable.iter().enumerate() {
            dtable.store(share.dtable, width, (index / depth * BLOCK, index % depth * BLOCK));
        }
        for (token, target) in self.targets_in(0..loss.targets.len(), &share.words) {
            let word = target - share.words.start;
            share.dbias[word] += weight;
            let x = &hidden[token * width..][..width];
            share.dtable[word * width..][..width].iter_mut().zip(x).for_each(|(d, x)| *d += weight * x);
        }
    }
}
