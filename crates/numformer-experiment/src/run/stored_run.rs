//! Using a run on disk.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{BatchSource, Example, Split, Task, read_text};
use numformer_distributed::{Communicator, Solo};
use numformer_encoding::DenseMatrix;
use numformer_evaluate::{
    Answerer, Answering, CustomMetrics, Evaluation, EvaluationTable, Examination, FigureName, Solved, solve_batch,
    solve_example, solve_in_every_way,
};
use numformer_model::{Model, Seq2Seq};
use numformer_ops::device::Accelerator;
use numformer_store::{CheckpointError, Latest, StoredModel, checkpoint_path, latest, steps};

use crate::catalogue::Catalogue;
use crate::config::{DataConfig, TEST};
use crate::data_files::{Amount, DataFile, DataFingerprints};
use crate::experiment::Experiment;
use crate::experiment_difference::is_part;
use crate::run::run_checkpoint::RunCheckpoint;
use crate::run::run_dir::{EXPERIMENT, RunDirError};
use crate::run::run_error::RunError;
use crate::run::same_run::check_same_run;
use crate::run::training::{Place, models};

/// The model of a run, from its latest good checkpoint, for evaluation and for solving problems. The run may still be
/// training.
///
/// # Examples
/// ```
/// use numformer_data::Split;
/// use numformer_experiment::{Experiment, Run, StoredRun};
///
/// let dir = tempfile::tempdir()?;
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.steps = 2; // 1,500 for a model that has learned
/// Run::new(experiment)?.in_dir(dir.path().join("run"))?.run()?;
///
/// let run = StoredRun::load(&dir.path().join("run"))?;
/// println!("{}", run.solve(&"1 2 3; 4 5 6; 7 8 9".parse()?)?);
/// // Evaluates on other matrices than the model was trained on, written with the tokens that it knows.
/// let gaussian = run.with_settings(&["matrices.law=gaussian"])?;
/// println!("{}", gaussian.evaluate(Split::Test, 10)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StoredRun {
    experiment: Experiment,
    step: u64,
    task: Arc<Task>,
    model: Model,
    /// The same model as it writes answers.
    answering_model: Model,
    /// The device that holds it.
    device: Device,
    /// The longest sequence that the model reads or writes, if there is a limit.
    max_positions: Option<usize>,
    answering: Answering,
    catalogue: Catalogue,
    metrics: CustomMetrics,
    /// Fingerprints of the run's own files of examples.
    data: DataFingerprints,
    passed_over: Vec<CheckpointError>,
    /// The processes that evaluations are divided among.
    ranks: Arc<dyn Communicator>,
}

/// The keys of an experiment that determine what a trained model is judged on.
const JUDGED_ON: &[&str] = &[
    "problem",
    "matrices",
    "data.noise",
    "data.validation",
    "data.test",
    "evaluate.seed",
    "evaluate.set",
    "evaluate.metric",
];

impl StoredRun {
    /// Reads the run in a directory. The names in its experiment are looked up in the standard catalogue.
    ///
    /// # Errors
    /// When the directory holds no run, or the run has no good checkpoint.
    pub fn load(dir: &Path) -> Result<Self, RunError> {
        Self::with_catalogue(dir, &Catalogue::standard())
    }

    /// Like [`StoredRun::load`], but looks names up in `catalogue`.
    ///
    /// # Errors
    /// As [`StoredRun::load`].
    pub fn with_catalogue(dir: &Path, catalogue: &Catalogue) -> Result<Self, RunError> {
        Self::load_at(dir, Moment::Latest, catalogue)
    }

    /// Like [`StoredRun::with_catalogue`], but at another moment of the run.
    ///
    /// # Errors
    /// When [`StoredRun::load`] fails, or there is no checkpoint of that moment.
    pub fn load_at(dir: &Path, moment: Moment, catalogue: &Catalogue) -> Result<Self, RunError> {
        Self::load_in(dir, moment, catalogue, &Place::Cpu)
    }

    /// Like [`StoredRun::load_at`], with the model on a device: the CPU, or a GPU that
    /// [`cuda`](numformer_ops::device::cuda) opens.
    ///
    /// # Errors
    /// As [`StoredRun::load_at`], and when the device does not have enough memory.
    pub fn load_on(dir: &Path, moment: Moment, catalogue: &Catalogue, device: &Device) -> Result<Self, RunError> {
        match device {
            Device::Cpu => Self::load_at(dir, moment, catalogue),
            device => {
                let place = Place::Device { device, open: &|| Accelerator::new(device) };
                Self::load_in(dir, moment, catalogue, &place)
            }
        }
    }

