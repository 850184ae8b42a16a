//! The processes of a run, which train one model together: data parallelism.
//!
//! ```text
//! global batch     [ rank 0: B windows | rank 1: B windows | ... ]      n B windows
//! each rank        loss and gradients of its own windows
//! all ranks        mean of losses and gradients, then the same optimizer step
//! ```
//!
//! A rank is a process of the run, with a number from 0. Every rank holds the whole model, and all
//! models are equal to the last bit: each rank adds up the same numbers in the order of the ranks.
//! So whatever follows from weights and statistics, such as the experts to remove or the
//! rate-distortion multiplier, is the same on every rank without a message. `n` ranks with batches
//! of `B` windows compute what one process computes with batches of `n B` windows, up to the
//! rounding of sums.
//!
//! Every method that exchanges or waits is
//! collective: all ranks must call it, in the same order. Rank 0 leads: it writes the files.

mod means;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;

#[cfg(feature = "mpi")]
pub use mpi::{MpiError, Session};

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{self, Debug};
use std::sync::Arc;
use thiserror::Error;

/// Elements that are added up in one exchange. More would need larger buffers, and the counts of
/// MPI are 32-bit numbers.
const SEGMENT: usize = 1 << 22;

/// How ranks exchange data.
trait Exchange: Send + Sync {
    /// Number of this rank.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn count(&self) -> usize;

    /// Number of this rank among those of its machine.
    fn rank_on_host(&self) -> usize;

    /// Sends part `r` of `send` to rank `r`, and receives the parts for this rank in the order of
    /// the ranks. All parts are equally long.
    fn all_to_all(&self, send: &[f32], receive: &mut [f32]);

    /// Concatenates the equally long parts of all ranks.
    fn all_gather(&self, send: &[f32], receive: &mut [f32]);

    /// The bytes of every rank.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// Replaces the bytes by those of rank 0.
    fn broadcast(&self, bytes: &mut Vec<u8>);

    /// Waits for all ranks.
    fn barrier(&self);
}

/// The ranks of a run, seen from one of them.
#[derive(Clone, Default)]
pub struct Ranks {
    /// `None` for a process that is alone.
    exchange: Option<Arc<dyn Exchange>>,
}

/// Rank 0 failed in what it does for all ranks, and says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("rank 0 failed")]
pub struct LeaderFailed;

/// The tokens of a rank in the global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of tokens before this rank's.
    pub first: usize,
    /// Tokens of all ranks.
    pub total: usize,
}

impl Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.count())
    }
}

impl Ranks {
    /// A process that is alone. Nothing is exchanged.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Ranks that are threads of this process, for tests. Each thread takes one.
    pub fn threads(count: usize) -> Vec<Self> {
        threads::ranks(count).map(Self::new).collect()
    }

    fn new(exchange: impl Exchange + 'static) -> Self {
        Self { exchange: Some(Arc::new(exchange)) }
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.exchange.as_ref().map_or(0, |exchange| exchange.rank())
    }

    /// Number of ranks.
    pub fn count(&self) -> usize {
        self.exchange.as_ref().map_or(1, |exchange| exchange.count())
    }

    /// Number of this rank among those of its machine, from 0.
    pub fn rank_on_host(&self) -> usize {
        self.exchange.as_ref().map_or(0, |exchange| exchange.rank_on_host())
    }

    /// Whether there are no others.
    pub fn are_alone(&self) -> bool {
        self.count() == 1
    }

    /// Whether this is rank 0.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The exchange, unless there is nobody to exchange with.
    fn others(&self) -> Option<&dyn Exchange> {
        self.exchange.as_deref().filter(|exchange| exchange.count() > 1)
    }

    /// This rank's part of a global batch of which each rank has `tokens`.
    pub fn share(&self, tokens: usize) -> Share {
        Share { first: self.rank() * tokens, total: self.count() * tokens }
    }

