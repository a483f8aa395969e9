//! The training loop.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Order, Split, Task, TaskError, prefetch};
use numformer_model::{DeviceSchedule, Model, ModelConfig, Parameters, Precision, StepOutcome};
use numformer_ops::device::Accelerator;

use crate::adam::{Adam, AdamConfig};
use crate::answering::Answering;
use crate::catalogue::Catalogue;
use crate::checkpoint::{Best, Checkpoint, CheckpointError, NamedTensors, RunProgress};
use crate::config::{StageConfig, TrainConfig};
use crate::data_files::{DataFileError, DataFiles};
use crate::difference::Difference;
use crate::divergence::{DivergencePolicy, DivergenceReport, Remedy};
use crate::evaluation::{evaluate, evaluate_watched};
use crate::experiment::{Experiment, ExperimentError};
use crate::figures::Evaluation;
use crate::gradients::training_step;
use crate::layout::{LayoutError, flat, named};
use crate::learner::{DeviceLearner, HostLearner, Learner, PlannedStep};
use crate::metrics_log::Record;
use crate::observer::{EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
use crate::optimizer::{Optimizer, OptimizerConfig, Update};
use crate::run_dir::{RunDir, RunDirError};
use crate::schedule::{Schedule, WarmUp};
use crate::solved::{Solved, solve};
use crate::syntax::did_you_mean;
use crate::warm_start::{Beginner, StartError, TakenOver, load};

/// Trains the model of an experiment.
///
/// # Examples
/// ```
/// use numformer_data::Split;
/// use numformer_train::{Experiment, StopReason, Trainer};
///
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.steps = 2; // 1,500 for a model that has learned
/// let mut trainer = Trainer::new(experiment)?;
/// let report = trainer.run()?;
/// assert_eq!((report.stop, report.step), (StopReason::Completed, 2));
/// println!("{}", trainer.evaluate(Split::Test, 10)?);
/// # Ok::<(), numformer_train::TrainError>(())
/// ```
pub struct Trainer {
    experiment: Experiment,
    task: Arc<Task>,
    files: DataFiles,
    config: ModelConfig,
    device: Device,
    parameters: Parameters,
    learner: Box<dyn Learner>,
    /// How gradients are computed, in words.
    computed: String,
    /// The device it trains on, in words; none for the CPU.
    device_name: Option<String>,
    /// The tasks of the stages before the experiment proper.
    stages: Vec<Arc<Task>>,
    /// For use: records nothing for a backward pass. Its weights are those of the last [`Trainer::show_weights`].
    model: Model,
    step: u64,
    progress: RunProgress,
    /// Where the run goes back to if it diverges, and is to: its last regular checkpoint before the present step, whose
    /// weights have given a finite loss.
    way_back: Option<Checkpoint>,
    /// The regular checkpoint at the present step, which has yet to show that it is good.
    next_way_back: Option<Checkpoint>,
    run_dir: Option<RunDir>,
    /// The experiment as the checkpoint has it from which the run goes on, until it does.
    former: Option<Experiment>,
    waits_for_space: bool,
    observers: Vec<Box<dyn Observer>>,
    /// Why the weights that the experiment starts from could not be taken over.
    not_begun: Option<TrainError>,
    /// What they gave to this run.
    taken_over: Option<TakenOver>,
    /// Damaged checkpoints of the run that it starts from.
    passed_over: Vec<CheckpointError>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// Why it ended.
    pub stop: StopReason,
    /// Updates taken in all.
    pub step: u64,
    /// The checkpoint written at the end; none without a directory, or when there was nothing left to do.
    pub checkpoint: Option<PathBuf>,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { experiment, step, run_dir, .. } = self;
        f.debug_struct("Trainer")
            .field("experiment", experiment)
            .field("step", step)
            .field("run_dir", run_dir)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A trainer on the CPU with fresh weights, for an experiment whose names are those of the standard catalogue.
    ///
    /// # Errors
    /// When the experiment is impossible, or a file of examples cannot be read.
    pub fn new(experiment: Experiment) -> Result<Self, TrainError> {
        Self::with_catalogue(experiment, &Catalogue::standard())
    }

    /// As [`Trainer::new`]; `catalogue` says what the experiment's names stand for.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_catalogue(experiment: Experiment, catalogue: &Catalogue) -> Result<Self, TrainError> {
        experiment.validate(catalogue)?;
        let device = Device::Cpu;
        let parameters = Parameters::random(experiment.seed, &device);
        let task = Arc::new(experiment.task(catalogue)?);
        let files = DataFiles::read(&experiment.data, &task)?;
        let stages = experiment.stage_tasks(catalogue, &task)?.into_iter().map(Arc::new).collect();
        let config = experiment.model_config(&task)?;
        let (training_step, computed) =
            training_step(&config, &parameters, experiment.train.gradients, experiment.train.label_smoothing)?;
        let model = Model::new(&config, &parameters.frozen())?;
        let mut weights = vec![0.0; training_step.layout().len()];
        training_step.layout().read(&parameters, &mut weights)?;
        let optimizer = experiment.train.optimizer.build(weights.len());
        let learner = Box::new(HostLearner::new(training_step, weights, optimizer));
        let mut trainer = Self {
            experiment,
            task,
            stages,
            files,
            config,
            device,
            parameters,
            learner,
            computed,
            device_name: None,
            model,
            step: 0,
            progress: RunProgress::default(),
            way_back: None,
            next_way_back: None,
            run_dir: None,
            former: None,
            waits_for_space: false,
            observers: Vec::new(),
            not_begun: None,
            taken_over: None,
            passed_over: Vec::new(),
        };
        // A run that goes on from a checkpoint does not need them: only then is it known.
        trainer.not_begun = trainer.take_first_weights(catalogue).err();
        if trainer.goes_back() {
            trainer.way_back = Some(trainer.checkpoint());
        }
        Ok(trainer)
    }

    /// Takes over the weights of the run or model that the experiment starts from, if any.
    fn take_first_weights(&mut self, catalogue: &Catalogue) -> Result<(), TrainError> {
        let Some(path) = self.experiment.start_from.clone() else { return Ok(()) };
        let (stored, passed_over) = load(&path)?;
        let layout = self.learner.layout().clone();
        let encodings = self.experiment.encoding.names();
        let (config, vocabulary) = (&self.config, self.task.vocabulary());
        let beginner = Beginner { config, layout: &layout, vocabulary, encodings: &encodings };
        let mut weights = self.learner.weights().to_vec();
        let taken_over = beginner.take(&stored, catalogue, &mut weights);
        let taken_over = taken_over.map_err(|source| TrainError::StartFrom { path, source: Box::new(source) })?;
        self.learner.set(&mut |own, _| own.copy_from_slice(&weights))?;
        self.show_weights()?;
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
    pub fn check_device(&self) -> Result<(), TrainError> {
        self.adam_of_a_device().map(drop)
    }

    /// The optimizer of a device, if the experiment has nothing that none can do.
    fn adam_of_a_device(&self) -> Result<AdamConfig, TrainError> {
        let missing = |what: &str| Err(TrainError::NotOnDevice { what: what.to_owned() });
        let TrainConfig { accumulate, optimizer, label_smoothing, .. } = self.experiment.train;
        if accumulate > 1 {
            return missing("train.accumulate above 1");
        }
        if label_smoothing > 0.0 {
            return missing("label smoothing");
        }
        if let Some(what) = DeviceSchedule::missing(&self.config) {
            return missing(what);
        }
        match optimizer {
            OptimizerConfig::Adam(adam) => Ok(adam),
            OptimizerConfig::Sgd(_) => missing("optimizer but Adam"),
        }
    }

    /// Checks that the trainer computes in the precision that the experiment asks for: the CPU has `f32` alone.
    ///
    /// # Errors
    /// When it asks for another, and no device was given.
    pub fn check_precision(&self) -> Result<(), TrainError> {
        match (self.experiment.train.precision, &self.device_name) {
            (Precision::Bf16, None) => Err(TrainError::NotOnCpu),
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
    pub fn on_device(mut self, device: Accelerator) -> Result<Self, TrainError> {
        let adam = self.adam_of_a_device()?;
        let precision = self.experiment.train.precision;
        let name = device.name();
        let schedule = DeviceSchedule::new(&self.config, &self.parameters, device, precision)?;
        let weights = self.learner.weights().to_vec();
        let mut adam = Adam::new(adam, weights.len());
        adam.set_updates(self.learner.optimizer().updates());
        for ((_, to), (_, from)) in adam.state_mut().into_iter().zip(self.learner.optimizer().state()) {
            to.copy_from_slice(from);
        }
        self.learner = Box::new(DeviceLearner::new(schedule, weights, adam)?);
        let precision = match precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        self.computed = format!("explicit schedule in {precision} on {name}");
        self.device_name = Some(name);
        Ok(self)
    }

    /// Checks that the run can begin, before a directory is made for it: that the weights it starts from, if any, are
    /// there and fit. A run that goes on from a checkpoint needs them no more.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit.
    pub fn check_start(&mut self) -> Result<(), TrainError> {
        self.not_begun.take().map_or(Ok(()), Err)
    }

    /// Saves checkpoints to `run_dir`, and goes on from its latest one, if any. What the run does not depend on may be other
    /// than before: see [`Experiment::difference`]. The damaged checkpoints that were
    /// passed over, also of a run that this one starts from, are returned beside the trainer.
    ///
    /// # Errors
    /// When there are checkpoints and none is good, or the latest is of a run that depends on what differs; as
    /// [`Trainer::check_start`], if there are none.
    pub fn in_dir(mut self, run_dir: RunDir) -> Result<(Self, Vec<CheckpointError>), TrainError> {
        let mut skipped;
        if let Some(latest) = run_dir.latest()? {
            skipped = latest.skipped;
            (self.not_begun, self.taken_over) = (None, None);
            self.restore(&latest.checkpoint)?;
            let every = self.experiment.checkpoint.every;
            if self.goes_back() {
                let way_back = way_back(self.step, every);
                let path = run_dir.checkpoint_path(way_back);
                if path.exists() {
                    match Checkpoint::load(&path) {
                        Ok(checkpoint) => self.way_back = Some(checkpoint),
                        Err(error) => skipped.push(error),
                    }
                }
                let is_regular = self.step.is_multiple_of(every);
                self.next_way_back = is_regular.then(|| latest.checkpoint.clone());
            }
            // A run that was killed after it had saved may have left one too many; and fewer may be asked for now.
            run_dir.remove_oldest(self.step, &self.experiment, &self.progress, &self.kept_by_ways_back())?;
            self.former = Some(latest.checkpoint.experiment);
        } else {
            self.check_start()?;
            skipped = std::mem::take(&mut self.passed_over);
        }
        run_dir.write_experiment(&self.experiment)?;
        self.run_dir = Some(run_dir);
        Ok((self, skipped))
    }

    /// Waits while there is no room to save, instead of ending with an error. Observers are told again and again, and may
    /// end the run ([`Observer::on_full_disk`]).
    #[must_use]
    pub fn waiting_for_space(self) -> Self {
        Self { waits_for_space: true, ..self }
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// The experiment.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// What the model reads and writes.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The model as trained so far.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// All weights, by name, each row-major.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        self.learner.weights()
    }

    /// The same, cut into named tensors.
    #[must_use]
    pub fn named_weights(&self) -> NamedTensors {
        named(self.learner.layout(), "", self.learner.weights())
    }

    /// Updates taken so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The experiment up to the checkpoint from which the run goes on: as now, but where it goes on with other values.
    #[must_use]
    pub fn former_experiment(&self) -> &Experiment {
        self.former.as_ref().unwrap_or(&self.experiment)
    }

    /// The evaluations of a run that goes on, up to where it does, as its metrics log has them; those alone that were
    /// made on the examples on which it is judged now. None without a directory or a log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn past_evaluations(&self) -> io::Result<Vec<EvaluationReport>> {
        let Some(run_dir) = &self.run_dir else { return Ok(Vec::new()) };
        let start = self.start(self.former_experiment());
        let mut evaluations = Vec::new();
        for record in run_dir.records()?.into_iter().filter(|record| record.step() <= self.step) {
            match record {
                Record::Evaluation(report) if start.counts(report.step) => evaluations.push(report),
                Record::Change(report) if report.changes.iter().any(|change| VALIDATED_ON.contains(&&*change.key)) => {
                    evaluations.clear();
                }
                _ => {}
            }
        }
        Ok(evaluations)
    }

    fn start<'a>(&'a self, former: &'a Experiment) -> Start<'a> {
        Start {
            experiment: &self.experiment,
            former,
            step: self.step,
            roll_backs: self.progress.roll_backs,
            parameters: self.weights().len(),
            gradients: &self.computed,
        }
    }

    /// The directory of the run, if it has one.
    #[must_use]
    pub fn run_dir(&self) -> Option<&RunDir> {
        self.run_dir.as_ref()
    }

    /// Trains up to the experiment's number of steps, or until an observer asks to stop.
    ///
    /// # Errors
    /// When examples cannot be made, loss or gradient stop being finite, or a checkpoint cannot be written.
    pub fn run(&mut self) -> Result<RunReport, TrainError> {
        self.check_start()?;
        self.check_precision()?;
        let mut observers = Observers(std::mem::take(&mut self.observers));
        let ended = self.run_observed(&mut observers).and_then(|report| {
            self.learner.fetch()?;
            self.show_weights()?;
            Ok(report)
        });
        if let Err(error) = &ended {
            let stop = StopReason::Failed(error.to_string());
            observers.0.iter_mut().for_each(|o| o.on_end(&stop));
        }
        self.observers = observers.0;
        ended
    }

    fn run_observed(&mut self, observers: &mut Observers) -> Result<RunReport, TrainError> {
        let Experiment { train, evaluate, checkpoint, .. } = self.experiment.clone();
        // Once told, a change is none any more.
        let former = self.former.take().unwrap_or_else(|| self.experiment.clone());
        let start = self.start(&former);
        let mut flow = observers.tell(|o| o.on_start(&start));
        if self.step == 0 && self.experiment.start_from.is_some() {
            // The weights it starts from may change or go.
            self.save(&self.checkpoint(), observers)?;
        }
        if let (0, Some(report)) = (self.step, self.stage_report()) {
            flow = first(flow, observers.tell(|o| o.on_stage(&report)));
        }
        let mut batches = self.training_batches();
        let mut saved = None;
        // Learning rate and gradient norm of the last step.
        let mut last = (self.lr(), f64::NAN);
        while flow.is_continue() && (self.step < train.steps || self.progress.unjudged) {
            // An evaluation that was interrupted is done again, before anything else.
            if !std::mem::take(&mut self.progress.unjudged) {
                let most = self.steps_ahead();
                let outcomes = self.learn(most, &mut *batches)?;
                let mut went_back = false;
                for outcome in &outcomes {
                    match self.note_step(*outcome) {
                        Ok(report) => {
                            if let Some(proven) = self.next_way_back.take() {
                                self.way_back = Some(proven);
                            }
                            last = (report.lr, report.gradient_norm);
                            flow = first(flow, observers.tell(|o| o.on_step(&report)));
                        }
                        Err(diverged) => {
                            let (remedy, told) = self.deal_with(&diverged, observers)?;
                            flow = first(flow, told);
                            went_back = remedy == Remedy::RolledBack;
                        }
                    }
                }
                if went_back || outcomes.len() < most as usize {
                    batches = self.training_batches();
                }
                if went_back {
                    continue;
                }
            }
            // Every observer is asked, though one is enough.
            let wants_checkpoint =
                observers.0.iter_mut().filter_map(|o| o.wants_checkpoint().then_some(())).count() > 0;
            let finished = self.step == train.steps;
            let is_due = self.step.is_multiple_of(evaluate.every);
            let (mut is_best, mut evaluation) = (false, None);
            if finished || is_due {
                match self.judge(last, observers) {
                    Ok(report) => {
                        flow = first(flow, observers.tell(|o| o.on_evaluation(&report)));
                        // The judgement at the end of a run is one more: a longer run would not have had it.
                        if is_due {
                            is_best = self.note_best(&report);
                            evaluation = Some(report.evaluation);
                        }
                    }
                    Err(Unjudged::Failed(error)) => return Err(*error),
                    Err(Unjudged::Interrupted(stop)) => {
                        self.progress.unjudged = true;
                        flow = first(flow, ControlFlow::Break(stop));
                    }
                    Err(Unjudged::Diverged(diverged)) => {
                        flow = self.deal_with(&diverged, observers)?.1;
                        batches = self.training_batches();
                        continue;
                    }
                }
            }
            if !self.progress.unjudged && self.stage_is_over(evaluation.as_ref()) {
                self.progress.stages.push(self.step);
                batches = self.training_batches();
                if let Some(report) = self.stage_report() {
                    flow = first(flow, observers.tell(|o| o.on_stage(&report)));
                }
            }
            let is_regular = self.step.is_multiple_of(checkpoint.every);
            // A run that is asked to stop is saved: nothing is lost.
            if finished || is_regular || is_best || wants_checkpoint || flow.is_break() {
                self.learner.fetch()?;
                let checkpoint = self.checkpoint();
                saved = self.save(&checkpoint, observers)?;
                if is_regular && self.goes_back() {
                    self.next_way_back = Some(checkpoint);
                }
                if let Some(path) = &saved {
                    flow = first(flow, observers.tell(|o| o.on_checkpoint(path)));
                }
            }
        }
        let stop = flow.break_value().unwrap_or(StopReason::Completed);
        observers.0.iter_mut().for_each(|o| o.on_end(&stop));
        Ok(RunReport { stop, step: self.step, checkpoint: saved })
    }

    /// How many steps are taken next: as many as the learner takes at once, up to where there is something else to do.
    fn steps_ahead(&self) -> u64 {
        let Experiment { train, evaluate, checkpoint, log, .. } = &self.experiment;
        let rest_of = |every: u64| every - self.step % every;
        let begin = self.progress.stages.last().copied().unwrap_or(0);
        let rest_of_stage = self.stage().and_then(|(stage, _)| (begin + stage.steps?).checked_sub(self.step));
        let rests = [rest_of(evaluate.every), rest_of(checkpoint.every), rest_of(log.every), train.steps - self.step];
        rests.into_iter().chain(rest_of_stage).fold(self.learner.steps_at_once(), u64::min).max(1)
    }

    /// Takes so many steps, and returns what each found, up to the first that is not finite.
    fn learn(
        &mut self,
        steps: u64,
        batches: &mut dyn Iterator<Item = Result<Batch, TaskError>>,
    ) -> Result<Vec<StepOutcome>, TrainError> {
        let TrainConfig { accumulate, weight_decay, clip_norm, .. } = self.experiment.train;
        let seed = self.experiment.seed;
        let accumulate = u64::from(accumulate);
        let updates: Vec<_> = (self.step..self.step + steps)
            .map(|step| (step, Update { weight_decay, ..Update::at(self.lr_of(step)) }))
            .collect();
        let mut next = || batches.next().expect("a stream of batches has no end");
        let mut planned = updates.into_iter().map(|(step, update)| {
            let batches = (0..accumulate).map(|_| next()).collect::<Result<_, _>>()?;
            Ok(PlannedStep { batches, first: step * accumulate, seed, update, clip_norm })
        });
        self.learner.learn(&mut planned)
    }

    /// Notes that a step was taken, or could not be.
    fn note_step(&mut self, outcome: StepOutcome) -> Result<StepReport, Diverged> {
        let StepOutcome { loss, gradient_norm } = outcome;
        let lr = self.lr();
        if !outcome.is_finite() {
            return Err(Diverged { step: self.step + 1, loss, gradient_norm, lr });
        }
        self.step += 1;
        self.progress.skipped_in_a_row = 0;
        let examples = self.experiment.train.examples(self.step);
        Ok(StepReport { step: self.step, examples, loss, lr, gradient_norm })
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        self.lr_of(self.step)
    }

    /// The learning rate of the step after so many.
    fn lr_of(&self, step: u64) -> f64 {
        let TrainConfig { lr, warmup_steps, schedule, divergence, .. } = self.experiment.train;
        let planned = WarmUp::new(lr, warmup_steps).then(schedule).lr(step);
        match divergence {
            DivergencePolicy::RollBack { lr_factor, .. } => {
                planned * lr_factor.powi(i32::try_from(self.progress.roll_backs).unwrap_or(i32::MAX))
            }
            DivergencePolicy::Stop | DivergencePolicy::Skip { .. } => planned,
        }
    }

    /// Does what the experiment says to do about a divergence, and tells the observers.
    fn deal_with(
        &mut self,
        diverged: &Diverged,
        observers: &mut Observers,
    ) -> Result<(Remedy, ControlFlow<StopReason>), TrainError> {
        let &Diverged { step, loss, gradient_norm, lr } = diverged;
        let remedy = self.remedy(step)?;
        let report = DivergenceReport { step: self.step, diverged: step, loss, lr, gradient_norm, remedy };
        let flow = observers.tell(|o| o.on_divergence(&report));
        if remedy == Remedy::Stopped {
            return Err(TrainError::NotFinite { step, loss, gradient_norm, lr });
        }
        Ok((remedy, flow))
    }

    /// Does what the experiment says to do where a step could not be taken, or was taken and must not have been.
    fn remedy(&mut self, diverged: u64) -> Result<Remedy, TrainError> {
        match self.experiment.train.divergence {
            DivergencePolicy::Stop => Ok(Remedy::Stopped),
            DivergencePolicy::Skip { limit } => {
                // A step that was taken cannot be left out.
                if self.progress.skipped_in_a_row >= limit || diverged <= self.step {
                    return Ok(Remedy::Stopped);
                }
                self.step += 1;
                self.progress.skipped += 1;
                self.progress.skipped_in_a_row += 1;
                Ok(Remedy::Skipped)
            }
            DivergencePolicy::RollBack { limit, .. } => {
                let roll_backs = self.progress.roll_backs + 1;
                let Some(way_back) = self.way_back.take().filter(|_| roll_backs <= limit) else {
                    return Ok(Remedy::Stopped);
                };
                self.restore(&way_back)?;
                self.way_back = Some(way_back);
                self.next_way_back = None;
                self.progress.roll_backs = roll_backs;
                if let Some(run_dir) = &self.run_dir {
                    run_dir.remove_after(self.step)?;
                }
                Ok(Remedy::RolledBack)
            }
        }
    }

    fn goes_back(&self) -> bool {
        matches!(self.experiment.train.divergence, DivergencePolicy::RollBack { .. })
    }

    /// The name of the stage that the run is in; none in the experiment proper.
    #[must_use]
    pub fn stage_name(&self) -> Option<&str> {
        self.stage().map(|(stage, _)| stage.name.as_str())
    }

    /// The stage that the run is in: its configuration and its task.
    fn stage(&self) -> Option<(&StageConfig, &Arc<Task>)> {
        let current = self.progress.stages.len();
        self.experiment.stage.get(current).zip(self.stages.get(current))
    }

    /// What there is to say at the beginning of a stage, in an experiment that has some.
    fn stage_report(&self) -> Option<StageReport> {
        let name = self.stage().map_or(&self.experiment.name, |(stage, _)| &stage.name);
        (!self.stages.is_empty()).then(|| StageReport { step: self.step, stage: name.clone() })
    }

    fn stage_is_over(&self, evaluation: Option<&Evaluation>) -> bool {
        let Some((stage, _)) = self.stage() else { return false };
        let begin = self.progress.stages.last().copied().unwrap_or(0);
        stage.steps.is_some_and(|steps| self.step - begin >= steps)
            || stage.until.zip(evaluation).is_some_and(|(goal, evaluation)| goal.is_reached(evaluation))
    }

    /// Judges the model as the experiment says, on what it learns now; `last` is what there is to say of the last step.
    fn judge(
        &mut self,
        (lr, gradient_norm): (f64, f64),
        observers: &mut Observers,
    ) -> Result<EvaluationReport, Unjudged> {
        self.learner.fetch()?;
        self.show_weights()?;
        let count = self.experiment.evaluate.examples;
        let (stage, task, (source, count)) = match self.stage() {
            None => (None, &self.task, self.examples(Split::Validation, EVALUATION_BATCH, count)),
            Some((stage, task)) => {
                let source = task.batches(self.experiment.evaluate.seed, Split::Validation, EVALUATION_BATCH);
                (Some(stage.name.clone()), task, (Box::new(source) as Box<dyn BatchSource>, count))
            }
        };
        let diverged = |loss| Unjudged::Diverged(Diverged { step: self.step, loss, gradient_norm, lr });
        let mut watch = || observers.tell(|o| o.while_evaluating());
        let answering = Answering::default();
        match evaluate_watched(&self.model, task, &*source, count, answering, &self.device, &mut watch) {
            Ok(ControlFlow::Break(stop)) => Err(Unjudged::Interrupted(stop)),
            Ok(ControlFlow::Continue(evaluation)) => {
                let examples = self.experiment.train.examples(self.step);
                Ok(EvaluationReport { step: self.step, examples, stage, evaluation })
            }
            Err(TrainError::NoNumbers { loss }) => Err(diverged(loss)),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what is better than ever before, and says whether there was something.
    fn note_best(&mut self, report: &EvaluationReport) -> bool {
        let mut is_best = false;
        for figure in self.experiment.checkpoint.best.iter().filter(|_| report.stage.is_none()) {
            let Some(value) = figure.of(&report.evaluation) else { continue };
            if self.progress.best.get(figure).is_none_or(|best| figure.is_better(value, best.value)) {
                self.progress.best.insert(*figure, Best { step: report.step, value });
                is_best = true;
            }
        }
        is_best
    }

    /// Gives the model for use the weights as trained so far.
    fn show_weights(&self) -> Result<(), TrainError> {
        Ok(self.learner.layout().write(&self.parameters, self.learner.weights())?)
    }

    /// The batches of the next step and of all later ones, made ahead of time.
    fn training_batches(&self) -> Box<dyn Iterator<Item = Result<Batch, TaskError>>> {
        let (seed, size) = (self.experiment.seed, self.experiment.train.batch_size);
        let source: Arc<dyn BatchSource> = match self.files.of(Split::Train) {
            Some(file) => Arc::new(file.dataset().batches(size, Order::Shuffled(seed))),
            None => {
                let task = self.stage().map_or(&self.task, |(_, task)| task);
                let batches = task.batches(seed, Split::Train, size);
                Arc::new(batches.with_buckets(self.experiment.data.bucket_window))
            }
        };
        let begin = self.step * u64::from(self.experiment.train.accumulate);
        Box::new(prefetch(source, begin, self.learner.data_workers()))
    }

    /// The examples of a split to judge the model on, in order, and how many there are of `count`.
    fn examples(&self, split: Split, size: usize, count: u64) -> (Box<dyn BatchSource>, u64) {
        match self.files.of(split) {
            Some(file) => (file.in_order(size), count.min(file.len())),
            None => (Box::new(self.task.batches(self.experiment.evaluate.seed, split, size)), count),
        }
    }

    /// Judges the model as trained so far on the first `count` examples of a split: all, if its file holds fewer.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&self, split: Split, count: u64) -> Result<Evaluation, TrainError> {
        self.show_weights()?;
        let (source, count) = self.examples(split, EVALUATION_BATCH, count);
        evaluate(&self.model, &self.task, &*source, count, &self.device)
    }

    /// Solves the first `count` examples of a split, to be looked at: all, if its file holds fewer.
    ///
    /// # Errors
    /// When examples cannot be made, or the model cannot read them.
    pub fn solve(&self, split: Split, count: u64) -> Result<Vec<Solved>, TrainError> {
        self.show_weights()?;
        let (source, count) = self.examples(split, 1, count);
        let solved = (0..count).map(|index| solve(&self.model, &self.task, &*source, index, &self.device));
        Ok(solved.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// All that the rest of the run depends on, as of the learner's last fetch.
    fn checkpoint(&self) -> Checkpoint {
        let layout = self.learner.layout();
        let state = self.learner.optimizer().state().into_iter();
        Checkpoint {
            experiment: self.experiment.clone(),
            data: self.files.fingerprints(),
            step: self.step,
            progress: self.progress.clone(),
            config: self.config.clone(),
            vocabulary: self.task.vocabulary().clone(),
            model: self.named_weights(),
            optimizer: state.flat_map(|(name, values)| named(layout, &format!("{name}."), values)).collect(),
        }
    }

    fn save(&self, checkpoint: &Checkpoint, observers: &mut Observers) -> Result<Option<PathBuf>, TrainError> {
        let Some(run_dir) = &self.run_dir else { return Ok(None) };
        let kept = self.kept_by_ways_back();
        loop {
            let written = observers.0.iter_mut().try_for_each(|o| o.before_checkpoint(checkpoint.step));
            let written = written.map_err(|source| CheckpointError::Io { path: run_dir.path().to_owned(), source });
            match written.and_then(|()| run_dir.save(checkpoint, &kept)) {
                Err(error) if error.is_full_disk() && self.waits_for_space => {
                    if observers.tell(|o| o.on_full_disk(&error)).is_break() {
                        return Err(error.into());
                    }
                    thread::sleep(FULL_DISK_RETRY);
                }
                saved => return Ok(Some(saved?)),
            }
        }
    }

    /// The steps of checkpoints that are to stay since the run may go back.
    fn kept_by_ways_back(&self) -> Vec<u64> {
        // A run that goes back has the best of its past again.
        let ways_back = self.way_back.iter().chain(&self.next_way_back);
        ways_back.flat_map(|past| past.progress.best.values()).map(|best| best.step).collect()
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        if let Some(difference) = checkpoint.experiment.difference(&self.experiment) {
            return Err(TrainError::OtherExperiment { step: checkpoint.step, difference: difference.into() });
        }
        if checkpoint.config != self.config || checkpoint.vocabulary != *self.task.vocabulary() {
            return Err(TrainError::OtherModel { step: checkpoint.step });
        }
        self.files.check(&checkpoint.data, checkpoint.step)?;
        let layout = self.learner.layout();
        let weights = flat(layout, "", &checkpoint.model)?;
        let remembered = self.learner.optimizer().state().into_iter();
        let remembered = remembered.map(|(name, _)| flat(layout, &format!("{name}."), &checkpoint.optimizer));
        let remembered = remembered.collect::<Result<Vec<_>, _>>()?;
        self.learner.set(&mut |own, optimizer| {
            own.copy_from_slice(&weights);
            for ((_, to), from) in optimizer.state_mut().into_iter().zip(&remembered) {
                to.copy_from_slice(from);
            }
            optimizer.set_updates(checkpoint.step.saturating_sub(checkpoint.progress.skipped));
        })?;
        self.show_weights()?;
        self.step = checkpoint.step;
        self.progress = checkpoint.progress.clone();
        // The best by other figures are no longer asked for.
        let figures = &self.experiment.checkpoint.best;
        self.progress.best.retain(|figure, _| figures.contains(figure));
        Ok(())
    }
}

/// The keys that say on which examples a run is judged.
const VALIDATED_ON: [&str; 2] = ["evaluate.examples", "evaluate.seed"];

/// Examples made together; figures do not depend on it.
const EVALUATION_BATCH: usize = 256;

/// Between attempts to save where there was no room.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// The last regular checkpoint before `step`, where checkpoints are regular every so many steps: 0 is the beginning. The one
/// at `step` itself may hold the very weights that diverge.
pub(crate) fn way_back(step: u64, every: u64) -> u64 {
    step.saturating_sub(1) / every * every
}

/// Why there is no judgement.
enum Unjudged {
    Interrupted(StopReason),
    Diverged(Diverged),
    Failed(Box<TrainError>),
}

impl<E: Into<TrainError>> From<E> for Unjudged {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// A step that cannot be taken.
struct Diverged {
    step: u64,
    loss: f64,
    gradient_norm: f64,
    lr: f64,
}

struct Observers(Vec<Box<dyn Observer>>);

impl Observers {
    /// Tells every observer, whatever the others say; the first that asks to stop is heard.
    fn tell(&mut self, mut event: impl FnMut(&mut dyn Observer) -> ControlFlow<StopReason>) -> ControlFlow<StopReason> {
        let mut flow = ControlFlow::Continue(());
        for observer in &mut self.0 {
            flow = first(flow, event(observer.as_mut()));
        }
        flow
    }
}

/// The earlier reason to stop, if there are two.
fn first(earlier: ControlFlow<StopReason>, later: ControlFlow<StopReason>) -> ControlFlow<StopReason> {
    if earlier.is_break() { earlier } else { later }
}

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The experiment is impossible.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The run's directory cannot serve.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A checkpoint cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint is of a run that cannot go on as asked.
    #[error("the checkpoint after step {step} is of a run that depends on what differs: {difference}")]
    OtherExperiment {
        /// Step of the checkpoint.
        step: u64,
        /// The first key that differs and on which the run depends.
        difference: Box<Difference>,
    },
    /// A checkpoint's model or vocabulary is not the experiment's.
    #[error("the checkpoint after step {step} has another model or vocabulary: use the version that wrote it")]
    OtherModel {
        /// Step of the checkpoint.
        step: u64,
    },
    /// A file of examples cannot serve.
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    /// A checkpoint does not fit the model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The weights to begin with do not fit the model.
    #[error("the weights of start_from, {}, do not fit", path.display())]
    StartFrom {
        /// The run or model.
        path: PathBuf,
        /// What does not fit.
        source: Box<StartError>,
    },
    /// The experiment asks for a precision that the CPU has not.
    #[error("train.precision = \"bf16\" is for GPUs: train on one (--device cuda:N), or leave it out")]
    NotOnCpu,
    /// The experiment has something that is for the CPU alone.
    #[error("devices have no {what}: train on the CPU")]
    NotOnDevice {
        /// What they have not.
        what: String,
    },
    /// Examples cannot be made.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// Training diverged.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}, learning rate {lr:e}; \
         try a lower learning rate, a longer warm-up, or train.divergence"
    )]
    NotFinite {
        /// The step that could not be taken.
        step: u64,
        /// Loss found.
        loss: f64,
        /// Gradient norm found.
        gradient_norm: f64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The model gives no finite numbers.
    #[error(
        "the model gives no finite numbers (cross-entropy {loss}): training diverged; take an earlier checkpoint of the run, with --checkpoint STEP"
    )]
    NoNumbers {
        /// The mean cross-entropy of its answers.
        loss: f64,
    },
    /// The model cannot read or write sequences of that length.
    #[error("expected sequences of at most {limit} tokens, the positions of the model, found {needed}")]
    TooLong {
        /// The model's positions.
        limit: usize,
        /// Tokens of the longest sequence, delimiters included.
        needed: usize,
    },
    /// A setting that says nothing of what a trained model is judged on.
    #[error(
        "`{key}` has no effect on what a trained model is judged on{}; expected a key of {}",
        did_you_mean(key, known.iter().copied()),
        known.join(", ")
    )]
    WithoutEffect {
        /// Dotted path of the key.
        key: String,
        /// The keys that have one; all below them do, too.
        known: &'static [&'static str],
    },
    /// An evaluation on no examples.
    #[error("expected at least one example to evaluate on, found none")]
    NothingToEvaluate,
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use numformer_model::{FlatLayout, Mode, TokenRows, TrainingStep};

    use super::*;
    use crate::config::CheckpointConfig;
    use crate::gradients::Gradients;

    /// Gives no finite loss when it is asked for a step of these for the first time.
    #[derive(Debug)]
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
    #[derive(Clone, Default)]
    struct Told(Rc<RefCell<(Vec<StepReport>, Vec<DivergenceReport>)>>);

    impl Observer for Told {
        fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
            self.0.borrow_mut().0.push(step.clone());
            ControlFlow::Continue(())
        }
        fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
            self.0.borrow_mut().1.push(divergence.clone());
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
    fn run(divergence: DivergencePolicy, poisoned: &[u64]) -> (Result<RunReport, TrainError>, Trainer, Told) {
        let told = Told::default();
        let mut trainer = Trainer::new(tiny(divergence)).expect("a trainer").with_observer(told.clone());
        let (plain, _) = training_step(&trainer.config, &trainer.parameters, Gradients::Auto, 0.0).expect("a step");
        let weights = trainer.weights().to_vec();
        let optimizer = OptimizerConfig::default().build(weights.len());
        let poisoned = Box::new(Poisoned(plain, poisoned.to_vec()));
        trainer.learner = Box::new(HostLearner::new(poisoned, weights, optimizer));
        (trainer.run(), trainer, told)
    }

    #[test]
    fn a_step_that_diverges_ends_the_run_unless_asked_otherwise() {
        let (ended, trainer, told) = run(DivergencePolicy::Stop, &[4]);
        let told = &told.0.borrow().1;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].step, told[0].diverged, told[0].remedy), (4, 5, Remedy::Stopped));
        assert!(matches!(ended, Err(TrainError::NotFinite { step: 5, .. })), "{ended:?}");
        assert_eq!(trainer.step(), 4);
        assert!(trainer.weights().iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn steps_are_left_out_up_to_a_limit_in_a_row() {
        let (ended, trainer, told) = run(DivergencePolicy::Skip { limit: 2 }, &[2, 3, 5]);
        assert_eq!(ended.expect("a run").step, 8);
        assert_eq!((trainer.progress.skipped, trainer.progress.skipped_in_a_row), (3, 0));
        assert_eq!(trainer.learner.optimizer().updates(), 5);
        assert!(trainer.weights().iter().all(|weight| weight.is_finite()));
        let told = told.0.borrow();
        let diverged = told.1.iter().map(|report| (report.step, report.diverged, report.remedy));
        assert_eq!(diverged.collect::<Vec<_>>(), [3, 4, 6].map(|step| (step, step, Remedy::Skipped)));
        assert_eq!(told.0.iter().map(|report| report.step).collect::<Vec<_>>(), [1, 2, 5, 7, 8]);

        let (ended, ..) = run(DivergencePolicy::Skip { limit: 1 }, &[2, 3, 5]);
        assert!(matches!(ended, Err(TrainError::NotFinite { step: 4, .. })), "{ended:?}");
    }

    #[test]
    fn a_run_goes_back_to_a_good_checkpoint_at_a_lower_rate() {
        // After four steps, when the checkpoint of the fourth is not yet known to be good.
        let policy = DivergencePolicy::RollBack { lr_factor: 0.25, limit: 1 };
        let (ended, trainer, told) = run(policy, &[4]);
        assert_eq!(ended.expect("a run").step, 8);
        let told = told.0.borrow();
        let [report] = &told.1[..] else { panic!("{:?}", told.1) };
        assert_eq!((report.step, report.diverged, report.remedy), (2, 5, Remedy::RolledBack));
        let steps: Vec<u64> = told.0.iter().map(|report| report.step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 3, 4, 5, 6, 7, 8]);
        let bits = |x: f64| x.to_bits();
        assert_eq!(bits(told.0[4].lr), bits(0.25 * told.0[2].lr));
        assert_eq!(bits(told.0[4].loss), bits(told.0[2].loss));
        assert_eq!(trainer.progress.roll_backs, 1);

        // Once it has given a finite loss, it is.
        let (_, _, told) = run(policy, &[5]);
        assert_eq!(told.0.borrow().1[0].step, 4);
        let (ended, ..) = run(policy, &[1, 2]);
        assert!(matches!(ended, Err(TrainError::NotFinite { step: 3, .. })), "{ended:?}");
    }

    fn emulated() -> Accelerator {
        Accelerator::emulated().expect("a C++ compiler: install one, or set CXX")
    }

    #[test]
    fn a_device_learns_what_the_cpu_learns_and_reports_every_step() {
        let told = [Told::default(), Told::default()];
        let [on_cpu, on_device] =
            told.clone().map(|told| Trainer::new(tiny(DivergencePolicy::Stop)).expect("a trainer").with_observer(told));
        let mut trainers = [on_cpu, on_device.on_device(emulated()).expect("it has all that the experiment needs")];
        assert!(trainers[1].computed.starts_with("explicit schedule in f32 on "), "{}", trainers[1].computed);
        for trainer in &mut trainers {
            assert_eq!(trainer.run().expect("a run").step, 8);
        }
        let [on_cpu, on_device] = &told;
        let (on_cpu, on_device) = (&on_cpu.0.borrow().0, &on_device.0.borrow().0);
        assert_eq!(on_device.iter().map(|report| report.step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        for (expected, found) in on_cpu.iter().zip(on_device) {
            assert!((found.loss - expected.loss).abs() < 1e-5 * expected.loss, "{found:?} {expected:?}");
            assert_eq!(found.lr.to_bits(), expected.lr.to_bits());
        }
        let [expected, found] = &trainers;
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
        assert!(found.weights().iter().zip(expected.weights()).all(close));
        let moments = [found, expected].map(|trainer| trainer.learner.optimizer().state());
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
            let run_dir = RunDir::open(path, &experiment).expect("a directory");
            let trainer = Trainer::new(experiment).expect("a trainer").on_device(emulated()).expect("a device");
            let (mut trainer, damaged) = trainer.in_dir(run_dir).expect("a run");
            assert!(damaged.is_empty());
            trainer.run().expect("all steps");
            trainer.weights().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>()
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
        let mut trainer = Trainer::new(experiment).expect("a trainer").on_device(emulated()).expect("a device");
        let ended = trainer.run();
        let Err(TrainError::NotFinite { step, .. }) = ended else { panic!("{ended:?}") };
        assert_eq!(trainer.step(), step - 1);
        assert_eq!(trainer.learner.optimizer().updates(), step - 1);
    }

    #[test]
    fn what_is_for_the_cpu_alone_is_named() {
        let message = |change: &dyn Fn(&mut Experiment)| {
            let mut experiment = tiny(DivergencePolicy::Stop);
            change(&mut experiment);
            let trainer = Trainer::new(experiment).expect("a trainer").on_device(emulated());
            trainer.expect_err("not on a device").to_string()
        };
        let accumulate = message(&|experiment| experiment.train.accumulate = 2);
        assert_eq!(accumulate, "devices have no train.accumulate above 1: train on the CPU");
        assert!(message(&|experiment| experiment.train.label_smoothing = 0.1).contains("label smoothing"));

        let mut experiment = tiny(DivergencePolicy::Stop);
        experiment.train.precision = Precision::Bf16;
        let mut trainer = Trainer::new(experiment).expect("a trainer");
        let error = trainer.run().expect_err("the CPU has no bf16").to_string();
        assert!(error.contains("is for GPUs") && trainer.step() == 0, "{error}");
    }
}
