//! Custom parts, all at once and without an experiment: their run is saved, resumes bit for bit, and is judged like
//! ours.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Result as ModelResult, Tensor};
use candle_nn::{Embedding, Init, Module, VarBuilder};
use numformer::data::{Batch, BatchSource, TaskError};
use numformer::encoding::Vocabulary;
use numformer::evaluate::{Answered, Better, Evaluator};
use numformer::metrics::Metric;
use numformer::model::{
    Autodiff, Beam, FlatLayout, Linear, Mode, Padded, Parameters, Prefix, Projection, Seq2Seq, beam, greedy,
};
use numformer::ops::Activation;
use numformer::store::RunStore;
use numformer::train::{
    DivergencePolicy, Goal, HostLearner, Learner, MetricsLog, Observer, Optimizer, PastEvaluation, Record, Stage,
    StepReport, StopReason, Trainer, Update, every, read_metrics,
};

/// Strings of three of four letters, and the same backwards.
struct Reversed {
    vocabulary: Vocabulary,
    first: u64,
}

impl Reversed {
    fn new(first: u64) -> Self {
        Self { vocabulary: Vocabulary::new(["a", "b", "c", "d"]).unwrap(), first }
    }
}

impl BatchSource for Reversed {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        let pairs = (0..8).map(|row| {
            // Any numbers will do that follow from the index.
            let mixed = (self.first + 8 * index + row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let mut letters = [0, 2, 4].map(|shift| ["a", "b", "c", "d"][(mixed >> shift) as usize % 4]);
            let src = self.vocabulary.delimited(&letters.join(" ")).unwrap();
            letters.reverse();
            (src, self.vocabulary.delimited(&letters.join(" ")).unwrap())
        });
        Ok(Batch::from_pairs(&pairs.collect::<Vec<_>>(), self.vocabulary.padding()))
    }

    fn batch_size(&self) -> usize {
        8
    }
}

/// The source of examples failed, as a socket does.
struct Broken;

impl BatchSource for Broken {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        if index < 3 {
            return Reversed::new(0).batch(index);
        }
        Err(TaskError::other(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the peer went away")))
    }

    fn batch_size(&self) -> usize {
        8
    }
}

/// All places of the source mixed into each of the answer.
struct Mixer {
    tokens: Embedding,
    mix: Linear,
    hidden: Linear,
    projection: Projection,
}

const LEN: usize = 5;
const D: usize = 8;

impl Mixer {
    fn new(vb: &VarBuilder) -> ModelResult<Self> {
        let tokens = vb.get_with_hints((6, D), "tokens", Init::Randn { mean: 0.0, stdev: 1.0 })?;
        Ok(Self {
            tokens: Embedding::new(tokens, D),
            mix: Linear::new(LEN * D, LEN * D, &vb.pp("mix"))?,
            hidden: Linear::new(2 * D, 2 * D, &vb.pp("hidden"))?,
            projection: Projection::new(2 * D, 6, &vb.pp("projection"))?,
        })
    }
}

impl Seq2Seq for Mixer {
    type Memory = Tensor;
    type Cache = Prefix;

    fn encode(&self, src: &Padded, _: Mode) -> ModelResult<Tensor> {
        let all = self.tokens.forward(src.ids())?.flatten_from(1)?;
        self.mix.forward(&all, Activation::Relu)?.reshape((all.dim(0)?, LEN, D))
    }

    fn decode(&self, memory: &Tensor, tgt: &Padded, cache: Option<&mut Prefix>, _: Mode) -> ModelResult<Tensor> {
        let whole = cache.map_or_else(|| Ok(tgt.clone()), |prefix| prefix.extended(tgt))?;
        let (len, new) = (whole.ids().dim(1)?, tgt.ids().dim(1)?);
        let both = Tensor::cat(&[&memory.narrow(1, 0, len)?, &self.tokens.forward(whole.ids())?], 2)?;
        self.hidden.forward(&both, Activation::Relu)?.narrow(1, len - new, new)
    }

    fn projection(&self) -> &Projection {
        &self.projection
    }
}

/// Descent with a momentum of its own, and a count of its updates.
#[derive(Default)]
struct Momentum(Vec<f32>);

impl Optimizer for Momentum {
    fn begin(&mut self, layout: &FlatLayout) {
        assert!(layout.slots().iter().any(|slot| slot.name() == "mix.weight" && slot.shape().dims() == [LEN * D; 2]));
        self.0 = vec![0.0; layout.len()];
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        let lr = update.lr as f32 / (1.0 + 1e-3 * update.number as f32);
        for ((weight, gradient), momentum) in weights.iter_mut().zip(gradients).zip(&mut self.0) {
            *momentum = 0.9 * *momentum + update.gradient_scale as f32 * gradient;
            *weight -= lr * *momentum;
        }
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("momentum", &self.0)]
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("momentum", &mut self.0)]
    }
}

