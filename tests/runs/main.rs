//! Whole runs: what they give is a function of the experiment, however they are cut.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use numformer::data::{Format, Split, write_examples};
use numformer::evaluate::{FigureName, evaluate};
use numformer::experiment::{
    Architecture, Catalogue, CheckpointConfig, DataFileError, Experiment, MatricesConfig, Moment, OneOrMany,
    ProblemConfig, Rows, Run, RunError, Span, StageConfig, StoredRun,
};
use numformer::model::StackConfig;
use numformer::store::StoredModel;
use numformer::train::{
    AdamConfig, DivergencePolicy, Goal, MuonConfig, Observer, OptimizerConfig, Record, Remedy, SgdConfig, StepReport,
    StopReason, TrainError, read_metrics,
};

mod changes;

/// A model that is trained in a second: 2×2 matrices, 16 dimensions.
fn tiny() -> Experiment {
    let mut experiment = Experiment::preset("transpose-3x3").unwrap();
    experiment.matrices.rows = 2.into();
    experiment.matrices.cols = None;
    experiment.model.encoder = StackConfig::new(16, 2, 1).into();
    experiment.model.decoder = StackConfig::new(16, 2, 1).into();
    experiment.train.batch_size = 16;
    experiment.train.lr = 1e-3;
    experiment.train.schedule = Default::default();
    experiment.train.steps = 12;
    experiment.train.warmup_steps = 3;
    experiment.evaluate.every = 5;
    experiment.evaluate.examples = 20;
    experiment.checkpoint.every = 4;
    experiment.log.every = 2;
    experiment
}

/// Asks to stop after a step, as a person or a queue system would.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        if step.step < self.0 {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(StopReason::Asked(format!("step {}", self.0)))
    }
}

fn open(experiment: &Experiment, path: &Path) -> Run {
    let run = Run::new(experiment.clone()).unwrap().in_dir(path).unwrap();
    assert!(run.passed_over().is_empty(), "{:?}", run.passed_over());
    run
}

/// Weights, optimizer state and metrics at the end of a run.
fn result(path: &Path, step: u64) -> [Vec<u8>; 3] {
    let checkpoint = path.join(format!("checkpoints/step-{step:010}"));
    [checkpoint.join("model.safetensors"), checkpoint.join("optimizer.safetensors"), path.join("metrics.jsonl")]
        .map(|file| fs::read(file).unwrap())
}

fn uninterrupted(experiment: &Experiment) -> [Vec<u8>; 3] {
    let dir = tempfile::tempdir().unwrap();
    let report = open(experiment, dir.path()).run().unwrap();
    assert_eq!(report.stop, StopReason::Completed);
    result(dir.path(), experiment.train.steps)
}

#[test]
fn two_runs_of_one_experiment_are_identical() {
    assert_eq!(uninterrupted(&tiny()), uninterrupted(&tiny()));
}

#[test]
fn another_seed_is_another_run() {
    let other = Experiment { seed: 1, ..tiny() };
    let ([weights, ..], [other_weights, ..]) = (uninterrupted(&tiny()), uninterrupted(&other));
    assert_ne!(weights, other_weights);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let on_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| uninterrupted(&tiny()))
    };
    assert_eq!(on_threads(1), on_threads(3));
}

#[test]
fn a_run_stopped_and_resumed_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    // Once in step with the checkpoints and evaluations, once not.
    for stop in [6, 11] {
        let report = open(&tiny(), dir.path()).with_observer(StopAfter(stop)).run().unwrap();
        assert_eq!((report.step, report.stop), (stop, StopReason::Asked(format!("step {stop}"))));
    }
    assert_eq!(open(&tiny(), dir.path()).run().unwrap().stop, StopReason::Completed);
    assert_eq!(result(dir.path(), 12), uninterrupted(&tiny()));
}

/// A tiny experiment of another architecture, with dropout.
fn of_architecture(architecture: &Architecture) -> Experiment {
    let mut experiment = tiny();
    experiment.matrices.rows = Span { min: 1, max: 2 };
    let model = &mut experiment.model;
    model.architecture = architecture.clone();
    model.dropout = 0.1;
    model.encoder.n_layers = 2;
    model.decoder.n_layers = 2;
    match architecture {
        Architecture::Transformer => {}
        Architecture::Universal => model.copy_gate = true,
        Architecture::Lstm | Architecture::Gru => {
            model.encoder.n_heads = None;
            model.decoder.n_heads = None;
        }
        Architecture::Custom(_) => unreachable!("custom architectures have no sizes of ours"),
    }
    experiment
}

