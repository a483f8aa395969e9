//! Whether the ranks of a job have the same run.

use numformer_distributed::{Communicator, CommunicatorError};

use crate::experiment::Experiment;

/// Checks that all ranks have the same version and experiment, and the same of one more thing.
pub(crate) fn check_same_run(
    experiment: &Experiment,
    other: (&str, String),
    ranks: &dyn Communicator,
) -> Result<(), CommunicatorError> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ranks.check_same(&[("version", version), ("experiment", hash(&experiment.to_toml())), other])
}

/// A short text that stands for a long one.
pub(crate) fn hash(text: &str) -> String {
    format!("hash {:08x}", crc32c::crc32c(text.as_bytes()))
}
