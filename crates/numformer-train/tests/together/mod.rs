//! What ranks must do, whatever connects them: each check is a collective call.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{RankBatches, Split};
use numformer_distributed::{Communicator, CommunicatorError, Solo, share};
use numformer_evaluate::{Evaluate, Evaluator, Watch};
use numformer_fused::{FusedStep, Precision};
use numformer_model::{Autodiff, FlatLayout, HostWeights, Mode, Parameters, TokenRows, TrainingStep, Transformer};
use numformer_train::{
    Adam, Checkpoints, DivergencePolicy, HostLearner, LatestSnapshot, Muon, Observer, Snapshot, StepReport, StopReason,
    Trainer, every,
};

mod setting;

use self::setting::{Losses, Ranks, config, task, trainer_of};

type Checked = Result<(), Box<dyn Error>>;

/// A check by its name.
pub(crate) type Check = (&'static str, fn(&Ranks) -> Checked);

/// All checks, in the order in which ranks must make them.
pub(crate) const CHECKS: [Check; 14] = [
    ("sums have the same bits on all ranks, and bytes arrive", vectors_and_bytes),
    ("a rank that differs is refused", a_rank_that_differs),
    ("losses are those of one rank", losses_are_those_of_one_rank),
    ("losses are those of one rank in bf16", losses_in_bf16),
    ("losses with Muon are those of one rank, and weights the same on all", with_muon),
    ("the same run has the same bits", repeated_runs),
    ("batches of a step, and batches that do not divide, are weighted by their tokens", accumulation),
    ("a stop of one rank ends all", a_stop_of_one_rank),
    ("a run goes on with another number of ranks", another_number_of_ranks),
    ("what the observer of one rank asks at a checkpoint, all do", checkpoints_and_stops),
    ("a step that diverges on one rank sends all back", a_step_that_diverges_on_one_rank),
    ("an evaluation that one rank interrupts is made again by all", an_interrupted_evaluation),
    ("a rank without examples takes part", a_rank_without_examples),
    ("an evaluation is that of one rank to the last bit", evaluations_are_those_of_one_rank),
];

fn check(holds: bool, what: impl std::fmt::Display) -> Checked {
    if holds { Ok(()) } else { Err(what.to_string().into()) }
}

fn vectors_and_bytes(ranks: &Ranks) -> Checked {
    let (rank, size) = (ranks.rank(), ranks.size());
    check(rank < size, format!("rank {rank} of {size}"))?;
    // Sums that round.
    let mut values: Vec<f32> = (0..1_500_000).map(|i| 1.0 / (1 + i % 1000 + rank) as f32).collect();
    ranks.sum(&mut values)?;
    let exact = |i: usize| (0..size).map(|rank| 1.0 / (1 + i % 1000 + rank) as f64).sum::<f64>();
    let near = |(i, value): (usize, &f32)| (f64::from(*value) - exact(i)).abs() < 1e-6;
    check(values.iter().enumerate().all(near), "sums")?;
    let bits: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let all = ranks.gather(&bits)?;
    check(all.len() == size && all.iter().all(|other| *other == bits), "the same bits on all ranks")?;
    for from in 0..size {
        // Of another length on each rank.
        let mut bytes = vec![rank as u8; 3 * rank];
        ranks.broadcast(&mut bytes, from)?;
        check(bytes == vec![from as u8; 3 * from], format!("{bytes:?} from rank {from}"))?;
    }
    check(ranks.any(rank + 1 == size)? && !ranks.any(false)?, "any")
}

fn a_rank_that_differs(ranks: &Ranks) -> Checked {
    ranks.check_same(&[("version", "1".to_owned())])?;
    if ranks.size() > 1 {
        let version = if ranks.rank() == 1 { "2" } else { "1" };
        match (ranks.check_same(&[("seed", "0".to_owned()), ("version", version.to_owned())]), ranks.rank()) {
            (Err(CommunicatorError::Different { rank: 1, expected, found, .. }), 1) => {
                check(expected == "1" && found == "2", format!("{expected}, {found}"))?;
            }
            (Err(CommunicatorError::OtherRank { rank: 1, .. }), rank) if rank != 1 => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

fn trainer(precision: Precision, ranks: &Ranks) -> Result<Trainer, Box<dyn Error>> {
    let task = task();
    let parameters = Parameters::random(0, &Device::Cpu);
    let step = FusedStep::with_precision(&config(&task), &parameters, precision)?;
    trainer_of(step, Adam::default(), &parameters, &task, ranks)
}

/// Losses and weights at the end of a run.
fn outcome(mut trainer: Trainer) -> Result<(Vec<f64>, Vec<f32>), Box<dyn Error>> {
    trainer.run()?;
    let losses = trainer.observer::<Losses>().ok_or("the losses are gone")?.0.clone();
    Ok((losses, trainer.weights().to_vec()))
}

/// Whether losses agree: those of the first steps to the rounding of a sum, and the later ones up to what training makes
/// of it.
fn agree(found: &[f64], expected: &[f64], [first, later]: [f64; 2]) -> Checked {
    check(found.len() == expected.len(), format!("{} and {} losses", found.len(), expected.len()))?;
    for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
        let limit = if step < 5 { first } else { later };
        check((found - expected).abs() <= limit * expected, format!("step {step}: {found}, alone {expected}"))?;
    }
    Ok(())
}

fn losses_are_those_of_one_rank(ranks: &Ranks) -> Checked {
    let (alone, _) = outcome(trainer(Precision::F32, &(Arc::new(Solo) as Ranks))?)?;
    let (together, _) = outcome(trainer(Precision::F32, ranks)?)?;
    check(alone[199] < 0.8 * alone[0], "it learns")?;
    agree(&together, &alone, [2e-6, 2e-3])
}

fn losses_in_bf16(ranks: &Ranks) -> Checked {
    let (alone, _) = outcome(trainer(Precision::Bf16, &(Arc::new(Solo) as Ranks))?)?;
    let (together, weights) = outcome(trainer(Precision::Bf16, ranks)?)?;
    agree(&together, &alone, [1e-4, 2e-2])?;
    check(outcome(trainer(Precision::Bf16, ranks)?)? == (together, weights), "the same bits")
}

/// The update of a matrix needs its whole gradient: it is made on every rank, from the sum over all ranks.
fn with_muon(ranks: &Ranks) -> Checked {
    let run = |ranks: &Ranks| {
        let task = task();
        let parameters = Parameters::random(0, &Device::Cpu);
        let step = FusedStep::new(&config(&task), &parameters)?;
        outcome(trainer_of(step, Muon::default(), &parameters, &task, ranks)?)
    };
    let (alone, _) = run(&(Arc::new(Solo) as Ranks))?;
    let (together, weights) = run(ranks)?;
    check(alone[199] < 0.8 * alone[0], "it learns")?;
    agree(&together, &alone, [1e-4, 5e-2])?;
    let weights: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    check(ranks.gather(&weights)?.iter().all(|other| *other == weights), "the same weights on all ranks")
}

fn repeated_runs(ranks: &Ranks) -> Checked {
    let first = outcome(trainer(Precision::F32, ranks)?)?;
    check(outcome(trainer(Precision::F32, ranks)?)? == first, "the same bits in the second run")?;
    let weights: Vec<u8> = first.1.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    check(ranks.gather(&weights)?.iter().all(|other| *other == weights), "the same weights on all ranks")
}

fn accumulation(ranks: &Ranks) -> Checked {
    for with_autodiff in [false, true] {
        let run = |ranks: &Ranks| {
            let task = task();
            let parameters = Parameters::random(0, &Device::Cpu);
            let step: Box<dyn TrainingStep> = if with_autodiff {
                let model = Transformer::init(&config(&task), &parameters)?;
                Box::new(Autodiff::new(model, &parameters)?)
            } else {
                Box::new(FusedStep::new(&config(&task), &parameters)?)
            };
            let learner = HostLearner::new(step, Adam::default(), &parameters)?.across(Arc::clone(ranks));
            let source = RankBatches::new(task.batches(0, Split::Train, 11), share(11, ranks));
            let trainer = Trainer::new(learner, source).with_steps(4).with_accumulation(3);
            outcome(trainer.with_observer(Losses::default()))
        };
        agree(&run(ranks)?.0, &run(&(Arc::new(Solo) as Ranks))?.0, [5e-6, 5e-6])?;
    }
    Ok(())
}

/// Asks for the end on one rank, for a reason.
struct StopAt {
    step: u64,
    is_here: bool,
}

impl Observer for StopAt {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        if self.is_here && step.step == self.step {
            return ControlFlow::Break(StopReason::Asked("enough".to_owned()));
        }
        ControlFlow::Continue(())
    }
}

fn a_stop_of_one_rank(ranks: &Ranks) -> Checked {
    for asking in 0..ranks.size() {
        let is_here = ranks.rank() == asking;
        let report = trainer(Precision::F32, ranks)?.with_observer(StopAt { step: 7, is_here }).run()?;
        let expected = (7, StopReason::Asked("enough".to_owned()));
        check((report.step, report.stop.clone()) == expected, format!("{report:?}"))?;
    }
    Ok(())
}

/// Keeps the last snapshot in memory.
#[derive(Clone, Default)]
struct Kept(Arc<std::sync::Mutex<Option<Snapshot>>>);

impl Checkpoints for Kept {
    fn latest(&mut self) -> Result<Option<LatestSnapshot>, numformer_store::CheckpointError> {
        Ok(None)
    }

    fn load(&mut self, _step: u64) -> Result<Option<Snapshot>, numformer_store::CheckpointError> {
        Ok(None)
    }

    fn save(&mut self, snapshot: &Snapshot) -> Result<std::path::PathBuf, numformer_store::CheckpointError> {
        *self.0.lock().expect("no panic") = Some(snapshot.clone());
        Ok(std::path::PathBuf::new())
    }
}

fn another_number_of_ranks(ranks: &Ranks) -> Checked {
    let solo: Ranks = Arc::new(Solo);
    let (whole, _) = outcome(trainer(Precision::F32, &solo)?)?;
    // The first rank alone begins; all go on; the first goes on alone.
    let kept = Kept::default();
    let mut losses = Vec::new();
    for (until, ranks_now) in [(60, &solo), (130, ranks), (200, &solo)] {
        if ranks.rank() == 0 || ranks_now.size() > 1 || ranks.size() == 1 {
            let mut trainer = trainer(Precision::F32, ranks_now)?.with_steps(until);
            if ranks.rank() == 0 {
                let snapshot = kept.0.lock().expect("no panic").clone();
                trainer = trainer.with_checkpoints(kept.clone(), every(1000));
                if let Some(snapshot) = snapshot {
                    trainer = trainer.going_on_from(LatestSnapshot { snapshot, passed_over: Vec::new() })?;
                }
            }
            let mut trainer = trainer.joining(ranks_now)?;
            trainer.run()?;
            losses.extend_from_slice(&trainer.observer::<Losses>().ok_or("the losses are gone")?.0);
        }
    }
    if ranks.rank() == 0 {
        agree(&losses, &whole, [2e-6, 2e-3])?;
    }
    Ok(())
}

fn evaluations_are_those_of_one_rank(ranks: &Ranks) -> Checked {
    let task = task();
    let parameters = Parameters::random(3, &Device::Cpu);
    Transformer::init(&config(&task), &parameters)?;
    let layout = FlatLayout::new(&parameters)?;
    let mut weights = vec![0.0; layout.len()];
    layout.read(&parameters, &mut weights)?;
    let evaluate = |ranks: &Ranks, weights: &[f32]| {
        let model = Transformer::new(&config(&task), &parameters.frozen())?;
        let source = task.batches(0, Split::Validation, 100);
        let mut evaluator = Evaluator::new(model, &parameters, &task, source, 1500)?.across(Arc::clone(ranks));
        let mut asked = 0;
        let mut ask = || {
            asked += 1;
            ControlFlow::Continue(())
        };
        Ok::<_, Box<dyn Error>>(evaluator.evaluate(&mut HostWeights::new(&layout, weights), &mut Watch::new(&mut ask)))
    };
    let (together, alone) = (evaluate(ranks, &weights)??, evaluate(&(Arc::new(Solo) as Ranks), &weights)??);
    check(together == alone && together.count == 1500, format!("{together:?}, alone {alone:?}"))?;
    // A model without numbers is found out on all ranks.
    weights.fill(f32::NAN);
    let error = evaluate(ranks, &weights)?.expect_err("NaN");
    check(error.to_string().contains("no finite numbers"), error)
}

/// Wants a checkpoint after one step, and the end at the first checkpoint.
#[derive(Default)]
struct SavedAt {
    step: u64,
    wanted: Option<u64>,
    ends: bool,
}

impl Observer for SavedAt {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        self.step = step.step;
        ControlFlow::Continue(())
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.wanted == Some(self.step)
    }

    fn on_checkpoint(&mut self, _path: &std::path::Path) -> ControlFlow<StopReason> {
        if self.ends { ControlFlow::Break(StopReason::Asked("saved".to_owned())) } else { ControlFlow::Continue(()) }
    }
}

fn checkpoints_and_stops(ranks: &Ranks) -> Checked {
    let is_last = ranks.rank() + 1 == ranks.size();
    let mut trainer = trainer(Precision::F32, ranks)?;
    let kept = Kept::default();
    if ranks.rank() == 0 {
        trainer = trainer.with_checkpoints(kept.clone(), every(1000));
    }
    // The last rank wants a checkpoint, and the first, which alone is told of it, ends the run.
    let wanted = is_last.then_some(5);
    let report = trainer.with_observer(SavedAt { wanted, ends: ranks.rank() == 0, ..SavedAt::default() }).run()?;
    check((report.step, report.stop.clone()) == (5, StopReason::Asked("saved".to_owned())), format!("{report:?}"))?;
    let saved = kept.0.lock().expect("no panic").as_ref().map(|snapshot| snapshot.step);
    check(saved == (ranks.rank() == 0).then_some(5), format!("saved at {saved:?}"))
}

/// A step whose gradients are not finite once, on one rank.
struct Poisoned {
    step: FusedStep,
    at: Option<u32>,
    taken: u32,
}

impl TrainingStep for Poisoned {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> candle_core::Result<f64> {
        let loss = self.step.loss_and_gradients(weights, src, tgt, mode, gradients)?;
        if self.at == Some(self.taken) {
            gradients[0] = f32::NAN;
        }
        self.taken += 1;
        Ok(loss)
    }
}

fn a_step_that_diverges_on_one_rank(ranks: &Ranks) -> Checked {
    let task = task();
    let parameters = Parameters::random(0, &Device::Cpu);
    let is_last = ranks.rank() + 1 == ranks.size();
    let step = FusedStep::new(&config(&task), &parameters)?;
    let step = Poisoned { step, at: is_last.then_some(7), taken: 0 };
    let policy = DivergencePolicy::RollBack { lr_factor: 0.5, limit: 1 };
    let mut trainer = trainer_of(step, Adam::default(), &parameters, &task, ranks)?
        .with_steps(12)
        .with_divergence(policy)
        .taking_snapshots(every(3))
        .joining(ranks)?;
    check(trainer.run()?.step == 12, "it ends")?;
    check(trainer.progress().roll_backs == 1, "it went back once")?;
    // Up to the step that failed, and again from the last good snapshot.
    let steps = trainer.observer::<Losses>().ok_or("the losses are gone")?.0.len();
    check(steps == 7 + 12 - 6, format!("{steps} steps"))?;
    let weights: Vec<u8> = trainer.weights().iter().flat_map(|weight| weight.to_le_bytes()).collect();
    check(ranks.gather(&weights)?.iter().all(|other| *other == weights), "the same weights on all ranks")
}

/// Interrupts the first evaluation on one rank.
struct Interrupting(bool);

impl Observer for Interrupting {
    fn while_evaluating(&mut self) -> ControlFlow<StopReason> {
        if std::mem::take(&mut self.0) {
            return ControlFlow::Break(StopReason::Asked("later".to_owned()));
        }
        ControlFlow::Continue(())
    }
}

fn an_interrupted_evaluation(ranks: &Ranks) -> Checked {
    let task = task();
    let parameters = Parameters::random(0, &Device::Cpu);
    let model = Transformer::init(&config(&task), &parameters)?;
    let source = task.batches(0, Split::Validation, 100);
    let evaluator = Evaluator::new(model, &parameters, &task, source, 600)?.across(Arc::clone(ranks));
    let is_last = ranks.rank() + 1 == ranks.size();
    let mut trainer = trainer(Precision::F32, ranks)?
        .with_steps(6)
        .with_evaluation(every(4), evaluator)
        .with_observer(Interrupting(is_last));
    let report = trainer.run()?;
    check((report.step, report.stop.clone()) == (4, StopReason::Asked("later".to_owned())), format!("{report:?}"))?;
    check(trainer.progress().unjudged && trainer.progress().history.is_empty(), "it was not judged")?;
    check(trainer.run()?.stop == StopReason::Completed, "it goes on")?;
    check(trainer.progress().history.len() == 1, "it was judged")
}

fn a_rank_without_examples(ranks: &Ranks) -> Checked {
    let run = |ranks: &Ranks| {
        let task = task();
        let parameters = Parameters::random(0, &Device::Cpu);
        let step = FusedStep::new(&config(&task), &parameters)?;
        let learner = HostLearner::new(step, Adam::default(), &parameters)?.across(Arc::clone(ranks));
        let source = RankBatches::new(task.batches(0, Split::Train, 1), share(1, ranks));
        outcome(Trainer::new(learner, source).with_steps(4).with_observer(Losses::default()))
    };
    agree(&run(ranks)?.0, &run(&(Arc::new(Solo) as Ranks))?.0, [5e-6, 5e-6])
}