/// What dropout drops must not hang on where a run begins, nor anything on the threads.
#[test]
fn runs_of_every_architecture_resume_with_the_same_bits() {
    use Architecture::{Gru, Lstm, Transformer, Universal};
    for architecture in [Transformer, Universal, Lstm, Gru] {
        let experiment = of_architecture(&architecture);
        let dir = tempfile::tempdir().unwrap();
        for stop in [3, 7] {
            open(&experiment, dir.path()).with_observer(StopAfter(stop)).run().unwrap();
        }
        let mut run = open(&experiment, dir.path());
        let checkpoint = run.run().unwrap().checkpoint.unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(result(dir.path(), 12), pool.install(|| uninterrupted(&experiment)), "{architecture}");

        // What is on disk is the model, dropout or not.
        let stored = StoredModel::load(&checkpoint).unwrap();
        let model = stored.model(&Device::Cpu).unwrap();
        let task = Arc::new(experiment.task(&Catalogue::standard()).unwrap());
        let source = task.batches(experiment.evaluate.seed, Split::Test, 256);
        let found = evaluate(&model, &task, &source, 4, &Device::Cpu).unwrap();
        assert_eq!(found, run.evaluate(Split::Test, 4).unwrap(), "{architecture}");
        assert_eq!(stored.config.parameter_counts().total(), run.weights().len() as u64);
    }
}

/// Two problems, mixed dimensions in buckets, noise: what examples are made of must not hang on where a run begins.
#[test]
fn a_mixed_run_resumes_with_the_same_bits() {
    let mut mixed = tiny();
    mixed.problem.0.push(ProblemConfig { weight: 2.0, ..ProblemConfig::new("addition") });
    mixed.matrices.rows = Span { min: 1, max: 3 };
    mixed.matrices.law = OneOrMany(vec!["uniform".to_owned(), "gaussian".to_owned()]);
    mixed.matrices.random_scale = Some([1, 3]);
    mixed.data.noise = 0.01;
    mixed.data.bucket_window = 5;
    let dir = tempfile::tempdir().unwrap();
    for stop in [3, 7] {
        open(&mixed, dir.path()).with_observer(StopAfter(stop)).run().unwrap();
    }
    open(&mixed, dir.path()).run().unwrap();
    assert_eq!(result(dir.path(), 12), uninterrupted(&mixed));
}

#[test]
fn a_run_on_a_file_resumes_with_the_same_bits() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("train.tsv");
    let mut on_file = tiny();
    let task = on_file.task(&Catalogue::standard()).unwrap();
    // 50 examples: the 12 batches of 16 go through them almost four times.
    write_examples(&task, 1, Split::Train, 0..50, Format::Tsv, fs::File::create(&path).unwrap()).unwrap();
    on_file.data.train = Some(path);
    let dir = tempfile::tempdir().unwrap();
    for stop in [3, 7] {
        open(&on_file, dir.path()).with_observer(StopAfter(stop)).run().unwrap();
    }
    open(&on_file, dir.path()).run().unwrap();
    assert_eq!(result(dir.path(), 12), uninterrupted(&on_file));
}

#[test]
fn a_run_does_not_go_on_with_other_examples() {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, split, seed| {
        let path = files.path().join(name);
        let task = tiny().task(&Catalogue::standard()).unwrap();
        write_examples(&task, seed, split, 0..20, Format::Tsv, fs::File::create(&path).unwrap()).unwrap();
        Some(path)
    };
    let mut on_files = tiny();
    on_files.data.train = write("train.tsv", Split::Train, 1);
    on_files.data.validation = write("validation.tsv", Split::Validation, 1);
    on_files.data.test = write("test.tsv", Split::Test, 1);
    let dir = tempfile::tempdir().unwrap();
    open(&on_files, dir.path()).with_observer(StopAfter(5)).run().unwrap();
    let refused = |expected: &str| {
        let error = Run::new(on_files.clone()).unwrap().in_dir(dir.path()).unwrap_err();
        let RunError::DataFile(DataFileError::Changed { key, step: 5, .. }) = &error else { panic!("{error}") };
        assert_eq!(*key, expected);
    };
    for (key, name, split) in [
        ("data.train", "train.tsv", Split::Train),
        ("data.validation", "validation.tsv", Split::Validation),
        ("data.test", "test.tsv", Split::Test),
    ] {
        write(name, split, 2);
        refused(key);
        write(name, split, 1);
    }
    // What is refused leaves the run as it was.
    let toml = || fs::read_to_string(dir.path().join("experiment.toml")).unwrap();
    let before = toml();
    let mut others = on_files.clone();
    others.data.test = write("others.tsv", Split::Test, 2);
    assert!(Run::new(others).unwrap().in_dir(dir.path()).is_err());
    assert_eq!(toml(), before);
    // The same examples may lie elsewhere.
    on_files.data.validation = write("moved.tsv", Split::Validation, 1);
    open(&on_files, dir.path()).run().unwrap();
    assert_eq!(result(dir.path(), 12), uninterrupted(&on_files));
}