/// Share of answers whose first letter is right.
#[derive(Clone, Default)]
struct FirstLetter(u64, u64);

impl Metric for FirstLetter {
    type Sample = Answered;
    type Value = f64;

    fn update(&mut self, sample: &Answered) {
        self.0 += u64::from(sample.answer.as_ref().is_some_and(|answer| answer.first() == sample.tgt.get(1)));
        self.1 += 1;
    }
    fn merge(&mut self, other: &Self) {
        (self.0, self.1) = (self.0 + other.0, self.1 + other.1);
    }
    fn value(&self) -> Option<f64> {
        (self.1 > 0).then(|| self.0 as f64 / self.1 as f64)
    }
}

/// Watches the weights, and asks to stop after a step.
#[derive(Default)]
struct Watcher {
    stop: Option<u64>,
    steps: Vec<u64>,
    norms: Vec<(u64, f32)>,
}

impl Observer for Watcher {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        self.steps.push(step.step);
        match self.stop {
            Some(stop) if step.step >= stop => ControlFlow::Break(StopReason::Asked("enough".to_owned())),
            _ => ControlFlow::Continue(()),
        }
    }
    fn wants_weights(&mut self) -> bool {
        self.steps.last().is_some_and(|step| step % 10 == 0)
    }
    fn on_weights(&mut self, step: u64, layout: &FlatLayout, weights: &[f32]) -> ControlFlow<StopReason> {
        assert_eq!(layout.len(), weights.len());
        self.norms.push((step, weights.iter().map(|weight| weight * weight).sum()));
        ControlFlow::Continue(())
    }
}

/// A trainer of custom parts, in a directory.
fn trainer(dir: &Path, steps: u64) -> (Trainer, Parameters) {
    let parameters = Parameters::random(3, &Device::Cpu);
    let model = Mixer::new(&parameters.trainable()).unwrap();
    let learner = HostLearner::new(Autodiff::new(model, &parameters).unwrap(), Momentum::default(), &parameters);
    let evaluator = |first| {
        let model = Mixer::new(&parameters.frozen()).unwrap();
        let evaluator = Evaluator::of_tokens(model, &parameters, Reversed::new(first), 40, LEN).unwrap();
        evaluator.with_metric("first letter", Better::More, FirstLetter::default())
    };
    let trainer = Trainer::new(learner.unwrap(), Reversed::new(0))
        .named("own")
        .with_steps(steps)
        .with_schedule(|step: u64| 0.05 / (1.0 + step as f64 / 100.0))
        .with_evaluation(every(20), evaluator(10_000))
        .with_stage(Stage::new("begin", Reversed::new(5_000)).with_evaluation(evaluator(20_000)).with_steps(15))
        .with_divergence(DivergencePolicy::RollBack { lr_factor: 0.5, limit: 2 })
        .keeping_best("first letter")
        .with_stop(Goal::new("first letter", 2.0)) // never
        .with_observer(MetricsLog::in_dir(dir, 5))
        .saved_in(RunStore::open(dir).unwrap().keeping(2), every(10));
    (trainer.unwrap(), parameters)
}

/// Weights, optimizer state and metrics at the end of a run.
fn result(path: &Path, step: u64) -> [Vec<u8>; 3] {
    let checkpoint = path.join(format!("checkpoints/step-{step:010}"));
    [checkpoint.join("model.safetensors"), checkpoint.join("optimizer.safetensors"), path.join("metrics.jsonl")]
        .map(|file| fs::read(file).unwrap())
}

