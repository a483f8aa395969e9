//! Runs of custom parts.

use numformer_data::BatchSource;
use numformer_encoding::TokenId;
use numformer_evaluate::{Evaluate, Figure, FigureName};
use numformer_model::{FlatLayout, Weights};
use numformer_store::{RunStore, checkpoint_path, steps};

use super::*;
use crate::every::every;
use crate::learners::host_learner::copy;
use crate::learners::learner::{Learner, LearnerState, Steps};
use crate::observers::metrics_log::{METRICS, MetricsLog, Record, read_metrics};
use crate::optimizers::optimizer::layout;
use crate::stopping::goal::Goal;

/// A learner of one weight, which counts the updates. It returns as many outcomes as `outcomes` says for the number of
/// steps taken.
struct Counter {
    layout: FlatLayout,
    count: [f32; 1],
    outcomes: fn(usize) -> usize,
}

impl Counter {
    fn new() -> Self {
        Self { layout: layout(1), count: [0.0], outcomes: |taken| taken }
    }
}

impl Learner for Counter {
    fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        let taken = steps.collect::<Result<Vec<_>, _>>()?.len();
        self.count[0] += taken as f32;
        Ok(vec![StepOutcome { loss: 1.0, gradient_norm: 1.0 }; (self.outcomes)(taken)])
    }

    fn state(&self) -> LearnerState<'_> {
        LearnerState { updates: self.count[0] as u64, weights: &self.count, memory: Vec::new() }
    }

    fn set_state(&mut self, state: &LearnerState<'_>) -> candle_core::Result<()> {
        copy("weights", state.weights, &mut self.count)
    }
}

/// Batches of one example, always the same.
struct OneExample;

impl BatchSource for OneExample {
    fn batch(&self, _index: u64) -> Result<Batch, TaskError> {
        Ok(Batch::from_pairs(&[([TokenId(0)], [TokenId(0)])], TokenId(1)))
    }

    fn batch_size(&self) -> usize {
        1
    }
}

/// Judges by a function of the number of updates, with a group beside the whole.
struct Judge(fn(f64) -> f64);

impl Evaluate for Judge {
    fn evaluate(&mut self, weights: &mut dyn Weights, _watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
        let figure = Figure::more_is_better((self.0)(weights.on_host()?[0].into()));
        let group = Evaluation { custom: [("mine".to_owned(), figure)].into(), ..Evaluation::default() };
        Ok(Evaluation { by_problem: [("all".to_owned(), group.clone())].into(), ..group })
    }
}

#[test]
fn the_best_checkpoint_stays_whenever_it_is_asked_for() {
    let dir = tempfile::tempdir().expect("dir");
    let store = || RunStore::open(dir.path()).expect("a directory").keeping(1);
    let trainer = || {
        let judge = Judge(|updates| -(updates - 2.0).abs());
        Trainer::new(Counter::new(), OneExample).with_steps(8).with_evaluation(every(1), judge)
    };
    let mut first = trainer().keeping_best("mine").saved_in(store(), every(1)).expect("a new run");
    first.run_until(4).expect("half of the steps");
    drop(first);
    assert_eq!(steps(dir.path()).expect("readable"), [2, 4]);
    let mut second = trainer().saved_in(store(), every(1)).expect("it goes on").keeping_best("mine");
    second.run().expect("all steps");
    assert_eq!(second.progress().best[&FigureName::from("mine")].step, 2);
    drop(second);
    assert_eq!(steps(dir.path()).expect("readable"), [2, 8]);
    let mut unasked = trainer().saved_in(store(), every(1)).expect("it goes on");
    unasked.run().expect("nothing left to do");
    assert!(unasked.progress().best.is_empty());
    assert_eq!(steps(dir.path()).expect("readable"), [8]);
}