#[test]
fn a_run_that_loses_its_last_checkpoint_goes_on_from_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    open(&tiny(), dir.path()).with_observer(StopAfter(9)).run().unwrap();
    let weights = dir.path().join("checkpoints/step-0000000009/model.safetensors");
    let content = fs::read(&weights).unwrap();
    fs::write(&weights, &content[..content.len() / 2]).unwrap();

    let mut run = Run::new(tiny()).unwrap().in_dir(dir.path()).unwrap();
    assert_eq!(run.step(), 8);
    let skipped = run.passed_over()[0].to_string();
    assert!(skipped.contains("step-0000000009/model.safetensors is damaged"), "{skipped}");
    run.run().unwrap();
    assert_eq!(result(dir.path(), 12), uninterrupted(&tiny()));
}

#[test]
fn a_longer_run_begins_like_a_shorter_one() {
    let longer = {
        let mut experiment = tiny();
        experiment.train.steps = 20;
        experiment
    };
    let dir = tempfile::tempdir().unwrap();
    open(&tiny(), dir.path()).run().unwrap();
    open(&longer, dir.path()).run().unwrap();
    assert!(result(dir.path(), 20) == uninterrupted(&longer));
}

#[test]
fn a_diverging_run_says_so() {
    let mut experiment = tiny();
    experiment.train.lr = 1e30;
    let error = Run::new(experiment).unwrap().run().unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::NotFinite { .. })), "{error}");
    assert!(error.to_string().contains("try a lower learning rate"), "{error}");
}

#[test]
fn a_tiny_run_learns_to_transpose() {
    // One row and one column of one-digit numbers would be trivial; 1×2 matrices of three digits are the least that is not.
    let mut experiment = tiny();
    experiment.matrices.rows = 1.into();
    experiment.matrices.cols = Some(2.into());
    experiment.model.encoder = StackConfig::new(32, 4, 1).into();
    experiment.model.decoder = StackConfig::new(32, 4, 1).into();
    experiment.train.lr = 3e-3;
    experiment.train.warmup_steps = 100;
    experiment.train.steps = 1200;
    experiment.evaluate.every = 600;
    let mut run = Run::new(experiment).unwrap();
    run.run().unwrap();
    let evaluation = run.evaluate(Split::Test, 200).unwrap();
    assert!(evaluation.exact > 0.95, "{evaluation}");
}

/// Whatever byte of a checkpoint is wrong, a run goes on from a good one or says why it cannot.
#[test]
fn no_flipped_byte_makes_a_wrong_resume() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let experiment = tiny();
    open(&experiment, &path).run().unwrap();
    let at = |step: u64| path.join(format!("checkpoints/step-{step:010}"));
    let weights = |step: u64| StoredModel::load(&at(step)).unwrap().weights;
    let [good, latest] = [8, 12].map(|step| (step, weights(step)));

    // Cases by a linear congruential generator: any will do, the same in every run of the test.
    let mut state = 1u64;
    let mut below = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let files = ["config.json", "vocabulary.json", "model.safetensors", "optimizer.safetensors", "state.json"];
    let (mut passed_over, mut refused) = (0, 0);
    for case in 0..200 {
        let file = at(12).join(files[case % files.len()]);
        let content = fs::read(&file).unwrap();
        let mut damaged = content.clone();
        for _ in 0..=below(3) {
            let place = below(damaged.len());
            damaged[place] ^= 1 << below(8);
        }
        fs::write(&file, &damaged).unwrap();
        match Run::new(experiment.clone()).unwrap().in_dir(&path) {
            Ok(run) => {
                let skipped = run.passed_over();
                let (step, expected) = if skipped.is_empty() { &latest } else { &good };
                assert_eq!(run.step(), *step, "{}", file.display());
                let expected: Vec<f32> = expected.values().flat_map(|(_, values)| values.iter().copied()).collect();
                assert!(run.weights() == expected, "{}", file.display());
                passed_over += usize::from(!skipped.is_empty());
            }
            // A number of another format: written by another version, for all that can be known.
            Err(error) => {
                assert!(error.to_string().contains("format"), "{}: {error}", file.display());
                refused += 1;
            }
        }
        fs::write(&file, &content).unwrap();
    }
    assert!(passed_over > 190 && refused < 5, "{passed_over} {refused}");
}

