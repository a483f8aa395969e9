//! The training loop as it is put together.

use std::fmt;
use std::sync::Arc;

use numformer_data::BatchSource;
use numformer_evaluate::{Evaluate, FigureName};
use numformer_model::Parameters;
use numformer_store::{CheckpointError, NamedTensors, flat, named};

use crate::difference::Difference;
use crate::divergence::DivergencePolicy;
use crate::every::{Every, every};
use crate::learner::{Learner, LearnerState};
use crate::observer::Observer;
use crate::run_progress::RunProgress;
use crate::schedule::{Schedule, WarmUp};
use crate::snapshot::{Checkpoints, LatestSnapshot, Snapshot};
use crate::stage::Stage;
use crate::stop_rule::{PastEvaluation, StopRule};
use crate::train_error::TrainError;

/// Trains weights on batches. Each of its parts is a value that is handed to it, one of ours or one of your own.
///
/// The next step is a function of the snapshot of a run and of its parts: a run that is interrupted and goes on ends with
/// the same bits.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_model::{FusedStep, Parameters, StackConfig, TransformerConfig};
/// use numformer_problems::{Transpose, UniformEntries};
/// use numformer_train::{Adam, HostLearner, StopReason, Trainer, WarmUp};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
/// let sizes = StackConfig::new(16, 2, 1);
/// let config = TransformerConfig::new(task.vocabulary().len(), task.max_src_len(), sizes.clone(), sizes);
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let step = FusedStep::new(&config, &parameters)?;
/// let learner = HostLearner::new(step, Adam::default(), &parameters)?;
/// let mut trainer = Trainer::new(learner, task.batches(0, Split::Train, 16))
///     .with_schedule(WarmUp::new(1e-3, 2))
///     .with_steps(4);
/// assert_eq!(trainer.run_until(2)?.stop, StopReason::Paused);
/// let report = trainer.run()?;
/// assert_eq!((report.stop, report.step), (StopReason::Completed, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    pub(crate) name: String,
    pub(crate) learner: Box<dyn Learner>,
    pub(crate) batches: Arc<dyn BatchSource>,
    /// What is learned before.
    pub(crate) stages: Vec<Stage>,
    pub(crate) settings: Settings,
    pub(crate) schedule: Box<dyn Schedule>,
    pub(crate) evaluation: Option<Box<dyn Evaluate>>,
    pub(crate) stop_rules: Vec<Box<dyn StopRule>>,
    pub(crate) checkpoints: Option<Box<dyn Checkpoints>>,
    pub(crate) observers: Vec<Box<dyn Observer>>,
    pub(crate) step: u64,
    pub(crate) progress: RunProgress,
    /// Checkpoint to roll back to: the last regular one before the present step that is known to give a finite loss.
    pub(crate) way_back: Option<Snapshot>,
    /// The regular checkpoint at the present step, not known yet to give a finite loss.
    pub(crate) next_way_back: Option<Snapshot>,
    /// Damaged checkpoints that were passed over.
    passed_over: Vec<CheckpointError>,
    /// With which other values than before the run goes on, until that was told.
    pub(crate) changes: Vec<Difference>,
    /// The step of the last evaluation that the run was due for.
    pub(crate) judged: Option<u64>,
    /// Whether the observers know that the run goes on.
    pub(crate) is_under_way: bool,
}

