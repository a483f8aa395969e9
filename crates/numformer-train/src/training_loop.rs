//! How a training loop runs.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use numformer_data::{Batch, TaskError, prefetch};
use numformer_evaluate::{EvaluateError, Evaluation, Watch};
use numformer_model::StepOutcome;
use numformer_store::CheckpointError;

use crate::divergence::{DivergencePolicy, DivergenceReport, Remedy};
use crate::learners::learner::{LearnerWeights, Step, Wish};
use crate::observers::observer::{EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
use crate::optimizers::optimizer::Update;
use crate::run_progress::Best;
use crate::snapshot::Snapshot;
use crate::stage::Stage;
use crate::stopping::stop_rule::PastEvaluation;
use crate::train_error::TrainError;
use crate::trainer::{Settings, Trainer};

/// Time between attempts to save while there is no room.
const FULL_DISK_RETRY: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// Why it ended.
    pub stop: StopReason,
    /// Steps taken in total, including those left out.
    pub step: u64,
    /// The checkpoint written at the end. `None` if no checkpoints are written, or if there was nothing left to do.
    pub checkpoint: Option<PathBuf>,
}

/// The batches of the next step and of all later ones.
type Batches = dyn Iterator<Item = Result<Batch, TaskError>>;

impl Trainer {
    /// Trains up to the last step, or until an observer or a stop rule ends the run.
    ///
    /// # Errors
    /// When the number of steps is not given, a stage has no end, a batch cannot be made, a loss or gradient is not
    /// finite, or a checkpoint cannot be written.
    pub fn run(&mut self) -> Result<RunReport, TrainError> {
        self.run_until(self.settings.steps)
    }

    /// Like [`run`](Self::run), but pauses once `step` steps have been taken in total, if there are more. A pause
    /// changes nothing: the run does not end, and observers are not told.
    ///
    /// # Errors
    /// When [`run`](Self::run) would fail.
    pub fn run_until(&mut self, step: u64) -> Result<RunReport, TrainError> {
        if self.settings.steps == 0 {
            return Err(TrainError::NoSteps);
        }
        self.stages.iter().try_for_each(Stage::check)?;
        let mut observers = Observers(std::mem::take(&mut self.observers));
        let ended = self.run_observed(step.min(self.settings.steps), &mut observers).and_then(|report| {
            self.learner.fetch()?;
            Ok(report)
        });
        let end = match &ended {
            Ok(RunReport { stop: StopReason::Paused, .. }) => None,
            Ok(RunReport { stop, .. }) => Some(stop.clone()),
            Err(error) => Some(StopReason::Failed(error.to_string())),
        };
        if let Some(stop) = end {
            self.is_under_way = false;
            observers.0.iter_mut().for_each(|observer| observer.on_end(&stop));
        }
        self.observers = observers.0;
        ended
    }

