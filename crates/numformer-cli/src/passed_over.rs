//! Damaged checkpoints, which an older one stands in for.

use anyhow::Chain;
use numformer_experiment::StoredRun;

use crate::causes;

/// Warns of what was passed over on the way to the checkpoint of a run that is asked.
pub(crate) fn warn(run: &StoredRun) {
    for error in run.passed_over() {
        warn_of(&causes(Chain::new(error)), run.step());
    }
}

/// As [`warn`], of one that is described; `step` is that of the checkpoint that stands in.
pub(crate) fn warn_of(problem: &str, step: u64) {
    report!("warning: passed over a checkpoint: {problem}; the model is that after step {step}");
}