    fn load_in(dir: &Path, moment: Moment, catalogue: &Catalogue, place: &Place<'_>) -> Result<Self, RunError> {
        let file = dir.join(EXPERIMENT);
        if !file.is_file() {
            return Err(RunDirError::NoRun { path: dir.to_owned() }.into());
        }
        let toml = read_text(&file).map_err(|source| RunDirError::Io { path: file.clone(), source })?;
        let experiment = Experiment::from_toml(&toml, &file.display().to_string(), catalogue)?;
        let task = Arc::new(experiment.task(catalogue)?);
        let Latest { checkpoint, skipped: passed_over } = checkpoint_at(dir, moment)?;
        let (step, data) = (checkpoint.snapshot.step, checkpoint.description.data);
        if checkpoint.description.vocabulary != *task.vocabulary() {
            return Err(RunError::OtherModel { step });
        }
        let mut stored = StoredModel::from(checkpoint);
        stored.config = catalogue.model(stored.config)?;
        let parameters = stored.parameters(place.device())?;
        let (model, answering_model) = models(&stored.config, &parameters, experiment.train.precision, place)?;
        let max_positions = model.max_positions();
        let answering = Answering::default();
        let metrics = catalogue.metrics(&experiment.evaluate.metric, &task)?;
        let catalogue = catalogue.clone();
        Ok(Self {
            experiment,
            step,
            task,
            model,
            answering_model,
            device: place.device().clone(),
            max_positions,
            answering,
            catalogue,
            metrics,
            data,
            passed_over,
            ranks: Arc::new(Solo),
        })
    }

    /// Divides evaluations among processes, all of which must have loaded the same checkpoint. Their figures are those of
    /// one process to the last bit. From here on, every method that evaluates is a collective call.
    ///
    /// # Errors
    /// When the processes differ in version, experiment or checkpoint, or do not answer.
    pub fn across(self, ranks: Arc<dyn Communicator>) -> Result<Self, RunError> {
        check_same_run(&self.experiment, ("checkpoint", format!("step {}", self.step)), &ranks)?;
        Ok(Self { ranks, ..self })
    }

    /// The same model on other examples, with some values of the experiment [set](Experiment::with_settings), as in
    /// `matrices.law=laplace`. The examples are written with the vocabulary of the run. Matrices with numbers that the
    /// vocabulary has no tokens for are drawn again; [`Evaluation::rejected`] counts them.
    ///
    /// A file of examples, as in `data.test=other.tsv`, replaces the run's file. Other settings determine which
    /// matrices are drawn, so the run's files, which hold other matrices, are not used.
    ///
    /// # Errors
    /// When a setting is impossible or has no effect on what is judged, or the model cannot read or write matrices of
    /// that size.
    pub fn with_settings(mut self, settings: &[impl AsRef<str>]) -> Result<Self, RunError> {
        let keys = settings.iter().map(|setting| Experiment::keys_of_setting(setting.as_ref()));
        let keys = keys.collect::<Result<Vec<_>, _>>()?.concat();
        if let Some(key) = keys.iter().find(|key| !JUDGED_ON.iter().any(|known| is_part(key, known))) {
            return Err(RunError::WithoutEffect { key: key.clone(), known: JUDGED_ON });
        }
        let mut experiment = self.experiment.with_settings(settings)?;
        let draws =
            |key: &String| ["problem", "matrices", "data.noise", "evaluate.seed"].iter().any(|of| is_part(key, of));
        let draws = keys.iter().any(draws);
        let DataConfig { validation, test, .. } = &mut experiment.data;
        let files =
            [(Split::Validation, validation, &mut self.data.validation), (Split::Test, test, &mut self.data.test)];
        for (split, file, noted) in files {
            if keys.iter().any(|key| is_part(key, DataConfig::key(split))) {
                *noted = None;
            } else if draws {
                *file = None;
            }
        }
        let task = Arc::new(experiment.task_written_as(&self.catalogue, &self.task)?);
        if let Some(limit) = self.max_positions {
            let needed = task.max_len();
            if needed > limit {
                return Err(RunError::TooLong { limit, needed });
            }
        }
        let metrics = self.catalogue.metrics(&experiment.evaluate.metric, &task)?;
        Ok(Self { experiment, task, metrics, ..self })
    }

    /// Sets how answers are found, instead of by greedy decoding.
    #[must_use]
    pub fn with_answering(mut self, answering: Answering) -> Self {
        self.answering = answering;
        self
    }

    /// The experiment, with its settings applied.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The catalogue that resolves the names of the experiment.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Number of updates that the model has had.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Errors of the damaged checkpoints that are newer than the model's, newest first.
    #[must_use]
    pub fn passed_over(&self) -> &[CheckpointError] {
        &self.passed_over
    }

