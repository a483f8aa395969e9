//! The checkpoints of a run of an experiment, in its directory.

use std::path::PathBuf;
use std::sync::Arc;

use numformer_store::{CheckpointError, Latest, latest};
use numformer_train::{Checkpoints, LatestSnapshot, Snapshot};

use crate::run::run_checkpoint::RunDescription;
use crate::run::run_dir::RunDir;

/// Checkpoints of a run of an experiment, in its directory.
#[derive(Debug)]
pub(crate) struct RunCheckpoints {
    pub(crate) run_dir: Arc<RunDir>,
    pub(crate) description: RunDescription,
}

impl Checkpoints for RunCheckpoints {
    fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
        self.run_dir.store().write(&self.description.checkpoint(snapshot))
    }

    fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError> {
        let latest = latest(self.run_dir.path(), Snapshot::load)?;
        Ok(latest.map(|Latest { checkpoint: snapshot, skipped: passed_over }| LatestSnapshot { snapshot, passed_over }))
    }

    fn load(&mut self, step: u64) -> Result<Option<Snapshot>, CheckpointError> {
        let path = self.run_dir.checkpoint_path(step);
        path.exists().then(|| Snapshot::load(&path)).transpose()
    }

    fn remove_oldest(&mut self, step: u64, kept: &[u64]) -> Result<(), CheckpointError> {
        self.run_dir.store().remove_oldest(step, kept)
    }

    fn remove_after(&mut self, step: u64) -> Result<(), CheckpointError> {
        self.run_dir.store().remove_after(step)
    }
}
