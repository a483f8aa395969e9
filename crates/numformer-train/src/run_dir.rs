//! The directory of one run.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use numformer_data::read_text;

use crate::checkpoint::{Checkpoint, CheckpointError, RunProgress};
use crate::config::CheckpointConfig;
use crate::curve::LearningCurve;
use crate::difference::Difference;
use crate::divergence::DivergencePolicy;
use crate::experiment::{Experiment, ExperimentError};
use crate::figure_name::FigureName;
use crate::files::{create_durably, write_atomically};
use crate::metrics_log::{METRICS, MetricsLog, Record, read_up_to_damage};
use crate::observer::EvaluationReport;
use crate::tensorboard::TensorBoard;
use crate::trainer::way_back;

pub(crate) const EXPERIMENT: &str = "experiment.toml";

/// The directory of one run, held by one process at a time:
///
/// - `experiment.toml`: the experiment, defaults written out,
/// - `checkpoints/step-NNNNNNNNNN/`: the latest [`Checkpoint`]s,
/// - `metrics.jsonl`, `timings.jsonl`: see [`MetricsLog`](crate::MetricsLog),
/// - `tensorboard/`: see [`TensorBoard`], if the experiment asks for it,
/// - `learning-curve.svg`: see [`LearningCurve`](crate::LearningCurve).
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held while this value lives; the system releases it when the process ends, however it ends.
    _lock: File,
}

/// The latest good checkpoint of a run, and the damaged ones that were passed over.
#[derive(Debug)]
pub struct Latest {
    /// The checkpoint to go on from.
    pub checkpoint: Checkpoint,
    /// What was found wrong with newer ones, the newest first.
    pub skipped: Vec<CheckpointError>,
}