/// Four batches of 16 are one of 64, but for the rounding of sums.
#[test]
fn accumulated_batches_are_a_larger_one() {
    let mut whole = tiny();
    whole.matrices.rows = Span { min: 1, max: 2 };
    (whole.train.batch_size, whole.train.steps) = (64, 5);
    let mut parts = whole.clone();
    (parts.train.batch_size, parts.train.accumulate) = (16, 4);
    let [whole, parts] = [whole, parts].map(|experiment| {
        let mut run = Run::new(experiment).unwrap();
        run.run().unwrap();
        run.weights().to_vec()
    });
    let largest = whole.iter().zip(&parts).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-5, "{largest}");
    assert!(whole != Run::new(tiny()).unwrap().weights(), "something was learned");
}

/// Stopped between checkpoints and resumed, a run of accumulated batches goes on with the right ones.
#[test]
fn accumulated_runs_are_resumed_exactly() {
    let mut experiment = tiny();
    experiment.train.accumulate = 3;
    let dir = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole", "cut"].map(|name| dir.path().join(name));
    open(&experiment, &whole).run().unwrap();
    open(&experiment, &cut).with_observer(StopAfter(6)).run().unwrap();
    open(&experiment, &cut).run().unwrap();
    assert!(result(&whole, 12) == result(&cut, 12));
}

/// Stops a run after each of these steps and resumes it, and compares its end with that of an uninterrupted run.
fn assert_resumes_exactly(experiment: &Experiment, stops: &[u64]) {
    let expected = uninterrupted(experiment);
    let dir = tempfile::tempdir().unwrap();
    for stop in stops {
        open(experiment, dir.path()).with_observer(StopAfter(*stop)).run().unwrap();
    }
    open(experiment, dir.path()).run().unwrap();
    let found = result(dir.path(), experiment.train.steps);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&found[2]), text(&expected[2]));
    assert!(found == expected);
}

#[test]
fn runs_of_every_optimizer_resume_with_the_same_bits() {
    let sgd = OptimizerConfig::Sgd(SgdConfig { momentum: 0.9, nesterov: true });
    let adam = OptimizerConfig::Adam(AdamConfig { beta2: 0.98, ..AdamConfig::default() });
    for optimizer in [sgd, adam, OptimizerConfig::Muon(MuonConfig::default())] {
        let mut experiment = tiny();
        experiment.train.optimizer = optimizer.into();
        assert_resumes_exactly(&experiment, &[5]);
    }
}

/// The rate is beyond all reason, so that the run diverges as soon as it is warm, goes back to its beginning, and does well
/// at the rate of the preset.
#[test]
fn a_run_that_goes_back_resumes_with_the_same_bits() {
    let mut experiment = tiny();
    experiment.train.lr = 1e30;
    experiment.train.divergence = DivergencePolicy::RollBack { lr_factor: 1e-33, limit: 1 };
    experiment.checkpoint.every = 2;
    experiment.checkpoint.keep = 1;
    // Before it goes back, and after.
    assert_resumes_exactly(&experiment, &[1, 2]);
    assert_resumes_exactly(&experiment, &[2, 5, 6, 9]);

    let dir = tempfile::tempdir().unwrap();
    open(&experiment, dir.path()).run().unwrap();
    let records = read_metrics(&dir.path().join("metrics.jsonl")).unwrap();
    let Record::Divergence(report) = &records[0] else { panic!("{records:?}") };
    assert_eq!((report.step, report.diverged, report.remedy), (0, 3, Remedy::RolledBack));
    let steps: Vec<u64> = records[1..].iter().map(Record::step).collect();
    assert_eq!(steps, [2, 4, 5, 6, 8, 10, 10, 12, 12]);
}

