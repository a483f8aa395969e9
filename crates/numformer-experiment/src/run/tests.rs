//! Runs that diverge, and runs on a device.

use std::ops::ControlFlow;

use numformer_fused::Precision;
use numformer_model::{Mode, TokenRows, TrainingStep};
use numformer_train::{
    Adam, DivergencePolicy, DivergenceReport, Gradients, HostLearner, OptimizerConfig, Remedy, StepReport, StopReason,
    TrainError, training_step,
};

use crate::config::CheckpointConfig;

use super::*;

/// A learner whose loss is not finite the first time it takes one of these steps.
struct Poisoned(Box<dyn TrainingStep>, Vec<u64>);

impl TrainingStep for Poisoned {
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

/// The reports of a run about its steps and about steps that failed.
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
    let (plain, _) = training_step(&run.config, &run.parameters, Gradients::Auto, Precision::F32, 0.0).expect("a step");
    let poisoned = Poisoned(plain, poisoned.to_vec());
    let learner = HostLearner::new(poisoned, OptimizerConfig::default().build(), &run.parameters).expect("a learner");
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

    // Once it has given a finite loss, it is known to be good.
    let (_, trained) = run(policy, &[5]);
    assert_eq!(self::told(&trained).1[0].step, 4);
    let (ended, ..) = run(policy, &[1, 2]);
    assert!(matches!(ended, Err(RunError::Train(TrainError::NotFinite { step: 3, .. }))), "{ended:?}");
}

/// A run on the kernels compiled for the host.
fn emulated(experiment: Experiment) -> Run {
    let place = Place::Device { device: &Device::Cpu, open: &Accelerator::emulated };
    Run::at(experiment, &Catalogue::standard(), &place, Arc::new(Solo), None)
        .expect("a C++ compiler: install one, or set CXX")
}

