//! The state of a run, and where it is kept.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use numformer_store::{Checkpoint, CheckpointError, Latest, NamedTensors, RunStore, latest};
use serde_json::Map;

use crate::run_progress::RunProgress;

/// All that the rest of a run depends on, beside what it was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Steps taken, those left out included.
    pub step: u64,
    /// What happened up to there.
    pub progress: RunProgress,
    /// Weights by name.
    pub weights: NamedTensors,
    /// What the optimizer remembers: the name of the memory, a dot, and the name of the weight.
    pub memory: NamedTensors,
}

/// The note that holds the progress of a run; runs to which nothing happened have none.
const PROGRESS: &str = "progress";

impl Snapshot {
    /// As it is written.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint<'_> {
        let mut notes = Map::new();
        if self.progress != RunProgress::default() {
            let progress = serde_json::to_value(&self.progress).expect("progress is plain data");
            notes.insert(PROGRESS.to_owned(), progress);
        }
        let (weights, memory) = (Cow::Borrowed(&self.weights), Cow::Borrowed(&self.memory));
        Checkpoint { step: self.step, notes, weights, memory, ..Checkpoint::default() }
    }

    /// Reads the snapshot of a checkpoint that lies in `dir`.
    ///
    /// # Errors
    /// When the checkpoint is damaged, or is not one of a run.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        Self::of(Checkpoint::load(dir)?, dir)
    }

    /// The snapshot of a checkpoint that lies in `dir`.
    ///
    /// # Errors
    /// When the checkpoint is not one of a run.
    pub fn of(checkpoint: Checkpoint<'_>, dir: &Path) -> Result<Self, CheckpointError> {
        let progress = if checkpoint.notes.contains_key(PROGRESS) {
            checkpoint.note(PROGRESS, dir)?
        } else {
            RunProgress::default()
        };
        let Checkpoint { step, weights, memory, .. } = checkpoint;
        Ok(Self { step, progress, weights: weights.into_owned(), memory: memory.into_owned() })
    }
}

/// The latest snapshot of a run that can be read.
#[derive(Debug)]
pub struct LatestSnapshot {
    /// The snapshot to go on from.
    pub snapshot: Snapshot,
    /// What was found wrong with newer ones, the newest first.
    pub passed_over: Vec<CheckpointError>,
}

/// Where the snapshots of a run are kept: on disk ([`RunStore`](numformer_store::RunStore)), or anywhere else.
///
/// # Examples
/// One that keeps the latest in memory:
/// ```
/// use std::path::PathBuf;
/// use numformer_store::CheckpointError;
/// use numformer_train::{Checkpoints, LatestSnapshot, Snapshot};
///
/// #[derive(Default)]
/// struct InMemory(Option<Snapshot>);
///
/// impl Checkpoints for InMemory {
///     fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
///         self.0 = Some(snapshot.clone());
///         Ok(PathBuf::from("memory"))
///     }
///     fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError> {
///         Ok(self.0.clone().map(|snapshot| LatestSnapshot { snapshot, passed_over: Vec::new() }))
///     }
/// }
/// ```
pub trait Checkpoints: Send {
    /// Saves a snapshot whole or not at all, and returns where it is, for people to read.
    ///
    /// # Errors
    /// When it cannot be saved; the earlier ones are untouched then. [`CheckpointError::other`] carries an error of one's own.
    fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError>;

    /// The latest snapshot that can be read, if one was saved.
    ///
    /// # Errors
    /// When there are snapshots, and none can be read.
    fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError>;

    /// The snapshot after `step`, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self, _step: u64) -> Result<Option<Snapshot>, CheckpointError> {
        Ok(None)
    }

    /// Removes old snapshots of a run that is at `step`, but those after the steps `kept`, and as many of the latest as there
    /// are to be.
    ///
    /// # Errors
    /// When one cannot be removed.
    fn remove_oldest(&mut self, _step: u64, _kept: &[u64]) -> Result<(), CheckpointError> {
        Ok(())
    }

    /// Removes the snapshots of a run that goes back to `step` and on from there in another way.
    ///
    /// # Errors
    /// When one cannot be removed.
    fn remove_after(&mut self, _step: u64) -> Result<(), CheckpointError> {
        Ok(())
    }
}

impl Checkpoints for RunStore {
    fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
        self.write(&snapshot.checkpoint())
    }

    fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError> {
        let latest = latest(self.path(), Snapshot::load)?;
        Ok(latest.map(|Latest { checkpoint: snapshot, skipped: passed_over }| LatestSnapshot { snapshot, passed_over }))
    }

    fn load(&mut self, step: u64) -> Result<Option<Snapshot>, CheckpointError> {
        let path = self.checkpoint_path(step);
        path.exists().then(|| Snapshot::load(&path)).transpose()
    }

    fn remove_oldest(&mut self, step: u64, kept: &[u64]) -> Result<(), CheckpointError> {
        Self::remove_oldest(self, step, kept)
    }

    fn remove_after(&mut self, step: u64) -> Result<(), CheckpointError> {
        Self::remove_after(self, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_gives_back_what_was_saved() {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = RunStore::open(dir.path()).expect("a directory");
        let progress = RunProgress { skipped: 3, stages: vec![2, 5], ..RunProgress::default() };
        let weights = [("w".to_owned(), (vec![1], vec![0.5]))].into();
        let snapshot = Snapshot { step: 7, progress, weights, ..Snapshot::default() };
        store.save(&snapshot).expect("saved");
        let latest = Checkpoints::latest(&mut store).expect("readable").expect("some");
        assert_eq!((latest.snapshot, latest.passed_over.len()), (snapshot.clone(), 0));
        assert_eq!(store.load(7).expect("readable"), Some(snapshot));
        assert_eq!(store.load(8).expect("readable"), None);
    }
}
