//! The state of a run, and where it is kept.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use numformer_store::{Checkpoint, CheckpointError, Latest, NamedTensors, RunStore, latest};
use serde_json::Map;

use crate::run_progress::RunProgress;

/// The state of a run: everything that the rest of the run depends on, except what the run was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Steps taken, including those left out.
    pub step: u64,
    /// What happened up to this step.
    pub progress: RunProgress,
    /// Weights by name.
    pub weights: NamedTensors,
    /// What the optimizer remembers. Each name is the name of the memory, a dot, and the name of the weight.
    pub memory: NamedTensors,
}

/// Name of the note that holds the progress of a run. Runs without anything to record have no such note.
const PROGRESS: &str = "progress";

impl Snapshot {
    /// The checkpoint of this snapshot, for writing.
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

    /// Reads the snapshot from the checkpoint in `dir`.
    ///
    /// # Errors
    /// When the checkpoint is damaged, or does not belong to a run.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        Self::of(Checkpoint::load(dir)?, dir)
    }

    /// The snapshot of a checkpoint. `dir` is the directory of the checkpoint.
    ///
    /// # Errors
    /// When the checkpoint does not belong to a run.
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

/// The latest readable snapshot of a run.
#[derive(Debug)]
pub struct LatestSnapshot {
    /// The snapshot to go on from.
    pub snapshot: Snapshot,
    /// What was wrong with newer snapshots, the newest first.
    pub passed_over: Vec<CheckpointError>,
}

/// Where the snapshots of a run are kept: on disk ([`RunStore`](numformer_store::RunStore)), or anywhere else.
///
/// # Examples
/// A store that keeps the latest snapshot in memory:
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
    /// Saves a snapshot, whole or not at all. Returns where it is, for people to read.
    ///
    /// # Errors
    /// When the snapshot cannot be saved. Earlier snapshots are then untouched. Use [`CheckpointError::other`] for a
    /// custom error.
    fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError>;

    /// The latest readable snapshot, or `None` if none was saved.
    ///
    /// # Errors
    /// When there are snapshots but none can be read.
    fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError>;

    /// The snapshot after `step`, if there is one.
    ///
    /// # Errors
    /// When the snapshot cannot be read.
    fn load(&mut self, _step: u64) -> Result<Option<Snapshot>, CheckpointError> {
        Ok(None)
    }

    /// Removes old snapshots of a run that is at `step`. Keeps those after the steps in `kept`, and as many of the
    /// latest as the store is set to keep.
    ///
    /// # Errors
    /// When a snapshot cannot be removed.
    fn remove_oldest(&mut self, _step: u64, _kept: &[u64]) -> Result<(), CheckpointError> {
        Ok(())
    }

    /// Removes the snapshots after `step`. The run goes back to `step` and continues differently from there.
    ///
    /// # Errors
    /// When a snapshot cannot be removed.
    fn remove_after(&mut self, _step: u64) -> Result<(), CheckpointError> {
        Ok(())
    }
}

impl<C: Checkpoints + ?Sized> Checkpoints for Box<C> {
    fn save(&mut self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
        (**self).save(snapshot)
    }

    fn latest(&mut self) -> Result<Option<LatestSnapshot>, CheckpointError> {
        (**self).latest()
    }

    fn load(&mut self, step: u64) -> Result<Option<Snapshot>, CheckpointError> {
        (**self).load(step)
    }

    fn remove_oldest(&mut self, step: u64, kept: &[u64]) -> Result<(), CheckpointError> {
        (**self).remove_oldest(step, kept)
    }

    fn remove_after(&mut self, step: u64) -> Result<(), CheckpointError> {
        (**self).remove_after(step)
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
        let mut store: Box<dyn Checkpoints> = Box::new(RunStore::open(dir.path()).expect("a directory"));
        let progress = RunProgress { skipped: 3, stages: vec![2, 5], ..RunProgress::default() };
        let weights = [("w".to_owned(), (vec![1], vec![0.5]))].into();
        let snapshot = Snapshot { step: 7, progress, weights, ..Snapshot::default() };
        store.save(&snapshot).expect("saved");
        let latest = store.latest().expect("readable").expect("some");
        assert_eq!((latest.snapshot, latest.passed_over.len()), (snapshot.clone(), 0));
        assert_eq!(store.load(7).expect("readable"), Some(snapshot));
        assert_eq!(store.load(8).expect("readable"), None);
    }
}
