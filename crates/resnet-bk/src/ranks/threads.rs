//! Ranks that are threads of one process.

use super::Exchange;
use std::sync::{Arc, Barrier, Mutex, PoisonError};

/// What the threads share: one slot a rank.
struct Board {
    slots: Vec<Mutex<Vec<u8>>>,
    barrier: Barrier,
}

/// A rank.
struct Thread {
    rank: usize,
    board: Arc<Board>,
}

/// All ranks of a new board.
pub(super) fn ranks(count: usize) -> impl Iterator<Item = impl Exchange> {
    let board = Arc::new(Board { slots: (0..count).map(|_| Mutex::default()).collect(), barrier: Barrier::new(count) });
    (0..count).map(move |rank| Thread { rank, board: board.clone() })
}

impl Exchange for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.board.slots.len()
    }

    fn rank_on_host(&self) -> usize {
        self.rank
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        let part = receive.len() / self.count();
        let all = self.gather(&bytes(send));
        for (receive, sent) in receive.chunks_mut(part).zip(all) {
            receive.copy_from_slice(&floats(&sent)[self.rank * part..][..part]);
        }
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        for (receive, sent) in receive.chunks_mut(send.len().max(1)).zip(self.gather(&bytes(send))) {
            receive.copy_from_slice(&floats(&sent));
        }
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let slot = |rank: usize| self.board.slots[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *slot(self.rank) = bytes.to_vec();
        self.board.barrier.wait();
        let all = (0..self.count()).map(|rank| slot(rank).clone()).collect();
        // No slot is written before all have been read.
        self.board.barrier.wait();
        all
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        *bytes = self.gather(bytes).swap_remove(0);
    }

    fn barrier(&self) {
        self.board.barrier.wait();
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}
