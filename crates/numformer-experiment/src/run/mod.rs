//! Running an experiment.

pub(crate) mod number_vectors;
pub(crate) mod run_checkpoint;
pub(crate) mod run_checkpoints;
pub(crate) mod run_dir;
pub(crate) mod run_error;
pub(crate) mod run_summary;
pub(crate) mod same_run;
pub(crate) mod stored_run;
pub(crate) mod symbol_meanings;
pub(crate) mod training;
pub(crate) mod warm_start;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{Split, Task};
use numformer_distributed::{Communicator, CommunicatorError, Solo};
use numformer_evaluate::{CustomMetrics, Evaluation, Examination, Solved, solve};
use numformer_model::{Model, ModelConfig, Parameters};
use numformer_ops::device::{Accelerator, DeviceSum};
use numformer_store::{CheckpointError, Latest, NamedTensors};
use numformer_train::{Gap, LatestSnapshot, Observer, PastEvaluation, Record, RunReport, Trainer, every};

use crate::catalogue::Catalogue;
use crate::config::architecture_config::NumberVectors;
use crate::data_files::DataFiles;
use crate::experiment::Experiment;
use crate::run::number_vectors::begin_with_values;
use crate::run::run_checkpoint::{RunCheckpoint, RunDescription};
use crate::run::run_checkpoints::RunCheckpoints;
use crate::run::run_dir::{EXPERIMENT, RunDir};
use crate::run::run_error::RunError;
use crate::run::same_run::{check_same_run, hash};
use crate::run::training::{EVALUATION_BATCH, Place, Together, examples, learner, models, trainer};
use crate::run::warm_start::{Beginner, TakenOver, load};

/// A run of an experiment: a [`Trainer`] with the experiment's settings, its task, and the model for use.
///
/// In a [directory](Run::in_dir) a run does the same as `numformer train`: it continues from the latest checkpoint, if
/// any, and writes the checkpoints, metrics and TensorBoard event files that the experiment asks for.
///
/// # Examples
/// ```
/// use numformer_data::Split;
/// use numformer_experiment::{Experiment, Run};
/// use numformer_train::StopReason;
///
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.steps = 2; // 1,500 for a model that has learned
/// let mut run = Run::new(experiment)?;
/// let report = run.run()?;
/// assert_eq!((report.stop, report.step), (StopReason::Completed, 2));
/// println!("{}", run.evaluate(Split::Test, 10)?);
/// # Ok::<(), numformer_experiment::RunError>(())
/// ```
#[derive(Debug)]
pub struct Run {
    experiment: Experiment,
    task: Arc<Task>,
    files: DataFiles,
    config: ModelConfig,
    parameters: Parameters,
    trainer: Trainer,
    metrics: CustomMetrics,
    /// The model for use, which records nothing for a backward pass. Its weights are as of the last time they were
    /// accessed.
    model: Model,
    /// The same model as it writes answers.
    answering_model: Model,
    /// A description of the device that the run trains on; `None` for the CPU.
    device_name: Option<String>,
    run_dir: Option<Arc<RunDir>>,
    /// The experiment in the checkpoint that the run continues from.
    former: Option<Experiment>,
    /// Why the weights that the experiment starts from could not be taken over.
    not_begun: Option<RunError>,
    /// What this run took over from those weights.
    taken_over: Option<TakenOver>,
    /// Damaged checkpoints of the run that this run starts from.
    passed_over: Vec<CheckpointError>,
    ranks: Arc<dyn Communicator>,
}

impl Run {
    /// Creates a run on the CPU with fresh weights. The names in the experiment are looked up in the standard
    /// catalogue.
    ///
    /// # Errors
    /// When the experiment is impossible, or a file of examples cannot be read.
    pub fn new(experiment: Experiment) -> Result<Self, RunError> {
        Self::with_catalogue(experiment, &Catalogue::standard())
    }

