//! Damaged checkpoints that an older one replaces.

use anyhow::Chain;
use numformer_experiment::StoredRun;

use crate::causes;

/// Warns of the checkpoints that were passed over before the one that the run uses.
pub(crate) fn warn(run: &StoredRun) {
    for error in run.passed_over() {
        warn_of(&causes(Chain::new(error)), run.step());
    }
}

/// As [`warn`], for one checkpoint, whose problem is given as text. `step` is that of the checkpoint used instead.
pub(crate) fn warn_of(problem: &str, step: u64) {
    report!("warning: passed over a checkpoint: {problem}; using the model after step {step}");
}
