//! Custom parts of every kind, named by an experiment with their options: they are built, judged, saved and found again.

use std::error::Error;
use std::sync::Arc;

use candle_core::Tensor;
use candle_nn::{Embedding, Module, VarBuilder};
use faer::{Mat, MatRef};
use numformer_data::{Split, Task};
use numformer_encoding::{NumberEncoding, Positional};
use numformer_evaluate::{Answered, Better};
use numformer_experiment::{Catalogue, Experiment, MakeError, Moment, Run, StoredRun};
use numformer_metrics::Metric;
use numformer_model::{CustomModelConfig, FlatLayout, Linear, Mode, Padded, Prefix, Projection, Seq2Seq};
use numformer_ops::Activation;
use numformer_problems::{Law, Problem, SolveError, UniformEntries};
use numformer_train::{Optimizer, Update};
use serde::Deserialize;

/// Every entry times a factor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scaled {
    factor: f64,
}

impl Problem for Scaled {
    fn name(&self) -> &'static str {
        "scaled"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok(input)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        output.resize_with(input.nrows(), input.ncols(), |_, _| 0.0);
        output.copy_from(faer::Scale(self.factor) * input);
        Ok(())
    }
}

/// Descent by the sign of the gradient.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sign {
    momentum: f32,
    #[serde(skip)]
    velocity: Vec<f32>,
}

impl Optimizer for Sign {
    fn begin(&mut self, layout: &FlatLayout) {
        self.velocity = vec![0.0; layout.len()];
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        for ((weight, gradient), velocity) in weights.iter_mut().zip(gradients).zip(&mut self.velocity) {
            *velocity = self.momentum * *velocity + gradient;
            *weight -= update.lr as f32 * velocity.signum();
        }
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("velocity", &self.velocity)]
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("velocity", &mut self.velocity)]
    }
}

/// A model without attention: one linear map from all places of the source to all places of the answer.
struct Mixer {
    tokens: Embedding,
    mix: Linear,
    projection: Projection,
    /// Longest source and target, and the width.
    shape: [usize; 3],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Width {
    width: usize,
}

impl Mixer {
    fn new(config: &CustomModelConfig, d: usize, vb: &VarBuilder<'_>) -> Result<Self, candle_core::Error> {
        let CustomModelConfig { vocab_size, max_src_len: src, max_tgt_len: tgt, .. } = *config;
        Ok(Self {
            tokens: candle_nn::embedding(vocab_size, d, vb.pp("tokens"))?,
            mix: Linear::new(src * d, tgt * d, &vb.pp("mix"))?,
            projection: Projection::new(2 * d, vocab_size, &vb.pp("projection"))?,
            shape: [src, tgt, d],
        })
    }
}

impl Seq2Seq for Mixer {
    type Memory = Tensor;
    type Cache = Prefix;

    fn encode(&self, src: &Padded, _: Mode) -> Result<Tensor, candle_core::Error> {
        let [longest, tgt, d] = self.shape;
        let read = self.tokens.forward(src.ids())?;
        let all = read.pad_with_zeros(1, 0, longest - read.dim(1)?)?.flatten_from(1)?;
        self.mix.forward(&all, Activation::Relu)?.reshape((all.dim(0)?, tgt, d))
    }

    fn decode(
        &self,
        memory: &Tensor,
        tgt: &Padded,
        cache: Option<&mut Prefix>,
        _: Mode,
    ) -> Result<Tensor, candle_core::Error> {
        let whole = cache.map_or_else(|| Ok(tgt.clone()), |prefix| prefix.extended(tgt))?;
        let (len, new) = (whole.ids().dim(1)?, tgt.ids().dim(1)?);
        let states = Tensor::cat(&[&memory.narrow(1, 0, len)?, &self.tokens.forward(whole.ids())?], 2)?;
        states.narrow(1, len - new, new)
    }

    fn projection(&self) -> &Projection {
        &self.projection
    }
}

/// Mean number of tokens of an answer.
#[derive(Clone, Default)]
struct Length(u64, u64);

impl Metric for Length {
    type Sample = Answered;
    type Value = f64;