    /// What the model reads and writes.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Judges the model on the first examples of a split: from its file, if the experiment names one, or else generated
    /// by the experiment.
    ///
    /// # Errors
    /// When [`Examination::evaluate`] fails; when the file cannot be read, has changed since the checkpoint, or holds fewer
    /// examples.
    pub fn evaluate(&self, split: Split, amount: impl Into<Amount>) -> Result<Evaluation, RunError> {
        let (source, count) = self.examples(split, amount.into())?;
        let (model, metrics) = (&self.answering_model, self.metrics.clone());
        Ok(self.examination(&*source, count, metrics).evaluate(model, &self.task)?)
    }

    /// The examples of a split in order, and how many of them are requested.
    fn examples(&self, split: Split, amount: Amount) -> Result<(Box<dyn BatchSource>, u64), RunError> {
        match DataFile::read(&self.experiment.data, split, &self.task)? {
            Some(file) => {
                file.check(self.data.of(split), self.step)?;
                Ok((file.in_order(BATCH), file.count(amount)?))
            }
            None => {
                let source = self.task.batches(self.experiment.evaluate.seed, split, BATCH);
                Ok((Box::new(source), amount.of_drawn()))
            }
        }
    }

    /// Judges the model on the first examples of its test split, named `test`, and of each test set of the experiment.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_sets(&self, amount: impl Into<Amount>) -> Result<EvaluationTable, RunError> {
        let amount = amount.into();
        let mut table = EvaluationTable::default();
        table.push(TEST, self.evaluate(Split::Test, amount)?);
        for set in &self.experiment.evaluate.set {
            table.push(&set.name, self.evaluate_on(&self.experiment.of_test_set(set), amount.of_drawn())?);
        }
        Ok(table)
    }

    /// Judges the model on matrices of each of these laws, `count` of each, written with the tokens that it knows. A
    /// law whose matrices do not suit the run's problem is left out, such as a law of rectangular matrices for a
    /// problem on symmetric ones. All laws are left out if problems of the run have their own matrices.
    ///
    /// # Errors
    /// As [`Examination::evaluate`].
    pub fn evaluate_laws(&self, laws: &[impl AsRef<str>], count: u64) -> Result<EvaluationTable, RunError> {
        let mut table = EvaluationTable::default();
        let has_one_law = self.experiment.problem.0.iter().all(|problem| problem.matrices.is_none());
        for law in laws.iter().map(AsRef::as_ref).filter(|_| has_one_law) {
            let Ok(experiment) = self.experiment.with_settings(&[format!("matrices.law={law}")]) else { continue };
            match self.evaluate_on(&experiment, count) {
                Ok(evaluation) => table.push(law, evaluation),
                // The law does not suit this problem.
                Err(RunError::Experiment(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(table)
    }

    /// Judges the model on the test examples that another experiment makes, written as its own.
    fn evaluate_on(&self, experiment: &Experiment, count: u64) -> Result<Evaluation, RunError> {
        let task = Arc::new(experiment.task_written_as(&self.catalogue, &self.task)?);
        if let Some(limit) = self.max_positions {
            let needed = task.max_len();
            if needed > limit {
                return Err(RunError::TooLong { limit, needed });
            }
        }
        let source = task.batches(experiment.evaluate.seed, Split::Test, BATCH);
        let metrics = self.catalogue.metrics(&experiment.evaluate.metric, &task)?;
        Ok(self.examination(&source, count, metrics).evaluate(&self.answering_model, &task)?)
    }

    /// How the model is judged on the first `count` examples of a source.
    fn examination<'a>(&'a self, source: &'a dyn BatchSource, count: u64, metrics: CustomMetrics) -> Examination<'a> {
        Examination::new(source, count, &self.device)
            .with_answering(self.answering)
            .with_metrics(metrics)
            .across(&*self.ranks)
    }

    /// The model's answer for a matrix, beside the exact one. The problem is the run's first.
    ///
    /// # Errors
    /// When the matrix has no answer, or it or its answer cannot be written, or is longer than the model can read.
    pub fn solve(&self, matrix: &DenseMatrix) -> Result<Solved, RunError> {
        Ok(solve_example(&self.answerer()?, &self.task, &self.posed(matrix)?, 0, &self.device)?)
    }

    /// All answers that the decoding finds for a matrix: those of a beam, best first, or the samples. No answer is
    /// selected by its residual.
    ///
    /// # Errors
    /// As [`StoredRun::solve`].
    pub fn solve_in_every_way(&self, matrix: &DenseMatrix) -> Result<Vec<Solved>, RunError> {
        Ok(solve_in_every_way(&self.answerer()?, &self.task, &self.posed(matrix)?, 0, &self.device)?)
    }

    /// The run's first problem, posed on a matrix.
    fn posed(&self, matrix: &DenseMatrix) -> Result<Example, RunError> {
        let example = self.task.example_of(0, matrix)?;
        let needed = example.src.len().max(example.tgt.len());
        match self.max_positions {
            Some(limit) if needed > limit => Err(RunError::TooLong { limit, needed }),
            _ => Ok(example),
        }
    }

    /// The model's answers to the first examples of a split: those that [`evaluate`](Self::evaluate) judges.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn solve_split(&self, split: Split, amount: impl Into<Amount>) -> Result<Vec<Solved>, RunError> {
        let (source, count) = self.examples(split, amount.into())?;
        let answerer = self.answerer()?;
        let mut all = Vec::new();
        for index in 0..count.div_ceil(BATCH as u64) {
            all.extend(solve_batch(&answerer, &self.task, &*source, index, &self.device)?);
        }
        all.truncate(count as usize);
        Ok(all)
    }

    fn answerer(&self) -> Result<Answerer<'_, Model>, RunError> {
        Ok(Answerer::new(&self.answering_model, &self.task, self.answering)?)
    }

    /// The model's answers for the first `count` examples of a split with this seed. The examples are drawn even if the
    /// split has a file.
    ///
    /// # Errors
    /// As [`StoredRun::solve`].
    pub fn solve_random(&self, seed: u64, split: Split, count: u64) -> Result<Vec<Solved>, RunError> {
        let answerer = self.answerer()?;
        let solved = (0..count).map(|index| {
            let example = self.task.example(seed, split, index)?;
            Ok(solve_example(&answerer, &self.task, &example, index, &self.device)?)
        });
        solved.collect()
    }
}

/// A choice of a checkpoint of a run: `latest`, a step, or the name of the figure by which it is the best, as in
/// `within_5%`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// The latest good checkpoint.
    #[default]
    Latest,
    /// The checkpoint after this many updates.
    Step(u64),
    /// The best checkpoint by this figure. The experiment must keep it.
    Best(FigureName),
}

