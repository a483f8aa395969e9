//! The training loop.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Dataset, DatasetError, Order, Split, Task, TaskError, prefetch};
use numformer_model::{Mode, Model, ModelConfig, Parameters, TrainingStep};
use numformer_ops::sum_of_squares;

use crate::catalogue::Catalogue;
use crate::checkpoint::{Checkpoint, CheckpointError, LayoutError, flat, named};
use crate::config::TrainConfig;
use crate::difference::Difference;
use crate::evaluation::{evaluate, token_rows};
use crate::experiment::{Experiment, ExperimentError};
use crate::figures::Evaluation;
use crate::gradients::training_step;
use crate::observer::{EvaluationReport, Observer, Start, StepReport, StopReason};
use crate::optimizer::{Adam, AdamConfig};
use crate::run_dir::{RunDir, RunDirError};
use crate::schedule::{Schedule, WarmUp};
use crate::solved::{Solved, solve};

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
    files: Files,
    config: ModelConfig,
    device: Device,
    parameters: Parameters,
    training_step: Box<dyn TrainingStep>,
    /// How its gradients are computed, in words.
    computed: String,
    /// For use: records nothing for a backward pass. Its weights are those of the last [`Trainer::show_weights`].
    model: Model,
    weights: Vec<f32>,
    adam: Adam,
    step: u64,
    run_dir: Option<RunDir>,
    observers: Vec<Box<dyn Observer>>,
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
        let files = Files::read(&experiment, &task)?;
        let config = experiment.model_config(&task)?;
        let (training_step, computed) = training_step(&config, &parameters, experiment.train.gradients)?;
        let model = Model::new(&config, &parameters.frozen())?;
        let mut weights = vec![0.0; training_step.layout().len()];
        training_step.layout().read(&parameters, &mut weights)?;
        let adam = Adam::new(adam_config(&experiment), weights.len());
        Ok(Self {
            experiment,
            task,
            files,
            config,
            device,
            parameters,
            training_step,
            computed,
            model,
            weights,
            adam,
            step: 0,
            run_dir: None,
            observers: Vec::new(),
        })
    }

    /// Saves checkpoints to `run_dir`, and goes on from its latest one, if any. The damaged checkpoints that were
    /// passed over are returned beside the trainer.
    ///
    /// # Errors
    /// When there are checkpoints and none is good, or the latest belongs to another experiment.
    pub fn in_dir(mut self, run_dir: RunDir) -> Result<(Self, Vec<CheckpointError>), TrainError> {
        let mut skipped = Vec::new();
        if let Some(latest) = run_dir.latest()? {
            skipped = latest.skipped;
            self.restore(&latest.checkpoint)?;
        }
        self.run_dir = Some(run_dir);
        Ok((self, skipped))
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
        &self.weights
    }

    /// Updates taken so far.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
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
        let mut observers = Observers(std::mem::take(&mut self.observers));
        let ended = self.run_observed(&mut observers).and_then(|report| {
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
        let Experiment { seed, train, evaluate, checkpoint, .. } = self.experiment.clone();
        let start = Start {
            experiment: &self.experiment,
            step: self.step,
            parameters: self.weights.len(),
            gradients: &self.computed,
        };
        let mut flow = observers.tell(|o| o.on_start(&start));
        let schedule = WarmUp::new(train.lr, train.warmup_steps).then(train.schedule);
        let accumulate = u64::from(train.accumulate);
        let mut batches = prefetch(self.training_batches(seed, train.batch_size), self.step * accumulate, 1);
        let mut gradients = vec![0.0; self.weights.len()];
        // Of one batch among several.
        let mut part = vec![0.0; if accumulate > 1 { self.weights.len() } else { 0 }];
        let mut saved = None;
        while flow.is_continue() && self.step < train.steps {
            let mut next = || batches.next().expect("a stream of batches has no end");
            let loss = if accumulate == 1 {
                self.loss_and_gradients(&next()?, self.step, &mut gradients)?
            } else {
                gradients.fill(0.0);
                let (mut loss, mut tokens) = (0.0, 0.0);
                for index in self.step * accumulate..(self.step + 1) * accumulate {
                    let batch = next()?;
                    // Means over target tokens: a batch counts as many times as it has tokens.
                    let count = batch.tgt.lengths.iter().map(|length| f64::from(length - 1)).sum::<f64>();
                    loss += count * self.loss_and_gradients(&batch, index, &mut part)?;
                    gradients.iter_mut().zip(&part).for_each(|(sum, x)| *sum += count as f32 * x);
                    tokens += count;
                }
                gradients.iter_mut().for_each(|sum| *sum /= tokens as f32);
                loss / tokens
            };
            let report = self.take_step(loss, &schedule, &mut gradients)?;
            flow = observers.tell(|o| o.on_step(&report));
            // Every observer is asked, though one is enough.
            let wants_checkpoint =
                observers.0.iter_mut().filter_map(|o| o.wants_checkpoint().then_some(())).count() > 0;
            let finished = self.step == train.steps;
            if finished || self.step.is_multiple_of(evaluate.every) {
                let evaluation = self.evaluate(Split::Validation, evaluate.examples)?;
                if !evaluation.cross_entropy.is_finite() {
                    let StepReport { step, lr, gradient_norm, .. } = report;
                    return Err(TrainError::NotFinite { step, loss: evaluation.cross_entropy, gradient_norm, lr });
                }
                let report = EvaluationReport { step: self.step, examples: report.examples, evaluation };
                flow = first(flow, observers.tell(|o| o.on_evaluation(&report)));
            }
            // A run that is asked to stop is saved: nothing is lost.
            if finished || self.step.is_multiple_of(checkpoint.every) || wants_checkpoint || flow.is_break() {
                saved = self.save()?;
                if let Some(path) = &saved {
                    flow = first(flow, observers.tell(|o| o.on_checkpoint(path)));
                }
            }
        }
        let stop = flow.break_value().unwrap_or(StopReason::Completed);
        observers.0.iter_mut().for_each(|o| o.on_end(&stop));
        Ok(RunReport { stop, step: self.step, checkpoint: saved })
    }

    /// The mean loss of a batch and its gradients; `index` counts batches, for what dropout drops.
    fn loss_and_gradients(&mut self, batch: &Batch, index: u64, gradients: &mut [f32]) -> Result<f64, TrainError> {
        let (src, tgt) = (token_rows(&batch.src), token_rows(&batch.tgt));
        let mode = Mode::Train { seed: self.experiment.seed, step: index };
        Ok(self.training_step.loss_and_gradients(&self.weights, src, tgt, mode, gradients)?)
    }

    fn take_step(
        &mut self,
        loss: f64,
        schedule: &impl Schedule,
        gradients: &mut [f32],
    ) -> Result<StepReport, TrainError> {
        let gradient_norm = sum_of_squares(gradients).sqrt();
        let lr = schedule.lr(self.step);
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            return Err(TrainError::NotFinite { step: self.step + 1, loss, gradient_norm, lr });
        }
        let scale = (self.experiment.train.clip_norm / gradient_norm).min(1.0);
        self.adam.update(lr, scale, &mut self.weights, gradients);
        self.step += 1;
        let TrainConfig { batch_size, accumulate, .. } = self.experiment.train;
        let examples = self.step * u64::from(accumulate) * batch_size as u64;
        Ok(StepReport { step: self.step, examples, loss, lr, gradient_norm })
    }

    /// Gives the model for use the weights as trained so far.
    fn show_weights(&self) -> Result<(), TrainError> {
        Ok(self.training_step.layout().write(&self.parameters, &self.weights)?)
    }

    fn training_batches(&self, seed: u64, size: usize) -> Arc<dyn BatchSource> {
        match self.files.of(Split::Train) {
            Some(dataset) => Arc::new(dataset.batches(size, Order::Shuffled(seed))),
            None => {
                let batches = self.task.batches(seed, Split::Train, size);
                Arc::new(batches.with_buckets(self.experiment.data.bucket_window))
            }
        }
    }

    /// The examples of a split to judge the model on, in order, and how many there are of `count`.
    fn examples(&self, split: Split, size: usize, count: u64) -> (Box<dyn BatchSource>, u64) {
        match self.files.of(split) {
            Some(dataset) => (Box::new(dataset.batches(size, Order::AsRead)), count.min(dataset.len() as u64)),
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

    fn save(&self) -> Result<Option<PathBuf>, TrainError> {
        let Some(run_dir) = &self.run_dir else { return Ok(None) };
        let layout = self.training_step.layout();
        let mut optimizer = named(layout, FIRST, self.adam.first_moment());
        optimizer.extend(named(layout, SECOND, self.adam.second_moment()));
        let checkpoint = Checkpoint {
            experiment: self.experiment.clone(),
            data: self.files.of(Split::Train).map(|dataset| dataset.fingerprint()),
            step: self.step,
            config: self.config.clone(),
            vocabulary: self.task.vocabulary().clone(),
            model: named(layout, "", &self.weights),
            optimizer,
        };
        Ok(Some(run_dir.save(&checkpoint, self.experiment.checkpoint.keep)?))
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        if let Some(difference) = checkpoint.experiment.difference(&self.experiment) {
            return Err(TrainError::OtherExperiment { step: checkpoint.step, difference });
        }
        if checkpoint.config != self.config || checkpoint.vocabulary != *self.task.vocabulary() {
            return Err(TrainError::OtherModel { step: checkpoint.step });
        }
        if checkpoint.data != self.files.of(Split::Train).map(|dataset| dataset.fingerprint()) {
            return Err(TrainError::OtherData { step: checkpoint.step });
        }
        let layout = self.training_step.layout();
        let weights = flat(layout, "", &checkpoint.model)?;
        let first = flat(layout, FIRST, &checkpoint.optimizer)?;
        let second = flat(layout, SECOND, &checkpoint.optimizer)?;
        layout.write(&self.parameters, &weights)?;
        self.weights = weights;
        self.adam = Adam::resume(adam_config(&self.experiment), checkpoint.step, first, second);
        self.step = checkpoint.step;
        Ok(())
    }
}

/// Examples made together; figures do not depend on it.
const EVALUATION_BATCH: usize = 256;

/// The files of examples that an experiment names, read.
struct Files {
    train: Option<Arc<Dataset>>,
    validation: Option<Arc<Dataset>>,
    test: Option<Arc<Dataset>>,
}

impl Files {
    fn read(experiment: &Experiment, task: &Task) -> Result<Self, DatasetError> {
        let read = |split| experiment.data.file(split).map(|path| Dataset::read(path, task).map(Arc::new)).transpose();
        Ok(Self { train: read(Split::Train)?, validation: read(Split::Validation)?, test: read(Split::Test)? })
    }

    fn of(&self, split: Split) -> Option<&Arc<Dataset>> {
        match split {
            Split::Train => self.train.as_ref(),
            Split::Validation => self.validation.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }
}

/// Names of Adam's moments in a checkpoint, before the parameter's.
const FIRST: &str = "first_moment.";
const SECOND: &str = "second_moment.";

fn adam_config(experiment: &Experiment) -> AdamConfig {
    AdamConfig { weight_decay: experiment.train.weight_decay, ..AdamConfig::default() }
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
    /// A checkpoint was written by another experiment.
    #[error("the checkpoint after step {step} belongs to another experiment: {difference}")]
    OtherExperiment {
        /// Step of the checkpoint.
        step: u64,
        /// The first key that differs.
        difference: Difference,
    },
    /// A checkpoint's model or vocabulary is not the experiment's.
    #[error("the checkpoint after step {step} has another model or vocabulary: use the version that wrote it")]
    OtherModel {
        /// Step of the checkpoint.
        step: u64,
    },
    /// A file of examples cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The file of training examples is not what it was.
    #[error(
        "the examples to train on have changed since the checkpoint after step {step}: restore their file, or begin another run"
    )]
    OtherData {
        /// Step of the checkpoint.
        step: u64,
    },
    /// A checkpoint does not fit the model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Examples cannot be made.
    #[error("examples cannot be made")]
    Task(#[from] TaskError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// Training diverged.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}, learning rate {lr:e}; \
         try a lower learning rate or a longer warm-up"
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
    /// The model cannot read or write sequences of that length.
    #[error("expected sequences of at most {limit} tokens, the positions of the model, found {needed}")]
    TooLong {
        /// The model's positions.
        limit: usize,
        /// Tokens of the longest sequence, delimiters included.
        needed: usize,
    },
    /// An evaluation on no examples.
    #[error("expected at least one example to evaluate on, found none")]
    NothingToEvaluate,
}
