//! Training on a device: always on the kernels compiled for the host, and on a GPU if there is one.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use numformer_data::{Batch, BatchSource, RankBatches, Split, Task, TaskError};
use numformer_distributed::share;
use numformer_encoding::Positional;
use numformer_evaluate::Evaluator;
use numformer_fused::{Precision, device_model};
use numformer_model::{
    Cell, FlatLayout, ModelConfig, Parameters, RecurrentConfig, StackConfig, StepOutcome, TransformerConfig,
};
use numformer_ops::device::{Accelerator, HostSum, Opening};
use numformer_problems::{Transpose, UniformEntries};
use numformer_testkit::on_ranks;
use numformer_train::{
    DeviceLearner, Gradients, Learner, LearnerState, MuonConfig, Observer, OptimizerConfig, SgdConfig, Steps,
    StopReason, TrainError, Trainer, WarmUp, device_training, every,
};

type Tested = Result<(), Box<dyn Error>>;

/// Transposition of matrices with one or two entries.
fn task() -> Arc<Task> {
    let p10 = Arc::new(Positional::p10());
    let law = UniformEntries::new(1, 2, 10.0).expect("a law");
    Arc::new(Task::new(Transpose, law, p10.clone(), p10).expect("a task"))
}

/// The same batch again and again.
struct OneBatch(Batch);

impl BatchSource for OneBatch {
    fn batch_size(&self) -> usize {
        self.0.src.lengths.len()
    }

    fn batch(&self, _index: u64) -> Result<Batch, TaskError> {
        Ok(self.0.clone())
    }
}

fn transformer(task: &Task) -> ModelConfig {
    let sizes = StackConfig::new(8, 2, 1);
    let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
    TransformerConfig { dropout: 0.05, ..config }.into()
}

fn lstm(task: &Task) -> ModelConfig {
    RecurrentConfig::new(Cell::Lstm, task.vocabulary().len(), 8, 1).into()
}

/// A learner of a fresh model, and the parameters of a copy of the model for use on the same device.
fn learner(
    config: &ModelConfig,
    device: Accelerator,
    precision: Precision,
    optimizer: OptimizerConfig,
) -> candle_core::Result<(DeviceLearner, Parameters)> {
    let parameters = Parameters::random(1, device.device());
    let on = (device, optimizer.kind().expect("an optimizer of devices"));
    let (training, how) = device_training(config, &parameters, Gradients::Auto, precision, 0.0, on)?;
    Ok((DeviceLearner::new(training, optimizer)?.described_as(&how), parameters))
}

/// The losses of a run.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn on_step(&mut self, step: &numformer_train::StepReport) -> std::ops::ControlFlow<StopReason> {
        self.0.push(step.loss);
        std::ops::ControlFlow::Continue(())
    }
}

fn devices() -> Vec<Opening> {
    Accelerator::of_this_machine().expect("a GPU, as the environment asks for one")
}

#[test]
fn one_batch_is_learned_by_heart() -> Tested {
    let task = task();
    let batch = task.batches(0, Split::Train, 2).batch(0)?;
    let sgd = OptimizerConfig::Sgd(SgdConfig { momentum: 0.9, nesterov: true });
    let all = [
        (transformer(&task), Precision::F32, OptimizerConfig::default(), 0.03),
        (transformer(&task), Precision::Bf16, OptimizerConfig::default(), 0.03),
        (transformer(&task), Precision::F32, sgd, 0.1),
        (lstm(&task), Precision::F32, OptimizerConfig::default(), 0.05),
    ];
    for open in devices() {
        for (config, precision, optimizer, lr) in &all {
            let (learner, _) = learner(config, open()?, *precision, *optimizer)?;
            let mut trainer = Trainer::new(learner, OneBatch(batch.clone()))
                .with_steps(25)
                .with_schedule(WarmUp::new(*lr, 0))
                .with_observer(Losses::default());
            trainer.run()?;
            let losses = &trainer.observer::<Losses>().expect("it was given").0;
            let how = trainer.learner().how();
            assert!(losses.len() == 25 && losses[24] < 0.6 * losses[0], "{how}: {losses:?}");
        }
    }
    Ok(())
}

#[test]
fn a_run_that_goes_on_elsewhere_ends_with_the_same_bits() -> Tested {
    let task = task();
    for open in devices() {
        for (config, precision) in [(transformer(&task), Precision::Bf16), (lstm(&task), Precision::F32)] {
            let trainer = || -> Result<Trainer, Box<dyn Error>> {
                let (learner, _) = learner(&config, open()?, precision, OptimizerConfig::default())?;
                Ok(Trainer::new(learner, task.batches(0, Split::Train, 2)).with_steps(4).with_accumulation(2))
            };
            let mut whole = trainer()?;
            whole.run()?;
            let mut first = trainer()?;
            first.run_until(2)?;
            let latest = numformer_train::LatestSnapshot { snapshot: first.snapshot(), passed_over: Vec::new() };
            let mut second = trainer()?.going_on_from(latest)?;
            second.run()?;
            let bits = |trainer: &Trainer| trainer.weights().iter().map(|w| w.to_bits()).collect::<Vec<_>>();
            assert!(bits(&whole) == bits(&second), "{}", whole.learner().how());
            assert!(bits(&whole) != bits(&first));
        }
    }
    Ok(())
}

/// Counts how often the state is fetched from the device.
struct Counted(DeviceLearner, Arc<AtomicUsize>);

impl Learner for Counted {
    fn layout(&self) -> &FlatLayout {
        self.0.layout()
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        self.0.learn(steps)
    }