impl FromStr for Moment {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "latest" => Self::Latest,
            _ => text.parse().map_or_else(|_| Self::Best(text.into()), Self::Step),
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Step(step) => step.fmt(f),
            Self::Best(figure) => figure.fmt(f),
        }
    }
}

/// The model in a checkpoint of the run in `dir`, as it is stored, with the number of updates that it has had and the
/// errors of the damaged checkpoints that were skipped, newest first.
///
/// # Errors
/// When the directory holds no run, or there is no good checkpoint of that moment.
pub fn stored_model(dir: &Path, moment: Moment) -> Result<(StoredModel, u64, Vec<CheckpointError>), RunError> {
    if !dir.join(EXPERIMENT).is_file() {
        return Err(RunDirError::NoRun { path: dir.to_owned() }.into());
    }
    let Latest { checkpoint, skipped } = checkpoint_at(dir, moment)?;
    let step = checkpoint.snapshot.step;
    Ok((StoredModel::from(checkpoint), step, skipped))
}

/// Number of examples made together. Figures do not depend on it.
const BATCH: usize = 256;

/// The checkpoint of a moment, and the damaged checkpoints that were skipped to find it.
fn checkpoint_at(dir: &Path, moment: Moment) -> Result<Latest<RunCheckpoint>, RunError> {
    let newest = || -> Result<_, RunDirError> {
        latest(dir, RunCheckpoint::load)?.ok_or_else(|| RunDirError::NoCheckpoint { path: dir.to_owned() })
    };
    let (step, skipped) = match moment {
        Moment::Latest => return Ok(newest()?),
        Moment::Step(step) => (step, Vec::new()),
        Moment::Best(figure) => {
            let Latest { checkpoint, skipped } = newest()?;
            let best = checkpoint.snapshot.progress.best.get(&figure);
            let kept = || checkpoint.snapshot.progress.best.keys().cloned().collect();
            let best = best.ok_or_else(|| RunDirError::NoBest { path: dir.to_owned(), kept: kept(), figure })?;
            (best.step, skipped)
        }
    };
    let path = checkpoint_path(dir, step);
    if !path.exists() {
        let there = steps(dir).map_err(|source| RunDirError::Io { path: dir.to_owned(), source })?;
        return Err(RunDirError::NoSuchCheckpoint { path: dir.to_owned(), step, there }.into());
    }
    Ok(Latest { checkpoint: RunCheckpoint::load(&path)?, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for text in ["latest", "1500", "exact", "within_0.5%", "within 3 units"] {
            assert_eq!(text.parse::<Moment>().expect("a moment").to_string(), text);
        }
    }
}
