//! The pass over the vocabulary, a group of tokens at a time. Each thread owns a disjoint slice of
//! the vocabulary.

use super::problem::{Narrowed, Problem};
use super::token_sums::{TokenSums, merged, total_loss};
use crate::ops::head_loss::HeadLoss;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{Matrix, Threads, Write, add_row, matmul};
use std::ops::Range;

/// The number of words in a thread's share is a multiple of this.
const WORD_BLOCK: usize = 32;
/// Tokens of a group. With more of them the table's gradient passes through the caches less often,
/// but what is kept of their logits grows.
pub(super) const TOKENS: usize = 256;

/// A thread's share of the vocabulary, with the gradients that only it writes.
pub(super) struct Share<'a> {
    pub words: Range<usize>,
    /// `[words, D]`.
    pub dtable: &'a mut [f32],
    /// `[words]`.
    pub dbias: &'a mut [f32],
}

/// How a thread computes sums and gradients of its words of a problem.
pub(super) trait Tiles: Sync {
    /// What it keeps: packed parameters and gradients during the pass, logits or exponentials
    /// from a group's sums to its gradients.
    type Held: Send;

    /// Called before the first group.
    fn hold(&self, words: Range<usize>) -> Self::Held;

    /// A group's sums over these words, one for each token.
    fn sums(&self, held: &mut Self::Held, tokens: Range<usize>) -> Vec<TokenSums>;

    /// The gradients of the group whose sums were computed last, given the sums over all words;
    /// returns these words' part of the hidden states' gradient.
    fn gradients(&self, held: &mut Self::Held, share: &mut Share, tokens: Range<usize>, sums: &[TokenSums])
    -> Vec<f32>;

    /// Called after the last group; completes the share's gradients.
    fn finish(&self, held: Self::Held, share: &mut Share);
}

/// A thread's part of one problem.
struct Piece<'a, T: Tiles> {
    problem: usize,
    share: Share<'a>,
    held: T::Held,
}