    fn state(&self) -> LearnerState<'_> {
        self.0.state()
    }

    fn set_state(&mut self, state: &LearnerState<'_>) -> candle_core::Result<()> {
        self.0.set_state(state)
    }

    fn fetch(&mut self) -> candle_core::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.fetch()
    }

    fn show(&mut self, parameters: &Parameters) -> candle_core::Result<()> {
        self.0.show(parameters)
    }

    fn steps_at_once(&self) -> u64 {
        self.0.steps_at_once()
    }
}

/// The cross-entropies of evaluations.
#[derive(Default)]
struct Evaluations(Vec<f64>);

impl Observer for Evaluations {
    fn on_evaluation(&mut self, report: &numformer_train::EvaluationReport) -> std::ops::ControlFlow<StopReason> {
        self.0.push(report.evaluation.cross_entropy);
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn evaluations_see_the_weights_without_fetching_them() -> Tested {
    let task = task();
    for open in devices() {
        for config in [transformer(&task), lstm(&task)] {
            let (learner, parameters) = learner(&config, open()?, Precision::F32, OptimizerConfig::default())?;
            let fetched = Arc::new(AtomicUsize::new(0));
            let model = device_model(&config, &parameters, Precision::F32, open)?;
            let validation = task.batches(1, Split::Validation, 4);
            let evaluator = Evaluator::new(model, &parameters, &task, validation, 4)?;
            let mut trainer = Trainer::new(Counted(learner, Arc::clone(&fetched)), task.batches(0, Split::Train, 2))
                .with_steps(8)
                .with_schedule(WarmUp::new(0.02, 0))
                .with_evaluation(every(4), evaluator)
                .with_observer(Evaluations::default());
            trainer.run()?;
            let found = trainer.observer::<Evaluations>().expect("it was given").0.clone();
            assert!(found.len() == 2 && found[1] < found[0], "{found:?}");
            // At the end of the run alone: when it would be saved, and when it is over.
            assert_eq!(fetched.load(Ordering::Relaxed), 2);

            // The host's copy of the model, with the weights of the end, is judged alike.
            let on_host = Parameters::random(1, &Device::Cpu);
            let model = numformer_model::Model::init(&config, &on_host)?;
            trainer.show_weights(&on_host)?;
            let source = task.batches(1, Split::Validation, 4);
            let expected = numformer_evaluate::evaluate(&model, &task, &source, 4, &Device::Cpu)?.cross_entropy;
            assert!((found[1] - expected).abs() < 1e-4 * expected, "{found:?} {expected}");
        }
    }
    Ok(())
}

#[test]
fn an_optimizer_that_devices_lack_is_refused() -> Result<(), Box<dyn Error>> {
    let device = Accelerator::emulated()?;
    let parameters = Parameters::random(1, device.device());
    let on = (device, OptimizerConfig::default().kind().expect("an optimizer of devices"));
    let (training, _) = device_training(&transformer(&task()), &parameters, Gradients::Auto, Precision::F32, 0.0, on)?;
    let error = DeviceLearner::new(training, OptimizerConfig::Muon(MuonConfig::default())).expect_err("on the host");
    assert!(error.to_string().contains("use a `HostLearner`"), "{error}");
    Ok(())
}

/// The losses of a few steps on ranks that are threads, each with a device of its own.
fn losses_on_ranks(size: usize, config: &ModelConfig, precision: Precision, accumulate: u32) -> Vec<Vec<f64>> {
    let task = task();
    on_ranks(size, |ranks| {
        let (learner, _) = learner(config, Accelerator::emulated()?, precision, OptimizerConfig::default())?;
        let sum = Arc::new(HostSum::new(Arc::clone(&ranks)));
        let learner = if size > 1 { learner.across(Arc::clone(&ranks), sum) } else { learner };
        let batches = RankBatches::new(task.batches(0, Split::Train, 5), share(5, &ranks));
        let mut trainer = Trainer::new(learner, batches)
            .with_steps(4)
            .with_accumulation(accumulate)
            .with_schedule(WarmUp::new(0.02, 0))
            .with_observer(Losses::default());
        trainer.run()?;
        let weights: Vec<u8> = trainer.weights().iter().flat_map(|weight| weight.to_le_bytes()).collect();
        assert!(ranks.gather(&weights)?.iter().all(|other| *other == weights), "the same weights on all ranks");
        Ok::<_, Box<dyn Error + Send + Sync>>(trainer.observer::<Losses>().expect("it was given").0.clone())
    })
    .into_iter()
    .map(|losses| losses.expect("a run"))
    .collect()
}

#[test]
fn devices_learn_together_what_one_learns() {
    let task = task();
    let sizes = StackConfig::new(8, 2, 1);
    let plain = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
    let all = [
        (plain.clone().into(), Precision::F32, 1, 1e-5),
        (plain.clone().into(), Precision::F32, 2, 1e-5),
        (plain.into(), Precision::Bf16, 1, 2e-2),
        (lstm(&task), Precision::F32, 1, 1e-5),
    ];
    for (config, precision, accumulate, limit) in all {
        let alone = losses_on_ranks(1, &config, precision, accumulate).remove(0);
        let together = losses_on_ranks(2, &config, precision, accumulate);
        assert_eq!(together[0], together[1]);
        for (found, expected) in together[0].iter().zip(&alone) {
            assert!(
                (found - expected).abs() < limit * expected,
                "{precision}, {accumulate}: {together:?}, alone {alone:?}"
            );
        }
        assert_eq!(losses_on_ranks(2, &config, precision, accumulate), together);
    }
}