    fn run_observed(&mut self, until: u64, observers: &mut Observers) -> Result<RunReport, TrainError> {
        let mut flow = if self.is_under_way { ControlFlow::Continue(()) } else { self.begin(observers)? };
        flow = self.agreed(flow)?;
        let mut batches = self.training_batches();
        let mut saved = None;
        // Learning rate and gradient norm of the last step.
        let mut last = (self.lr(self.step), f64::NAN);
        while flow.is_continue() && (self.step < until || self.progress.unjudged) {
            // An evaluation that was interrupted is done again, before anything else.
            if !std::mem::take(&mut self.progress.unjudged) {
                let most = self.steps_ahead(until);
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
                    flow = self.agreed(flow)?;
                    continue;
                }
                flow = first(flow, self.show_observers(observers)?);
            }
            // Every observer is asked, even if one already wants a checkpoint.
            let wants_checkpoint =
                observers.0.iter_mut().filter_map(|o| o.wants_checkpoint().then_some(())).count() > 0;
            let is_finished = self.step == self.settings.steps;
            let is_due = self.settings.evaluate.is_due(self.step);
            let (mut is_best, mut evaluation) = (false, None);
            if is_finished || is_due {
                match self.judge(last, observers) {
                    Ok(None) => {}
                    Ok(Some(report)) => {
                        flow = first(flow, observers.tell(|o| o.on_evaluation(&report)));
                        flow = first(flow, self.note_evaluation(&report, is_due));
                        if is_due {
                            is_best = self.note_best(&report);
                            evaluation = Some(report.evaluation);
                        }
                    }
                    Err(Unjudged::Failed(error)) => return Err(error),
                    Err(Unjudged::Interrupted(stop)) => {
                        self.progress.unjudged = true;
                        flow = first(flow, stop.map_or(ControlFlow::Continue(()), ControlFlow::Break));
                    }
                    Err(Unjudged::Diverged(diverged)) => {
                        flow = self.deal_with(&diverged, observers)?.1;
                        flow = self.agreed(flow)?;
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
            let is_regular = self.settings.save.is_due(self.step);
            let checkpoint = is_finished || is_regular || is_best || wants_checkpoint;
            let wish = self.learner.agree(Wish { flow, checkpoint })?;
            flow = wish.flow;
            if self.progress.unjudged && flow.is_continue() {
                flow = ControlFlow::Break(StopReason::Interrupted);
            }
            // A run that is asked to stop is saved: nothing is lost.
            if wish.checkpoint || flow.is_break() {
                self.learner.fetch()?;
                let snapshot = self.snapshot();
                saved = self.save(&snapshot, observers)?;
                if is_regular && self.rolls_back() {
                    self.next_way_back = Some(snapshot);
                }
                if let Some(path) = &saved {
                    flow = first(flow, observers.tell(|o| o.on_checkpoint(path)));
                }
                // Only a rank with a store was told.
                flow = self.agreed(flow)?;
            }
        }
        let is_over = self.step >= self.settings.steps;
        let stop = flow.break_value().unwrap_or(if is_over { StopReason::Completed } else { StopReason::Paused });
        Ok(RunReport { stop, step: self.step, checkpoint: saved })
    }

    /// Whether the run goes on, on all ranks.
    fn agreed(&mut self, flow: ControlFlow<StopReason>) -> Result<ControlFlow<StopReason>, TrainError> {
        Ok(self.learner.agree(Wish { flow, checkpoint: false })?.flow)
    }

    /// Tells the observers that the run begins or goes on.
    fn begin(&mut self, observers: &mut Observers) -> Result<ControlFlow<StopReason>, TrainError> {
        self.is_under_way = true;
        self.forget_unasked()?;
        if self.rolls_back() && self.step == 0 {
            self.way_back = Some(self.snapshot());
        }
        // A change is told only once.
        let changes = std::mem::take(&mut self.changes);
        let how = self.learner.how();
        let Settings { steps, evaluate, .. } = self.settings;
        let start = Start {
            name: &self.name,
            step: self.step,
            steps,
            examples_per_step: self.examples_per_step(),
            roll_backs: self.progress.roll_backs,
            parameters: self.learner.layout().len(),
            how: &how,
            changes: &changes,
            keeps_evaluation: evaluate.is_due(self.step) || self.step == steps || self.judged == Some(self.step),
        };
        let mut flow = observers.tell(|o| o.on_start(&start));
        flow = first(flow, self.ask_stop_rules());
        if self.step == 0 && self.settings.saves_first {
            let snapshot = self.snapshot();
            self.save(&snapshot, observers)?;
        }
        if let (0, Some(report)) = (self.step, self.stage_report()) {
            flow = first(flow, observers.tell(|o| o.on_stage(&report)));
        }
        Ok(flow)
    }

    /// How many steps to take next: as many as the learner takes at once, but not past the point where something else
    /// is due.
    fn steps_ahead(&self, until: u64) -> u64 {
        let Settings { evaluate, save, report, .. } = self.settings;
        let begin = self.progress.stages.last().copied().unwrap_or(0);
        let stage = self.stages.get(self.progress.stages.len());
        let rest_of_stage = stage.and_then(|stage| begin.saturating_add(stage.steps?).checked_sub(self.step));
        let rests = [evaluate.rest(self.step), save.rest(self.step), report.rest(self.step), until - self.step];
        rests.into_iter().chain(rest_of_stage).fold(self.learner.steps_at_once(), u64::min).max(1)
    }

    /// Takes `steps` steps and returns the outcome of each, up to the first that is not finite.
    fn learn(&mut self, steps: u64, batches: &mut Batches) -> Result<Vec<StepOutcome>, TrainError> {
        let Settings { seed, accumulate, weight_decay, clip_norm, .. } = self.settings;
        let accumulate = u64::from(accumulate);
        let updates: Vec<_> = (self.step..self.step + steps)
            .map(|step| (step, Update { weight_decay, ..Update::at(step + 1, self.lr(step)) }))
            .collect();
        let mut next = || batches.next().expect("a stream of batches has no end");
        let mut planned = updates.into_iter().map(|(step, update)| {
            let batches = (0..accumulate).map(|_| next()).collect::<Result<_, _>>()?;
            Ok(Step { batches, first: step * accumulate, seed, update, clip_norm })
        });
        let outcomes = self.learner.learn(&mut planned)?;
        let found = outcomes.len();
        if found == 0 || found as u64 > steps {
            return Err(TrainError::Outcomes { expected: steps, found });
        }
        Ok(outcomes)
    }

    /// Notes that a step was taken, or that it could not be taken.
    fn note_step(&mut self, outcome: StepOutcome) -> Result<StepReport, Diverged> {
        let StepOutcome { loss, gradient_norm } = outcome;
        let lr = self.lr(self.step);
        if !outcome.is_finite() {
            return Err(Diverged { step: self.step + 1, loss, gradient_norm, lr });
        }
        self.step += 1;
        self.progress.skipped_in_a_row = 0;
        let examples = self.step * self.examples_per_step();
        Ok(StepReport { step: self.step, examples, loss, lr, gradient_norm })
    }

    /// The learning rate of the step that follows `step` steps.
    fn lr(&self, step: u64) -> f64 {
        let planned = self.schedule.lr(step);
        match self.settings.divergence {
            DivergencePolicy::RollBack { lr_factor, .. } => {
                planned * lr_factor.powi(i32::try_from(self.progress.roll_backs).unwrap_or(i32::MAX))
            }
            DivergencePolicy::Stop | DivergencePolicy::Skip { .. } => planned,
        }
    }

    /// Deals with a divergence as the policy says, and tells the observers.
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

    /// Deals with a step as the policy says. The step could not be taken, or it was taken and should not have been.
    fn remedy(&mut self, diverged: u64) -> Result<Remedy, TrainError> {
        match self.settings.divergence {
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
                if let Some(checkpoints) = &mut self.checkpoints {
                    checkpoints.remove_after(self.step)?;
                }
                Ok(Remedy::RolledBack)
            }
        }
    }

    /// The report at the beginning of a stage, or `None` if the run has no stages.
    fn stage_report(&self) -> Option<StageReport> {
        let name = self.stage_name().unwrap_or(&self.name).to_owned();
        (!self.stages.is_empty()).then_some(StageReport { step: self.step, stage: name })
    }

    fn stage_is_over(&self, evaluation: Option<&Evaluation>) -> bool {
        let Some(stage) = self.stages.get(self.progress.stages.len()) else { return false };
        let begin = self.progress.stages.last().copied().unwrap_or(0);
        stage.steps.is_some_and(|steps| self.step - begin >= steps)
            || stage.until.as_ref().zip(evaluation).is_some_and(|(goal, evaluation)| goal.is_reached(evaluation))
    }

    /// Judges the model on the kind of examples it currently learns from, if there is an evaluation for them. `lr` and
    /// `gradient_norm` are those of the last step.
    fn judge(
        &mut self,
        (lr, gradient_norm): (f64, f64),
        observers: &mut Observers,
    ) -> Result<Option<EvaluationReport>, Unjudged> {
        let stage = self.stages.get_mut(self.progress.stages.len());
        let (stage, evaluation) = match stage {
            None => (None, &mut self.evaluation),
            Some(stage) => (Some(stage.name.clone()), &mut stage.evaluation),
        };
        let Some(evaluation) = evaluation else { return Ok(None) };
        let mut stop = None;
        let mut ask = || match observers.tell(|o| o.while_evaluating()) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(reason) => {
                stop = Some(reason);
                ControlFlow::Break(())
            }
        };
        let judged = evaluation.evaluate(&mut LearnerWeights(&mut *self.learner), &mut Watch::new(&mut ask));
        match (judged, stop) {
            (Ok(mut evaluation), _) => {
                drop_not_finite(&mut evaluation);
                let examples = self.step * self.examples_per_step();
                Ok(Some(EvaluationReport { step: self.step, examples, stage, evaluation }))
            }
            (Err(EvaluateError::Interrupted), stop) => Err(Unjudged::Interrupted(stop)),
            (Err(EvaluateError::NoNumbers { loss }), _) => {
                Err(Unjudged::Diverged(Diverged { step: self.step, loss, gradient_norm, lr }))
            }
            (Err(error), _) => Err(Unjudged::Failed(error.into())),
        }
    }