/// The mean loss and the gradients of hidden states, packed table and bias.
pub(super) fn run<'a, T: Tiles>(
    loss: &HeadLoss,
    hidden: &[f32],
    student: &Narrowed,
    problems: &[(usize, Problem<'a>)],
    tiles: impl Fn(Problem<'a>) -> T,
) -> (f32, [Vec<f32>; 3]) {
    let tiles: Vec<T> = problems.iter().map(|(_, problem)| tiles(*problem)).collect();
    let table_length = student.bins.iter().map(|(bin, _)| bin.table.packed_len()).sum();
    let vocab_size = student.ends().last().unwrap_or(0);
    let (mut dtable, mut dbias) = (vec![0.0; table_length], vec![0.0; vocab_size]);
    let mut dnarrow: Vec<Vec<f32>> = student.bins.iter().map(|(_, narrow)| vec![0.0; narrow.len()]).collect();
    let (shares, dprojections) = cut(student, problems, &mut dtable, &mut dbias);
    let total = pass(loss, &tiles, shares, |problem, tokens, part| {
        let width = part.len() / tokens.len();
        add_row(&mut dnarrow[problems[problem].0][tokens.start * width..tokens.end * width], part);
    });
    let dhidden = widen(hidden, student, &dnarrow, dprojections);
    ((total / loss.targets.len() as f64) as f32, [dhidden, dtable, dbias])
}

/// Every thread passes over its shares, group by group; returns the sum of the losses. The parts of
/// the narrow hidden states' gradients go to `add(problem, group, part)`.
fn pass<T: Tiles>(
    loss: &HeadLoss,
    tiles: &[T],
    shares: Vec<ThreadShares>,
    mut add: impl FnMut(usize, &Range<usize>, &[f32]),
) -> f64 {
    let mut threads: Vec<Vec<Piece<T>>> = shares
        .into_par_iter()
        .map(|shares| {
            let held = |words: &Range<usize>, problem: usize| tiles[problem].hold(words.clone());
            let pieces = shares.into_iter();
            pieces.map(|(problem, share)| Piece { problem, held: held(&share.words, problem), share }).collect()
        })
        .collect();
    let tokens = loss.targets.len();
    let mut total = 0.0;
    for first in (0..tokens).step_by(TOKENS) {
        let group = first..tokens.min(first + TOKENS);
        let sums_of = |piece: &mut Piece<T>| tiles[piece.problem].sums(&mut piece.held, group.clone());
        let of_threads: Vec<Vec<TokenSums>> =
            threads.par_iter_mut().map(|pieces| merged(pieces.iter_mut().map(sums_of), group.len())).collect();
        let sums = merged(of_threads, group.len());
        total += total_loss(loss, &sums);
        let gradients = |Piece { problem, share, held }: &mut Piece<T>| {
            tiles[*problem].gradients(held, share, group.clone(), &sums)
        };
        let parts: Vec<Vec<Vec<f32>>> =
            threads.par_iter_mut().map(|pieces| pieces.iter_mut().map(gradients).collect()).collect();
        for (piece, part) in threads.iter().flatten().zip(parts.iter().flatten()) {
            add(piece.problem, &group, part);
        }
    }
    threads.into_par_iter().flatten().for_each(|Piece { problem, mut share, held }| {
        tiles[problem].finish(held, &mut share);
    });
    total
}

/// The gradient of the hidden states `[n, D]` from those of the narrow ones; writes those of the
/// projections as well.
fn widen(hidden: &[f32], student: &Narrowed, dnarrow: &[Vec<f32>], dprojections: Vec<&mut [f32]>) -> Vec<f32> {
    let mut dhidden = vec![0.0; hidden.len()];
    for (((bin, _), dnarrow), dprojection) in student.bins.iter().zip(dnarrow).zip(dprojections) {
        match bin.table.projection {
            None => add_row(&mut dhidden, dnarrow),
            Some(projection) => {
                let (width, tokens) = (bin.table.width, dnarrow.len() / bin.table.width);
                let d_model = projection.len() / width;
                let dnarrow = Matrix::new(dnarrow, tokens, width);
                let hidden = Matrix::new(hidden, tokens, d_model);
                matmul(dprojection, Write::Overwrite, dnarrow.transposed(), hidden, Threads::All);
                let projection = Matrix::new(projection, width, d_model);
                matmul(&mut dhidden, Write::Accumulate, dnarrow, projection, Threads::All);
            }
        }
    }
    dhidden
}

/// A thread's share of every problem, with the problem's number.
type ThreadShares<'a> = Vec<(usize, Share<'a>)>;

/// Cuts the gradients of packed table and bias: for each thread a share of every problem, for each
/// bin the gradient of its projection.
fn cut<'a>(
    student: &Narrowed,
    problems: &[(usize, Problem)],
    mut table: &'a mut [f32],
    mut bias: &'a mut [f32],
) -> (Vec<ThreadShares<'a>>, Vec<&'a mut [f32]>) {
    let mut threads: Vec<ThreadShares> = Vec::new();
    threads.resize_with(rayon::current_num_threads(), Vec::new);
    let mut projections = Vec::new();
    for (index, (bin, _)) in student.bins.iter().enumerate() {
        for (number, (_, problem)) in problems.iter().enumerate().filter(|(_, (bin, _))| *bin == index) {
            let words = problem.words();
            let dtable = table.split_off_mut(..words * bin.table.width).expect("the table holds every bin");
            let dbias = bias.split_off_mut(..words).expect("the bias holds every word");
            for (thread, share) in threads.iter_mut().zip(shares(words, dtable, dbias)) {
                thread.push((number, share));
            }
        }
        let projection = bin.table.projection.map_or(0, <[f32]>::len);
        projections.push(table.split_off_mut(..projection).expect("the table holds every projection"));
    }
    (threads, projections)
}

/// Shares of a problem's words, one for each thread.
fn shares<'a>(words: usize, mut dtable: &'a mut [f32], mut dbias: &'a mut [f32]) -> impl Iterator<Item = Share<'a>> {
    let width = dtable.len() / words;
    words_of_threads(words).map(move |words| Share {
        dtable: dtable.split_off_mut(..words.len() * width).expect("rows of all words"),
        dbias: dbias.split_off_mut(..words.len()).expect("the bias of all words"),
        words,
    })
}

/// Cuts words into parts, one for each thread.
pub(super) fn words_of_threads(words: usize) -> impl Iterator<Item = Range<usize>> {
    let part = words.div_ceil(rayon::current_num_threads()).next_multiple_of(WORD_BLOCK);
    (0..words).step_by(part).map(move |start| start..words.min(start + part))
}
