//! Cuts tokens into training batches and evaluation windows.
//!
//! ```text
//! tokens    t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 ...        n_seq = 4, phase = 1
//! window 0     [t1 t2 t3 t4]                         inputs
//!                 [t2 t3 t4 t5]                      targets: the next token of each input
//! window 1                 [t5 t6 t7 t8]
//! ```
//!
//! Each epoch has its own order of windows and its own phase, both drawn from (seed, epoch) alone.
//! So any step of any epoch can be computed independently, and a resumed run sees the same batches
//! as an uninterrupted one.

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
}

/// The batches of one epoch.
#[derive(Debug, Clone)]
pub struct Batches {
    tokens: Tokens,
    n_seq: usize,
    batch_size: usize,
    phase: usize,
    /// Indices of the windows in the order of this epoch.
    order: Vec<u32>,
    /// This rank's windows of each batch.
    own: Range<usize>,
}

impl Batches {
    /// Cuts `tokens` into the batches of one epoch.
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
        let tokens = tokens.into();
        if n_seq == 0 || batch_size == 0 {
            return Err(BatchError::ZeroSize { n_seq, batch_size });
        }
        // With the largest phase, n_seq - 1, the last window must still end one token before the
        // stream.
        let windows = (tokens.len() / n_seq).saturating_sub(1);
        if windows < batch_size {
            let needed = (batch_size + 1) * n_seq;
            return Err(BatchError::TooFewTokens { tokens: tokens.len(), batch_size, n_seq, needed });
        }
        let mut random = Random::keyed(&[seed, epoch]);
        let phase = random.below(n_seq as u64) as usize;
        let mut order: Vec<u32> = (0..windows as u32).collect();
        random.shuffle(&mut order);
        Ok(Self { tokens, n_seq, batch_size, phase, order, own: 0..batch_size })
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

    /// Batches per epoch, equal for all epochs and seeds:
    /// `floor(floor((tokens - n_seq) / n_seq) / batch_size)`.
    ///
    /// An epoch skips the windows that do not fill a batch, different ones each time, and less than
    /// a window at each end.
    pub fn steps(&self) -> usize {
        self.order.len() / self.batch_size
    }

    /// The batch of `step`.
    ///
    /// # Panics
    ///
    /// If `step` is not below [`steps`](Self::steps).
    pub fn batch(&self, step: usize) -> Batch {
        assert!(step < self.steps(), "step {step} of an epoch of {} steps", self.steps());
        let capacity = self.own.len() * self.n_seq;
        let mut inputs = Vec::with_capacity(capacity);
        let mut targets = Vec::with_capacity(capacity);
        for &window in &self.order[step * self.batch_size..][self.own.clone()] {
            let start = self.phase + window as usize * self.n_seq;
            inputs.extend_from_slice(&self.tokens[start..][..self.n_seq]);
            targets.extend_from_slice(&self.tokens[start + 1..][..self.n_seq]);
        }
        Batch { inputs: inputs.into(), targets: targets.into(), batch_size: self.own.len(), n_seq: self.n_seq }
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
}