#[test]
fn custom_parts_resume_bit_for_bit() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(trainer(whole.path(), 50).0.run().unwrap().stop, StopReason::Completed);
    for stop in [7, 16, 33] {
        let watcher = Watcher { stop: Some(stop), ..Watcher::default() };
        let (trainer, _) = trainer(parts.path(), 50);
        let mut trainer = trainer.with_observer(watcher);
        assert_eq!(trainer.run().unwrap().stop, StopReason::Asked("enough".to_owned()));
        let watcher: &Watcher = trainer.observer().unwrap();
        assert_eq!(watcher.steps.last(), Some(&stop));
    }
    trainer(parts.path(), 50).0.run().unwrap();
    let [found, expected] = [parts.path(), whole.path()].map(|path| result(path, 50));
    assert_eq!(found.map(|file| file.len()), expected.clone().map(|file| file.len()));
    assert!(result(parts.path(), 50) == expected);

    let records = read_metrics(&whole.path().join("metrics.jsonl")).unwrap();
    let stages = records.iter().filter_map(|record| match record {
        Record::Stage(report) => Some((report.step, report.stage.as_str())),
        _ => None,
    });
    assert_eq!(stages.collect::<Vec<_>>(), [(0, "begin"), (15, "own")]);
    let figures = records.iter().filter_map(|record| match record {
        Record::Evaluation(report) => Some((report.step, report.evaluation.custom["first letter"].value)),
        _ => None,
    });
    let figures: Vec<_> = figures.collect();
    assert_eq!(figures.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [20, 40, 50]);
    assert!(figures[2].1 > figures[0].1 + 0.1, "it learned something: {figures:?}");
}

#[test]
fn a_paused_run_equals_an_unpaused_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    trainer(whole.path(), 40).0.run().unwrap();
    let (trainer, parameters) = trainer(parts.path(), 40);
    let mut trainer = trainer.with_observer(Watcher::default());
    for step in [1, 2, 13, 20, 33] {
        let report = trainer.run_until(step).unwrap();
        assert_eq!((report.stop, report.step), (StopReason::Paused, step));
        // The weights are there to be read.
        trainer.show_weights(&parameters).unwrap();
        let expected: f32 = trainer.weights().iter().map(|weight| weight * weight).sum();
        if step == 20 {
            let watcher: &Watcher = trainer.observer().unwrap();
            assert_eq!(watcher.norms, [(10, watcher.norms[0].1), (20, expected)]);
        }
    }
    // A trainer may go to another thread.
    std::thread::spawn(move || trainer.run().unwrap()).join().unwrap();
    assert!(result(parts.path(), 40) == result(whole.path(), 40));
}

#[test]
fn a_custom_model_is_decoded_saved_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut trainer, parameters) = trainer(dir.path(), 400);
    trainer.run().unwrap();
    trainer.show_weights(&parameters).unwrap();
    let file = dir.path().join("mixer.safetensors");
    parameters.save(&file).unwrap();
    let loaded = Mixer::new(&Parameters::load(&file, &Device::Cpu).unwrap().frozen()).unwrap();

    let batch = Reversed::new(30_000).batch(0).unwrap();
    let src = Padded::new(&batch.src.ids, &batch.src.lengths, batch.src.width, &Device::Cpu).unwrap();
    let answers = greedy(&loaded, &src, LEN).unwrap();
    let ranked = beam(&loaded, &src, LEN, &Beam::new(3)).unwrap();
    for (row, answer) in answers.iter().enumerate() {
        let expected = &batch.tgt.row(row)[1..LEN - 1];
        assert_eq!((&answer.ids[..], &ranked[row][0].hypothesis.ids[..]), (expected, expected), "row {row}");
        assert!(ranked[row][0].score > ranked[row][1].score);
    }
}

#[test]
fn a_run_ends_by_a_custom_rule_and_stays_ended() {
    let dir = tempfile::tempdir().unwrap();
    let twice = |history: &[PastEvaluation]| (history.len() == 2).then(|| "two evaluations".to_owned());
    for _ in 0..2 {
        let mut trainer = trainer(dir.path(), 100).0.with_stop(twice);
        let report = trainer.run().unwrap();
        assert_eq!((report.step, report.stop.to_string()), (40, "stopped: two evaluations".to_owned()));
    }
}

#[test]
fn the_cause_of_a_broken_source_is_reported() {
    let parameters = Parameters::random(0, &Device::Cpu);
    let model = Mixer::new(&parameters.trainable()).unwrap();
    let learner = HostLearner::new(Autodiff::new(model, &parameters).unwrap(), Momentum::default(), &parameters);
    let mut trainer = Trainer::new(learner.unwrap(), Broken).with_steps(10);
    let error = trainer.run().unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "the peer went away");
    assert_eq!(trainer.step(), 3);
    assert!(matches!(
        Trainer::new(trainer_learner(), Reversed::new(0)).run(),
        Err(numformer::train::TrainError::NoSteps)
    ));
}

fn trainer_learner() -> impl Learner {
    let parameters = Parameters::random(0, &Device::Cpu);
    let model = Mixer::new(&parameters.trainable()).unwrap();
    HostLearner::new(Autodiff::new(model, &parameters).unwrap(), Momentum::default(), &parameters).unwrap()
}