impl RunDir {
    /// Opens the directory of a run of `experiment`, or makes it.
    ///
    /// What the run does not depend on, such as its number of steps and what is logged, may differ from an earlier
    /// opening, and is written down: see [`Experiment::difference`].
    ///
    /// # Errors
    /// When the directory holds a run that depends on what differs, or something else, another process holds it, or it
    /// cannot be written.
    pub fn open(path: impl Into<PathBuf>, experiment: &Experiment) -> Result<Self, RunDirError> {
        let path = path.into();
        let io_error = |source| RunDirError::Io { path: path.clone(), source };
        create_durably(&path).map_err(io_error)?;
        let file = path.join(EXPERIMENT);
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(io_error)?;
        // Another process may be making the run right now: what it makes first is not foreign.
        let own = ["lock", EXPERIMENT, "experiment.partial"];
        if !file.exists() && entries.iter().any(|entry| own.iter().all(|name| entry.file_name() != *name)) {
            return Err(RunDirError::NotARun { path });
        }
        let lock = File::create(path.join("lock")).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(RunDirError::Io { path, source }),
        }
        let run = Self { path: path.clone(), _lock: lock };
        Self::check(&path, experiment)?;
        if !file.exists() {
            run.write_experiment(experiment)?;
        }
        run.remove_unfinished().map_err(io_error)?;
        Ok(run)
    }

    /// Checks that a run of `experiment` may go on in a directory, or begin there if it holds no run, and writes nothing.
    ///
    /// # Errors
    /// When the directory holds a run that depends on what differs, or that took more steps.
    pub fn check(path: &Path, experiment: &Experiment) -> Result<(), RunDirError> {
        let io_error = |source| RunDirError::Io { path: path.to_owned(), source };
        let file = path.join(EXPERIMENT);
        if !file.exists() {
            return Ok(());
        }
        let toml = read_text(&file).map_err(io_error)?;
        let existing = Experiment::parse(&toml, &file.display().to_string())
            .map_err(|source| RunDirError::Unreadable { path: path.to_owned(), source: source.into() })?;
        if let Some(difference) = existing.difference(experiment) {
            let (path, difference) = (path.to_owned(), difference.into());
            return Err(RunDirError::OtherExperiment { path, name: existing.name, difference });
        }
        let taken = steps(path).map_err(io_error)?.pop().unwrap_or(0);
        if taken > experiment.train.steps {
            return Err(RunDirError::StepsTaken { path: path.to_owned(), taken, asked: experiment.train.steps });
        }
        Ok(())
    }

    /// Writes down the experiment as which the run goes on. Nothing is written that stands there already, which needs
    /// no room.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_experiment(&self, experiment: &Experiment) -> Result<(), RunDirError> {
        let (file, toml) = (self.path.join(EXPERIMENT), experiment.to_toml());
        if fs::read(&file).ok().as_deref() == Some(toml.as_bytes()) {
            return Ok(());
        }
        write_atomically(&file, toml.as_bytes()).map_err(|source| RunDirError::Io { path: self.path.clone(), source })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A log of the run, for [`Trainer::with_observer`](crate::Trainer::with_observer): a line for every `every`-th step.
    #[must_use]
    pub fn metrics_log(&self, every: u64) -> MetricsLog {
        MetricsLog::in_dir(&self.path, every)
    }

    /// Event files of the run, in its folder `tensorboard`, with every `every`-th step.
    #[must_use]
    pub fn tensorboard(&self, every: u64) -> TensorBoard {
        TensorBoard::in_dir(&self.path.join("tensorboard"), every)
    }

    /// Draws the run's learning curve and returns where it stands.
    ///
    /// # Errors
    /// When the metrics cannot be read, or the figure not be written.
    pub fn write_learning_curve(&self) -> io::Result<PathBuf> {
        let path = self.path.join("learning-curve.svg");
        LearningCurve::read(&self.path.join(METRICS))?.write_svg(&path)?;
        Ok(path)
    }

    /// Where the checkpoint after `step` updates stands.
    #[must_use]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        checkpoint_path(&self.path, step)
    }

    /// Removes what a killed process left of checkpoints that it had begun to write.
    fn remove_unfinished(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.checkpoints()) {
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

    /// Saves a checkpoint and removes the oldest; returns where it stands. The latest stay, as many as the experiment
    /// says, and so do the best by its figures, the last regular one if the run may go back to it, and the steps `kept`.
    ///
    /// # Errors
    /// When it cannot be written; the earlier checkpoints are untouched then.
    pub fn save(&self, checkpoint: &Checkpoint, kept: &[u64]) -> Result<PathBuf, CheckpointError> {
        let path = self.checkpoint_path(checkpoint.step);
        checkpoint.save(&path)?;
        self.remove_oldest(checkpoint.step, &checkpoint.experiment, &checkpoint.progress, kept)?;
        Ok(path)
    }

    /// Removes the oldest checkpoints of a run of `experiment` that is at `step`: all but those that [`RunDir::save`] keeps.
    pub(crate) fn remove_oldest(
        &self,
        step: u64,
        experiment: &Experiment,
        progress: &RunProgress,
        kept: &[u64],
    ) -> Result<(), CheckpointError> {
        let io_error = |source| CheckpointError::Io { path: self.checkpoints(), source };
        let CheckpointConfig { every, keep, .. } = experiment.checkpoint;
        let goes_back = matches!(experiment.train.divergence, DivergencePolicy::RollBack { .. });
        let is_kept = |old: u64| {
            let is_best = progress.best.values().any(|best| best.step == old);
            is_best || kept.contains(&old) || (goes_back && old == way_back(step, every))
        };
        // Steps beyond this one were left by a run that was set back past a damaged checkpoint: they are not its past.
        let past = self.steps().map_err(io_error)?.into_iter().filter(|old| *old <= step);
        for old in past.rev().skip(keep).filter(|old| !is_kept(*old)) {
            fs::remove_dir_all(self.checkpoint_path(old)).map_err(io_error)?;
        }
        Ok(())
    }

    /// Removes the checkpoints of a run that goes back to `step` and on from there in another way.
    pub(crate) fn remove_after(&self, step: u64) -> Result<(), CheckpointError> {
        let io_error = |source| CheckpointError::Io { path: self.checkpoints(), source };
        for later in self.steps().map_err(io_error)?.into_iter().filter(|later| *later > step) {
            fs::remove_dir_all(self.checkpoint_path(later)).map_err(io_error)?;
        }
        Ok(())
    }

    /// The evaluations of the run so far, as its metrics log has them, up to where that may be damaged; none without a log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn evaluations(&self) -> io::Result<Vec<EvaluationReport>> {
        let evaluations = self.records()?.into_iter().filter_map(|record| match record {
            Record::Evaluation(report) => Some(report),
            _ => None,
        });
        Ok(evaluations.collect())
    }

    /// The metrics log of the run so far, up to where it may be damaged; nothing without a log.
    pub(crate) fn records(&self) -> io::Result<Vec<Record>> {
        read_up_to_damage(&self.path.join(METRICS))
    }

    /// The latest checkpoint that reads well; `None` when none was written yet.
    ///
    /// # Errors
    /// When there are checkpoints and all are damaged.
    pub fn latest(&self) -> Result<Option<Latest>, RunDirError> {
        latest(&self.path)
    }

    fn checkpoints(&self) -> PathBuf {
        checkpoints(&self.path)
    }

    fn steps(&self) -> io::Result<Vec<u64>> {
        steps(&self.path)
    }
}

