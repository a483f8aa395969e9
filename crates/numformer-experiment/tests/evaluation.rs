//! Evaluations of models of experiments.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Sequences, Split, TaskError};
use numformer_encoding::{Preset, TokenId};
use numformer_evaluate::{Answerer, Answering, EvaluateError, Evaluation, evaluate, evaluate_with};
use numformer_experiment::{Catalogue, Experiment, Run};
use numformer_model::{Beam, Decoding, Mode, Sampling, Seq2Seq, TokenRows};
use numformer_store::{CheckpointError, EncodingNames, StoredModel};

/// Examples judged together.
const TOGETHER: usize = 256;

/// Two problems on two laws each, one of them in two dimensions, and a model that has barely begun to learn them.
const TOML: &str = r#"
    name = "mixed"
    problem = [{ name = "transpose" }, { name = "trace", matrices = { law = ["uniform", "wigner"], rows = 1 } }]
    matrices = { law = ["uniform", "gaussian"], rows = [1, 2] }
    encoding = { input = "p10", output = "p10" }
    model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
    model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
    train = { batch_size = 16, steps = 60, lr = 3e-3, warmup_steps = 20 }
    evaluate.every = 1000
"#;

fn trained() -> Run {
    let experiment = Experiment::from_toml(TOML, "mixed.toml", &Catalogue::standard()).expect("an experiment");
    let mut run = Run::new(experiment).expect("a run");
    run.run().expect("all steps");
    run
}

/// The first so many batches of a source, and no more.
struct Ending<S>(S, u64);

impl<S: BatchSource> BatchSource for Ending<S> {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        if index < self.1 { self.0.batch(index) } else { Ok(Batch::default()) }
    }
    fn batch_size(&self) -> usize {
        self.0.batch_size()
    }
}

#[test]
fn a_source_that_ends_is_judged_as_far_as_it_goes() {
    let run = trained();
    let task = run.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
    let of = |batches, count| {
        let source = Ending(task.batches(0, Split::Test, 32), batches);
        evaluate(run.model(), &task, &source, count, &Device::Cpu)
    };
    assert_eq!(of(10, 1000).expect("an evaluation"), of(20, 320).expect("an evaluation"));
    assert!(matches!(of(0, 1000), Err(EvaluateError::NothingToEvaluate)));
}

/// The examples of another source, without what need not be known.
struct Bare<S>(S);

impl<S: BatchSource> BatchSource for Bare<S> {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        self.0.batch(index).map(|Batch { src, tgt, .. }| Batch { src, tgt, ..Batch::default() })
    }
    fn batch_size(&self) -> usize {
        self.0.batch_size()
    }
}

#[test]
fn figures_do_not_depend_on_the_batches() {
    let run = trained();
    let task = run.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
    let count = 3 * TOGETHER as u64 + 44;
    let of = |size| {
        let source = task.batches(0, Split::Test, size);
        evaluate(run.model(), &task, &source, count, &Device::Cpu)
    };
    let whole = of(TOGETHER).expect("an evaluation");
    assert_eq!(whole.count, count);
    assert!(whole.decodable > 0.0 && whole.cross_entropy > 0.1, "{whole:#}");
    for size in [1, 7, 100, 1000] {
        assert_eq!(of(size).expect("an evaluation"), whole, "batches of {size}");
    }
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let model = run.model();
        let source = task.batches(0, Split::Test, 100);
        let found = pool.install(|| evaluate(model, &task, &source, count, &Device::Cpu));
        assert_eq!(found.expect("an evaluation"), whole, "{threads} threads");
    }
    assert!(matches!(of(0), Err(EvaluateError::NothingToEvaluate)));

    let answering = Answering { decoding: Decoding::Sample(Sampling::new(2)), constrained: true, verified: true };
    let sampled = |size| {
        let source = task.batches(0, Split::Test, size);
        evaluate_with(run.model(), &task, &source, count, answering, &Device::Cpu).expect("an evaluation")
    };
    assert_eq!(sampled(TOGETHER), sampled(31));
    assert_ne!(sampled(31).by_problem, whole.by_problem);

    let bare = Bare(task.batches(0, Split::Test, 64));
    let bare = evaluate(run.model(), &task, &bare, count, &Device::Cpu).expect("an evaluation");
    assert_eq!(bare, Evaluation { by_law: bare.by_law.clone(), ..whole });
    assert!(bare.by_law.is_empty());
}

#[test]
fn groups_are_of_what_was_drawn() {
    let run = trained();
    let evaluation = run.evaluate(Split::Test, 90).expect("an evaluation");
    let task = run.task();
    let mut expected = BTreeMap::<_, u64>::new();
    for index in 0..90 {
        let example = task.example(0, Split::Test, index).expect("an example");
        let problem = task.problems().nth(example.problem).expect("of the task").name();
        let law = &task.laws()[example.law.expect("laws of experiments have names")];
        let (rows, cols) = example.input.shape();
        for key in [problem.to_owned(), law.clone(), format!("{rows}x{cols}")] {
            *expected.entry(key).or_default() += 1;
        }
    }
    let by_dimension = evaluation.by_dimension.iter().map(|(shape, group)| (shape.to_string(), group.count));
    let others = evaluation.by_problem.iter().chain(&evaluation.by_law);
    let found = others.map(|(key, group)| (key.clone(), group.count)).chain(by_dimension);
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(expected.len(), 2 + 3 + 2, "{expected:?}");
}

