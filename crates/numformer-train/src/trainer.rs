//! How a training loop is put together.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use numformer_data::BatchSource;
use numformer_evaluate::{Evaluate, FigureName};
use numformer_model::Parameters;
use numformer_store::{CheckpointError, NamedTensors, flat, named};

use crate::difference::Difference;
use crate::divergence::DivergencePolicy;
use crate::every::{Every, every};
use crate::learners::learner::{Learner, LearnerState};
use crate::observers::observer::Observer;
use crate::run_progress::RunProgress;
use crate::schedule::{Schedule, WarmUp};
use crate::snapshot::{Checkpoints, LatestSnapshot, Snapshot};
use crate::stage::Stage;
use crate::stopping::stop_rule::{PastEvaluation, StopRule};
use crate::train_error::TrainError;

/// A training loop: it trains weights on batches. Each of its parts is a value that you pass in, either one of ours or
/// your own.
///
/// The next step depends only on the snapshot of a run and on its parts. So a run that is interrupted and resumed ends
/// with the same bits.
///
/// # Interrupting and resuming
/// A run [saved in](Self::saved_in) a store saves at its intervals, when it ends, and when an observer ends it, for
/// example with [`StopReason::Interrupted`](crate::StopReason::Interrupted). A trainer built from the same parts on the
/// same store resumes from the latest snapshot; [`RunStore`](numformer_store::RunStore) allows one trainer at a time, so
/// drop the first before. A resumed run takes the remaining steps. One that a stop rule ended stays ended while the rule
/// applies; an observer is asked again after the next step. [`run_until`](Self::run_until) only pauses, and does not
/// save.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_fused::FusedStep;
/// use numformer_model::{Parameters, StackConfig, TransformerConfig};
/// use numformer_problems::{Transpose, UniformEntries};
/// use numformer_train::{Adam, HostLearner, StopReason, Trainer, WarmUp};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
/// let sizes = StackConfig::new(16, 2, 1);
/// let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
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
    /// Parts of the run before the main batches.
    pub(crate) stages: Vec<Stage>,
    pub(crate) settings: Settings,
    pub(crate) schedule: Box<dyn Schedule>,
    pub(crate) evaluation: Option<Box<dyn Evaluate>>,
    pub(crate) stop_rules: Vec<Box<dyn StopRule>>,
    pub(crate) checkpoints: Option<Box<dyn Checkpoints>>,
    pub(crate) observers: Vec<Box<dyn Observer>>,
    pub(crate) step: u64,
    pub(crate) progress: RunProgress,
    /// Checkpoint to roll back to: the last regular one before the current step that is known to give a finite loss.
    pub(crate) way_back: Option<Snapshot>,
    /// The regular checkpoint at the current step. It is not yet known to give a finite loss.
    pub(crate) next_way_back: Option<Snapshot>,
    /// Damaged checkpoints that were passed over.
    passed_over: Vec<CheckpointError>,
    /// The values that differ from before. Emptied once the observers have been told.
    pub(crate) changes: Vec<Difference>,
    /// The step of the last evaluation that was due.
    pub(crate) judged: Option<u64>,
    /// Whether the observers have been told that the run began or goes on.
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

    /// Sets the name of the run, which observers are told.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Sets the total number of optimizer updates, including those of stages.
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

    /// Sets the seed of dropout.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Takes each step on this many batches and averages their gradients. This equals a step on one batch of their
    /// total size. 0 counts as 1.
    #[must_use]
    pub fn with_accumulation(mut self, batches: u32) -> Self {
        self.settings.accumulate = batches.max(1);
        self
    }

    /// Scales gradients with a larger Euclidean norm down to this norm.
    #[must_use]
    pub fn with_clip_norm(mut self, clip_norm: f64) -> Self {
        self.settings.clip_norm = clip_norm;
        self
    }

    /// Sets the decoupled weight decay. With Adam, this gives AdamW.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.settings.weight_decay = weight_decay;
        self
    }

    /// Sets what to do about a step whose loss or gradient is not finite. Call this before
    /// [`saved_in`](Self::saved_in).
    #[must_use]
    pub fn with_divergence(mut self, divergence: DivergencePolicy) -> Self {
        self.settings.divergence = divergence;
        self
    }

    /// Judges the model at this interval, and at the end of the run.
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

    /// Also keeps the best checkpoint by a figure: see [`RunProgress::best`]. It is saved when the evaluation is
    /// made, also between the intervals of [`saved_in`](Self::saved_in). Without an evaluation that has this figure, or
    /// without a store, nothing is kept.
    #[must_use]
    pub fn keeping_best(mut self, figure: impl Into<FigureName>) -> Self {
        self.settings.best.push(figure.into());
        self
    }

    /// Adds a stage after the existing stages and before the trainer's own batches.
    #[must_use]
    pub fn with_stage(mut self, stage: Stage) -> Self {
        self.stages.push(stage);
        self
    }

    /// Adds an observer.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        let mut observer = Some(observer);
        // A boxed observer is not boxed again, so that it is found by its own type.
        let boxed = (&mut observer as &mut dyn Any).downcast_mut::<Option<Box<dyn Observer>>>().and_then(Option::take);
        let observer = observer.map(|observer| Box::new(observer) as Box<dyn Observer>);
        self.observers.extend(boxed.or(observer));
        self
    }

    /// Sets how often, at least, to read the outcomes of a learner that takes many steps at once.
    #[must_use]
    pub fn reporting(mut self, every: Every) -> Self {
        self.settings.report = every;
        self
    }

    /// Sets how often to take a regular snapshot. The run can roll back to it. It is also saved, if the run is saved.
    #[must_use]
    pub fn taking_snapshots(mut self, every: Every) -> Self {
        self.settings.save = every;
        self
    }

    /// Saves the run at this interval, at its end, and whenever it is asked to end. Goes on from the latest snapshot in
    /// `checkpoints`, if there is one. [`passed_over`](Self::passed_over) lists the damaged ones that were passed over
    /// to find it.
    ///
    /// # Errors
    /// When there are snapshots but none is good, or the latest does not fit the learner.
    pub fn saved_in(self, checkpoints: impl Checkpoints + 'static, every: Every) -> Result<Self, TrainError> {
        let mut trainer = self.with_checkpoints(checkpoints, every);
        let latest = trainer.checkpoints.as_mut().map_or(Ok(None), |checkpoints| checkpoints.latest())?;
        match latest {
            Some(latest) => trainer.going_on_from(latest),
            None => Ok(trainer),
        }
    }

    /// Saves the run as [`saved_in`](Self::saved_in) does, but starts from the beginning even if there are snapshots.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: impl Checkpoints + 'static, every: Every) -> Self {
        self.checkpoints = Some(Box::new(checkpoints));
        self.taking_snapshots(every)
    }

    /// Goes on from a snapshot of the same run.
    ///
    /// # Errors
    /// When the snapshot does not fit the learner.
    pub fn going_on_from(mut self, latest: LatestSnapshot) -> Result<Self, TrainError> {
        let LatestSnapshot { snapshot, passed_over } = latest;
        self.passed_over = passed_over;
        let save = self.settings.save;
        if self.rolls_back() {
            // If no earlier checkpoint was saved, the run rolls back to its beginning.
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
        // A run that was killed after saving may have left one checkpoint too many. Also, fewer may be asked for now.
        self.remove_oldest()?;
        Ok(self)
    }

    /// Saves the run before its first step. Use this if the run begins with weights from elsewhere, which may change or
    /// disappear.
    #[must_use]
    pub fn saving_first(mut self) -> Self {
        self.settings.saves_first = true;
        self
    }

    /// Waits while there is no room to save, instead of ending with an error. Observers are told again and again, and
    /// may end the run ([`Observer::on_full_disk`]).
    #[must_use]
    pub fn waiting_for_space(mut self) -> Self {
        self.settings.waits_for_space = true;
        self
    }

    /// Tells the observers that the run goes on with these changed values.
    #[must_use]
    pub fn with_changes(self, changes: Vec<Difference>) -> Self {
        Self { changes, ..self }
    }

    /// Replaces the snapshot's evaluations up to here with `history`. Use this if the snapshot's evaluations were made
    /// on other examples, or if the evaluations are known from elsewhere.
    #[must_use]
    pub fn with_history(mut self, history: Vec<PastEvaluation>) -> Self {
        self.judged = history.last().map(|past| past.step).or(self.judged);
        self.progress.history = history;
        self
    }

    /// Trains with another learner from here on. The new learner gets the state of the current one.
    ///
    /// # Errors
    /// When the new learner is not made for the same weights.
    pub fn with_learner(mut self, mut learner: impl Learner + 'static) -> Result<Self, TrainError> {
        self.learner.fetch()?;
        learner.set_state(&self.learner.state())?;
        self.learner = Box::new(learner);
        Ok(self)
    }

    /// Sets the weights, in the order of the layout. What is remembered about them stays the same.
    ///
    /// # Errors
    /// When the number of weights is wrong, or a device fails.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<(), TrainError> {
        self.learner.fetch()?;
        let state = self.learner.state();
        let memory: Vec<_> =
            state.memory.into_iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
        let (updates, memory) = (state.updates, memory.iter().map(|(name, values)| (&**name, &**values)).collect());
        Ok(self.learner.set_state(&LearnerState { updates, weights, memory })?)
    }

    /// Steps taken so far, including those left out.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What happened so far.
    #[must_use]
    pub fn progress(&self) -> &RunProgress {
        &self.progress
    }

    /// The learner that is trained.
    #[must_use]
    pub fn learner(&self) -> &dyn Learner {
        &*self.learner
    }

    /// All weights, in the order of the layout. They are up to date between runs.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        self.learner.state().weights
    }

    /// All weights, as named tensors.
    #[must_use]
    pub fn named_weights(&self) -> NamedTensors {
        named(self.learner.layout(), "", self.weights())
    }

    /// Copies the weights to `parameters`. Every model built on `parameters` sees them.
    ///
    /// # Errors
    /// When the parameters are not those of the learner.
    pub fn show_weights(&self, parameters: &Parameters) -> Result<(), TrainError> {
        Ok(self.learner.layout().write(parameters, self.weights())?)
    }

    /// The first observer of type `O`, also if it was added as a `Box<dyn Observer>`.
    #[must_use]
    pub fn observer<O: Observer>(&self) -> Option<&O> {
        let mut observers = self.observers.iter().map(|observer| &**observer as &dyn Any);
        observers.find_map(|observer| observer.downcast_ref())
    }

    /// Like [`observer`](Self::observer), for changing it.
    #[must_use]
    pub fn observer_mut<O: Observer>(&mut self) -> Option<&mut O> {
        let mut observers = self.observers.iter_mut().map(|observer| &mut **observer as &mut dyn Any);
        observers.find_map(|observer| observer.downcast_mut())
    }

    /// The name of the stage that the run is in, or `None` when all stages are over.
    #[must_use]
    pub fn stage_name(&self) -> Option<&str> {
        self.stages.get(self.progress.stages.len()).map(|stage| stage.name.as_str())
    }

    /// The damaged checkpoints that were passed over when the run went on, the newest first.
    #[must_use]
    pub fn passed_over(&self) -> &[CheckpointError] {
        &self.passed_over
    }

    /// Takes out the errors of [`passed_over`](Self::passed_over).
    #[must_use]
    pub fn take_passed_over(&mut self) -> Vec<CheckpointError> {
        std::mem::take(&mut self.passed_over)
    }

    /// Everything that the rest of the run depends on.
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
        Ok(())
    }

    /// Forgets the best evaluations by figures that are not asked for, and removes their checkpoints. Only when the run
    /// begins is it known what is asked for.
    pub(crate) fn forget_unasked(&mut self) -> Result<(), TrainError> {
        let figures = &self.settings.best;
        let ways_back = self.way_back.iter_mut().chain(&mut self.next_way_back).map(|past| &mut past.progress);
        for progress in ways_back.chain([&mut self.progress]) {
            progress.best.retain(|figure, _| figures.contains(figure));
        }
        self.remove_oldest()
    }

    fn remove_oldest(&mut self) -> Result<(), TrainError> {
        let kept = self.kept(self.step);
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.remove_oldest(self.step, &kept)?;
        }
        Ok(())
    }

    /// Training examples per step.
    pub(crate) fn examples_per_step(&self) -> u64 {
        u64::from(self.settings.accumulate) * self.batches.batch_size() as u64
    }

    pub(crate) fn rolls_back(&self) -> bool {
        matches!(self.settings.divergence, DivergencePolicy::RollBack { .. })
    }

    /// The steps of the checkpoints to keep when the run is at `step`: the best ones, those that are the best again if
    /// the run rolls back, and the one that it rolls back to.
    pub(crate) fn kept(&self, step: u64) -> Vec<u64> {
        let ways_back = self.way_back.iter().chain(&self.next_way_back).map(|past| &past.progress);
        let best = ways_back.chain([&self.progress]).flat_map(|progress| progress.best.values()).map(|best| best.step);
        let mut kept: Vec<u64> = best.collect();
        kept.extend(self.rolls_back().then(|| self.settings.save.before(step)));
        kept
    }
}