    /// Like [`Run::new`], but looks the experiment's names up in `catalogue`.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn with_catalogue(experiment: Experiment, catalogue: &Catalogue) -> Result<Self, RunError> {
        Self::at(experiment, catalogue, &Place::Cpu, Arc::new(Solo), None)
    }

    /// Like [`Run::with_catalogue`], but on a device: a GPU that [`cuda`](numformer_ops::device::cuda) opens, or the CPU.
    /// The model learns there, by the fused step if that has all that it needs and otherwise by automatic
    /// differentiation, and is judged there; observers are told which ([`Start::how`](numformer_train::Start)).
    ///
    /// # Errors
    /// As [`Run::new`], and when the device does not have enough memory.
    pub fn on_device(experiment: Experiment, catalogue: &Catalogue, device: &Device) -> Result<Self, RunError> {
        Self::across(experiment, catalogue, device, Arc::new(Solo))
    }

    /// Like [`Run::on_device`], but together with other processes, each on a device of its own. All must be made from the
    /// same experiment. They divide each batch and each evaluation: a run on several ranks takes the same steps as one on
    /// a single rank, up to the rounding of sums, and may go on with another number of them. Only rank 0 has a directory
    /// and writes; the others go on from its checkpoint. Every method that trains or judges is a collective call.
    ///
    /// # Errors
    /// As [`Run::on_device`]; when the processes differ in version, experiment or weights, do not answer, or are more
    /// than the examples of a batch.
    pub fn across(
        experiment: Experiment,
        catalogue: &Catalogue,
        device: &Device,
        ranks: Arc<dyn Communicator>,
    ) -> Result<Self, RunError> {
        Self::across_devices(experiment, catalogue, device, ranks, None)
    }

    /// Like [`Run::across`], with a way to add up vectors on the devices, as `Nccl` has one. Without one, they go by way
    /// of the host.
    ///
    /// # Errors
    /// As [`Run::across`].
    pub fn across_devices(
        experiment: Experiment,
        catalogue: &Catalogue,
        device: &Device,
        ranks: Arc<dyn Communicator>,
        sum: Option<Arc<dyn DeviceSum>>,
    ) -> Result<Self, RunError> {
        match device {
            Device::Cpu => Self::at(experiment, catalogue, &Place::Cpu, ranks, sum),
            device => {
                let place = Place::Device { device, open: &|| Accelerator::new(device) };
                Self::at(experiment, catalogue, &place, ranks, sum)
            }
        }
    }

    fn at(
        experiment: Experiment,
        catalogue: &Catalogue,
        place: &Place<'_>,
        ranks: Arc<dyn Communicator>,
        sum: Option<Arc<dyn DeviceSum>>,
    ) -> Result<Self, RunError> {
        let experiment = experiment.with_absolute_paths()?;
        experiment.validate(catalogue)?;
        let (size, batch_size) = (ranks.size(), experiment.train.batch_size);
        if size > batch_size.max(1) {
            return Err(RunError::TooManyRanks { ranks: size, batch_size });
        }
        let task = Arc::new(experiment.task(catalogue)?);
        let files = DataFiles::read(&experiment.data, &task)?;
        let data = hash(&format!("{:?}", files.fingerprints()));
        check_same_run(&experiment, ("files of examples", data), &ranks)?;
        let config = experiment.model_config(&task, catalogue)?;
        let parameters = Parameters::random(experiment.seed, place.device());
        let accelerator = place.accelerator()?;
        let device_name = accelerator.as_ref().map(Accelerator::name);
        let together = Together { ranks: &ranks, on_devices: sum.as_ref() };
        let learner = learner(&experiment.train, catalogue, &config, &parameters, accelerator, together)?;
        let (model, answering_model) = models(&config, &parameters, experiment.train.precision, place)?;
        let judged = (&answering_model, &parameters);
        let trainer = trainer(&experiment, catalogue, learner, &task, &files, judged, &ranks)?;
        let metrics = catalogue.metrics(&experiment.evaluate.metric, &task)?;
        let mut run = Self {
            experiment,
            task,
            files,
            config,
            parameters,
            trainer,
            metrics,
            model,
            answering_model,
            device_name,
            run_dir: None,
            former: None,
            not_begun: None,
            taken_over: None,
            passed_over: Vec::new(),
            ranks,
        };
        if run.experiment.model.number_vectors == NumberVectors::Values {
            run.begin_with_values(catalogue)?;
        }
        if run.experiment.start_from.is_some() {
            // The weights that the run starts from may change or disappear.
            run.trainer = run.trainer.saving_first();
            // A run that continues from a checkpoint does not need them, and whether it does is known only later.
            run.not_begun = run.take_first_weights(catalogue).err();
        }
        Ok(run)
    }

    /// Gives the tokens of numbers vectors of their values.
    fn begin_with_values(&mut self, catalogue: &Catalogue) -> Result<(), RunError> {
        let encodings = self.experiment.encoding.names();
        let mut weights = self.trainer.weights().to_vec();
        let layout = self.trainer.learner().layout();
        begin_with_values(layout, self.task.vocabulary(), &encodings, catalogue, &mut weights)?;
        self.begin_with(&weights)
    }

    /// Takes over the weights of the run or model that the experiment starts from, if any.
    fn take_first_weights(&mut self, catalogue: &Catalogue) -> Result<(), RunError> {
        let Some(path) = self.experiment.start_from.clone() else { return Ok(()) };
        let (stored, passed_over) = load(&path)?;
        let encodings = self.experiment.encoding.names();
        let (config, vocabulary) = (&self.config, self.task.vocabulary());
        let layout = self.trainer.learner().layout();
        let beginner = Beginner { config, layout, vocabulary, encodings: &encodings };
        let mut weights = self.trainer.weights().to_vec();
        let taken_over = beginner.take(&stored, catalogue, &mut weights);
        let taken_over = taken_over.map_err(|source| RunError::StartFrom { path, source: Box::new(source) })?;
        self.begin_with(&weights)?;
        self.taken_over = Some(taken_over);
        self.passed_over = passed_over;
        Ok(())
    }

    /// Begins with these weights instead of those that were drawn.
    fn begin_with(&mut self, weights: &[f32]) -> Result<(), RunError> {
        self.trainer.set_weights(weights)?;
        Ok(self.trainer.show_weights(&self.parameters)?)
    }

    /// What this run took over from the run that it starts from; `None` if it does not start from another run, or it
    /// continues from a checkpoint.
    #[must_use]
    pub fn taken_over(&self) -> Option<&TakenOver> {
        self.taken_over.as_ref()
    }

    /// A description of the device that the run trains on; `None` for the CPU.
    #[must_use]
    pub fn device_name(&self) -> Option<&str> {
        self.device_name.as_deref()
    }

    /// Checks, before a directory is made for the run, that the run can begin: the weights that it starts from, if any,
    /// must exist and fit. A run that continues from a checkpoint no longer needs them.
    ///
    /// # Errors
    /// When the weights cannot be read, or do not fit.
    pub fn check_start(&mut self) -> Result<(), RunError> {
        self.not_begun.take().map_or(Ok(()), Err)
    }

    /// Runs in the directory `path`, which is created if it does not exist. The run continues from the latest
    /// checkpoint there, if any, and saves checkpoints and logs as the experiment says. Values that the run does not
    /// depend on may differ from before: see [`Experiment::difference`].
    ///
    /// # Errors
    /// When there are checkpoints but none is good, or the latest belongs to a run that depends on a value that
    /// differs; when there are no checkpoints and [`Run::check_start`] fails; when another process runs in the
    /// directory, or the directory cannot be written.
    pub fn in_dir(self, path: impl Into<PathBuf>) -> Result<Self, RunError> {
        let ranks = Arc::clone(&self.ranks);
        if ranks.size() == 1 {
            return self.entering(path.into());
        }
        let entered = if ranks.rank() == 0 { self.entering(path.into()) } else { Ok(self) };
        // The others wait for the state of rank 0, or for the reason that there is none.
        let mut failure = entered.as_ref().err().map(ToString::to_string).unwrap_or_default().into_bytes();
        ranks.broadcast(&mut failure, 0)?;
        let mut run = entered?;
        if !failure.is_empty() {
            let message = String::from_utf8_lossy(&failure).into_owned();
            return Err(CommunicatorError::OtherRank { rank: 0, message }.into());
        }
        // What rank 0 begins with has been checked.
        run.not_begun = None;
        run.trainer = run.trainer.joining(&ranks)?;
        run.trainer.show_weights(&run.parameters)?;
        Ok(run)
    }

    fn entering(mut self, path: PathBuf) -> Result<Self, RunError> {
        if !path.join(EXPERIMENT).exists() {
            // Checking first means that a mistake leaves no directory behind.
            self.check_start()?;
        }
        let run_dir = Arc::new(RunDir::open(path, &self.experiment)?);
        let latest = run_dir.latest()?;
        let description = RunDescription {
            experiment: self.experiment.clone(),
            data: self.files.fingerprints(),
            config: self.config.clone(),
            vocabulary: self.task.vocabulary().clone(),
        };
        let checkpoints = RunCheckpoints { run_dir: Arc::clone(&run_dir), description };
        self.trainer = self.trainer.with_checkpoints(checkpoints, every(self.experiment.checkpoint.every));
        match latest {
            None => self.check_start()?,
            Some(Latest { checkpoint, skipped }) => {
                self.check(&checkpoint)?;
                (self.not_begun, self.taken_over) = (None, None);
                let RunCheckpoint { description, snapshot } = checkpoint;
                let former = description.experiment;
                let changes = former.changes(&self.experiment);
                // Earlier versions kept the evaluations only in the log.
                let logged = if snapshot.progress.history.is_empty() {
                    logged_history(&run_dir, &former, &self.experiment, snapshot.step).map_err(RunError::Metrics)?
                } else {
                    Vec::new()
                };
                self.trainer = self.trainer.going_on_from(LatestSnapshot { snapshot, passed_over: skipped })?;
                if !logged.is_empty() {
                    self.trainer = self.trainer.with_history(logged);
                }
                if changes.iter().any(|change| VALIDATED_ON.contains(&&*change.key)) {
                    self.trainer = self.trainer.with_history(Vec::new());
                }
                self.trainer = self.trainer.with_changes(changes);
                self.trainer.show_weights(&self.parameters)?;
                self.passed_over = self.trainer.take_passed_over();
                self.former = Some(former);
            }
        }
        run_dir.write_experiment(&self.experiment)?;
        let log = &self.experiment.log;
        self.trainer = self.trainer.with_observer(run_dir.metrics_log(log.every));
        if log.tensorboard {
            self.trainer = self.trainer.with_observer(run_dir.tensorboard(log.every));
        }
        self.run_dir = Some(run_dir);
        Ok(self)
    }

    /// Checks that the run can continue from a checkpoint.
    fn check(&self, checkpoint: &RunCheckpoint) -> Result<(), RunError> {
        let RunCheckpoint { description, snapshot } = checkpoint;
        let step = snapshot.step;
        if let Some(difference) = description.experiment.difference(&self.experiment) {
            return Err(RunError::OtherExperiment { step, difference: difference.into() });
        }
        if description.config != self.config || description.vocabulary != *self.task.vocabulary() {
            return Err(RunError::OtherModel { step });
        }
        Ok(self.files.check(&description.data, step)?)
    }

    /// The damaged checkpoints that were skipped, including those of a run that this one starts from.
    #[must_use]
    pub fn passed_over(&self) -> &[CheckpointError] {
        &self.passed_over
    }

    /// What is missing from the metrics log of a continued run, if the log was lost or truncated.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn gap(&self) -> io::Result<Option<Gap>> {
        let every = self.former_experiment().log.every;
        self.run_dir.as_ref().map_or(Ok(None), |run_dir| run_dir.metrics_log(every).gap(self.step()))
    }

    /// See [`Trainer::waiting_for_space`].
    #[must_use]
    pub fn waiting_for_space(mut self) -> Self {
        self.trainer = self.trainer.waiting_for_space();
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        self.trainer = self.trainer.with_observer(observer);
        self
    }

    /// The experiment.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The experiment up to the checkpoint that the run continues from. It differs from the current experiment only if
    /// the run continues with other values.
    #[must_use]
    pub fn former_experiment(&self) -> &Experiment {
        self.former.as_ref().unwrap_or(&self.experiment)
    }

    /// What the model reads and writes.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The model as trained so far.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The trainer of the model.
    #[must_use]
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// All weights, by name, each row-major.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        self.trainer.weights()
    }

    /// All weights, split into named tensors.
    #[must_use]
    pub fn named_weights(&self) -> NamedTensors {
        self.trainer.named_weights()
    }

    /// Updates taken so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.trainer.step()
    }

    /// The name of the current stage; `None` in the experiment proper.
    #[must_use]
    pub fn stage_name(&self) -> Option<&str> {
        self.trainer.stage_name()
    }

    /// The processes that the run is divided among.
    #[must_use]
    pub fn ranks(&self) -> &Arc<dyn Communicator> {
        &self.ranks
    }

    /// The directory of the run, if it has one: on rank 0 alone.
    #[must_use]
    pub fn run_dir(&self) -> Option<&RunDir> {
        self.run_dir.as_deref()
    }

    /// Trains up to the experiment's number of steps, or until an observer or the experiment's own rules end the run.
    ///
    /// # Errors
    /// When [`Trainer::run`] fails.
    pub fn run(&mut self) -> Result<RunReport, RunError> {
        self.run_until(self.experiment.train.steps)
    }

    /// Like [`run`](Self::run), but pauses after this total number of steps, if the experiment has more.
    ///
    /// # Errors
    /// When [`Trainer::run`] fails.
    pub fn run_until(&mut self, step: u64) -> Result<RunReport, RunError> {
        self.check_start()?;
        let report = self.trainer.run_until(step)?;
        self.trainer.show_weights(&self.parameters)?;
        Ok(report)
    }

    /// Judges the model as trained so far on the first `count` examples of a split, or on all if its file holds fewer.
    ///
    /// # Errors
    /// When [`Examination::evaluate`] fails.
    pub fn evaluate(&self, split: Split, count: u64) -> Result<Evaluation, RunError> {
        self.trainer.show_weights(&self.parameters)?;
        let (source, count) = examples(&self.experiment, &self.task, &self.files, split, EVALUATION_BATCH, count);
        let examination = Examination::new(&*source, count, self.parameters.device())
            .with_metrics(self.metrics.clone())
            .across(&*self.ranks);
        Ok(examination.evaluate(&self.answering_model, &self.task)?)
    }

    /// Solves the first `count` examples of a split for inspection, or all if its file holds fewer.
    ///
    /// # Errors
    /// When examples cannot be made, or the model cannot read them.
    pub fn solve(&self, split: Split, count: u64) -> Result<Vec<Solved>, RunError> {
        self.trainer.show_weights(&self.parameters)?;
        let (source, count) = examples(&self.experiment, &self.task, &self.files, split, 1, count);
        let (model, device) = (&self.answering_model, self.parameters.device());
        let solved = (0..count).map(|index| solve(model, &self.task, &*source, index, device));
        Ok(solved.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

impl Experiment {
    /// The trainer of a fresh run of this experiment on the CPU. It covers all settings except the directory and the
    /// weights to start from, which a [`Run`] handles.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn trainer(&self, catalogue: &Catalogue) -> Result<Trainer, RunError> {
        Ok(Run::with_catalogue(Self { start_from: None, ..self.clone() }, catalogue)?.trainer)
    }
}

/// The evaluations, from its metrics log, of a run that continues after `step`. Only evaluations are included that a
/// run with this end would have had from the beginning, and that used the examples on which the run is judged now.
fn logged_history(
    run_dir: &RunDir,
    former: &Experiment,
    experiment: &Experiment,
    step: u64,
) -> io::Result<Vec<PastEvaluation>> {
    let is_due = |report_step: u64| {
        report_step < step || [former, experiment].iter().any(|e| every(e.evaluate.every).is_due(report_step))
    };
    let mut history = Vec::new();
    for record in run_dir.records()?.into_iter().filter(|record| record.step() <= step) {
        match record {
            Record::Evaluation(report) if report.stage.is_none() && is_due(report.step) => {
                history.push(PastEvaluation::from(&report));
            }
            Record::Change(report) if report.changes.iter().any(|change| VALIDATED_ON.contains(&&*change.key)) => {
                history.clear();
            }
            _ => {}
        }
    }
    Ok(history)
}

/// The keys that determine which examples a run is judged on.
const VALIDATED_ON: [&str; 2] = ["evaluate.examples", "evaluate.seed"];

#[cfg(test)]
mod tests;
