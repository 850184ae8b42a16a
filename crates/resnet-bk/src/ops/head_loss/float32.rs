//! Tiles of logits in float32, on any processor.

use super::{Problem, Share, Side, SoftTargets, Tiles, TokenSums};
use crate::kernels::{MixedRow, mixed_gradient, softmax_gradient};
use resnet_bk_runtime::head::WORDS;
use resnet_bk_runtime::kernels::{Matrix, Threads, Write, add_row, matmul};
use std::ops::Range;

/// Tokens of a tile: with [`WORDS`] words its logits (512 kB) stay in a core's cache between being made and being used.
pub const TOKENS: usize = 256;

/// A [`Problem`] solved in float32.
pub struct Float32Tiles<'a>(pub Problem<'a>);

impl Float32Tiles<'_> {
    /// Calls `visit(tile of tokens, words, logits, teacher's logits)` for the tiles of some words.
    fn for_each(&self, words: Range<usize>, mut visit: impl FnMut(Range<usize>, Range<usize>, &mut [f32], &[f32])) {
        let Problem { loss, student, teacher, .. } = self.0;
        let tokens = loss.targets.len();
        let mut logits = vec![0.0; TOKENS * WORDS];
        let mut teacher_logits = vec![0.0; if teacher.is_some() { TOKENS * WORDS } else { 0 }];
        for first_word in words.clone().step_by(WORDS) {
            let words = first_word..words.end.min(first_word + WORDS);
            for first_token in (0..tokens).step_by(TOKENS) {
                let rows = first_token..tokens.min(first_token + TOKENS);
                let size = rows.len() * words.len();
                let make = |side: Side, out: &mut [f32]| {
                    let width = side.rows.width();
                    side.rows.logits_of(words.clone(), &side.hidden[rows.start * width..rows.end * width], out);
                };
                make(student, &mut logits[..size]);
                if let Some(teacher) = teacher {
                    make(teacher, &mut teacher_logits[..size]);
                }
                let seen = if teacher.is_some() { &teacher_logits[..size] } else { &[] };
                visit(rows, words.clone(), &mut logits[..size], seen);
            }
        }
    }
}

impl Tiles for Float32Tiles<'_> {
    fn sums(&self, words: Range<usize>) -> Vec<TokenSums> {
        let loss = self.0.loss;
        let mut sums = vec![TokenSums::EMPTY; loss.targets.len()];
        self.for_each(words, |rows, words, logits, teacher| {
            for (index, (token, row)) in rows.zip(logits.chunks(words.len())).enumerate() {
                let sum = &mut sums[token];
                sum.hard.extend(row, 1.0);
                if let Some(soft) = &loss.soft {
                    sum.student.extend(row, 1.0 / soft.temperature);
                    sum.teacher.extend(&teacher[index * words.len()..][..words.len()], 1.0 / soft.temperature);
                }
                if let Some(target) = self.0.target(token).filter(|target| words.contains(target)) {
                    sum.target = row[target - words.start];
                }
            }
        });
        sums
    }

    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64) {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.0;
        let (width, start) = (head.width(), share.words.start);
        let mut dhidden = vec![0.0; hidden.len()];
        let mut divergence = 0.0;
        let scale = 1.0 / sums.len() as f32;
        self.for_each(share.words.clone(), |rows, words, logits, teacher| {
            let count = words.len();
            let dbias = &mut share.dbias[words.start - start..words.end - start];
            for (index, (token, row)) in rows.clone().zip(logits.chunks_mut(count)).enumerate() {
                let sum = &sums[token];
                match &loss.soft {
                    None => softmax_gradient(row, sum.hard.ln(), scale),
                    Some(soft) => {
                        let mixed = mixed_row(loss.weights(), soft, sum, scale);
                        divergence += f64::from(mixed_gradient(row, &teacher[index * count..][..count], mixed));
                    }
                }
                if let Some(target) = self.0.target(token).filter(|target| words.contains(target)) {
                    row[target - words.start] -= loss.weights().1 * scale;
                }
                add_row(dbias, row);
            }
            let dlogits = Matrix::new(logits, rows.len(), count);
            let table = Matrix::new(&head.table[words.start * width..words.end * width], count, width);
            let hidden = &hidden[rows.start * width..rows.end * width];
            matmul(&mut dhidden[rows.start * width..rows.end * width], Write::Accumulate, dlogits, table, Threads::One);
            let dtable = &mut share.dtable[(words.start - start) * width..(words.end - start) * width];
            let hidden = Matrix::new(hidden, rows.len(), width);
            matmul(dtable, Write::Accumulate, dlogits.transposed(), hidden, Threads::One);
        });
        (dhidden, divergence)
    }
}

fn mixed_row((soft_weight, hard_weight): (f32, f32), soft: &SoftTargets, sum: &TokenSums, scale: f32) -> MixedRow {
    MixedRow {
        inverse_temperature: 1.0 / soft.temperature,
        hard: sum.hard.ln(),
        student: sum.student.ln(),
        teacher: sum.teacher.ln(),
        soft_weight: soft_weight * scale,
        hard_weight: hard_weight * scale,
    }
}
