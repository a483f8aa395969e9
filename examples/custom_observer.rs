//! A custom observer: early stopping when the loss on the validation set no longer falls.
//!
//! Run: `cargo run --release --example custom_observer`
//!
//! Expected output: a line for each evaluation, and why the run ended, after some ten seconds. The learning rate is far
//! too high, so that the run gives up long before its last step. Next: `train` for a run in a directory.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use numformer::experiment::{Experiment, Run};
use numformer::train::{EvaluationReport, Observer, StopReason};

/// Ends a run after `patience` evaluations in a row without a lower cross-entropy.
struct EarlyStopping {
    patience: u32,
    lowest: f64,
    waited: u32,
}

// Every method of an observer is optional; each may end the run. A run that is ended is saved, if it has a directory.
impl Observer for EarlyStopping {
    fn on_evaluation(&mut self, report: &EvaluationReport) -> ControlFlow<StopReason> {
        let found = report.evaluation.cross_entropy;
        println!("step {}: cross-entropy {found:.3}", report.step);
        if found < self.lowest {
            (self.lowest, self.waited) = (found, 0);
            return ControlFlow::Continue(());
        }
        self.waited += 1;
        if self.waited < self.patience {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(StopReason::Asked(format!("no progress in {} evaluations", self.patience)))
    }
}

fn main() -> Result<()> {
    let mut experiment = Experiment::preset("transpose-3x3")?;
    experiment.train.lr = 0.3;
    experiment.train.warmup_steps = 10;
    (experiment.evaluate.every, experiment.evaluate.examples) = (20, 64);
    let early_stopping = EarlyStopping { patience: 3, lowest: f64::INFINITY, waited: 0 };
    let report = Run::new(experiment)?.with_observer(early_stopping).run()?;
    println!("{} after step {}", report.stop, report.step);
    ensure!(report.stop != StopReason::Completed, "a learning rate of 0.3 cannot have worked to the end");
    Ok(())
}
