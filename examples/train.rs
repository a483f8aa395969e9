//! A run in a directory, interrupted and resumed, then asked for an answer.
//!
//! ```sh
//! cargo run --release --example train
//! ```
//!
//! Expected output: progress up to step 60, progress from there to step 120, and a matrix beside the answer of a model that has
//! hardly begun to learn; a few seconds in all. Next: `custom_observer` for what ends a run; `quickstart` for one that learns.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Result, ensure};
use numformer::train::{Experiment, Progress, RunDir, StoredRun, Trainer};

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let path = temporary.path().join("run");
    for steps in [60, 120] {
        let mut experiment = Experiment::preset("transpose-3x3")?;
        experiment.train.steps = steps;
        let run_dir = RunDir::open(&path, &experiment)?;
        let log = run_dir.metrics_log(experiment.log.every);
        // Goes on from the latest good checkpoint; damaged ones are named.
        let (trainer, damaged) = Trainer::new(experiment)?.in_dir(run_dir)?;
        ensure!(damaged.is_empty(), "{damaged:?}");
        let report = trainer.with_observer(Progress::stderr()).with_observer(log).run()?;
        println!("{} at step {}", report.stop, report.step);
    }
    let run = StoredRun::load(&path)?;
    println!("{}", run.solve(&"1 2 3; 4 5 6; 7 8 9".parse()?)?);
    Ok(())
}