#[test]
fn figures_that_are_not_finite_are_left_out() {
    let dir = tempfile::tempdir().expect("dir");
    let judge = Judge(|updates| if updates < 2.0 { f64::NAN } else { updates });
    let mut trainer = Trainer::new(Counter::new(), OneExample)
        .with_steps(3)
        .with_evaluation(every(1), judge)
        .keeping_best("mine")
        .with_observer(MetricsLog::in_dir(dir.path(), 1))
        .saved_in(RunStore::open(dir.path()).expect("a directory"), every(1))
        .expect("a new run");
    trainer.run().expect("all steps");
    let records = read_metrics(&dir.path().join(METRICS)).expect("readable");
    let figures = records.iter().filter_map(|record| match record {
        Record::Evaluation(report) => Some(report.evaluation.custom.get("mine").map(|figure| figure.value)),
        _ => None,
    });
    assert_eq!(figures.collect::<Vec<_>>(), [None, Some(2.0), Some(3.0)]);
    for step in 1..=3 {
        Snapshot::load(&checkpoint_path(dir.path(), step)).expect("readable");
    }
    assert_eq!(trainer.progress().best[&FigureName::from("mine")].step, 3);
    assert_eq!((trainer.progress().latest("mine"), trainer.progress().latest("another")), (Some(3.0), None));
}

#[test]
fn no_best_figure_is_not_finite() {
    struct NoNumber;

    impl Evaluate for NoNumber {
        fn evaluate(
            &mut self,
            _weights: &mut dyn Weights,
            _watch: &mut Watch<'_>,
        ) -> Result<Evaluation, EvaluateError> {
            Ok(Evaluation { exact: f64::NAN, ..Evaluation::default() })
        }
    }

    let trainer = Trainer::new(Counter::new(), OneExample).with_steps(1).with_evaluation(every(1), NoNumber);
    let mut trainer = trainer.keeping_best(FigureName::Exact);
    trainer.run().expect("a step");
    assert!(trainer.progress().best.is_empty());
}

#[test]
fn stages_need_an_end_and_steps() {
    let stage = || Stage::new("second", OneExample);
    let run = |second: Stage| {
        let first = Stage::new("first", OneExample).with_steps(1);
        Trainer::new(Counter::new(), OneExample).with_steps(3).with_stage(first).with_stage(second).run()
    };
    let goal = || Goal::new("mine", 2.0);
    for endless in [stage(), stage().until(goal()), stage().with_evaluation(Judge(|updates| updates))] {
        let error = run(endless).expect_err("no end");
        assert!(matches!(&error, TrainError::EndlessStage { stage } if stage == "second"), "{error}");
    }
    let error = run(stage().with_steps(0)).expect_err("no steps");
    assert!(matches!(&error, TrainError::EmptyStage { stage } if stage == "second"), "{error}");
    let reachable = stage().until(goal()).with_evaluation(Judge(|updates| updates));
    // A stage may be longer than the run.
    for possible in [reachable, stage().with_steps(1), stage().with_steps(u64::MAX)] {
        assert_eq!(run(possible).expect("all steps").step, 3);
    }
}

#[test]
fn a_learner_returns_as_many_outcomes_as_it_takes_steps() {
    type Outcomes = fn(usize) -> usize;
    let cases: [(Outcomes, usize); 2] = [(|_| 0, 0), (|taken| taken + 1, 2)];
    for (outcomes, too_few_or_many) in cases {
        let mut trainer = Trainer::new(Counter { outcomes, ..Counter::new() }, OneExample).with_steps(3);
        let error = trainer.run().expect_err("no steps are taken so");
        assert!(matches!(error, TrainError::Outcomes { expected: 1, found } if found == too_few_or_many), "{error}");
    }
}

#[test]
fn a_boxed_observer_is_told_and_found() {
    struct Count(u64);

    impl Observer for Count {
        fn on_step(&mut self, _step: &StepReport) -> ControlFlow<StopReason> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }

    let boxed: Box<dyn Observer> = Box::new(Count(0));
    let trainer = Trainer::new(Counter::new(), OneExample).with_steps(2).with_observer(boxed);
    let mut trainer = trainer.with_observer(Box::new(Count(0)));
    trainer.observer_mut::<Count>().expect("found by its own type").0 = 10;
    trainer.run().expect("all steps");
    assert_eq!(trainer.observer::<Count>().expect("found by its own type").0, 12);
    assert_eq!(trainer.observer::<Box<Count>>().expect("found as a box").0, 2);
}
