//! An experiment as it is run.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{BatchSource, Order, Split, Task};
use numformer_model::{DeviceStep, Model, ModelConfig, Parameters, Precision};
use numformer_ops::device::Accelerator;

use crate::catalogue::Catalogue;
use crate::config::TrainConfig;
use crate::data_files::DataFiles;
use crate::experiment::Experiment;
use crate::run_checkpoint::{RunCheckpoint, RunCheckpoints, RunDescription};
use crate::run_dir::{EXPERIMENT, RunDir};
use crate::run_error::RunError;
use crate::warm_start::{Beginner, TakenOver, load};
use numformer_evaluate::Evaluation;
use numformer_evaluate::Evaluator;
use numformer_evaluate::evaluate;
use numformer_evaluate::{Solved, solve};
use numformer_store::Latest;
use numformer_store::{CheckpointError, NamedTensors};
use numformer_train::AdamConfig;
use numformer_train::DeviceLearner;
use numformer_train::HostLearner;
use numformer_train::LatestSnapshot;
use numformer_train::Learner;
use numformer_train::Observer;
use numformer_train::OptimizerConfig;
use numformer_train::PastEvaluation;
use numformer_train::RunReport;
use numformer_train::Stage;
use numformer_train::Trainer;
use numformer_train::WarmUp;
use numformer_train::every;
use numformer_train::training_step;
use numformer_train::{Gap, Record};

/// An experiment as it is run: a [`Trainer`] of all that the experiment says, its task, and the model for use.
///
/// In a [directory](Run::in_dir) it does what `numformer train` does: it goes on from the latest checkpoint, if any, and
/// keeps checkpoints, metrics and TensorBoard's event files as the experiment says.
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
    /// For use: records nothing for a backward pass. Its weights are those of the last time that they were shown.
    model: Model,
    /// The device it trains on, in words; none for the CPU.
    device_name: Option<String>,
    run_dir: Option<Arc<RunDir>>,
    /// The experiment as the checkpoint has it from which the run goes on.
    former: Option<Experiment>,
    /// Why the weights that the experiment starts from could not be taken over.
    not_begun: Option<RunError>,
    /// What they gave to this run.
    taken_over: Option<TakenOver>,
    /// Damaged checkpoints of the run that it starts from.
    passed_over: Vec<CheckpointError>,
}

impl Run {
    /// A run on the CPU with fresh weights, of an experiment whose names are those of the standard catalogue.
    ///
    /// # Errors
    /// When the experiment is impossible, or a file of examples cannot be read.
    pub fn new(experiment: Experiment) -> Result<Self, RunError> {
        Self::with_catalogue(experiment, &Catalogue::standard())
    }

