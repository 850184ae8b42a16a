//! The processes of a run that `mpirun` has started.
//!
//! Without MPI in the program, `mpirun -n 8 resnet-bk compress` would be eight runs in one folder,
//! so it is refused.

use crate::Outcome;
use crate::failure::Failure;
use anyhow::Result;
use resnet_bk::ranks::Ranks;

/// Variables in which launchers tell a process the number of processes and its own: Open MPI, then
/// MPICH, Intel MPI and Slurm.
const LAUNCHERS: [(&str, &str); 2] = [("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK")];

/// What a launcher has told this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launched {
    count: usize,
    rank: usize,
}

/// The launcher's word. `None` if this process is alone.
fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let found = LAUNCHERS.iter().find_map(|(count, rank)| Some((number(count)?, number(rank)?)))?;
    Some(Launched { count: found.0, rank: found.1 }).filter(|launched| launched.count > 1)
}

/// Calls `work` with the ranks of this run. If one of several processes fails, all of them end with
/// exit code 2.
pub fn run(work: impl FnOnce(&Ranks) -> Result<Outcome>) -> Result<Outcome> {
    match launched(|name| std::env::var(name).ok()) {
        None => work(&Ranks::alone()),
        Some(launched) => together(launched, work),
    }
}

/// Lets rank 0 report a failure that all ranks have. When it ends, the launcher ends the others.
fn wait_for_rank_0(rank: usize) {
    if rank > 0 {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[cfg(not(feature = "mpi"))]
fn together(launched: Launched, _: impl FnOnce(&Ranks) -> Result<Outcome>) -> Result<Outcome> {
    wait_for_rank_0(launched.rank);
    Err(Failure::new(
        format!(
            "{} processes were started, but this resnet-bk was built without MPI: each would be a run of its own",
            launched.count
        ),
        "build it with `cargo build --release --features mpi`, or start it without mpirun",
    )
    .into())
}

#[cfg(feature = "mpi")]
fn together(launched: Launched, work: impl FnOnce(&Ranks) -> Result<Outcome>) -> Result<Outcome> {
    use crate::failure::describe;
    use crate::printer::note;
    use resnet_bk::ranks::Session;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Exit code of a program that panicked.
    const PANICKED: i32 = 101;
    let session = Session::start().map_err(|error| {
        Failure::new(error.to_string(), "use an MPI library with MPI_THREAD_FUNNELED, such as Open MPI")
    })?;
    if session.ranks().count() != launched.count {
        return Err(Failure::new(
            format!("{} processes were started, but MPI knows {}", launched.count, session.ranks().count()),
            "start it by the mpirun of the MPI library that it was built with",
        )
        .into());
    }
    let error = match catch_unwind(AssertUnwindSafe(|| work(session.ranks()))) {
        // The exit code of rank 0 is the run's. The launcher would end it early if another process
        // ended with a code of its own.
        Ok(Ok(outcome)) => return Ok(if session.ranks().leads() { outcome } else { Outcome::Done }),
        Ok(Err(error)) => error,
        // The message of a panic is printed already. The others must not wait for this process.
        Err(_) => session.abort(PANICKED),
    };
    wait_for_rank_0(launched.rank);
    let message = describe(&error);
    match launched.rank {
        0 => note(&message),
        rank => note(&format!("rank {rank} of {}: {message}", launched.count)),
    }
    session.abort(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_tell_the_number_of_processes() {
        let told = |variables: &'static [(&str, &str)]| {
            launched(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        let open_mpi = told(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")]);
        assert_eq!(open_mpi, Some(Launched { count: 4, rank: 3 }));
        assert_eq!(told(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]), Some(Launched { count: 2, rank: 0 }));
        assert_eq!(told(&[("PMI_SIZE", "many"), ("PMI_RANK", "0")]), None);
    }
}
