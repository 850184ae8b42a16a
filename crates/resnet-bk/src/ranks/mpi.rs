//! Ranks that are processes of MPI.
//!
//! MPI is called on one thread, the one that started the session (`MPI_THREAD_FUNNELED`). A call
//! that fails ends all processes: that is MPI's own default.

use super::{Exchange, Ranks};
use mpi::datatype::PartitionMut;
use mpi::environment::{Threading, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
use std::thread::ThreadId;
use thiserror::Error;

/// Bytes of one broadcast: the counts of MPI are 32-bit numbers.
const PIECE: usize = 1 << 30;

/// Why MPI could not start.
#[derive(Debug, Error)]
pub enum MpiError {
    /// MPI was started before.
    #[error("MPI was already started in this process")]
    Started,
    /// The library does not allow several threads.
    #[error("the MPI library allows no other threads in a process that calls it (it provides level {0:?})")]
    Threads(Threading),
}

/// MPI in this process, from its start to its end.
pub struct Session {
    ranks: Ranks,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

impl Session {
    /// Starts MPI. From now on, only this thread may use the ranks.
    ///
    /// # Errors
    /// [`MpiError`] if MPI was started before, or if it does not allow other threads.
    pub fn start() -> Result<Self, MpiError> {
        let (universe, provided) = mpi::initialize_with_threading(Threading::Funneled).ok_or(MpiError::Started)?;
        if provided == Threading::Single {
            return Err(MpiError::Threads(provided));
        }
        let world = universe.world();
        let rank_on_host = world.split_shared(world.rank()).rank() as usize;
        let process = Process {
            rank: world.rank() as usize,
            count: world.size() as usize,
            rank_on_host,
            thread: std::thread::current().id(),
        };
        Ok(Self { ranks: Ranks::new(process), _universe: universe })
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Ends all processes of the run with this exit code. Without it, the others would wait for a
    /// process that has failed.
    pub fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }
}

/// A process of MPI's world.
struct Process {
    rank: usize,
    count: usize,
    rank_on_host: usize,
    /// The thread that started MPI.
    thread: ThreadId,
}

impl Process {
    fn world(&self) -> SimpleCommunicator {
        assert_eq!(std::thread::current().id(), self.thread, "MPI is called on the thread that started it");
        SimpleCommunicator::world()
    }
}

impl Exchange for Process {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn rank_on_host(&self) -> usize {
        self.rank_on_host
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        self.world().all_to_all_into(send, receive);
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        self.world().all_gather_into(send, receive);
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let world = self.world();
        let mut lengths = vec![0i32; self.count];
        let length = i32::try_from(bytes.len()).expect("messages of ranks are short");
        world.all_gather_into(&length, &mut lengths[..]);
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let starts: Vec<i32> = ends.zip(&lengths).map(|(end, length)| end - length).collect();
        let mut all = vec![0u8; lengths.iter().map(|&length| length as usize).sum()];
        world.all_gather_varcount_into(bytes, &mut PartitionMut::new(&mut all[..], &lengths[..], &starts[..]));
        let part = |(&start, &length): (&i32, &i32)| all[start as usize..][..length as usize].to_vec();
        starts.iter().zip(&lengths).map(part).collect()
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        let world = self.world();
        let root = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        bytes.chunks_mut(PIECE).for_each(|piece| root.broadcast_into(piece));
    }

    fn barrier(&self) {
        self.world().barrier();
    }
}