    /// As [`Run::new`]; `catalogue` says what the experiment's names stand for.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn with_catalogue(experiment: Experiment, catalogue: &Catalogue) -> Result<Self, RunError> {
        experiment.validate(catalogue)?;
        let task = Arc::new(experiment.task(catalogue)?);
        let files = DataFiles::read(&experiment.data, &task)?;
        let config = experiment.model_config(&task)?;
        let parameters = Parameters::random(experiment.seed, &Device::Cpu);
        let learner = learner(&experiment.train, &config, &parameters)?;
        let model = Model::new(&config, &parameters.frozen())?;
        let trainer = trainer(&experiment, catalogue, learner, &task, &files, &model, &parameters)?;
        let mut run = Self {
            experiment,
            task,
            files,
            config,
            parameters,
            trainer,
            model,
            device_name: None,
            run_dir: None,
            former: None,
            not_begun: None,
            taken_over: None,
            passed_over: Vec::new(),
        };
        if run.experiment.start_from.is_some() {
            // The weights it starts from may change or go.
            run.trainer = run.trainer.saving_first();
            // A run that goes on from a checkpoint does not need them: only then is it known.
            run.not_begun = run.take_first_weights(catalogue).err();
        }
        Ok(run)
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
        self.trainer.set_weights(&weights)?;
        self.trainer.show_weights(&self.parameters)?;
        self.taken_over = Some(taken_over);
        self.passed_over = passed_over;
        Ok(())
    }

    /// What this run took over from the one that it starts from; none if there is none, or the run goes on from a
    /// checkpoint.
    #[must_use]
    pub fn taken_over(&self) -> Option<&TakenOver> {
        self.taken_over.as_ref()
    }

    /// Checks that the experiment has nothing that no device can do.
    ///
    /// # Errors
    /// When it has; the error names it.
    pub fn check_device(&self) -> Result<(), RunError> {
        self.adam_of_a_device().map(drop)
    }

    /// The optimizer of a device, if the experiment has nothing that none can do.
    fn adam_of_a_device(&self) -> Result<AdamConfig, RunError> {
        let missing = |what: &str| Err(RunError::NotOnDevice { what: what.to_owned() });
        let TrainConfig { accumulate, optimizer, label_smoothing, .. } = self.experiment.train;
        if accumulate > 1 {
            return missing("train.accumulate above 1");
        }
        if label_smoothing > 0.0 {
            return missing("label smoothing");
        }
        if let Some(what) = DeviceStep::missing(&self.config) {
            return missing(what);
        }
        match optimizer {
            OptimizerConfig::Adam(adam) => Ok(adam),
            OptimizerConfig::Sgd(_) => missing("optimizer but Adam"),
        }
    }

    /// Checks that the run computes in the precision that the experiment asks for: the CPU has `f32` alone.
    ///
    /// # Errors
    /// When it asks for another, and no device was given.
    pub fn check_precision(&self) -> Result<(), RunError> {
        match (self.experiment.train.precision, &self.device_name) {
            (Precision::Bf16, None) => Err(RunError::NotOnCpu),
            _ => Ok(()),
        }
    }

    /// What the device is that it trains on, in words; none for the CPU.
    #[must_use]
    pub fn device_name(&self) -> Option<&str> {
        self.device_name.as_deref()
    }

    /// Trains on a device from here on. Evaluations stay on the CPU.
    ///
    /// # Errors
    /// As [`check_device`](Self::check_device), or when the device has not enough memory.
    pub fn on_device(mut self, device: Accelerator) -> Result<Self, RunError> {
        let adam = self.adam_of_a_device()?;
        let name = device.name();
        let config =
            self.config.as_transformer().ok_or_else(|| RunError::NotOnDevice { what: "recurrent cells".to_owned() })?;
        let step = DeviceStep::new(config, &self.parameters, device, self.experiment.train.precision)?;
        self.trainer = self.trainer.with_learner(DeviceLearner::new(step, adam, &self.parameters)?)?;
        self.device_name = Some(name);
        Ok(self)
    }

    /// Checks that the run can begin, before a directory is made for it: that the weights it starts from, if any, are
    /// there and fit. A run that goes on from a checkpoint needs them no more.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit.
    pub fn check_start(&mut self) -> Result<(), RunError> {
        self.not_begun.take().map_or(Ok(()), Err)
    }

    /// Runs in the directory `path`, which is made if it is not there: goes on from its latest checkpoint, if any, saves
    /// checkpoints, and logs as the experiment says. What the run does not depend on may be other than before: see
    /// [`Experiment::difference`].
    ///
    /// # Errors
    /// When there are checkpoints and none is good, or the latest is of a run that depends on what differs; as
    /// [`Run::check_start`], if there are none; when another process runs in the directory, or it cannot be written.
    pub fn in_dir(mut self, path: impl Into<PathBuf>) -> Result<Self, RunError> {
        let path = path.into();
        if !path.join(EXPERIMENT).exists() {
            // A mistake leaves no directory behind.
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
                // Earlier versions knew of the evaluations from the log alone.
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

    /// Checks that the run can go on from a checkpoint.
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

    /// The damaged checkpoints that were passed over, also of a run that this one starts from.
    #[must_use]
    pub fn passed_over(&self) -> &[CheckpointError] {
        &self.passed_over
    }

    /// What is missing of the metrics log of a run that goes on, if it was lost or cut.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn gap(&self) -> io::Result<Option<Gap>> {
        let every = self.former_experiment().log.every;
        self.run_dir.as_ref().map_or(Ok(None), |run_dir| run_dir.metrics_log(every).gap(self.step()))
    }

    /// As [`Trainer::waiting_for_space`].
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

    /// The experiment up to the checkpoint from which the run goes on: as now, but where it goes on with other values.
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

    /// What trains it.
    #[must_use]
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// All weights, by name, each row-major.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        self.trainer.weights()
    }

    /// The same, cut into named tensors.
    #[must_use]
    pub fn named_weights(&self) -> NamedTensors {
        self.trainer.named_weights()
    }

    /// Updates taken so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.trainer.step()
    }

    /// The name of the stage that the run is in; none in the experiment proper.
    #[must_use]
    pub fn stage_name(&self) -> Option<&str> {
        self.trainer.stage_name()
    }

    /// The directory of the run, if it has one.
    #[must_use]
    pub fn run_dir(&self) -> Option<&RunDir> {
        self.run_dir.as_deref()
    }

    /// Trains up to the experiment's number of steps, or until an observer or the experiment's own rules end the run.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn run(&mut self) -> Result<RunReport, RunError> {
        self.run_until(self.experiment.train.steps)
    }

    /// As [`run`](Self::run), but pauses after so many steps in all, if there are more.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn run_until(&mut self, step: u64) -> Result<RunReport, RunError> {
        self.check_start()?;
        self.check_precision()?;
        let report = self.trainer.run_until(step)?;
        self.trainer.show_weights(&self.parameters)?;
        Ok(report)
    }

    /// Judges the model as trained so far on the first `count` examples of a split: all, if its file holds fewer.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&self, split: Split, count: u64) -> Result<Evaluation, RunError> {
        self.trainer.show_weights(&self.parameters)?;
        let (source, count) = examples(&self.experiment, &self.task, &self.files, split, EVALUATION_BATCH, count);
        Ok(evaluate(&self.model, &self.task, &*source, count, &Device::Cpu)?)
    }

    /// Solves the first `count` examples of a split, to be looked at: all, if its file holds fewer.
    ///
    /// # Errors
    /// When examples cannot be made, or the model cannot read them.
    pub fn solve(&self, split: Split, count: u64) -> Result<Vec<Solved>, RunError> {
        self.trainer.show_weights(&self.parameters)?;
        let (source, count) = examples(&self.experiment, &self.task, &self.files, split, 1, count);
        let solved = (0..count).map(|index| solve(&self.model, &self.task, &*source, index, &Device::Cpu));
        Ok(solved.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

impl Experiment {
    /// The trainer of a fresh run of this experiment on the CPU: of all that it says but for its directory and what it starts
    /// from, which are a [`Run`]'s.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn trainer(&self, catalogue: &Catalogue) -> Result<Trainer, RunError> {
        Ok(Run::with_catalogue(Self { start_from: None, ..self.clone() }, catalogue)?.trainer)
    }
}

/// What learns on the CPU, with fresh weights.
fn learner(train: &TrainConfig, config: &ModelConfig, parameters: &Parameters) -> candle_core::Result<HostLearner> {
    let (step, how) = training_step(config, parameters, train.gradients, train.label_smoothing)?;
    Ok(HostLearner::new(step, train.optimizer.build(), parameters)?.described_as(&how))
}

/// A trainer of all that an experiment says of training.
fn trainer(
    experiment: &Experiment,
    catalogue: &Catalogue,
    learner: impl Learner + 'static,
    task: &Arc<Task>,
    files: &DataFiles,
    model: &Model,
    parameters: &Parameters,
) -> Result<Trainer, RunError> {
    let Experiment { name, seed, train, evaluate, checkpoint, log, stop, data, .. } = experiment;
    let batches: Box<dyn BatchSource> = match files.of(Split::Train) {
        Some(file) => Box::new(file.dataset().batches(train.batch_size, Order::Shuffled(*seed))),
        None => Box::new(task.batches(*seed, Split::Train, train.batch_size).with_buckets(data.bucket_window)),
    };
    let evaluator = |task: &Arc<Task>, source: Box<dyn BatchSource>, count| {
        Evaluator::new(model.clone(), parameters, task, source, count)
    };
    let (validation, count) = examples(experiment, task, files, Split::Validation, EVALUATION_BATCH, evaluate.examples);
    let mut trainer = Trainer::new(learner, batches)
        .named(name)
        .with_steps(train.steps)
        .with_schedule(WarmUp::new(train.lr, train.warmup_steps).then(train.schedule))
        .with_seed(*seed)
        .with_accumulation(train.accumulate)
        .with_clip_norm(train.clip_norm)
        .with_weight_decay(train.weight_decay)
        .with_divergence(train.divergence)
        .taking_snapshots(every(checkpoint.every))
        .with_evaluation(every(evaluate.every), evaluator(task, validation, count)?)
        .reporting(every(log.every));
    for figure in &checkpoint.best {
        trainer = trainer.keeping_best(figure.clone());
    }
    if let Some(goal) = &stop.target {
        trainer = trainer.with_stop(goal.clone());
    }
    if let Some(patience) = &stop.patience {
        trainer = trainer.with_stop(patience.clone());
    }
    for (config, task) in experiment.stage.iter().zip(experiment.stage_tasks(catalogue, task)?) {
        let task = Arc::new(task);
        let batches = task.batches(*seed, Split::Train, train.batch_size).with_buckets(data.bucket_window);
        let validation = Box::new(task.batches(evaluate.seed, Split::Validation, EVALUATION_BATCH));
        let mut stage =
            Stage::new(&config.name, batches).with_evaluation(evaluator(&task, validation, evaluate.examples)?);
        if let Some(steps) = config.steps {
            stage = stage.with_steps(steps);
        }
        if let Some(goal) = &config.until {
            stage = stage.until(goal.clone());
        }
        trainer = trainer.with_stage(stage);
    }
    Ok(trainer)
}

/// The examples of a split to judge the model on, in order, and how many there are of `count`.
fn examples(
    experiment: &Experiment,
    task: &Arc<Task>,
    files: &DataFiles,
    split: Split,
    size: usize,
    count: u64,
) -> (Box<dyn BatchSource>, u64) {
    match files.of(split) {
        Some(file) => (file.in_order(size), count.min(file.len())),
        None => (Box::new(task.batches(experiment.evaluate.seed, split, size)), count),
    }
}

/// The evaluations of a run that goes on after `step`, as its metrics log has them: those alone that a run with this end
/// would have had from the beginning, and that were made on the examples on which it is judged now.
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

/// The keys that say on which examples a run is judged.
const VALIDATED_ON: [&str; 2] = ["evaluate.examples", "evaluate.seed"];

/// Examples made together; figures do not depend on it.
const EVALUATION_BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use numformer_model::{FlatLayout, Mode, TokenRows, TrainingStep};

    use super::*;
    use crate::config::CheckpointConfig;
    use numformer_train::Gradients;
    use numformer_train::TrainError;
    use numformer_train::{DivergencePolicy, DivergenceReport, Remedy};
    use numformer_train::{StepReport, StopReason};

    /// Gives no finite loss when it is asked for a step of these for the first time.
    struct Poisoned(Box<dyn TrainingStep>, Vec<u64>);

    impl TrainingStep for Poisoned {
        fn layout(&self) -> &FlatLayout {
            self.0.layout()
        }

        fn loss_and_gradients(
            &mut self,
            weights: &[f32],
            src: TokenRows<'_>,
            tgt: TokenRows<'_>,
            mode: Mode,
            gradients: &mut [f32],
        ) -> candle_core::Result<f64> {
            let loss = self.0.loss_and_gradients(weights, src, tgt, mode, gradients)?;
            let Mode::Train { step, .. } = mode else { return Ok(loss) };
            match self.1.iter().position(|poisoned| *poisoned == step) {
                None => Ok(loss),
                Some(place) => {
                    self.1.remove(place);
                    gradients[0] = f32::NAN;
                    Ok(f64::NAN)
                }
            }
        }
    }

    /// What a run says of its steps and of those it could not take.
    #[derive(Default)]
    struct Told(Vec<StepReport>, Vec<DivergenceReport>);

    impl Observer for Told {
        fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
            self.0.push(step.clone());
            ControlFlow::Continue(())
        }
        fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
            self.1.push(divergence.clone());
            ControlFlow::Continue(())
        }
    }

    /// Eight steps of a tiny model with a checkpoint every other one.
    fn tiny(divergence: DivergencePolicy) -> Experiment {
        let settings = [
            "matrices.rows=2",
            "matrices.cols=2",
            "model.encoder={d_model=16,n_heads=2,n_layers=1}",
            "model.decoder={d_model=16,n_heads=2,n_layers=1}",
            "train.batch_size=4",
            "train.steps=8",
            "train.warmup_steps=0",
        ];
        let preset = Experiment::preset("transpose-3x3").expect("embedded");
        let mut experiment = preset.with_settings(&settings).expect("settings");
        experiment.train.divergence = divergence;
        experiment.checkpoint = CheckpointConfig { every: 2, ..CheckpointConfig::default() };
        experiment.evaluate.examples = 1;
        experiment
    }

    /// Runs eight steps; step `i` of `poisoned`, from 0, diverges once.
    fn run(divergence: DivergencePolicy, poisoned: &[u64]) -> (Result<RunReport, RunError>, Run) {
        let mut run = Run::new(tiny(divergence)).expect("a run").with_observer(Told::default());
        let (plain, _) = training_step(&run.config, &run.parameters, Gradients::Auto, 0.0).expect("a step");
        let poisoned = Poisoned(plain, poisoned.to_vec());
        let learner =
            HostLearner::new(poisoned, OptimizerConfig::default().build(), &run.parameters).expect("a learner");
        run.trainer = run.trainer.with_learner(learner).expect("of the same weights");
        (run.run(), run)
    }

    fn told(run: &Run) -> &Told {
        run.trainer().observer().expect("it was given")
    }

    #[test]
    fn a_step_that_diverges_ends_the_run_unless_asked_otherwise() {
        let (ended, run) = run(DivergencePolicy::Stop, &[4]);
        let told = &told(&run).1;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].step, told[0].diverged, told[0].remedy), (4, 5, Remedy::Stopped));
        assert!(matches!(ended, Err(RunError::Train(TrainError::NotFinite { step: 5, .. }))), "{ended:?}");
        assert_eq!(run.step(), 4);
        assert!(run.weights().iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn steps_are_left_out_up_to_a_limit_in_a_row() {
        let (ended, trained) = run(DivergencePolicy::Skip { limit: 2 }, &[2, 3, 5]);
        assert_eq!(ended.expect("a run").step, 8);
        let progress = trained.trainer().progress();
        assert_eq!((progress.skipped, progress.skipped_in_a_row), (3, 0));
        assert_eq!(trained.trainer().learner().state().updates, 5);
        assert!(trained.weights().iter().all(|weight| weight.is_finite()));
        let told = told(&trained);
        let diverged = told.1.iter().map(|report| (report.step, report.diverged, report.remedy));
        assert_eq!(diverged.collect::<Vec<_>>(), [3, 4, 6].map(|step| (step, step, Remedy::Skipped)));
        assert_eq!(told.0.iter().map(|report| report.step).collect::<Vec<_>>(), [1, 2, 5, 7, 8]);

        let (ended, ..) = run(DivergencePolicy::Skip { limit: 1 }, &[2, 3, 5]);
        assert!(matches!(ended, Err(RunError::Train(TrainError::NotFinite { step: 4, .. }))), "{ended:?}");
    }

    #[test]
    fn a_run_goes_back_to_a_good_checkpoint_at_a_lower_rate() {
        // After four steps, when the checkpoint of the fourth is not yet known to be good.
        let policy = DivergencePolicy::RollBack { lr_factor: 0.25, limit: 1 };
        let (ended, trained) = run(policy, &[4]);
        assert_eq!(ended.expect("a run").step, 8);
        let told = told(&trained);
        let [report] = &told.1[..] else { panic!("{:?}", told.1) };
        assert_eq!((report.step, report.diverged, report.remedy), (2, 5, Remedy::RolledBack));
        let steps: Vec<u64> = told.0.iter().map(|report| report.step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 3, 4, 5, 6, 7, 8]);
        let bits = |x: f64| x.to_bits();
        assert_eq!(bits(told.0[4].lr), bits(0.25 * told.0[2].lr));
        assert_eq!(bits(told.0[4].loss), bits(told.0[2].loss));
        assert_eq!(trained.trainer().progress().roll_backs, 1);

        // Once it has given a finite loss, it is.
        let (_, trained) = run(policy, &[5]);
        assert_eq!(self::told(&trained).1[0].step, 4);
        let (ended, ..) = run(policy, &[1, 2]);
        assert!(matches!(ended, Err(RunError::Train(TrainError::NotFinite { step: 3, .. }))), "{ended:?}");
    }

    fn emulated() -> Accelerator {
        Accelerator::emulated().expect("a C++ compiler: install one, or set CXX")
    }

    #[test]
    fn a_device_learns_what_the_cpu_learns_and_reports_every_step() {
        let [on_cpu, on_device] =
            [(); 2].map(|()| Run::new(tiny(DivergencePolicy::Stop)).expect("a run").with_observer(Told::default()));
        let mut runs = [on_cpu, on_device.on_device(emulated()).expect("it has all that the experiment needs")];
        let how = runs[1].trainer().learner().how();
        assert!(how.starts_with("fused step in f32 on "), "{how}");
        for run in &mut runs {
            assert_eq!(run.run().expect("a run").step, 8);
        }
        let (on_cpu, on_device) = (&told(&runs[0]).0, &told(&runs[1]).0);
        assert_eq!(on_device.iter().map(|report| report.step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        for (expected, found) in on_cpu.iter().zip(on_device) {
            assert!((found.loss - expected.loss).abs() < 1e-5 * expected.loss, "{found:?} {expected:?}");
            assert_eq!(found.lr.to_bits(), expected.lr.to_bits());
        }
        let [expected, found] = &runs;
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(found.weights().iter().zip(expected.weights()).all(close));
        let moments = [found, expected].map(|run| run.trainer().learner().state().memory);
        for ((_, found), (_, expected)) in moments[0].iter().zip(&moments[1]) {
            assert!(found.iter().zip(*expected).all(close));
        }
    }

    #[test]
    fn a_run_on_a_device_that_is_resumed_ends_with_the_same_bits() {
        let run_in = |path: &std::path::Path, steps: u64| {
            let mut experiment = tiny(DivergencePolicy::Stop);
            experiment.train.steps = steps;
            experiment.train.precision = Precision::Bf16;
            let run = Run::new(experiment).expect("a run").on_device(emulated()).expect("a device");
            let mut run = run.in_dir(path).expect("a run");
            assert!(run.passed_over().is_empty());
            run.run().expect("all steps");
            run.weights().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>()
        };
        let (whole, halves) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let expected = run_in(&whole.path().join("run"), 6);
        let path = halves.path().join("run");
        run_in(&path, 3);
        assert!(run_in(&path, 6) == expected);
    }

    #[test]
    fn a_device_stays_before_a_step_that_is_not_finite() {
        let mut experiment = tiny(DivergencePolicy::Stop);
        experiment.train.lr = 1e30;
        let mut run = Run::new(experiment).expect("a run").on_device(emulated()).expect("a device");
        let ended = run.run();
        let Err(RunError::Train(TrainError::NotFinite { step, .. })) = ended else { panic!("{ended:?}") };
        assert_eq!(run.step(), step - 1);
        assert_eq!(run.trainer().learner().state().updates, step - 1);
    }

    #[test]
    fn what_is_for_the_cpu_alone_is_named() {
        let message = |change: &dyn Fn(&mut Experiment)| {
            let mut experiment = tiny(DivergencePolicy::Stop);
            change(&mut experiment);
            let run = Run::new(experiment).expect("a run").on_device(emulated());
            run.expect_err("not on a device").to_string()
        };
        let accumulate = message(&|experiment| experiment.train.accumulate = 2);
        assert_eq!(accumulate, "devices have no train.accumulate above 1: train on the CPU");
        assert!(message(&|experiment| experiment.train.label_smoothing = 0.1).contains("label smoothing"));

        let mut experiment = tiny(DivergencePolicy::Stop);
        experiment.train.precision = Precision::Bf16;
        let mut run = Run::new(experiment).expect("a run");
        let error = run.run().expect_err("the CPU has no bf16").to_string();
        assert!(error.contains("is for GPUs") && run.step() == 0, "{error}");
    }
}
