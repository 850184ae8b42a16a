//! Tiles of logits in float32, on any processor.

use super::groups::{Share, TOKENS, Tiles};
use super::problem::{Problem, Side};
use super::token_sums::TokenSums;
use crate::kernels::{MixedRow, mixed_gradient, softmax_gradient, teacher_sums};
use crate::ops::head_loss::SoftTargets;
use resnet_bk_runtime::internal::head::VOCAB_CHUNK;
use resnet_bk_runtime::internal::kernels::{Matrix, Normalizer, Threads, Write, add_row, largest, matmul};
use std::ops::Range;

/// A [`Problem`] solved in float32.
pub struct Float32Tiles<'a>(pub Problem<'a>);

/// Logits of a group of tokens.
pub struct ThreadState {
    words: Range<usize>,
    /// Tiles of words, `[tokens, words of the tile]` each, with space for a whole group.
    logits: Vec<f32>,
    /// The teacher's logits; empty without a teacher.
    teacher: Vec<f32>,
}

impl ThreadState {
    /// Calls `visit(words, logits, teacher's logits)` for every tile of words.
    fn for_each(&mut self, tokens: usize, mut visit: impl FnMut(Range<usize>, &mut [f32], &mut [f32])) {
        let mut teacher = self.teacher.chunks_mut(VOCAB_CHUNK * TOKENS);
        for (logits, first) in self.logits.chunks_mut(VOCAB_CHUNK * TOKENS).zip(self.words.clone().step_by(VOCAB_CHUNK))
        {
            let words = first..self.words.end.min(first + VOCAB_CHUNK);
            let size = tokens * words.len();
            let teacher = teacher.next().map_or(&mut [][..], |teacher| &mut teacher[..size]);
            visit(words, &mut logits[..size], teacher);
        }
    }
}

impl Tiles for Float32Tiles<'_> {
    type ThreadState = ThreadState;

    fn prepare(&self, words: Range<usize>) -> ThreadState {
        let room = words.len() * TOKENS;
        ThreadState {
            words,
            logits: vec![0.0; room],
            teacher: vec![0.0; if self.0.teacher.is_some() { room } else { 0 }],
        }
    }

    fn sums(&self, state: &mut ThreadState, tokens: Range<usize>) -> Vec<TokenSums> {
        let Problem { loss, student, teacher: teacher_side, .. } = self.0;
        let mut sums = vec![TokenSums::EMPTY; tokens.len()];
        state.for_each(tokens.len(), |words, logits, teacher| {
            let make = |side: Side, out: &mut [f32]| {
                let width = side.rows.width();
                side.rows.logits_of(words.clone(), &side.hidden[tokens.start * width..tokens.end * width], out);
            };
            make(student, logits);
            if let Some(side) = teacher_side {
                make(side, teacher);
            }
            for (index, (sum, row)) in sums.iter_mut().zip(logits.chunks(words.len())).enumerate() {
                sum.hard.extend(row, 1.0);
                if let Some(soft) = &loss.soft {
                    let (scale, teacher) = (1.0 / soft.temperature, &teacher[index * words.len()..][..words.len()]);
                    sum.student.extend(row, scale);
                    let shift = sum.teacher.largest.max(largest(teacher) * scale);
                    let [teacher, difference] = teacher_sums(row, teacher, scale, shift);
                    sum.merge_teacher(Normalizer { largest: shift, sum: teacher }, difference);
                }
                if let Some(target) = self.0.target(tokens.start + index).filter(|target| words.contains(target)) {
                    sum.target = row[target - words.start];
                }
            }
        });
        sums
    }

    fn gradients(
        &self,
        state: &mut ThreadState,
        share: &mut Share,
        tokens: Range<usize>,
        sums: &[TokenSums],
    ) -> Vec<f32> {
        let Problem { loss, student: Side { hidden, rows: head }, .. } = self.0;
        let (width, start) = (head.width(), share.words.start);
        let mut dhidden = vec![0.0; tokens.len() * width];
        let scale = 1.0 / loss.targets.len() as f32;
        state.for_each(tokens.len(), |words, logits, teacher| {
            let count = words.len();
            let dbias = &mut share.dbias[words.start - start..words.end - start];
            for (index, (sum, row)) in sums.iter().zip(logits.chunks_mut(count)).enumerate() {
                match &loss.soft {
                    None => softmax_gradient(row, sum.hard.ln(), scale),
                    Some(soft) => {
                        let mixed = mixed_row(loss.weights(), soft, sum, scale);
                        mixed_gradient(row, &teacher[index * count..][..count], mixed);
                    }
                }
                if let Some(target) = self.0.target(tokens.start + index).filter(|target| words.contains(target)) {
                    row[target - words.start] -= loss.weights().1 * scale;
                }
                add_row(dbias, row);
            }
            let dlogits = Matrix::new(logits, tokens.len(), count);
            let table = Matrix::new(&head.table[words.start * width..words.end * width], count, width);
            matmul(&mut dhidden, Write::Accumulate, dlogits, table, Threads::One);
            let dtable = &mut share.dtable[(words.start - start) * width..(words.end - start) * width];
            let hidden = Matrix::new(&hidden[tokens.start * width..tokens.end * width], tokens.len(), width);
            matmul(dtable, Write::Accumulate, dlogits.transposed(), hidden, Threads::One);
        });
        dhidden
    }

    fn finish(&self, _: ThreadState, _: &mut Share) {}
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
