//! The directory of one run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use numformer_data::read_text;
use numformer_evaluate::FigureName;
use numformer_store::files::{create_durably, write_atomically};
use numformer_store::{CheckpointError, Latest, RunStore, latest, steps};
use numformer_train::{Difference, EvaluationReport, METRICS, MetricsLog, Record, TensorBoard, read_up_to_damage};

use crate::config::experiment_error::ExperimentError;
use crate::curve::LearningCurve;
use crate::experiment::Experiment;
use crate::run::run_checkpoint::RunCheckpoint;

pub(crate) const EXPERIMENT: &str = "experiment.toml";

/// The directory of one run, held by one process at a time:
///
/// - `experiment.toml`: the experiment, defaults written out,
/// - `checkpoints/step-NNNNNNNNNN/`: the latest [`RunCheckpoint`]s,
/// - `metrics.jsonl`, `timings.jsonl`: see [`MetricsLog`](numformer_train::MetricsLog),
/// - `tensorboard/`: see [`TensorBoard`], if the experiment asks for it,
/// - `learning-curve.svg`: see [`LearningCurve`](crate::LearningCurve).
#[derive(Debug)]
pub struct RunDir {
    store: RunStore,
}

impl RunDir {
    /// File name of the figure of the learning curve.
    pub const LEARNING_CURVE: &str = "learning-curve.svg";

    /// Opens the directory of a run of `experiment`, or makes it.
    ///
    /// Values that the run does not depend on, such as its number of steps and what is logged, may differ from an
    /// earlier opening. The new values are written down; see [`Experiment::difference`].
    ///
    /// # Errors
    /// When the directory holds a run that depends on a value that differs, or holds something other than a run; when
    /// another process holds the directory, or it cannot be written.
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
        let run = Self { store: RunStore::open(&path)?.keeping(experiment.checkpoint.keep) };
        Self::check(&path, experiment)?;
        if !file.exists() {
            run.write_experiment(experiment)?;
        }
        Ok(run)
    }

    /// Checks that a run of `experiment` may continue in a directory, or begin there if it holds no run. Nothing is
    /// written.
    ///
    /// # Errors
    /// When the directory holds a run that depends on a value that differs, or that took more steps.
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

    /// Writes the experiment with which the run continues. If the file already holds it, nothing is written, so no disk
    /// space is needed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_experiment(&self, experiment: &Experiment) -> Result<(), RunDirError> {
        let (file, toml) = (self.path().join(EXPERIMENT), experiment.to_toml());
        if fs::read(&file).ok().as_deref() == Some(toml.as_bytes()) {
            return Ok(());
        }
        write_atomically(&file, toml.as_bytes())
            .map_err(|source| RunDirError::Io { path: self.path().to_owned(), source })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Its checkpoints.
    #[must_use]
    pub fn store(&self) -> &RunStore {
        &self.store
    }

    /// A log of the run, for [`Trainer::with_observer`](numformer_train::Trainer::with_observer): a line for every
    /// `every`-th step.
    #[must_use]
    pub fn metrics_log(&self, every: u64) -> MetricsLog {
        MetricsLog::in_dir(self.path(), every)
    }

    /// Event files of the run, in its folder `tensorboard`, with every `every`-th step.
    #[must_use]
    pub fn tensorboard(&self, every: u64) -> TensorBoard {
        TensorBoard::in_dir(&self.path().join("tensorboard"), every)
    }

    /// Draws the run's learning curve and returns its path.
    ///
    /// # Errors
    /// When the metrics cannot be read, or the figure cannot be written.
    pub fn write_learning_curve(&self) -> io::Result<PathBuf> {
        let path = self.path().join(Self::LEARNING_CURVE);
        LearningCurve::read(&self.path().join(METRICS))?.write_svg(&path)?;
        Ok(path)
    }

    /// The path of the checkpoint after `step` updates.
    #[must_use]
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.store.checkpoint_path(step)
    }

    /// The evaluations of the run so far, from its metrics log, up to where the log may be damaged. Empty if there is
    /// no log.
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

    /// The metrics log of the run so far, up to where it may be damaged. Empty if there is no log.
    pub(crate) fn records(&self) -> io::Result<Vec<Record>> {
        read_up_to_damage(&self.path().join(METRICS))
    }

    /// The latest checkpoint that can be read; `None` if no checkpoint was written yet.
    ///
    /// # Errors
    /// When there are checkpoints but all are damaged.
    pub fn latest(&self) -> Result<Option<Latest<RunCheckpoint>>, CheckpointError> {
        latest(self.path(), RunCheckpoint::load)
    }
}

/// Errors of using a directory for a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunDirError {
    /// The directory holds a run that cannot continue as requested.
    #[error(
        "cannot continue the run in {}: it depends on a key that differs: {difference}; start a new run in another \
         directory, from the weights of this one with --start-from RUN",
        path.display()
    )]
    OtherExperiment {
        /// The directory.
        path: PathBuf,
        /// Name of the experiment there.
        name: String,
        /// The first differing key that the run depends on.
        difference: Box<Difference>,
    },
    /// The directory holds something other than a run.
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
    /// The experiment there cannot be read.
    #[error("run directory {} holds an experiment that cannot be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: Box<ExperimentError>,
    },
    /// The run is longer than requested.
    #[error(
        "run directory {} holds a run of {taken} steps, but {asked} were requested; request more, or use \
         another directory",
        path.display()
    )]
    StepsTaken {
        /// The directory.
        path: PathBuf,
        /// Steps taken.
        taken: u64,
        /// Requested number of steps.
        asked: u64,
    },
    /// Its checkpoints cannot be read or written, or another process holds the directory.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Nothing was saved yet.
    #[error("expected a checkpoint in {}, found none: the run has not saved any yet", path.display())]
    NoCheckpoint {
        /// The directory of the run.
        path: PathBuf,
    },
    /// There is no checkpoint of this step.
    #[error("no checkpoint after step {step} in {}; found those after steps {there:?}", path.display())]
    NoSuchCheckpoint {
        /// The directory of the run.
        path: PathBuf,
        /// Requested step.
        step: u64,
        /// Steps of the existing checkpoints.
        there: Vec<u64>,
    },
    /// The run does not keep its best checkpoint by this figure.
    #[error(
        "run {} keeps no best checkpoint by {figure}: name it in checkpoint.best before the run; found {}",
        path.display(),
        if kept.is_empty() { "none".to_owned() } else { kept.iter().map(FigureName::to_string).collect::<Vec<_>>().join(", ") }
    )]
    NoBest {
        /// The directory of the run.
        path: PathBuf,
        /// The figure.
        figure: FigureName,
        /// The figures by which the run keeps its best checkpoints.
        kept: Vec<FigureName>,
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
    use super::*;
    use numformer_store::Checkpoint;

    fn experiment() -> Experiment {
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        (experiment.train.steps, experiment.train.lr) = (1500, 1e-3);
        experiment
    }

    #[test]
    fn a_run_can_be_opened_again_and_made_longer() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/run");
        drop(RunDir::open(&path, &experiment()).expect("new"));
        let mut longer = experiment();
        longer.train.steps *= 2;
        let run = RunDir::open(&path, &longer).expect("the same experiment");
        let step = longer.train.steps;
        run.store().write(&Checkpoint { step, ..Checkpoint::default() }).expect("saved");
        drop(run);
        let error = RunDir::open(&path, &experiment()).expect_err("shorter than it is").to_string();
        assert!(error.contains("3000 steps, but 1500 were requested"), "{error}");
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
        // Written only once it is known that the run continues.
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
}