    /// Adds up the numbers of all ranks, elementwise, in the order of the ranks.
    ///
    /// Each rank adds up one part of the elements and sends the sums to the others. So the order of
    /// the additions is fixed, and a rank sends and receives twice the numbers at most, however
    /// many ranks there are.
    pub fn sum(&self, values: &mut [f32]) {
        let Some(exchange) = self.others() else { return };
        let count = exchange.count();
        for segment in values.chunks_mut(SEGMENT) {
            let part = segment.len().div_ceil(count);
            let mut send = segment.to_vec();
            send.resize(part * count, 0.0);
            let mut receive = vec![0.0; part * count];
            exchange.all_to_all(&send, &mut receive);
            let (sums, others) = receive.split_at_mut(part);
            for other in others.chunks(part) {
                sums.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            exchange.all_gather(sums, &mut send);
            segment.copy_from_slice(&send[..segment.len()]);
        }
    }

    /// Largest number of all ranks, elementwise.
    pub fn max(&self, values: &mut [f32]) {
        let Some(exchange) = self.others() else { return };
        let mut all = vec![0.0; values.len() * exchange.count()];
        exchange.all_gather(values, &mut all);
        for other in all.chunks(values.len().max(1)) {
            values.iter_mut().zip(other).for_each(|(max, x)| *max = max.max(*x));
        }
    }

    /// The bytes of every rank, in the order of the ranks.
    pub fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match self.others() {
            Some(exchange) => exchange.gather(&bytes),
            None => vec![bytes],
        }
    }

    /// Results of tasks that are dealt over the ranks: task `i` runs on rank `i mod n`. `run` is
    /// called for this rank's tasks. Returns the results of all tasks, in their order.
    ///
    /// # Panics
    /// If a rank computes numbers of another length for the same task.
    pub fn deal(&self, tasks: usize, mut run: impl FnMut(usize) -> Vec<f64>) -> Vec<Vec<f64>> {
        let (rank, count) = (self.rank(), self.count());
        let own: Vec<Vec<f64>> = (rank..tasks).step_by(count).map(&mut run).collect();
        if self.are_alone() {
            return own;
        }
        let bytes = serde_json::to_vec(&bits(&own)).expect("numbers are plain data");
        let all: Vec<Vec<Vec<u64>>> = self
            .gather(bytes)
            .iter()
            .map(|bytes| serde_json::from_slice(bytes).expect("every rank sends its numbers"))
            .collect();
        let result = |task: usize| all[task % count][task / count].iter().map(|&bits| f64::from_bits(bits)).collect();
        (0..tasks).map(result).collect()
    }

    /// Ranks whose bytes differ from those of rank 0.
    pub fn different(&self, bytes: Vec<u8>) -> Vec<usize> {
        let all = self.gather(bytes);
        (0..all.len()).filter(|&rank| all[rank] != all[0]).collect()
    }

    /// Waits for all ranks.
    pub fn barrier(&self) {
        if let Some(exchange) = self.others() {
            exchange.barrier();
        }
    }

    /// Runs `work` on rank 0 and sends the bytes to the others.
    ///
    /// # Errors
    /// Those of `work` on rank 0; on the others [`LeaderFailed`] then.
    pub fn share_bytes<E: From<LeaderFailed>>(&self, work: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        const FAILED: u8 = 0;
        const DONE: u8 = 1;
        let Some(exchange) = self.others() else { return work() };
        let mut result = if self.leads() { work() } else { Err(LeaderFailed.into()) };
        let mut status = vec![if result.is_ok() { DONE } else { FAILED }];
        exchange.broadcast(&mut status);
        if status != [DONE] {
            return result;
        }
        let mut bytes = if self.leads() { std::mem::replace(&mut result, Ok(Vec::new()))? } else { Vec::new() };
        exchange.broadcast(&mut bytes);
        Ok(bytes)
    }

    /// Runs `work` on rank 0 and sends the result to the others.
    ///
    /// # Errors
    /// Those of `work` on rank 0; on the others [`LeaderFailed`] then.
    pub fn share_result<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<LeaderFailed>,
    {
        if self.are_alone() {
            return work();
        }
        let mut own = None;
        let bytes = self.share_bytes(|| {
            let result = own.insert(work()?);
            Ok::<_, E>(serde_json::to_vec(result).expect("a result is plain data"))
        })?;
        match own {
            Some(result) => Ok(result),
            None => serde_json::from_slice(&bytes).map_err(|_| LeaderFailed.into()),
        }
    }

    /// Runs `work` on every rank: on rank 0 first, then on the first rank of each other machine,
    /// then on the rest. So a file that the first one makes is there for the others.
    pub fn in_turns<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(exchange) = self.others() else { return work() };
        let turn = match () {
            () if self.leads() => 0,
            () if exchange.rank_on_host() == 0 => 1,
            () => 2,
        };
        (0..turn).for_each(|_| exchange.barrier());
        let result = work();
        (turn..3).for_each(|_| exchange.barrier());
        result
    }
}

/// JSON has no numbers that are not finite, so bits are sent.
fn bits(results: &[Vec<f64>]) -> Vec<Vec<u64>> {
    results.iter().map(|numbers| numbers.iter().map(|x| x.to_bits()).collect()).collect()
}

#[cfg(test)]
mod tests;
