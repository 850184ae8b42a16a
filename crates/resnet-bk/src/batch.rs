//! Cuts tokens into training batches and evaluation windows.
//!
//! ```text
//! tokens    t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 ...        n_seq = 4, phase = 1
//! window 0     [t1 t2 t3 t4]                         inputs
//!                 [t2 t3 t4 t5]                      targets: the next token of each input
//! window 1                 [t5 t6 t7 t8]
//! ```
//!
//! Where the state is carried from window to window, the text is cut into pieces of several windows.
//! Consecutive batches hold consecutive windows of the same pieces, `batch_size` of them side by
//! side, until these end:
//!
//! ```text
//! batch 0, Begin       piece 3, window 0      piece 8, window 0          batch_size = 2
//! batch 1, Continue    piece 3, window 1      piece 8, window 1          3 windows a piece
//! batch 2, Continue    piece 3, window 2      piece 8, window 2
//! batch 3, Begin       piece 0, window 0      piece 5, window 0
//! ```
//!
//! Each epoch has its own order of pieces and its own phase, both drawn from (seed, epoch) alone, and
//! the pieces side by side have their own order of window lengths, drawn from (seed, epoch, their
//! number). So any batch of any epoch can be computed independently, and a resumed run sees the same
//! batches as an uninterrupted one.

mod windows;

pub use windows::Windows;

use crate::corpus::Tokens;
use crate::random::Random;
use crate::ranks::Ranks;
use crate::token_ids::TokenIds;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

/// Batches prepared in advance.
const PREPARED: usize = 2;

/// Why batches cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A size is zero.
    #[error("n_seq is {n_seq} and batch_size {batch_size}: both must be at least 1")]
    ZeroSize {
        /// Tokens of a window.
        n_seq: usize,
        /// Windows of a batch.
        batch_size: usize,
    },
    /// The stream is too short for one batch.
    #[error("{tokens} tokens are too few for one batch of {batch_size} x {n_seq}, which needs {needed}")]
    TooFewTokens {
        /// Length of the stream.
        tokens: usize,
        /// Windows of a batch.
        batch_size: usize,
        /// Tokens of a window.
        n_seq: usize,
        /// Least length of the stream.
        needed: usize,
    },
}

/// Inputs and targets of one training step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[B, T]`, row-major.
    pub inputs: TokenIds,
    /// `[B, T]`, row-major: `targets[i]` follows `inputs[i]` in the text.
    pub targets: TokenIds,
    /// B.
    pub batch_size: usize,
    /// T.
    pub n_seq: usize,
    /// The state with which the windows begin.
    pub carried: Carried,
}

/// The state with which the windows of a batch begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The initial state; no window goes on where they end.
    No,
    /// The initial state; those of the next batch go on where they end.
    Begin,
    /// The state at the end of the batch before.
    Continue,
}

/// The batches of one epoch.
#[derive(Debug, Clone)]
pub struct Batches {
    tokens: Tokens,
    batch_size: usize,
    /// Lengths of a piece's windows, before they are shuffled.
    lengths: Vec<usize>,
    /// Seed and epoch.
    key: [u64; 2],
    phase: usize,
    /// Indices of the pieces in the order of this epoch.
    order: Vec<u32>,
    /// This rank's windows of each batch.
    own: Range<usize>,
}

impl Batches {
    /// Cuts `tokens` into the batches of one epoch, with windows of `n_seq` tokens on their own.
    ///
    /// # Errors
    ///
    /// If a size is zero or the stream is too short for one batch.
    pub fn new(
        tokens: impl Into<Tokens>,
        n_seq: usize,
        batch_size: usize,
        seed: u64,
        epoch: u64,
    ) -> Result<Self, BatchError> {
        Self::of_windows(tokens, &Windows::alone(n_seq), batch_size, seed, epoch)
    }