#[test]
fn a_device_learns_what_the_cpu_learns_and_reports_every_step() {
    let experiment = tiny(DivergencePolicy::Stop);
    let mut runs = [Run::new(experiment.clone()).expect("a run"), emulated(experiment)]
        .map(|run| run.with_observer(Told::default()));
    let how = runs[1].trainer().learner().how();
    assert!(how.starts_with("fused step, f32, on "), "{how}");
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
        let mut run = emulated(experiment).in_dir(path).expect("a run");
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
fn a_run_in_bf16_that_is_resumed_ends_with_the_same_bits() {
    let run_in = |path: &std::path::Path, steps: u64, precision: Precision| {
        let mut experiment = tiny(DivergencePolicy::Stop);
        experiment.train.steps = steps;
        experiment.train.precision = precision;
        let mut run = Run::new(experiment).expect("a run").in_dir(path).expect("a directory");
        run.run().expect("all steps");
        run.weights().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let in_dir = |name: &str, steps, precision| run_in(&directory.path().join(name), steps, precision);
    let expected = in_dir("whole", 6, Precision::Bf16);
    in_dir("halves", 3, Precision::Bf16);
    assert!(in_dir("halves", 6, Precision::Bf16) == expected);
    assert!(in_dir("f32", 6, Precision::F32) != expected);
}

#[test]
fn means_of_learning_from_fewer_examples_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let run_in = |path: &str, steps: u64, settings: &[&str]| {
        let mut experiment = tiny(DivergencePolicy::Stop).with_settings(settings).expect("settings");
        experiment.train.steps = steps;
        let mut run = Run::new(experiment).expect("a run").in_dir(directory.path().join(path)).expect("a directory");
        run.run().expect("all steps");
        run.weights().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>()
    };
    let plain = run_in("plain", 6, &[]);
    let means: [&[&str]; 4] = [
        &["data.repeated={ examples = 6, probability = 0.5 }"],
        &["data.repeated={ examples = 6, probability = 0.5 }", "data.bucket_window=2"],
        &["train.optimizer={ name = \"muon\" }"],
        &["model.number_vectors=values"],
    ];
    for (i, settings) in means.into_iter().enumerate() {
        let whole = run_in(&format!("whole-{i}"), 6, settings);
        run_in(&format!("halves-{i}"), 3, settings);
        assert!(run_in(&format!("halves-{i}"), 6, settings) == whole, "{settings:?}");
        assert!(whole != plain, "{settings:?}");
    }
}

#[test]
fn numbers_begin_with_vectors_of_their_values_and_all_else_at_random() {
    let begun = |number_vectors: &str| {
        let setting = format!("model.number_vectors={number_vectors}");
        let experiment = tiny(DivergencePolicy::Stop).with_settings(&[&setting]).expect("settings");
        Run::new(experiment).expect("a run")
    };
    let [random, values] = ["random", "values"].map(begun);
    let vocabulary = values.task.vocabulary();
    let digits: Vec<usize> =
        (0..1000).filter_map(|digit| vocabulary.id(&digit.to_string())).map(|id| id.0 as usize).collect();
    assert_eq!(digits.len(), 1000);
    let digit_values: Vec<f64> = (0..1000).map(f64::from).collect();
    let expected = numformer_model::value_vectors(&digit_values, 16);
    let name = "encoder.embedding.tokens.weight";
    let [at_random, table] = [&random, &values].map(|run| run.named_weights()[name].1.clone());
    for (digit, expected) in digits.iter().zip(expected.chunks_exact(16)) {
        assert_eq!(&table[digit * 16..][..16], expected);
        assert_ne!(&at_random[digit * 16..][..16], expected);
    }
    let signs = ["+", "-", "V2", "<s>"].map(|symbol| vocabulary.id(symbol).expect(symbol).0 as usize);
    for id in signs {
        assert_eq!(table[id * 16..][..16], at_random[id * 16..][..16]);
    }
    // What the model sees is what it begins with.
    let mut shown = vec![0.0; values.weights().len()];
    values.trainer.learner().layout().read(&values.parameters, &mut shown).expect("of this model");
    assert_eq!(shown, values.weights());
}

#[test]
fn a_device_stays_before_a_step_that_is_not_finite() {
    let mut experiment = tiny(DivergencePolicy::Stop);
    experiment.train.lr = 1e30;
    let mut run = emulated(experiment);
    let ended = run.run();
    let Err(RunError::Train(TrainError::NotFinite { step, .. })) = ended else { panic!("{ended:?}") };
    assert_eq!(run.step(), step - 1);
    assert_eq!(run.trainer().learner().state().updates, step - 1);
}

#[test]
fn every_experiment_trains_and_is_judged_on_a_device_as_on_the_cpu() {
    let catalogue = Catalogue::standard().with_optimizer("own", |_| Ok(Adam::default()));
    let (fused, composed) = ("fused step, f32, on ", "automatic differentiation (the fused step does not support ");
    let all: [(&[&str], _); 8] = [
        (&["train.accumulate=3"], fused),
        (&["train.label_smoothing=0.1"], fused),
        (&["train.weight_decay=0.1"], fused),
        (&["train.optimizer={ name = \"sgd\", momentum = 0.9, nesterov = true }"], fused),
        (&["train.optimizer={ name = \"own\" }"], fused),
        (&["train.gradients=autodiff"], "automatic differentiation, f32, on "),
        (&["model.architecture=universal", "model.dropout=0.1"], composed),
        (&["model.architecture=lstm", "model.dropout=0.1"], composed),
    ];
    for (settings, expected) in all {
        let experiment = tiny(DivergencePolicy::Stop).with_settings(settings).expect("settings");
        let place = Place::Device { device: &Device::Cpu, open: &Accelerator::emulated };
        let on_cpu = Run::with_catalogue(experiment.clone(), &catalogue).expect("a run");
        let on_device = Run::at(experiment, &catalogue, &place, Arc::new(Solo), None).expect("a run");
        let how = on_device.trainer().learner().how();
        assert!(how.starts_with(expected), "{how}");
        let runs = [on_cpu, on_device].map(|run| {
            let mut run = run.with_observer(Told::default());
            run.run().expect("all steps");
            run
        });
        let [expected, found] = runs.each_ref().map(|run| &told(run).0);
        for (expected, found) in expected.iter().zip(found) {
            assert!((found.loss - expected.loss).abs() < 1e-4 * expected.loss, "{how}: {found:?} {expected:?}");
        }
        let [expected, found] = runs.each_ref().map(|run| run.evaluate(Split::Test, 5).expect("an evaluation"));
        let close = (found.cross_entropy - expected.cross_entropy).abs() < 1e-4 * expected.cross_entropy;
        assert!(close, "{how}: {found} {expected}");
    }
}

#[test]
fn weights_of_a_device_that_muon_updates_are_updated_on_the_host() {
    let settings = ["train.optimizer={ name = \"muon\" }", "model.number_vectors=values"];
    let experiment = tiny(DivergencePolicy::Stop).with_settings(&settings).expect("settings");
    let place = Place::Device { device: &Device::Cpu, open: &Accelerator::emulated };
    let catalogue = Catalogue::standard();
    let on_cpu = Run::with_catalogue(experiment.clone(), &catalogue).expect("a run");
    let on_device = Run::at(experiment, &catalogue, &place, Arc::new(Solo), None).expect("a run");
    let how = on_device.trainer().learner().how();
    assert!(how.starts_with("fused step, f32, on ") && how.contains("host"), "{how}");
    let losses = [on_cpu, on_device].map(|run| {
        let mut run = run.with_observer(Told::default());
        run.run().expect("all steps");
        told(&run).0.iter().map(|step| step.loss).collect::<Vec<_>>()
    });
    // Rounding to bf16 may turn a last bit of a gradient into a change of the update in the third digit.
    for (found, expected) in losses[1].iter().zip(&losses[0]) {
        assert!((found - expected).abs() < 1e-2 * expected, "{losses:?}");
    }
    assert!((losses[1][0] - losses[0][0]).abs() < 1e-4 * losses[0][0], "{losses:?}");
}

#[test]
fn bf16_on_a_device_needs_the_fused_step() {
    let mut experiment = tiny(DivergencePolicy::Stop);
    experiment.train.precision = Precision::Bf16;
    experiment.train.gradients = Gradients::Autodiff;
    let place = Place::Device { device: &Device::Cpu, open: &Accelerator::emulated };
    let error = Run::at(experiment, &Catalogue::standard(), &place, Arc::new(Solo), None).expect_err("only there");
    let error = error.to_string() + &std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
    assert!(error.contains("needs the fused step, not automatic differentiation"), "{error}");
}
