//! The vocabulary, split into ranges of words that lie in one frequency bin of the student's table
//! and in one of the teacher's.

use crate::ops::head_loss::HeadLoss;
use resnet_bk_runtime::internal::head::{Head, HeadBin, Rows};
use std::borrow::Cow;
use std::ops::Range;

/// A range of words of a head, all in one bin.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Hidden states in the width of the bin, `[n, d]`.
    pub hidden: &'a [f32],
    pub rows: Rows<'a>,
}

/// The loss over a range of words, all in one bin of the student's table and one of the teacher's.
/// Words are counted from the first of the range.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub loss: &'a HeadLoss,
    /// Id of the first word.
    pub first: usize,
    pub student: Side<'a>,
    pub teacher: Option<Side<'a>>,
}

impl Problem<'_> {
    pub fn words(&self) -> usize {
        self.student.rows.bias.len()
    }

    /// The target of a token, if it is in this range.
    pub fn target(&self, token: usize) -> Option<usize> {
        (self.loss.targets[token] as usize).checked_sub(self.first).filter(|&word| word < self.words())
    }
}

/// The bins of a head with the narrowed hidden states for each.
pub(super) struct Narrowed<'a> {
    pub bins: Vec<(HeadBin<'a>, Cow<'a, [f32]>)>,
}

impl<'a> Narrowed<'a> {
    pub fn new(head: &Head<'a>, hidden: &'a [f32]) -> Self {
        Self { bins: head.bins.iter().map(|bin| (*bin, bin.table.narrow(hidden))).collect() }
    }

    /// The part for these words, which lie in one bin.
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

/// A problem for each range of words, with the index of the student's bin.
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
