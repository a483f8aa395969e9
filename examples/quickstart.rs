//! Trains a small transformer to transpose 3×3 matrices, from generated examples only, and shows that it can.
//!
//! Run: `cargo run --release --example quickstart -- --run-dir runs/first --seed 1`
//!
//! Expected output, after about ten seconds on two CPU cores: accuracies of 100% or nearly so on unseen matrices, three of
//! them in full, and where the run was saved. The exit code is 1 if fewer than 99% of the answers are exact.
//! Next: `compose`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use numformer::data::Split;
use numformer::experiment::{Experiment, Run};
use numformer::train::{Progress, StopReason};

#[derive(Parser)]
struct Arguments {
    /// Where the run is saved [default: runs/quickstart-seedSEED]; a run already there goes on.
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Seed of the weights and of the training examples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Optimizer updates [default: 1500]; fewer may not reach the 99% that exit code 0 asks for.
    #[arg(long)]
    steps: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut experiment = Experiment::preset("transpose-3x3")?;
    experiment.seed = arguments.seed;
    experiment.train.steps = arguments.steps.unwrap_or(experiment.train.steps);

    let path = arguments.run_dir.unwrap_or_else(|| format!("runs/quickstart-seed{}", arguments.seed).into());
    let mut run = Run::new(experiment)?.in_dir(path)?.with_observer(Progress::stderr());
    for checkpoint in run.passed_over() {
        eprintln!("passed over a checkpoint: {checkpoint}");
    }
    let report = run.run()?;
    ensure!(report.stop == StopReason::Completed, "{}", report.stop);

    let evaluation = run.evaluate(Split::Test, 2_000)?;
    println!("\nOn {} unseen matrices:\n{evaluation:#}", evaluation.count);
    for solved in run.solve(Split::Test, 3)? {
        println!("\n{solved}");
    }
    let run_dir = run.run_dir().expect("given above");
    println!("\nrun:            {}", run_dir.path().display());
    println!("metrics:        {}", run_dir.path().join("metrics.jsonl").display());
    println!("learning curve: {}", run_dir.write_learning_curve()?.display());
    println!("weights:        {}", run_dir.checkpoint_path(run.step()).display());
    ensure!(evaluation.exact >= 0.99, "expected at least 99% exact answers, found {:.2}%", 100.0 * evaluation.exact);
    Ok(())
}