    fn update(&mut self, sample: &Answered) {
        self.0 += sample.answer.as_ref().map_or(0, Vec::len) as u64;
        self.1 += 1;
    }
    fn merge(&mut self, other: &Self) {
        (self.0, self.1) = (self.0 + other.0, self.1 + other.1);
    }
    fn value(&self) -> Option<f64> {
        (self.1 > 0).then(|| self.0 as f64 / self.1 as f64)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    lower: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    base: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Period {
    period: u64,
}

fn catalogue() -> Catalogue {
    Catalogue::standard()
        .with_problem("scaled", "factor · A", |problem| Ok(Box::new(problem.take_options::<Scaled>()?)))
        .with_law("above", |law| {
            let Range { lower } = law.options.read()?;
            // Only that it is used shows here: the bound of the law.
            Ok(Box::new(UniformEntries::new(law.rows, law.cols, law.bound - lower)?) as Box<dyn Law>)
        })
        .with_encodings("based", |options| {
            let Base { base } = options.read()?;
            let encoding = Positional::new(base, 3, -20..=20).map_err(MakeError::other)?;
            Ok(Arc::new(encoding) as Arc<dyn NumberEncoding>)
        })
        .with_architecture("mixer", |config, options, vb| {
            let Width { width } = options.read()?;
            Ok(Mixer::new(config, width, vb)?)
        })
        .with_optimizer("sign", |options| options.read::<Sign>())
        .with_schedule("saw", |parameters, options| {
            let (lr, Period { period }) = (parameters.lr, options.read()?);
            Ok(move |step: u64| lr * (1.0 - (step % period) as f64 / period as f64))
        })
        .with_metric("length", Better::Less, |_: &Arc<Task>, _| Ok(Length::default()))
}

const TOML: &str = r#"
    name = "custom"
    problem = { name = "scaled", options = { factor = 2.0 } }
    matrices = { law = "above", rows = 1, options = { lower = 4.0 } }
    encoding = { input = "based(base=20)", output = "p10" }
    model = { architecture = "mixer", options = { width = 8 } }
    train = { batch_size = 8, steps = 12, lr = 1e-3, warmup_steps = 0, optimizer = { name = "sign", momentum = 0.5 }, schedule = { name = "saw", period = 5 } }
    evaluate = { every = 4, examples = 20, metric = [{ name = "length" }] }
    checkpoint = { every = 5, keep = 9, best = ["length"] }
    stop.target = { metric = "length", value = -1.0 }
    log.every = 1
"#;

#[test]
fn custom_parts_are_built_judged_and_found_again() {
    let catalogue = catalogue();
    let experiment = Experiment::from_toml(TOML, "custom.toml", &catalogue).expect("an experiment");
    assert_eq!(Experiment::from_toml(&experiment.to_toml(), "again", &catalogue).expect("its own output"), experiment);
    let dir = tempfile::tempdir().expect("dir");
    let run =
        |dir| Run::with_catalogue(experiment.clone(), &catalogue).expect("a run").in_dir(dir).expect("a directory");
    let whole = dir.path().join("whole");
    let mut trained = run(&whole);
    trained.run().expect("all steps");
    let length = |evaluation: &numformer_evaluate::Evaluation| evaluation.custom["length"].value;
    let found = trained.evaluate(Split::Test, 30).expect("an evaluation");

    // In parts: the same weights.
    let parts = dir.path().join("parts");
    run(&parts).run_until(7).expect("seven steps");
    // Nothing was saved after the fifth: it goes on from there.
    let mut resumed = run(&parts);
    assert_eq!(resumed.step(), 5);
    resumed.run().expect("all steps");
    assert_eq!(resumed.weights(), trained.weights());

    let stored = StoredRun::with_catalogue(&whole, &catalogue).expect("a run");
    let again = stored.evaluate(Split::Test, 30).expect("an evaluation");
    assert_eq!(again, found);
    assert!(length(&found) >= 0.0);
    // On other matrices, by the names of the same catalogue.
    let other = stored.with_settings(&["matrices.options={lower=9.0}"]).expect("settings");
    assert!(other.evaluate(Split::Test, 30).expect("an evaluation").custom.contains_key("length"));
    let best = StoredRun::load_at(&whole, Moment::Best("length".into()), &catalogue).expect("the best");
    assert!([4, 8, 12].contains(&best.step()));
    assert_eq!(best.task().example(0, Split::Test, 0).expect("an example").problem, 0);
}

#[test]
fn mistakes_in_options_are_named() {
    let error = |from: &str, to: &str| {
        assert!(TOML.contains(from), "{from}");
        let error = Experiment::from_toml(&TOML.replace(from, to), "my.toml", &catalogue()).expect_err(to);
        error.to_string()
    };
    let cases = [
        ("momentum = 0.5", "momentu = 0.5", "unknown key `momentu`; did you mean `momentum`?"),
        ("\"sign\"", "\"signs\"", "unknown name `signs` in train.optimizer.name; did you mean `sign`?"),
        ("\"mixer\"", "\"mixers\"", "unknown name `mixers` in model.architecture; did you mean `mixer`?"),
        ("width = 8", "with = 8", "unknown key `with`; did you mean `width`?"),
        ("{ width = 8 }", "{ width = 8 }, dropout = 0.1", "model.dropout is not an option of the architecture `mixer`"),
        ("\"mixer\"", "\"gru\"", "model.options.width is not an option of the architecture `gru`"),
        ("period = 5", "periods = 5", "unknown key `periods`; did you mean `period`?"),
        ("\"saw\"", "\"sew\"", "unknown name `sew` in train.schedule.name"),
        ("lower = 4.0", "upper = 4.0", "unknown key `upper`"),
        ("factor = 2.0", "factor = 2.0, power = 3", "unknown key `power`"),
        ("base=20", "bas=20", "unknown key `bas`; did you mean `base`?"),
        ("based(base=20)", "basd(base=20)", "unknown name `basd(base=20)` in encoding.input; did you mean `based`?"),
        ("based(base=20)", "based(base=20, digits=[1, 2])", "unknown key `digits`"),
        ("{ name = \"length\" }", "{ name = \"length\", unit = 1 }", "it has no options, found `unit`"),
        ("[{ name = \"length\" }]", "[{ name = \"length\" }, { name = \"length\" }]", "found `length` again"),
        (
            "metric = \"length\"",
            "metric = \"lengths\"",
            "unknown figure `lengths` in stop.target.metric; did you mean `length`?",
        ),
        ("law = \"above\"", "law = \"uniform\"", "it has no options, found `lower`"),
    ];
    for (from, to, expected) in cases {
        let found = error(from, to);
        assert!(found.starts_with("my.toml, line ") && found.contains(expected), "{to}: {found}");
    }
}

#[test]
fn a_custom_architecture_is_built_for_the_longest_sequences() {
    let wider = "matrices = { law = \"above\", rows = 1, cols = 2, options = { lower = 4.0 } }";
    let wide = "matrices = { law = \"above\", rows = 2, options = { lower = 4.0 } }";
    let toml = TOML.replace("steps = 12", "steps = 16").replace(
        "metric = [{ name = \"length\" }]",
        &format!("metric = [{{ name = \"length\" }}], set = [{{ name = \"wider\", {wider} }}]"),
    ) + &format!("\nstage = [{{ name = \"wide\", {wide}, steps = 4 }}]");
    let catalogue = catalogue();
    let experiment = Experiment::from_toml(&toml, "custom.toml", &catalogue).expect("an experiment");
    let dir = tempfile::tempdir().expect("dir");
    let mut run = Run::with_catalogue(experiment, &catalogue)
        .expect("a run")
        .in_dir(dir.path().join("run"))
        .expect("a directory");
    run.run().expect("both stages");
    let stored = StoredRun::with_catalogue(&dir.path().join("run"), &catalogue).expect("a run");
    assert!(stored.evaluate_sets(20).expect("all sets").get("wider").is_some());
}

#[test]
fn a_custom_architecture_starts_from_weights_for_the_same_vocabulary() {
    let catalogue = catalogue();
    let dir = tempfile::tempdir().expect("dir");
    let experiment = Experiment::from_toml(TOML, "custom.toml", &catalogue).expect("an experiment");
    let path = dir.path().join("first");
    let mut first =
        Run::with_catalogue(experiment.clone(), &catalogue).expect("a run").in_dir(&path).expect("a directory");
    first.run().expect("all steps");

    let start = |settings: &[&str]| {
        let mut experiment = experiment.with_settings(settings).expect("settings");
        (experiment.seed, experiment.start_from) = (7, Some(path.clone()));
        let mut run = Run::with_catalogue(experiment, &catalogue).expect("a run");
        run.check_start().map(|()| run.weights().to_vec())
    };
    assert_eq!(start(&[]).expect("the same model"), first.weights());
    let error = |settings: &[&str]| {
        let error = start(settings).expect_err("another model");
        error.source().expect("why").to_string()
    };
    assert!(error(&["encoding.input=\"based(base=21)\""]).contains("the vocabularies differ"));
    assert!(error(&["model.options={width=9}"]).contains("model.options"));
}

#[test]
fn custom_parts_have_names_of_their_own() {
    let adam = catalogue().with_optimizer("adam", |options| options.read::<Sign>());
    let exact = catalogue().with_metric("exact", Better::Less, |_: &Arc<Task>, _| Ok(Length::default()));
    let gru = catalogue().with_architecture("gru", |config, _, vb| Ok(Mixer::new(config, 4, vb)?));
    for (catalogue, expected) in
        [(adam, "the optimizer `adam`"), (exact, "the metric `exact`"), (gru, "the architecture `gru`")]
    {
        let error = Experiment::from_toml(TOML, "custom.toml", &catalogue).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("has the name of a built-in"), "{error}");
    }
}
