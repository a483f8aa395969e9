//! Ranks work together over MPI. Run it under a launcher, as in
//! `mpirun -n 2 cargo test -p numformer-train --features mpi --test mpi`; without one there is a single rank.
//!
//! All ranks must make the same calls in the same order, so this is one program, without the harness of tests.

#![expect(clippy::print_stdout, reason = "it says which checks were made, as the harness of tests does")]

mod together;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use numformer_distributed::{Communicator, Mpi};

fn main() -> ExitCode {
    // As the harness does when it lists its tests.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mpi = Arc::new(Mpi::join(Some(Duration::from_secs(120))).expect("MPI"));
    let ranks: Arc<dyn Communicator> = Arc::clone(&mpi) as _;
    for (name, check) in together::CHECKS {
        let checked = check(&ranks);
        println!(
            "rank {} of {}: {name} ... {}",
            ranks.rank(),
            ranks.size(),
            if checked.is_ok() { "ok" } else { "FAILED" }
        );
        if let Err(error) = checked {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    }
    assert!(Mpi::join(None).is_err(), "MPI can be joined once");
    mpi.finish().expect("all ranks finish");
    assert!(mpi.sum(&mut [1.0]).is_err(), "MPI was left");
    ExitCode::SUCCESS
}