fn checkpoints(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

pub(crate) fn checkpoint_path(run: &Path, step: u64) -> PathBuf {
    // Ten digits: names sort as numbers do.
    checkpoints(run).join(format!("step-{step:010}"))
}

/// The latest checkpoint of a run that reads well; `None` when none was written yet.
pub(crate) fn latest(run: &Path) -> Result<Option<Latest>, RunDirError> {
    let io_error = |source| RunDirError::Io { path: checkpoints(run), source };
    let mut skipped = Vec::new();
    for step in steps(run).map_err(io_error)?.into_iter().rev() {
        match Checkpoint::load(&checkpoint_path(run, step)) {
            Ok(checkpoint) => return Ok(Some(Latest { checkpoint, skipped })),
            Err(source @ CheckpointError::Format { .. }) => return Err(RunDirError::Checkpoint(source)),
            Err(error) => skipped.push(error),
        }
    }
    match skipped.into_iter().next() {
        None => Ok(None),
        Some(source) => Err(RunDirError::NoGoodCheckpoint { path: checkpoints(run), source }),
    }
}

/// Steps of the checkpoints there are, ascending.
pub(crate) fn steps(run: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(checkpoints(run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("step-")?.parse::<u64>().ok());
        // Only names that we write: `step-9` is somebody else's.
        steps.extend(step.filter(|step| checkpoint_path(run, *step).file_name() == Some(&name)));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Why a directory cannot serve a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunDirError {
    /// The directory holds a run that cannot go on as asked.
    #[error(
        "the run in {} depends on what differs: {difference}; begin another in a directory of its own, from the weights of this \
         one with --start-from RUN",
        path.display()
    )]
    OtherExperiment {
        /// The directory.
        path: PathBuf,
        /// Name of the experiment there.
        name: String,
        /// The first key that differs and on which the run depends.
        difference: Box<Difference>,
    },
    /// The directory holds something else than a run.
    #[error("directory {} holds files but no run (no {EXPERIMENT}); choose an empty or a new one", path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// There is no run.
    #[error("expected a run in {}, found no {EXPERIMENT} there", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process trains in the directory.
    #[error("run directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The experiment there cannot be read.
    #[error("run directory {} holds an experiment that cannot be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: Box<ExperimentError>,
    },
    /// The run is longer than asked for.
    #[error("run directory {} holds a run of {taken} steps, {asked} asked; ask for more, or choose another directory", path.display())]
    StepsTaken {
        /// The directory.
        path: PathBuf,
        /// Steps taken.
        taken: u64,
        /// Steps asked for.
        asked: u64,
    },
    /// A checkpoint was written by another version.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// Nothing was saved yet.
    #[error("expected a checkpoint in {}, found none: the run has not saved any yet", path.display())]
    NoCheckpoint {
        /// The directory of the run.
        path: PathBuf,
    },
    /// There is no checkpoint of this step.
    #[error("no checkpoint after step {step} in {}; there are those after the steps {there:?}", path.display())]
    NoSuchCheckpoint {
        /// The directory of the run.
        path: PathBuf,
        /// Step asked for.
        step: u64,
        /// Steps there are.
        there: Vec<u64>,
    },
    /// The run does not keep its best checkpoint by this figure.
    #[error("run {} keeps no best checkpoint by {figure}: name it in checkpoint.best before the run", path.display())]
    NoBest {
        /// The directory of the run.
        path: PathBuf,
        /// The figure.
        figure: FigureName,
    },
    /// Every checkpoint is damaged.
    #[error("no checkpoint in {} can be read: restore one, or remove that directory for the run to begin again", path.display())]
    NoGoodCheckpoint {
        /// The directory of the checkpoints.
        path: PathBuf,
        /// What is wrong with the newest.
        source: CheckpointError,
    },
    /// The directory cannot be read or written.
    #[error("cannot access run directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Catalogue;
    use crate::checkpoint::{Best, RunProgress};
    use crate::data_files::DataFingerprints;
    use crate::figure_name::FigureName;

    fn experiment() -> Experiment {
        Experiment::preset("transpose-3x3").expect("embedded")
    }

    fn checkpoint(step: u64, keep: usize) -> Checkpoint {
        let mut experiment = experiment();
        experiment.checkpoint = CheckpointConfig { every: 10, keep, best: Vec::new() };
        let task = experiment.task(&Catalogue::standard()).expect("valid");
        Checkpoint {
            data: DataFingerprints::default(),
            step,
            progress: RunProgress::default(),
            config: experiment.model_config(&task).expect("valid"),
            vocabulary: task.vocabulary().clone(),
            model: BTreeMap::from([("w".to_owned(), (vec![1], vec![step as f32]))]),
            optimizer: BTreeMap::new(),
            experiment,
        }
    }

    #[test]
    fn a_run_can_be_opened_again_and_made_longer() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/run");
        drop(RunDir::open(&path, &experiment()).expect("new"));
        let mut longer = experiment();
        longer.train.steps *= 2;
        let run = RunDir::open(&path, &longer).expect("the same experiment");
        run.save(&checkpoint(longer.train.steps, 1), &[]).expect("saved");
        drop(run);
        let error = RunDir::open(&path, &experiment()).expect_err("shorter than it is").to_string();
        assert!(error.contains("3000 steps, 1500 asked"), "{error}");
    }

    #[test]
    fn another_experiment_is_refused_with_the_key_that_differs() {
        let dir = tempfile::tempdir().expect("dir");
        drop(RunDir::open(dir.path(), &experiment()).expect("empty directory"));
        let mut other = experiment();
        other.train.lr = 0.5;
        let error = RunDir::open(dir.path(), &other).expect_err("another").to_string();
        assert!(
            error.contains("train.lr is 0.001 there and 0.5 here") && error.contains("--start-from RUN"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn what_a_run_does_not_depend_on_is_written_down() {
        let dir = tempfile::tempdir().expect("dir");
        drop(RunDir::open(dir.path(), &experiment()).expect("empty directory"));
        let changed = experiment().with_settings(&["log.every=7", "checkpoint.keep=5"]).expect("settings");
        let written = || {
            let toml = fs::read_to_string(dir.path().join(EXPERIMENT)).expect("written");
            Experiment::parse(&toml, "").expect("an experiment")
        };
        let run = RunDir::open(dir.path(), &changed).expect("the same run");
        // Not before it is known that the run goes on.
        assert_eq!(written(), experiment());
        run.write_experiment(&changed).expect("written");
        assert_eq!(written(), changed);
    }

    #[test]
    fn foreign_files_are_not_touched() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("thesis.tex"), "precious").expect("written");
        let error = RunDir::open(dir.path(), &experiment()).expect_err("not a run");
        assert!(matches!(error, RunDirError::NotARun { .. }), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("dir");
        let _held = RunDir::open(dir.path(), &experiment()).expect("new");
        let error = RunDir::open(dir.path(), &experiment()).expect_err("held");
        assert!(matches!(error, RunDirError::InUse { .. }), "{error}");
    }

    #[test]
    fn the_latest_are_kept() {
        let dir = tempfile::tempdir().expect("dir");
        let run = RunDir::open(dir.path(), &experiment()).expect("new");
        assert!(run.latest().expect("readable").is_none());
        fs::create_dir_all(dir.path().join("checkpoints/step-9")).expect("not ours");
        for step in [9, 10, 11, 100] {
            run.save(&checkpoint(step, 2), &[]).expect("saved");
        }
        assert_eq!(run.steps().expect("readable"), [11, 100]);
        assert_eq!(run.latest().expect("readable").expect("some").checkpoint.step, 100);
    }

    #[test]
    fn the_best_are_kept_and_the_one_to_go_back_to() {
        let dir = tempfile::tempdir().expect("dir");
        let run = RunDir::open(dir.path(), &experiment()).expect("new");
        let mut best = [(FigureName::Exact, Best { step: 3, value: 0.5 })].into();
        for step in [3, 5, 7, 10, 11, 12] {
            let mut checkpoint = checkpoint(step, 1);
            checkpoint.progress.best = std::mem::take(&mut best);
            checkpoint.experiment.train.divergence = DivergencePolicy::RollBack { lr_factor: 0.5, limit: 1 };
            run.save(&checkpoint, &[]).expect("saved");
            best = checkpoint.progress.best;
        }
        assert_eq!(run.steps().expect("readable"), [3, 10, 12]);
        run.remove_after(10).expect("removed");
        assert_eq!(run.steps().expect("readable"), [3, 10]);
        run.save(&checkpoint(11, 1), &[3]).expect("saved");
        assert_eq!(run.steps().expect("readable"), [3, 11]);

        let unfinished = dir.path().join("checkpoints/step-0000000012.partial");
        fs::create_dir(&unfinished).expect("made");
        drop(run);
        drop(RunDir::open(dir.path(), &experiment()).expect("opened again"));
        assert!(!unfinished.exists());
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_passed_over() {
        let dir = tempfile::tempdir().expect("dir");
        let run = RunDir::open(dir.path(), &experiment()).expect("new");
        for step in [1, 2] {
            run.save(&checkpoint(step, 2), &[]).expect("saved");
        }
        let truncate = |step: u64| {
            let file = run.checkpoint_path(step).join("model.safetensors");
            let content = fs::read(&file).expect("weights");
            fs::write(&file, &content[..content.len() - 1]).expect("cut");
        };
        truncate(2);
        let latest = run.latest().expect("one is good").expect("some");
        assert_eq!(latest.checkpoint.step, 1);
        assert!(latest.skipped[0].to_string().contains("step-0000000002/model.safetensors is damaged"));
        truncate(1);
        let error = run.latest().expect_err("none is good");
        assert!(error.to_string().contains("remove that directory"), "{error}");
    }
}
