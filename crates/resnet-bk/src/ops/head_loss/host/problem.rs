//! The vocabulary cut into ranges of words that lie in one frequency bin of the student's table and
//! in one of the teacher's.

use crate::ops::head_loss::HeadLoss;
use resnet_bk_runtime::internal::head::{Head, HeadBin, Rows};
use std::borrow::Cow;
use std::ops::Range;

/// Some words of a head: all in one bin.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Hidden states as the bin takes them, `[n, d]`.
    pub hidden: &'a [f32],
    pub rows: Rows<'a>,
}

/// The loss on a range of words, all in one bin of the student's table and in one of the teacher's.
/// Words are counted from the first of them.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub loss: &'a HeadLoss,
    /// The first word's id.
    pub first: usize,
    pub student: Side<'a>,
    pub teacher: Option<Side<'a>>,
}

impl Problem<'_> {
    pub fn words(&self) -> usize {
        self.student.rows.bias.len()
    }

    /// A token's target, if it is among these words.
    pub fn target(&self, token: usize) -> Option<usize> {
        (self.loss.targets[token] as usize).checked_sub(self.first).filter(|&word| word < self.words())
    }
}

/// A head's bins beside the hidden states that each takes.
pub(super) struct Narrowed<'a> {
    pub bins: Vec<(HeadBin<'a>, Cow<'a, [f32]>)>,
}

impl<'a> Narrowed<'a> {
    pub fn new(head: &Head<'a>, hidden: &'a [f32]) -> Self {
        Self { bins: head.bins.iter().map(|bin| (*bin, bin.table.narrow(hidden))).collect() }
    }

    /// The part of these words, which lie in one bin.
    fn side(&self, words: &Range<usize>) -> (usize, Side<'_>) {
        let holds = |(bin, _): &(HeadBin, _)| bin.table.words().contains(&words.start);
        let index = self.bins.iter().position(holds).expect("a word of the table");
        let (bin, hidden) = &self.bins[index];
        let first = bin.table.first;
        (index, Side { hidden, rows: bin.rows.part(words.start - first..words.end - first) })
    }

    pub fn ends(&self) -> impl Iterator<Item = usize> {
        self.bins.iter().map(|(bin, _)| bin.table.words().end)
    }
}

/// A problem for each range of words that share both bins, with the number of the student's bin.
pub(super) fn problems<'a>(
    loss: &'a HeadLoss,
    student: &'a Narrowed,
    teacher: Option<&'a Narrowed>,
) -> Vec<(usize, Problem<'a>)> {
    let mut ends: Vec<usize> = student.ends().chain(teacher.into_iter().flat_map(Narrowed::ends)).collect();
    ends.sort_unstable();
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(&ends)
        .map(|(first, &end)| {
            let (bin, side) = student.side(&(first..end));
            (bin, Problem { loss, first, student: side, teacher: teacher.map(|teacher| teacher.side(&(first..end)).1) })
        })
        .collect()
}