/// The mean over tokens is that which training minimises.
#[test]
fn the_cross_entropy_is_the_loss_of_the_whole() {
    let run = trained();
    let evaluation = run.evaluate(Split::Test, 50).expect("an evaluation");
    let task = run.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
    let batch = task.batches(0, Split::Test, 50).batch(0).expect("a batch");
    let padded = |sequences: &Sequences| TokenRows::from(sequences).padded(&Device::Cpu).expect("ids");
    let [src, tgt] = [&batch.src, &batch.tgt].map(padded);
    let loss = run.model().loss(&src, &tgt, Mode::Evaluate).expect("a loss").to_scalar::<f32>().expect("a scalar");
    let difference = (evaluation.cross_entropy - f64::from(loss)).abs();
    assert!(difference < 1e-5 * f64::from(loss), "{} {loss}", evaluation.cross_entropy);
}

fn untrained(problem: &str, encoding: Preset) -> Run {
    let law = match problem {
        "cholesky"
        | "matrix-cosine"
        | "matrix-logarithm"
        | "matrix-sine"
        | "matrix-square-root"
        | "eigenvalues"
        | "eigenvectors"
        | "symmetric-inversion" => "positive",
        _ => "uniform",
    };
    let (rows, cols) = if problem == "polynomial-roots" { (1, 3) } else { (2, 2) };
    let toml = format!(
        r#"
        name = "untrained"
        problem.name = "{problem}"
        matrices = {{ law = "{law}", rows = {rows}, cols = {cols} }}
        encoding = {{ input = "p10", output = "{encoding}" }}
        model.encoder = {{ d_model = 8, n_heads = 2, n_layers = 1 }}
        model.decoder = {{ d_model = 8, n_heads = 2, n_layers = 1 }}
        train = {{ batch_size = 4, steps = 1, lr = 1e-3, warmup_steps = 1 }}
        evaluate.every = 1000
        "#
    );
    let experiment = Experiment::from_toml(&toml, problem, &Catalogue::standard()).expect("an experiment");
    Run::new(experiment).expect("a run")
}

#[test]
fn all_answers_of_untrained_models_are_matrices_of_the_right_shape() {
    let decodings =
        [Decoding::Greedy, Decoding::Beam(Beam::new(2)), Decoding::Sample(Sampling { count: 2, ..Sampling::new(1) })];
    for (problem, _) in Catalogue::standard().problems() {
        for encoding in Preset::ALL {
            let run = untrained(problem, encoding);
            let task = run.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
            let source = task.batches(0, Split::Test, 4);
            for decoding in decodings {
                let answering = Answering { decoding, constrained: true, verified: true };
                let found = evaluate_with(run.model(), &task, &source, 4, answering, &Device::Cpu);
                let found = found.expect("an evaluation");
                assert!(found.decodable >= 1.0, "{problem} in {encoding}, {decoding:?}: {found:#}");
                let answers = Answerer::new(run.model(), &task, answering).expect("a grammar");
                let example = task.example(0, Split::Test, 0).expect("an example");
                let src: Vec<u32> = example.src.iter().map(|token| token.0).collect();
                // Delimiters, and as many tokens as the shortest answer has.
                let words = example.output.nrows() * example.output.ncols();
                let shortest = 4 + words * encoding.encoding().grammar().expect("published").shortest(0);
                let answer = &answers.answers(&[&src], 0, shortest, &Device::Cpu).expect("room")[0];
                let read = task
                    .read_tgt(&example.src, &answer.hypothesis.ids.iter().copied().map(TokenId).collect::<Vec<_>>())
                    .expect("a matrix");
                assert_eq!((read.rows, read.cols), example.output.shape());
                assert!(answers.answers(&[&src], 0, shortest - 1, &Device::Cpu).is_err());
            }
        }
    }
}

#[test]
fn untrained_models_write_no_matrices_unless_they_have_to() {
    let run = untrained("transpose", Preset::P10);
    assert!(run.evaluate(Split::Test, 8).expect("an evaluation").decodable < 0.5);
}

#[test]
fn a_checkpoint_of_a_run_is_a_model() {
    let dir = tempfile::tempdir().expect("dir");
    let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
    experiment.train.steps = 1;
    experiment.evaluate.examples = 1;
    let mut run = Run::new(experiment).expect("valid").in_dir(dir.path().join("run")).expect("new");
    let checkpoint = run.run().expect("trained").checkpoint.expect("saved");
    let model = StoredModel::load(&checkpoint).expect("a model");
    assert_eq!(&model.vocabulary, run.task().vocabulary());
    assert_eq!(model.weights.values().map(|(_, values)| values.len()).sum::<usize>(), run.weights().len());
    assert_eq!(model.encodings, Some(EncodingNames { input: "p1000".to_owned(), output: "p1000".to_owned() }));
    // A changed weight is noticed, as in every checkpoint.
    let weights = checkpoint.join("model.safetensors");
    let mut content = fs::read(&weights).expect("weights");
    *content.last_mut().expect("not empty") ^= 1;
    fs::write(&weights, content).expect("written");
    assert!(matches!(StoredModel::load(&checkpoint), Err(CheckpointError::Checksum { .. })));
}