    /// Cuts `tokens` into the batches of one epoch.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_windows(
        tokens: impl Into<Tokens>,
        windows: &Windows,
        batch_size: usize,
        seed: u64,
        epoch: u64,
    ) -> Result<Self, BatchError> {
        let tokens = tokens.into();
        let (longest, first) = (windows.longest(), windows.lengths[0]);
        if windows.lengths.contains(&0) || batch_size == 0 {
            return Err(BatchError::ZeroSize { n_seq: first, batch_size });
        }
        // With the largest phase, one less than the longest window, the last piece must still end one
        // token before the stream.
        let usable = tokens.len().saturating_sub(longest);
        let lengths = windows.of_piece(usable / batch_size);
        if lengths.is_empty() {
            let needed = longest + batch_size * first;
            return Err(BatchError::TooFewTokens { tokens: tokens.len(), batch_size, n_seq: first, needed });
        }
        let mut random = Random::keyed(&[seed, epoch]);
        let phase = random.below(longest as u64) as usize;
        let mut order: Vec<u32> = (0..(usable / lengths.iter().sum::<usize>()) as u32).collect();
        random.shuffle(&mut order);
        Ok(Self { tokens, batch_size, lengths, key: [seed, epoch], phase, order, own: 0..batch_size })
    }

    /// The part of a rank: of each batch, rank `r` of `n` takes windows `r B/n .. (r + 1) B/n`.
    ///
    /// # Panics
    ///
    /// If the batch size is not a multiple of the number of ranks.
    pub fn of_rank(self, ranks: &Ranks) -> Self {
        let (rank, count) = (ranks.rank(), ranks.count());
        assert!(self.batch_size.is_multiple_of(count), "batches of {} windows for {count} ranks", self.batch_size);
        let size = self.batch_size / count;
        Self { own: rank * size..(rank + 1) * size, ..self }
    }

    /// Batches per epoch, equal for all epochs and seeds. For windows on their own they are
    /// `floor(floor((tokens - n_seq) / n_seq) / batch_size)`.
    ///
    /// An epoch skips the pieces that do not fill a batch, different ones each time, and less than
    /// a window at each end.
    pub fn steps(&self) -> usize {
        self.order.len() / self.batch_size * self.lengths.len()
    }

    /// The batch of `step`.
    ///
    /// # Panics
    ///
    /// If `step` is not below [`steps`](Self::steps).
    pub fn batch(&self, step: usize) -> Batch {
        assert!(step < self.steps(), "step {step} of an epoch of {} steps", self.steps());
        let (group, index) = (step / self.lengths.len(), step % self.lengths.len());
        let mut lengths = self.lengths.clone();
        Random::keyed(&[self.key[0], self.key[1], group as u64]).shuffle(&mut lengths);
        let (before, n_seq) = (lengths[..index].iter().sum::<usize>(), lengths[index]);
        let piece_tokens: usize = lengths.iter().sum();
        let capacity = self.own.len() * n_seq;
        let mut inputs = Vec::with_capacity(capacity);
        let mut targets = Vec::with_capacity(capacity);
        for &piece in &self.order[group * self.batch_size..][self.own.clone()] {
            let start = self.phase + piece as usize * piece_tokens + before;
            inputs.extend_from_slice(&self.tokens[start..][..n_seq]);
            targets.extend_from_slice(&self.tokens[start + 1..][..n_seq]);
        }
        let carried = match (self.lengths.len(), index) {
            (1, _) => Carried::No,
            (_, 0) => Carried::Begin,
            _ => Carried::Continue,
        };
        Batch { inputs: inputs.into(), targets: targets.into(), batch_size: self.own.len(), n_seq, carried }
    }

    /// All batches of the epoch, prepared in advance by another thread.
    pub fn ahead(self) -> impl ExactSizeIterator<Item = Batch> {
        let (sender, receiver) = sync_channel(PREPARED);
        let steps = self.steps();
        // The thread ends with the epoch, or when the receiver is dropped.
        std::thread::spawn(move || self.iter().try_for_each(|batch| sender.send(batch)));
        (0..steps).map(move |_| receiver.recv().expect("the thread prepares every batch"))
    }

    /// All batches of the epoch.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Batch> + '_ {
        (0..self.steps()).map(|step| self.batch(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn counting(length: usize) -> Vec<u32> {
        (0..length as u32).collect()
    }

    #[test]
    fn every_target_is_the_next_word_of_its_input() {
        // In this text the next word is known: word w is followed by (5 w + 3) mod 64, a cycle
        // through all 64 words.
        let next = |word: u32| (5 * word + 3) % 64;
        let text: Vec<u32> = std::iter::successors(Some(0), |&word| Some(next(word))).take(5_000).collect();
        for epoch in 0..5 {
            let batches = Batches::new(text.clone(), 33, 7, 1, epoch).expect("long enough");
            assert!(batches.steps() > 10);
            for batch in batches.iter() {
                assert_eq!((batch.inputs.len(), batch.targets.len()), (7 * 33, 7 * 33));
                for (row, (&input, &target)) in batch.inputs.iter().zip(batch.targets.iter()).enumerate() {
                    assert_eq!(target, next(input), "position {row}");
                }
                for row in batch.inputs.chunks(33) {
                    assert!(row.windows(2).all(|pair| pair[1] == next(pair[0])), "a row is consecutive text");
                }
            }
        }
    }

    #[test]
    fn steps_depend_on_length_alone() {
        let steps = |tokens, n_seq, batch_size, epoch| {
            Batches::new(counting(tokens), n_seq, batch_size, 9, epoch).map(|batches| batches.steps())
        };
        for epoch in 0..20 {
            assert_eq!(steps(500_000, 128, 20, epoch), Ok(195));
            assert_eq!(steps(12, 4, 1, epoch), Ok(2));
        }
    }

    #[test]
    fn windows_of_an_epoch_do_not_overlap() {
        for epoch in 0..50 {
            let batches = Batches::new(counting(107), 5, 3, 2, epoch).expect("long enough");
            let inputs: Vec<u32> = batches.iter().flat_map(|batch| batch.inputs.to_vec()).collect();
            assert_eq!(inputs.len(), batches.steps() * 15);
            assert_eq!(inputs.iter().collect::<BTreeSet<_>>().len(), inputs.len());
        }
    }

    #[test]
    fn phase_and_order_change_with_the_epoch() {
        let mut phases = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for epoch in 0..200 {
            let batches = Batches::new(counting(43), 4, 2, 3, epoch).expect("long enough");
            phases.insert(batches.batch(0).inputs[0] % 4);
            seen.extend(batches.iter().flat_map(|batch| batch.targets.to_vec()));
        }
        assert_eq!(phases.len(), 4);
        // 43 tokens are ten whole windows and three more tokens.
        assert_eq!(seen, (1..40).collect(), "over the epochs all of them but the first are targets");
        let first = |seed, epoch| Batches::new(counting(5_000), 4, 8, seed, epoch).expect("long enough").batch(0);
        assert_eq!(first(1, 1), first(1, 1));
        assert_ne!(first(1, 1).inputs, first(1, 2).inputs);
        assert_ne!(first(1, 1).inputs, first(2, 1).inputs);
    }

    #[test]
    fn a_resumed_epoch_has_the_same_batches() {
        let whole: Vec<Batch> = Batches::new(counting(1_000), 8, 4, 5, 6).expect("long enough").iter().collect();
        let again = Batches::new(counting(1_000), 8, 4, 5, 6).expect("long enough");
        assert_eq!(again.iter().skip(11).collect::<Vec<_>>(), whole[11..]);
        assert_eq!(again.batch(17), whole[17]);
        assert_eq!(again.clone().ahead().collect::<Vec<_>>(), whole);
        assert_eq!(again.ahead().next(), Some(whole[0].clone()), "an epoch may end early");
    }

    #[test]
    fn the_parts_of_the_ranks_are_the_batch() {
        let whole = Batches::new(counting(1_000), 8, 6, 5, 6).expect("long enough");
        for count in [1, 2, 3, 6] {
            let parts: Vec<Batches> = Ranks::threads(count).iter().map(|ranks| whole.clone().of_rank(ranks)).collect();
            for (step, batch) in whole.iter().enumerate() {
                let inputs: Vec<u32> = parts.iter().flat_map(|part| part.batch(step).inputs.to_vec()).collect();
                assert_eq!(inputs, batch.inputs.to_vec(), "{count} ranks");
                assert!(parts.iter().all(|part| part.batch(step).batch_size == 6 / count));
            }
        }
    }

    #[test]
    fn streams_that_are_too_short_are_refused() {
        let error = Batches::new(counting(11), 4, 2, 0, 0).expect_err("too short");
        assert_eq!(error, BatchError::TooFewTokens { tokens: 11, batch_size: 2, n_seq: 4, needed: 12 });
        assert!(Batches::new(counting(12), 4, 2, 0, 0).is_ok(), "`needed` is enough");
        assert!(matches!(Batches::new(counting(9), 0, 2, 0, 0), Err(BatchError::ZeroSize { .. })));
        assert!(matches!(Batches::new(counting(9), 2, 0, 0, 0), Err(BatchError::ZeroSize { .. })));
        assert!(Batches::new(Vec::new(), 2, 1, 0, 0).is_err());
    }

    /// Pieces of at most `in_piece` windows of the text that counts.
    fn pieces(tokens: usize, lengths: &[usize], in_piece: usize, batch_size: usize, epoch: u64) -> Batches {
        let windows = Windows::carried(lengths.to_vec(), in_piece);
        Batches::of_windows(counting(tokens), &windows, batch_size, 5, epoch).expect("long enough")
    }

    #[test]
    fn a_batch_goes_on_where_the_one_before_ended() {
        for (lengths, in_piece) in [(&[8][..], 4), (&[8, 5, 3], 6), (&[8, 5, 3], 1_000_000)] {
            for epoch in 0..10 {
                let batches = pieces(3_000, lengths, in_piece, 3, epoch);
                let (mut ends, mut seen, mut carried) = (Vec::new(), BTreeSet::new(), 0);
                for batch in batches.iter() {
                    let rows: Vec<&[u32]> = batch.inputs.chunks(batch.n_seq).collect();
                    assert_eq!(rows.len(), 3);
                    let begins: Vec<u32> = rows.iter().map(|row| row[0]).collect();
                    match batch.carried {
                        Carried::Begin => assert_ne!(begins, ends, "pieces are shuffled"),
                        Carried::Continue => assert_eq!(begins, ends),
                        Carried::No => panic!("a piece has several windows"),
                    }
                    carried += usize::from(batch.carried == Carried::Continue);
                    ends = rows.iter().map(|row| row[row.len() - 1] + 1).collect();
                    assert!(rows.iter().all(|row| row.windows(2).all(|pair| pair[1] == pair[0] + 1)));
                    assert!(batch.inputs.iter().all(|&id| seen.insert(id)), "windows do not overlap");
                }
                assert!(carried > 0 && seen.len() > 2_700, "{} of 3000 tokens, {carried} batches go on", seen.len());
            }
        }
    }

    #[test]
    fn every_piece_has_the_lengths_of_the_list_in_an_order_of_its_own() {
        let batches = pieces(5_000, &[8, 8, 5, 3], 8, 2, 1);
        let all: Vec<Batch> = batches.iter().collect();
        let orders: BTreeSet<Vec<usize>> =
            all.chunks(8).map(|piece| piece.iter().map(|batch| batch.n_seq).collect()).collect();
        assert!(orders.len() > 1);
        for mut order in orders {
            order.sort_unstable();
            assert_eq!(order, [3, 3, 5, 5, 8, 8, 8, 8]);
        }
        assert_eq!(all.iter().filter(|batch| batch.carried == Carried::Begin).count(), all.len() / 8);
        assert_eq!(batches.ahead().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_stream_that_is_shorter_than_a_round_is_one_piece() {
        let batches = pieces(100, &[8, 5, 30], 3, 3, 0);
        let lengths: Vec<usize> = batches.iter().map(|batch| batch.n_seq).collect();
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (2, 13));
        let windows = Windows::carried(vec![30, 8], 3);
        let error = Batches::of_windows(counting(119), &windows, 3, 5, 0).expect_err("too short");
        assert_eq!(error, BatchError::TooFewTokens { tokens: 119, batch_size: 3, n_seq: 30, needed: 120 });
        assert!(Batches::of_windows(counting(120), &windows, 3, 5, 0).is_ok(), "`needed` is enough");
    }

    #[test]
    fn more_windows_than_a_stream_has_make_one_piece_of_it() {
        for (tokens, in_piece) in [(1_000, 1_000), (1_000, 31), (999, 30), (75, 7)] {
            let batches = pieces(tokens, &[8], in_piece, 4, 0);
            // A stream has this many windows; at most one window a piece is left out.
            let in_stream = (tokens - 8) / 4 / 8;
            let pieces = in_stream.div_ceil(in_piece);
            assert!(batches.steps() <= in_stream && batches.steps() + pieces > in_stream, "{tokens}, {in_piece}");
        }
        // A piece of one window carries nothing.
        assert!(pieces(75, &[8], 1, 4, 0).iter().all(|batch| batch.carried == Carried::No));
        let alone: Vec<Batch> = Batches::new(counting(75), 8, 4, 5, 0).expect("long enough").iter().collect();
        assert_eq!(pieces(75, &[8], 1, 4, 0).iter().collect::<Vec<_>>(), alone);
    }

    #[test]
    fn the_parts_of_the_ranks_go_on_too() {
        let whole = pieces(1_000, &[8, 4], 4, 6, 2);
        let parts: Vec<Batches> = Ranks::threads(3).iter().map(|ranks| whole.clone().of_rank(ranks)).collect();
        for (step, batch) in whole.iter().enumerate() {
            let inputs: Vec<u32> = parts.iter().flat_map(|part| part.batch(step).inputs.to_vec()).collect();
            assert_eq!(inputs, batch.inputs.to_vec());
            assert!(parts.iter().all(|part| part.batch(step).carried == batch.carried));
        }
    }
}