/// The numbers of a run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) steps: u64,
    pub(crate) seed: u64,
    pub(crate) accumulate: u32,
    pub(crate) clip_norm: f64,
    pub(crate) weight_decay: f64,
    pub(crate) divergence: DivergencePolicy,
    pub(crate) evaluate: Every,
    pub(crate) save: Every,
    pub(crate) report: Every,
    pub(crate) best: Vec<FigureName>,
    pub(crate) saves_first: bool,
    pub(crate) waits_for_space: bool,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, step, settings, .. } = self;
        f.debug_struct("Trainer")
            .field("name", name)
            .field("step", step)
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Trains the weights of `learner` on `batches`, at a learning rate of 1e-3, in steps of one batch, with gradients
    /// clipped at the norm 5. Say [how many steps](Self::with_steps) there are.
    #[must_use]
    pub fn new(learner: impl Learner + 'static, batches: impl BatchSource + 'static) -> Self {
        let settings = Settings {
            steps: 0,
            seed: 0,
            accumulate: 1,
            clip_norm: 5.0,
            weight_decay: 0.0,
            divergence: DivergencePolicy::Stop,
            evaluate: every(1_000),
            save: every(1_000),
            report: every(100),
            best: Vec::new(),
            saves_first: false,
            waits_for_space: false,
        };
        Self {
            name: "run".to_owned(),
            learner: Box::new(learner),
            batches: Arc::new(batches),
            stages: Vec::new(),
            settings,
            schedule: Box::new(WarmUp::new(1e-3, 0)),
            evaluation: None,
            stop_rules: Vec::new(),
            checkpoints: None,
            observers: Vec::new(),
            step: 0,
            progress: RunProgress::default(),
            way_back: None,
            next_way_back: None,
            passed_over: Vec::new(),
            changes: Vec::new(),
            judged: None,
            is_under_way: false,
        }
    }

    /// Sets how observers are told the name of the run.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Sets the number of optimizer updates in all, those of stages included.
    #[must_use]
    pub fn with_steps(mut self, steps: u64) -> Self {
        self.settings.steps = steps;
        self
    }

    /// Sets the learning rate of each step.
    #[must_use]
    pub fn with_schedule(self, schedule: impl Schedule + 'static) -> Self {
        Self { schedule: Box::new(schedule), ..self }
    }

    /// Sets the seed of what dropout drops.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Takes each step on so many batches, whose gradients are averaged: as on one batch of so many times the size. 0 is taken
    /// for 1.
    #[must_use]
    pub fn with_accumulation(mut self, batches: u32) -> Self {
        self.settings.accumulate = batches.max(1);
        self
    }

    /// Scales gradients of a larger Euclidean norm down to it.
    #[must_use]
    pub fn with_clip_norm(mut self, clip_norm: f64) -> Self {
        self.settings.clip_norm = clip_norm;
        self
    }

    /// Sets the decoupled weight decay: with Adam, AdamW.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.settings.weight_decay = weight_decay;
        self
    }

    /// Sets what becomes of a step whose loss or gradient is not finite. Set it before [`saved_in`](Self::saved_in).
    #[must_use]
    pub fn with_divergence(mut self, divergence: DivergencePolicy) -> Self {
        self.settings.divergence = divergence;
        self
    }

    /// Judges the model now and then, and at the end of the run.
    #[must_use]
    pub fn with_evaluation(mut self, every: Every, evaluation: impl Evaluate + 'static) -> Self {
        self.settings.evaluate = every;
        self.evaluation = Some(Box::new(evaluation));
        self
    }

    /// Adds a rule that may end the run after an evaluation.
    #[must_use]
    pub fn with_stop(mut self, rule: impl StopRule + 'static) -> Self {
        self.stop_rules.push(Box::new(rule));
        self
    }

    /// Keeps the best checkpoint by a figure, too: see [`RunProgress::best`].
    #[must_use]
    pub fn keeping_best(mut self, figure: impl Into<FigureName>) -> Self {
        self.settings.best.push(figure.into());
        self
    }

    /// Adds a stage after those that there are, before the trainer's own batches.
    #[must_use]
    pub fn with_stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Asks a learner that takes many steps at once about them so often, at least.
    #[must_use]
    pub fn reporting(mut self, every: Every) -> Self {
        self.settings.report = every;
        self
    }

    /// Sets how often there is a regular snapshot: to roll back to, and to be saved where the run is saved.
    #[must_use]
    pub fn taking_snapshots(mut self, every: Every) -> Self {
        self.settings.save = every;
        self
    }

    /// Saves the run now and then, at its end and whenever it is asked to end, and goes on from the latest snapshot there, if
    /// any. What was passed over on the way to it is told by [`passed_over`](Self::passed_over).
    ///
    /// # Errors
    /// When there are snapshots and none is good, or the latest does not fit the learner.
    pub fn saved_in(self, checkpoints: impl Checkpoints + 'static, every: Every) -> Result<Self, TrainError> {
        let mut trainer = self.with_checkpoints(checkpoints, every);
        let latest = trainer.checkpoints.as_mut().map_or(Ok(None), |checkpoints| checkpoints.latest())?;
        match latest {
            Some(latest) => trainer.going_on_from(latest),
            None => Ok(trainer),
        }
    }

    /// Saves the run as [`saved_in`](Self::saved_in) does, from the beginning, whatever is there.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: impl Checkpoints + 'static, every: Every) -> Self {
        self.checkpoints = Some(Box::new(checkpoints));
        self.taking_snapshots(every)
    }

    /// Goes on from a snapshot of the same run.
    ///
    /// # Errors
    /// When it does not fit the learner.
    pub fn going_on_from(mut self, latest: LatestSnapshot) -> Result<Self, TrainError> {
        let LatestSnapshot { snapshot, passed_over } = latest;
        self.passed_over = passed_over;
        let save = self.settings.save;
        if self.rolls_back() {
            // Where no checkpoint was saved before, it is the beginning.
            self.way_back = Some(self.snapshot());
            let before = self.checkpoints.as_mut().map(|checkpoints| checkpoints.load(save.before(snapshot.step)));
            match before {
                Some(Ok(Some(before))) => self.way_back = Some(before),
                Some(Err(error)) => self.passed_over.push(error),
                Some(Ok(None)) | None => {}
            }
        }
        self.restore(&snapshot)?;
        if self.rolls_back() {
            self.next_way_back = save.is_due(self.step).then_some(snapshot);
        }
        // A run that was killed after it had saved may have left one too many; and fewer may be asked for now.
        let kept = self.kept(self.step);
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.remove_oldest(self.step, &kept)?;
        }
        Ok(self)
    }

    /// Saves the run before its first step: for one that begins with weights from elsewhere, which may change or go.
    #[must_use]
    pub fn saving_first(mut self) -> Self {
        self.settings.saves_first = true;
        self
    }

    /// Waits while there is no room to save, instead of ending with an error. Observers are told again and again, and may
    /// end the run ([`Observer::on_full_disk`]).
    #[must_use]
    pub fn waiting_for_space(mut self) -> Self {
        self.settings.waits_for_space = true;
        self
    }

    /// Tells the observers that the run goes on with other values than before.
    #[must_use]
    pub fn with_changes(self, changes: Vec<Difference>) -> Self {
        Self { changes, ..self }
    }

    /// Takes these for the evaluations up to here, in the place of those that the snapshot had: they may have been made on
    /// other examples, or be known from elsewhere.
    #[must_use]
    pub fn with_history(mut self, history: Vec<PastEvaluation>) -> Self {
        self.judged = history.last().map(|past| past.step).or(self.judged);
        self.progress.history = history;
        self
    }

    /// Trains by another learner from here on, which is given the state of the present one.
    ///
    /// # Errors
    /// When it is not made for the same weights.
    pub fn with_learner(mut self, mut learner: impl Learner + 'static) -> Result<Self, TrainError> {
        self.learner.fetch()?;
        learner.set_state(&self.learner.state())?;
        self.learner = Box::new(learner);
        Ok(self)
    }

    /// Sets the weights, in the order of the layout; what is remembered of them stays.
    ///
    /// # Errors
    /// When there are more or fewer of them, or a device fails.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), TrainError> {
        self.learner.fetch()?;
        let state = self.learner.state();
        let memory: Vec<_> =
            state.memory.into_iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
        let (updates, memory) = (state.updates, memory.iter().map(|(name, values)| (&**name, &**values)).collect());
        Ok(self.learner.set_state(&LearnerState { updates, weights, memory })?)
    }

    /// Steps taken so far, those left out included.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What happened so far.
    #[must_use]
    pub fn progress(&self) -> &RunProgress {
        &self.progress
    }

    /// What is trained.
    #[must_use]
    pub fn learner(&self) -> &dyn Learner {
        &*self.learner
    }

    /// All weights, in the order of the layout, as they are between runs.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        self.learner.state().weights
    }

    /// The same, cut into named tensors.
    #[must_use]
    pub fn named_weights(&self) -> NamedTensors {
        named(self.learner.layout(), "", self.weights())
    }

    /// Sets the weights of a model: every one that is built on `parameters` sees them.
    ///
    /// # Errors
    /// When the parameters are not those of the learner.
    pub fn show_weights(&self, parameters: &Parameters) -> Result<(), TrainError> {
        Ok(self.learner.layout().write(parameters, self.weights())?)
    }

    /// The first observer of a type.
    #[must_use]
    pub fn observer<O: Observer>(&self) -> Option<&O> {
        let mut observers = self.observers.iter().map(|observer| &**observer as &dyn std::any::Any);
        observers.find_map(|observer| observer.downcast_ref())
    }

    /// The name of the stage that the run is in; none when its stages are over.
    #[must_use]
    pub fn stage_name(&self) -> Option<&str> {
        self.stages.get(self.progress.stages.len()).map(|stage| stage.name.as_str())
    }

    /// The damaged checkpoints that were passed over on the way to that from which the run goes on, the newest first.
    #[must_use]
    pub fn passed_over(&self) -> &[CheckpointError] {
        &self.passed_over
    }

    /// The same, taken out.
    #[must_use]
    pub fn take_passed_over(&mut self) -> Vec<CheckpointError> {
        std::mem::take(&mut self.passed_over)
    }

    /// All that the rest of the run depends on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (layout, state) = (self.learner.layout(), self.learner.state());
        let memory = state.memory.iter().flat_map(|(name, values)| named(layout, &format!("{name}."), values));
        Snapshot {
            step: self.step,
            progress: self.progress.clone(),
            weights: named(layout, "", state.weights),
            memory: memory.collect(),
        }
    }

    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), TrainError> {
        let layout = self.learner.layout();
        let weights = flat(layout, "", &snapshot.weights)?;
        let names = self.learner.state().memory.into_iter().map(|(name, _)| name.to_owned());
        let memory = names.map(|name| flat(layout, &format!("{name}."), &snapshot.memory).map(|values| (name, values)));
        let memory = memory.collect::<Result<Vec<_>, _>>()?;
        let state = LearnerState {
            updates: snapshot.step.saturating_sub(snapshot.progress.skipped),
            weights: &weights,
            memory: memory.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect(),
        };
        self.learner.set_state(&state)?;
        self.step = snapshot.step;
        self.progress = snapshot.progress.clone();
        self.judged = self.progress.history.last().map(|past| past.step);
        // The best by other figures are no longer asked for.
        let figures = &self.settings.best;
        self.progress.best.retain(|figure, _| figures.contains(figure));
        Ok(())
    }

    /// Training examples of a step.
    pub(crate) fn examples_per_step(&self) -> u64 {
        u64::from(self.settings.accumulate) * self.batches.batch_size() as u64
    }

    pub(crate) fn rolls_back(&self) -> bool {
        matches!(self.settings.divergence, DivergencePolicy::RollBack { .. })
    }

    /// The steps of checkpoints that are to stay when the run is at `step`: the best, those that are the best again if the
    /// run rolls back, and the one that it rolls back to.
    pub(crate) fn kept(&self, step: u64) -> Vec<u64> {
        let ways_back = self.way_back.iter().chain(&self.next_way_back).map(|past| &past.progress);
        let best = ways_back.chain([&self.progress]).flat_map(|progress| progress.best.values()).map(|best| best.step);
        let mut kept: Vec<u64> = best.collect();
        kept.extend(self.rolls_back().then(|| self.settings.save.before(step)));
        kept
    }
}