    /// Notes an evaluation, and asks whether the run should end. The evaluation at the end of a run may not be due. A
    /// longer run would not make it, so it is forgotten then.
    fn note_evaluation(&mut self, report: &EvaluationReport, is_due: bool) -> ControlFlow<StopReason> {
        if report.stage.is_some() {
            return ControlFlow::Continue(());
        }
        self.progress.history.push(PastEvaluation::from(report));
        let flow = self.ask_stop_rules();
        if !is_due {
            self.progress.history.pop();
        }
        flow
    }

    fn ask_stop_rules(&self) -> ControlFlow<StopReason> {
        match self.stop_rules.iter().find_map(|rule| rule.reason(&self.progress.history)) {
            None => ControlFlow::Continue(()),
            Some(reason) => ControlFlow::Break(StopReason::Asked(reason)),
        }
    }

    /// Notes each figure that is better than ever before, and returns whether there was one.
    fn note_best(&mut self, report: &EvaluationReport) -> bool {
        let mut is_best = false;
        for name in self.settings.best.iter().filter(|_| report.stage.is_none()) {
            let figure = name.of(&report.evaluation).filter(|figure| figure.value.is_finite());
            let Some(figure) = figure else { continue };
            if self.progress.best.get(name).is_none_or(|best| figure.is_better_than(best.value)) {
                self.progress.best.insert(name.clone(), Best { step: report.step, value: figure.value });
                is_best = true;
            }
        }
        is_best
    }

