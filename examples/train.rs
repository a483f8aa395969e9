//! A run in a directory, stopped at step 60 and continued to step 120, then asked for an answer.
//!
//! Run: `cargo run --release --example train`
//!
//! Expected output: progress up to step 60, progress from there to step 120, and a matrix beside the answer of a model
//! that has hardly begun to learn; a few seconds in all. Next: `custom_observer` for what ends a run; `quickstart` for
//! one that learns.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Result, ensure};
use numformer::experiment::{Experiment, Run, StoredRun};
use numformer::train::Progress;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let path = temporary.path().join("run");
    for steps in [60, 120] {
        let mut experiment = Experiment::preset("transpose-3x3")?;
        experiment.train.steps = steps;
        // Goes on from the latest good checkpoint; damaged ones are named.
        let run = Run::new(experiment)?.in_dir(&path)?;
        ensure!(run.passed_over().is_empty(), "{:?}", run.passed_over());
        let report = run.with_observer(Progress::stderr()).run()?;
        println!("{} at step {}", report.stop, report.step);
    }
    let run = StoredRun::load(&path)?;
    println!("{}", run.solve(&"1 2 3; 4 5 6; 7 8 9".parse()?)?);
    Ok(())
}