/// Dies after a step, without saving: as by SIGKILL.
struct DieAfter(u64);

impl Observer for DieAfter {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        assert!(step.step < self.0, "dies");
        ControlFlow::Continue(())
    }
}

/// Kills a run after each of these steps and starts it again, and compares its end with that of an uninterrupted run.
fn assert_survives(experiment: &Experiment, deaths: &[u64]) {
    let dir = tempfile::tempdir().unwrap();
    for death in deaths {
        let mut run = open(experiment, dir.path()).with_observer(DieAfter(*death));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(run.run()))).unwrap_err();
    }
    open(experiment, dir.path()).run().unwrap();
    let (found, expected) = (result(dir.path(), experiment.train.steps), uninterrupted(experiment));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&found[2]), text(&expected[2]));
    assert!(found == expected);
}

#[test]
fn a_run_that_is_killed_between_checkpoints_ends_with_the_same_bits_and_lines() {
    assert_survives(&tiny(), &[1, 6, 11]);
    assert_survives(&staged(), &[2, 4, 7]);
    let mut back = tiny();
    back.train.lr = 1e30;
    back.train.divergence = DivergencePolicy::RollBack { lr_factor: 1e-33, limit: 1 };
    back.checkpoint.every = 2;
    assert_survives(&back, &[1, 1, 6]);
}

#[test]
fn an_evaluation_that_finds_no_numbers_is_a_divergence() {
    let mut experiment = tiny();
    experiment.train.lr = 1e30;
    experiment.evaluate.every = 1;
    let error = Run::new(experiment.clone()).unwrap().run().unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::NotFinite { step: 2, .. })), "{error}");
    experiment.train.divergence = DivergencePolicy::RollBack { lr_factor: 1e-33, limit: 1 };
    experiment.checkpoint.every = 1;
    assert_resumes_exactly(&experiment, &[1, 5]);
    experiment.train.divergence = DivergencePolicy::Skip { limit: 3 };
    let error = Run::new(experiment).unwrap().run().unwrap_err();
    assert!(matches!(error, RunError::Train(TrainError::NotFinite { step: 2, .. })), "{error}");
}

/// Two stages before the experiment proper: by steps, and by a goal that is reached at once.
fn staged() -> Experiment {
    let mut experiment = tiny();
    experiment.matrices.rows = Span { min: 2, max: 3 };
    let stage = |name: &str, rows: usize, steps, until| StageConfig {
        name: name.to_owned(),
        problem: None,
        matrices: Some(MatricesConfig { rows: rows.into(), ..experiment.matrices.clone() }),
        steps,
        until,
    };
    let goal = Goal::new(FigureName::CrossEntropy, 100.0);
    let stages = vec![stage("rows", 1, Some(3), None), stage("small", 2, None, Some(goal))];
    experiment.stage = stages;
    experiment
}

#[test]
fn stages_follow_one_another_and_resume_with_the_same_bits() {
    assert_resumes_exactly(&staged(), &[2, 3, 4, 5, 7]);

    let dir = tempfile::tempdir().unwrap();
    open(&staged(), dir.path()).run().unwrap();
    let records = read_metrics(&dir.path().join("metrics.jsonl")).unwrap();
    let stages = records.iter().filter_map(|record| match record {
        Record::Stage(report) => Some((report.step, report.stage.as_str())),
        _ => None,
    });
    assert_eq!(stages.collect::<Vec<_>>(), [(0, "rows"), (3, "small"), (5, "transpose-3x3")]);
    let evaluations = records.iter().filter_map(|record| match record {
        Record::Evaluation(report) => {
            Some((report.step, report.stage.as_deref(), report.evaluation.by_dimension.len()))
        }
        _ => None,
    });
    // Judged on what is learned: one dimension while it is small.
    assert_eq!(evaluations.collect::<Vec<_>>(), [(5, Some("small"), 0), (10, None, 2), (12, None, 2)]);
}

/// A stage of other matrices ends with other weights than the experiment alone; a stage of the experiment's own with the
/// same.
#[test]
fn a_stage_trains_on_its_own_examples() {
    let weights = |experiment: &Experiment| {
        let mut run = Run::new(experiment.clone()).unwrap();
        run.run().unwrap();
        run.weights().to_vec()
    };
    let plain = Experiment { stage: Vec::new(), ..staged() };
    let mut same = staged();
    same.stage.iter_mut().for_each(|stage| stage.matrices = None);
    assert!(weights(&same) == weights(&plain));
    assert!(weights(&staged()) != weights(&plain));
}

