//! The checkpoints of one run on disk.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::files::create_durably;

/// The directory of one run, held by one process at a time. Its latest checkpoints are in
/// `checkpoints/step-NNNNNNNNNN/`.
///
/// # Examples
/// ```
/// use numformer_store::{Checkpoint, RunStore};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("runs/mine");
/// let store = RunStore::open(&path)?;
/// store.write(&Checkpoint { step: 7, ..Checkpoint::default() })?;
/// assert_eq!(store.latest_checkpoint()?.unwrap().checkpoint.step, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RunStore {
    path: PathBuf,
    keep: usize,
    /// Held while this value lives; the system releases it when the process ends, however it ends.
    _lock: File,
}

/// The latest good checkpoint of a run, and the damaged ones that were passed over.
#[derive(Debug)]
pub struct Latest<C> {
    /// The checkpoint to go on from.
    pub checkpoint: C,
    /// What was wrong with newer checkpoints, the newest first.
    pub skipped: Vec<CheckpointError>,
}

impl RunStore {
    /// Opens the directory, or makes it. Keeps the latest three checkpoints.
    ///
    /// # Errors
    /// When another process holds the directory, or it cannot be written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let path = path.into();
        let io_error = |source| CheckpointError::Io { path: path.clone(), source };
        create_durably(&path).map_err(io_error)?;
        let lock = File::create(path.join("lock")).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(CheckpointError::Io { path, source }),
        }
        let store = Self { path: path.clone(), keep: 3, _lock: lock };
        store.remove_unfinished().map_err(io_error)?;
        Ok(store)
    }

    /// Sets how many of the latest checkpoints to keep, at least one.
    #[must_use]
    pub fn keeping(self, latest: usize) -> Self {
        Self { keep: latest.max(1), ..self }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the checkpoint after `step` updates.
    #[must_use]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        checkpoint_path(&self.path, step)
    }

    /// Steps of the existing checkpoints, ascending.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn steps(&self) -> io::Result<Vec<u64>> {
        steps(&self.path)
    }

    /// Saves a checkpoint, and returns its path.
    ///
    /// # Errors
    /// When the checkpoint cannot be written. Earlier checkpoints are then untouched.
    pub fn write(&self, checkpoint: &Checkpoint<'_>) -> Result<PathBuf, CheckpointError> {
        let path = self.checkpoint_path(checkpoint.step);
        checkpoint.save(&path)?;
        Ok(path)
    }

    /// The latest readable checkpoint, or `None` if none was written yet.
    ///
    /// # Errors
    /// When [`latest`] would fail.
    pub fn latest_checkpoint(&self) -> Result<Option<Latest<Checkpoint<'static>>>, CheckpointError> {
        latest(&self.path, Checkpoint::load)
    }

    /// Removes the oldest checkpoints of a run that is at `step`. Keeps those after the steps in `kept`, and as many of
    /// the latest as [`keeping`](Self::keeping) says.
    ///
    /// # Errors
    /// When a checkpoint cannot be removed.
    pub fn remove_oldest(&self, step: u64, kept: &[u64]) -> Result<(), CheckpointError> {
        // Later steps were left by a run that went back past a damaged checkpoint. They are not part of its past.
        let past = self.steps().map_err(|source| self.io_error(source))?.into_iter().filter(|old| *old <= step);
        past.rev().skip(self.keep).filter(|old| !kept.contains(old)).try_for_each(|old| self.remove(old))
    }

    /// Removes the checkpoints after `step`. The run goes back to `step` and continues differently from there.
    ///
    /// # Errors
    /// When a checkpoint cannot be removed.
    pub fn remove_after(&self, step: u64) -> Result<(), CheckpointError> {
        let steps = self.steps().map_err(|source| self.io_error(source))?;
        steps.into_iter().filter(|later| *later > step).try_for_each(|later| self.remove(later))
    }

    fn remove(&self, step: u64) -> Result<(), CheckpointError> {
        fs::remove_dir_all(self.checkpoint_path(step)).map_err(|source| self.io_error(source))
    }

    fn io_error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io { path: checkpoints(&self.path), source }
    }

    /// Removes unfinished checkpoints that a killed process left.
    fn remove_unfinished(&self) -> io::Result<()> {
        let entries = match fs::read_dir(checkpoints(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.starts_with("step-") && name.ends_with(".partial")) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

fn checkpoints(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The path of the checkpoint after `step` updates of the run in the directory `run`.
#[must_use]
pub fn checkpoint_path(run: &Path, step: u64) -> PathBuf {
    // With ten digits, names sort as numbers do.
    checkpoints(run).join(format!("step-{step:010}"))
}

/// The latest checkpoint that can be loaded from the directory of a run, or `None` if none was written yet.
///
/// # Errors
/// When there are checkpoints but all are damaged, or the latest was written by another version.
pub fn latest<C>(
    run: &Path,
    load: impl Fn(&Path) -> Result<C, CheckpointError>,
) -> Result<Option<Latest<C>>, CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: checkpoints(run), source };
    let mut skipped = Vec::new();
    for step in steps(run).map_err(io_error)?.into_iter().rev() {
        match load(&checkpoint_path(run, step)) {
            Ok(checkpoint) => return Ok(Some(Latest { checkpoint, skipped })),
            Err(error @ CheckpointError::Format { .. }) => return Err(error),
            Err(error) => skipped.push(error),
        }
    }
    match skipped.into_iter().next() {
        None => Ok(None),
        Some(newest) => Err(CheckpointError::NoGoodCheckpoint { path: checkpoints(run), source: Box::new(newest) }),
    }
}

/// Steps of the checkpoints of the run in the directory `run`, ascending.
///
/// # Errors
/// When the directory cannot be read.
pub fn steps(run: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(checkpoints(run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<u64>().ok());
        // Accepts only names that we write: `step-9` is not ours.
        steps.extend(step.filter(|step| checkpoint_path(run, *step).file_name() == Some(&name)));
    }
    steps.sort_unstable();
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn store(dir: &tempfile::TempDir) -> RunStore {
        RunStore::open(dir.path()).expect("a directory")
    }

    fn save(store: &RunStore, step: u64, kept: &[u64]) {
        let weights = Cow::Owned([("w".to_owned(), (vec![1], vec![step as f32]))].into());
        store.write(&Checkpoint { step, weights, ..Checkpoint::default() }).expect("saved");
        store.remove_oldest(step, kept).expect("removed");
    }

    #[test]
    fn the_latest_are_kept_and_those_that_are_asked_for() {
        let dir = tempfile::tempdir().expect("dir");
        let store = store(&dir).keeping(2);
        assert!(store.latest_checkpoint().expect("readable").is_none());
        fs::create_dir_all(dir.path().join("checkpoints/step-9")).expect("not ours");
        [9, 10, 11, 100].into_iter().for_each(|step| save(&store, step, &[9]));
        assert_eq!(store.steps().expect("readable"), [9, 11, 100]);
        assert_eq!(store.latest_checkpoint().expect("readable").expect("some").checkpoint.step, 100);
        store.remove_after(11).expect("removed");
        assert_eq!(store.steps().expect("readable"), [9, 11]);

        let unfinished = dir.path().join("checkpoints/step-0000000012.partial");
        fs::create_dir(&unfinished).expect("made");
        drop(store);
        drop(RunStore::open(dir.path()).expect("opened again"));
        assert!(!unfinished.exists());
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("dir");
        let _held = store(&dir);
        let error = RunStore::open(dir.path()).expect_err("held");
        assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_passed_over() {
        let dir = tempfile::tempdir().expect("dir");
        let store = store(&dir);
        [1, 2].into_iter().for_each(|step| save(&store, step, &[]));
        let truncate = |step: u64| {
            let file = checkpoint_path(dir.path(), step).join("model.safetensors");
            let content = fs::read(&file).expect("weights");
            fs::write(&file, &content[..content.len() - 1]).expect("cut");
        };
        truncate(2);
        let latest = store.latest_checkpoint().expect("one is good").expect("some");
        assert_eq!(latest.checkpoint.step, 1);
        assert!(latest.skipped[0].to_string().contains("step-0000000002/model.safetensors is damaged"));
        truncate(1);
        let error = store.latest_checkpoint().expect_err("none is good");
        assert!(error.to_string().contains("remove that directory"), "{error}");
    }
}