    /// Shows the weights to the observers that want them.
    fn show_observers(&mut self, observers: &mut Observers) -> Result<ControlFlow<StopReason>, TrainError> {
        let mut flow = ControlFlow::Continue(());
        for observer in &mut observers.0 {
            if observer.wants_weights() {
                self.learner.fetch()?;
                let weights = self.learner.state().weights;
                flow = first(flow, observer.on_weights(self.step, self.learner.layout(), weights));
            }
        }
        Ok(flow)
    }

    /// The batches of the next step and of all later ones, made ahead of time.
    fn training_batches(&self) -> Box<Batches> {
        let stage = self.stages.get(self.progress.stages.len());
        let source = Arc::clone(stage.map_or(&self.batches, |stage| &stage.batches));
        let begin = self.step * u64::from(self.settings.accumulate);
        Box::new(prefetch(source, begin, self.learner.data_workers()))
    }

    fn save(&mut self, snapshot: &Snapshot, observers: &mut Observers) -> Result<Option<PathBuf>, TrainError> {
        let kept = self.kept(snapshot.step);
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(None) };
        loop {
            let written = observers.0.iter_mut().try_for_each(|o| o.before_checkpoint(snapshot.step));
            let saved = written.map_err(CheckpointError::Logs).and_then(|()| {
                let path = checkpoints.save(snapshot)?;
                checkpoints.remove_oldest(snapshot.step, &kept)?;
                Ok(path)
            });
            match saved {
                Err(error) if error.is_full_disk() && self.settings.waits_for_space => {
                    if observers.tell(|o| o.on_full_disk(&error)).is_break() {
                        return Err(error.into());
                    }
                    thread::sleep(FULL_DISK_RETRY);
                }
                saved => return Ok(Some(saved?)),
            }
        }
    }
}

/// Drops the custom figures that are not finite: they carry no information, and JSON cannot express them.
fn drop_not_finite(evaluation: &mut Evaluation) {
    let Evaluation { custom, by_dimension, by_problem, by_law, .. } = evaluation;
    custom.retain(|_, figure| figure.value.is_finite());
    by_dimension.values_mut().chain(by_problem.values_mut()).chain(by_law.values_mut()).for_each(drop_not_finite);
}

/// Why the model was not judged.
enum Unjudged {
    /// For this reason, or for one that another rank has.
    Interrupted(Option<StopReason>),
    Diverged(Diverged),
    Failed(TrainError),
}

impl From<TrainError> for Unjudged {
    fn from(error: TrainError) -> Self {
        Self::Failed(error)
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
    /// Tells every observer, regardless of what the others return. Returns the first request to stop.
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

#[cfg(test)]
mod tests;