#[test]
fn impossible_stages_are_named() {
    let refused = |change: fn(&mut Experiment)| {
        let mut experiment = staged();
        change(&mut experiment);
        let error = experiment.validate(&Catalogue::standard()).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    };
    assert!(refused(|e| e.stage[0].steps = None).contains("stage `rows` has no end"));
    assert!(refused(|e| e.stage[1].name = "rows".to_owned()).contains("found `rows` again"));
    assert!(refused(|e| e.stage[0].steps = Some(0)).contains("stage.steps must be at least 1"));
    assert!(refused(|e| e.data.train = Some("file.tsv".into())).contains("no data.train"));
    let too_long = refused(|e| e.stage[0].steps = Some(12));
    assert!(too_long.contains("fewer than train.steps = 12 steps in all stages together, found 12"));
    let longer = refused(|e| e.stage[0].matrices.as_mut().unwrap().rows = 9.into());
    assert!(longer.contains("stage `rows`") && longer.contains("positions"), "{longer}");
    let unknown = refused(|e| e.stage[0].problem = Some(ProblemConfig::new("transpos").into()));
    assert!(unknown.contains("stage `rows`") && unknown.contains("did you mean `transpose`?"), "{unknown}");
}

#[test]
fn the_best_checkpoint_is_kept_and_found() {
    let mut experiment = tiny();
    experiment.evaluate.every = 1;
    experiment.checkpoint = CheckpointConfig { every: 100, keep: 1, best: vec![FigureName::CrossEntropy] };
    // It learns for a while, and then the rate is too high.
    experiment.train.lr = 0.3;
    experiment.train.warmup_steps = 12;
    assert_resumes_exactly(&experiment, &[4, 9]);

    let dir = tempfile::tempdir().unwrap();
    let mut run = open(&experiment, dir.path());
    run.run().unwrap();
    let evaluations = run.run_dir().unwrap().evaluations().unwrap();
    let best = evaluations.iter().min_by(|a, b| a.evaluation.cross_entropy.total_cmp(&b.evaluation.cross_entropy));
    let best = best.unwrap().step;
    assert!(best < 12, "the best is to be another than the last");
    let found = StoredRun::load_at(dir.path(), Moment::Best(FigureName::CrossEntropy), &Catalogue::standard()).unwrap();
    assert_eq!(found.step(), best);
    let load =
        |moment| StoredRun::load_at(dir.path(), moment, &Catalogue::standard()).map_err(|error| error.to_string());
    assert_eq!(load(Moment::Step(best)).unwrap().step(), best);
    assert_eq!(load(Moment::Latest).unwrap().step(), 12);
    let error = load(Moment::Best(FigureName::Exact)).unwrap_err();
    assert!(error.contains("keeps no best checkpoint by exact"), "{error}");
    let error = load(Moment::Step(99)).unwrap_err();
    assert!(error.contains("no checkpoint after step 99") && error.contains("12]"), "{error}");
}

#[test]
fn a_run_that_begins_with_the_weights_of_another_goes_on_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    open(&tiny(), &first).run().unwrap();
    let weights = StoredRun::load(&first).unwrap();
    assert_eq!(weights.step(), 12);
    let experiment = Experiment { start_from: Some(first.clone()), seed: 5, ..tiny() };
    assert_ne!(uninterrupted(&experiment), uninterrupted(&Experiment { seed: 5, ..tiny() }));
    let expected = uninterrupted(&experiment);
    // From then on, the first run may go.
    let begun = open(&experiment, &second);
    // The same vocabulary and positions: all was taken over.
    let taken_over = begun.taken_over().unwrap();
    let symbols = Rows { taken: begun.task().vocabulary().len(), new: 0 };
    assert_eq!((taken_over.encoder, taken_over.decoder), (symbols, symbols));
    assert_eq!(taken_over.positions.unwrap().new, 0);
    begun.with_observer(StopAfter(1)).run().unwrap();
    fs::remove_dir_all(&first).unwrap();
    let mut resumed = open(&experiment, &second);
    assert_eq!(resumed.taken_over(), None);
    resumed.run().unwrap();
    assert!(result(&second, 12) == expected);
    let error = Run::new(experiment).unwrap().check_start().unwrap_err().to_string();
    assert!(error.contains("holds no model"), "{error}");
}
