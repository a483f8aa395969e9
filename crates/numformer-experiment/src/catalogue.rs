//! The catalogue that resolves the names in an experiment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use numformer_data::Task;
use numformer_encoding::{EncodingNameError, NumberEncoding, Preset, encoding_by_name};
use numformer_evaluate::{Answered, Better, CustomMetrics, FigureName};
use numformer_metrics::Metric;
use numformer_model::{AnyModel, CustomModelConfig, Kept, ModelConfig, Seq2Seq};
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Entries, GaussianEntries, HaarOrthogonal, Inversion,
    Law, LawError, LinearSolve, LogUniformEntries, LowRank, MatrixExponential, MatrixSign, MatrixVector,
    Multiplication, PolynomialRoots, Problem, Qr, Rank, SingularValues, Spectrum, Svd, SymmetricFunction,
    SymmetricInversion, SymmetricSpectrum, Trace, Transpose, UniformEntries,
};
use numformer_train::{AfterWarmUp, Optimizer, OptimizerConfig, Schedule, WarmUp};
use toml::Table;

use crate::config::architecture::Architecture;
use crate::config::choice::{BuiltIn, Choice, CustomConfig};
use crate::config::experiment_error::ExperimentError;
use crate::config::options::{MakeError, Options};
use crate::config::{ProblemConfig, ScheduleParameters};

/// The parts that experiments refer to by name: problems, laws of random matrices, encodings, architectures, optimizers,
/// schedules and metrics.
///
/// [`Catalogue::standard`] holds the parts of this workspace. Custom parts can be added, and experiments may then name
/// them. Each constructor receives the options that the experiment gives for its part.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_encoding::Positional;
/// use numformer_experiment::{Catalogue, Experiment, presets};
///
/// // Three significant digits in base 20.
/// let p20 = Positional::new(20, 3, -20..=20)?;
/// let catalogue = Catalogue::standard().with_encoding("p20", Arc::new(p20));
/// let toml = presets::find("transpose-3x3").unwrap().toml.replace("p1000", "p20");
/// let experiment = Experiment::from_toml(&toml, "my.toml", &catalogue)?;
/// assert_eq!(experiment.task(&catalogue)?.vocabulary().tokenize("+ 1 19 0")?.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Catalogue {
    problems: BTreeMap<String, (String, MakeProblem)>,
    laws: BTreeMap<String, MakeLaw>,
    encodings: BTreeMap<String, Arc<dyn NumberEncoding>>,
    families: BTreeMap<String, MakeEncoding>,
    architectures: BTreeMap<String, MakeModel>,
    optimizers: BTreeMap<String, MakeOptimizer>,
    schedules: BTreeMap<String, MakeSchedule>,
    metrics: BTreeMap<String, AddMetric>,
}

type MakeProblem = Arc<dyn Fn(&mut ProblemConfig) -> Result<Box<dyn Problem>, MakeError> + Send + Sync>;
type MakeLaw = Arc<dyn Fn(&LawParameters<'_>) -> Result<Box<dyn Law>, MakeError> + Send + Sync>;
type MakeEncoding = Arc<dyn Fn(&Options) -> Result<Arc<dyn NumberEncoding>, MakeError> + Send + Sync>;
pub(crate) type MakeModel =
    Arc<dyn Fn(&CustomModelConfig, &Options, &VarBuilder<'_>) -> Result<AnyModel, MakeError> + Send + Sync>;
type MakeOptimizer = Arc<dyn Fn(&Options) -> Result<Box<dyn Optimizer>, MakeError> + Send + Sync>;
type MakeSchedule = Arc<dyn Fn(&ScheduleParameters, &Options) -> Result<Box<dyn Schedule>, MakeError> + Send + Sync>;
type AddMetric = Arc<dyn Fn(&Arc<Task>, &Options, &mut CustomMetrics) -> Result<(), MakeError> + Send + Sync>;

/// Kinds of encodings that take parameters.
const GENERAL_ENCODINGS: [&str; 3] = ["positional", "balanced", "floating"];

/// The parameters that a law of random matrices is made from.
#[derive(Clone, Copy, Debug)]
pub struct LawParameters<'a> {
    /// Number of rows of a matrix.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The experiment's `matrices.bound`, `A` in the paper.
    pub bound: f64,
    /// The experiment's `matrices.entries`.
    pub entries: Entries,
    /// The experiment's `matrices.options`.
    pub options: &'a Options,
}

impl LawParameters<'_> {
    /// The number of rows and columns, for laws of square matrices.
    ///
    /// # Errors
    /// When the two numbers differ.
    pub fn dimension(&self) -> Result<usize, LawError> {
        let Self { rows, cols: columns, .. } = *self;
        if rows == columns { Ok(rows) } else { Err(LawError::NotSquare { rows, columns }) }
    }
}

impl Catalogue {
    /// The catalogue of all parts in this workspace.
    #[must_use]
    pub fn standard() -> Self {
        let empty = Self::default();
        Preset::ALL
            .into_iter()
            .fold(empty, |catalogue, preset| catalogue.with_encoding(preset.name(), preset.encoding()))
            .with_problem("addition", "[A | B] to A + B, r×2c to r×c", |_| Ok(Box::new(Addition)))
            .with_problem(
                "cholesky",
                "L lower triangular with positive diagonal, LLᵀ = A; n×n, symmetric positive definite",
                |_| Ok(Box::new(Cholesky)),
            )
            .with_problem("determinant", "det A, n×n to 1×1", |_| Ok(Box::new(Determinant)))
            .with_problem("eigenvalues", "eigenvalues in descending order, n×n symmetric to n×1", |_| {
                Ok(Box::new(Eigenvalues))
            })
            .with_problem(
                "eigenvectors",
                "eigenvalues in ascending order, then V with VᵀAV diagonal, n×n symmetric to (n+1)×n",
                |problem| Ok(Box::new(Eigenvectors { signs: problem.signs.take().unwrap_or_default() })),
            )
            .with_problem(
                "inversion",
                "A⁻¹, n×n; judged by AH - I, or with judgement = \"target\" by A⁻¹",
                |problem| Ok(Box::new(Inversion { judgement: problem.judgement.take().unwrap_or_default() })),
            )
            .with_problem("linear-solve", "[A | b] to x with Ax = b, n×(n+1) to n×1", |_| Ok(Box::new(LinearSolve)))
            .with_problem("matrix-exponential", "exp A, n×n", |_| Ok(Box::new(MatrixExponential)))
            .with_problem("matrix-sign", "sign A, n×n", |_| Ok(Box::new(MatrixSign)))
            .with_problem("matrix-cosine", "cos A, n×n symmetric", |_| Ok(Box::new(SymmetricFunction::Cosine)))
            .with_problem("matrix-logarithm", "log A, n×n symmetric positive definite", |_| {
                Ok(Box::new(SymmetricFunction::Logarithm))
            })
            .with_problem("matrix-sine", "sin A, n×n symmetric", |_| Ok(Box::new(SymmetricFunction::Sine)))
            .with_problem("matrix-square-root", "√A, n×n symmetric positive definite", |_| {
                Ok(Box::new(SymmetricFunction::SquareRoot))
            })
            .with_problem(
                "matrix-vector",
                "[A | v] to Aᵀv, r×(c+1) to c×1; with left = \"plain\" to Av, n×(n+1) to n×1",
                |problem| Ok(Box::new(MatrixVector { left: problem.left.take().unwrap_or_default() })),
            )
            .with_problem(
                "multiplication",
                "[A | B] to AᵀB, r×2c to c×c; with left = \"plain\" to AB, n×2n to n×n",
                |problem| Ok(Box::new(Multiplication { left: problem.left.take().unwrap_or_default() })),
            )
            .with_problem(
                "polynomial-roots",
                "coefficients, highest first, to roots as real and imaginary parts, 1×(n+1) to n×2",
                |_| Ok(Box::new(PolynomialRoots)),
            )
            .with_problem(
                "qr",
                "Q above R with A = QR, QᵀQ = I, R upper triangular, diag R not negative; r×c with r ≥ c to (r+c)×c",
                |_| Ok(Box::new(Qr)),
            )
            .with_problem("rank", "numerical rank, r×c to 1×1", |_| Ok(Box::new(Rank)))
            .with_problem("singular-values", "singular values in descending order, r×c to min(r,c)×1", |_| {
                Ok(Box::new(SingularValues))
            })
            .with_problem(
                "svd",
                "singular values in descending order, then U, then V, A = U diag(σ) Vᵀ, pairs of either sign; r×c to (1+r+c)×min(r,c)",
                |problem| Ok(Box::new(Svd { signs: problem.signs.take().unwrap_or_default() })),
            )
            .with_problem("symmetric-inversion", "A⁻¹, n×n symmetric; judged as inversion", |problem| {
                Ok(Box::new(SymmetricInversion { judgement: problem.judgement.take().unwrap_or_default() }))
            })
            .with_problem("trace", "tr A, n×n to 1×1", |_| Ok(Box::new(Trace)))
            .with_problem("transpose", "Aᵀ, r×c to c×r", |_| Ok(Box::new(Transpose)))
            .with_law("uniform", |law| Ok(Box::new(UniformEntries::new(law.rows, law.cols, law.bound)?)))
            .with_law("gaussian", |law| {
                // The standard deviation of uniform entries.
                Ok(Box::new(GaussianEntries::new(law.rows, law.cols, law.bound / 3.0_f64.sqrt())?))
            })
            .with_law("log-uniform", |law| {
                // Three orders of magnitude.
                Ok(Box::new(LogUniformEntries::new(law.rows, law.cols, law.bound / 1000.0, law.bound)?))
            })
            .with_law("low-rank", |law| Ok(Box::new(LowRank::new(law.rows, law.cols, law.bound)?)))
            .with_law("haar-orthogonal", |law| Ok(Box::new(HaarOrthogonal::new(law.dimension()?)?)))
            .with_spectrum("wigner", Spectrum::Semicircle)
            .with_spectrum("positive", Spectrum::Positive)
            .with_spectrum("uniform-spectrum", Spectrum::Uniform)
            .with_spectrum("gaussian-spectrum", Spectrum::Gaussian)
            .with_spectrum("laplace", Spectrum::Laplace)
            .with_spectrum("abs-laplace", Spectrum::AbsLaplace)
            .with_spectrum("marchenko-pastur", Spectrum::MarchenkoPastur)
    }

    /// Adds the law of symmetric matrices with this spectrum.
    fn with_spectrum(self, name: &str, spectrum: Spectrum) -> Self {
        self.with_law(name, move |law| {
            let law_of = SymmetricSpectrum::new(law.dimension()?, law.bound, spectrum)?;
            Ok(Box::new(law_of.with_entries(law.entries)?))
        })
    }

    /// Adds a problem, replacing any problem of the same name. `about` says in one line what the problem computes and
    /// between which shapes.
    ///
    /// `make` takes the options it knows from the section that asks for the problem. Any option left over is an error.
    #[must_use]
    pub fn with_problem(
        mut self,
        name: &str,
        about: &str,
        make: impl Fn(&mut ProblemConfig) -> Result<Box<dyn Problem>, MakeError> + Send + Sync + 'static,
    ) -> Self {
        self.problems.insert(name.to_owned(), (about.to_owned(), Arc::new(make)));
        self
    }

    /// Adds a law of random matrices, replacing any law of the same name.
    #[must_use]
    pub fn with_law(
        mut self,
        name: &str,
        make: impl Fn(&LawParameters<'_>) -> Result<Box<dyn Law>, MakeError> + Send + Sync + 'static,
    ) -> Self {
        self.laws.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds an encoding, replacing any encoding of the same name.
    #[must_use]
    pub fn with_encoding(mut self, name: &str, encoding: Arc<dyn NumberEncoding>) -> Self {
        self.encodings.insert(name.to_owned(), encoding);
        self
    }

    /// Adds a family of encodings, replacing any family of the same name. Experiments name a member by its options, as
    /// in `mine(base=20, digits=3)`.
    #[must_use]
    pub fn with_encodings(
        mut self,
        name: &str,
        make: impl Fn(&Options) -> Result<Arc<dyn NumberEncoding>, MakeError> + Send + Sync + 'static,
    ) -> Self {
        self.families.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds an architecture. Experiments ask for it as in `model = { architecture = "mixer", options = { width = 32 } }`.
    ///
    /// `make` builds the model on the tensors of a [`VarBuilder`], for the vocabulary and the lengths in the
    /// configuration: those of the longest source and target of the task, its stages and its test sets. It is called for
    /// the model that learns, for the one that is judged, and to learn which weights there are. A model with a limit
    /// should override [`Seq2Seq::max_positions`], so that longer sequences are refused with a clear message. The name
    /// must not be that of a built-in architecture.
    #[must_use]
    pub fn with_architecture<M>(
        mut self,
        name: &str,
        make: impl Fn(&CustomModelConfig, &Options, &VarBuilder<'_>) -> Result<M, MakeError> + Send + Sync + 'static,
    ) -> Self
    where
        M: Seq2Seq<Memory: Kept, Cache: Kept> + Send + Sync + 'static,
    {
        let make = move |config: &CustomModelConfig, options: &Options, vb: &VarBuilder<'_>| {
            make(config, options, vb).map(AnyModel::new)
        };
        self.architectures.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds an optimizer. Experiments ask for it as in `train.optimizer = { name = "lion", beta1 = 0.95 }`. The name must
    /// not be that of a built-in optimizer.
    #[must_use]
    pub fn with_optimizer<O: Optimizer + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&Options) -> Result<O, MakeError> + Send + Sync + 'static,
    ) -> Self {
        let make = move |options: &Options| -> Result<Box<dyn Optimizer>, MakeError> { Ok(Box::new(make(options)?)) };
        self.optimizers.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds a schedule of learning rates. Experiments ask for it as in `train.schedule = { name = "triangle", period =
    /// 100 }`.
    #[must_use]
    pub fn with_schedule<S: Schedule + 'static>(
        mut self,
        name: &str,
        make: impl Fn(&ScheduleParameters, &Options) -> Result<S, MakeError> + Send + Sync + 'static,
    ) -> Self {
        let make = move |parameters: &ScheduleParameters, options: &Options| -> Result<Box<dyn Schedule>, MakeError> {
            Ok(Box::new(make(parameters, options)?))
        };
        self.schedules.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds a metric. Experiments ask for it by its `name` in an `[[evaluate.metric]]` section. Its figure, of the same
    /// name, is then part of every evaluation, and goals, patience and best checkpoints may use it. The name must not be
    /// that of a standard figure.
    #[must_use]
    pub fn with_metric<M>(
        mut self,
        name: &str,
        better: Better,
        make: impl Fn(&Arc<Task>, &Options) -> Result<M, MakeError> + Send + Sync + 'static,
    ) -> Self
    where
        M: Metric<Sample = Answered, Value = f64> + Clone + Send + Sync + 'static,
    {
        let figure = name.to_owned();
        let add = move |task: &Arc<Task>, options: &Options, metrics: &mut CustomMetrics| {
            metrics.push(&figure, better, make(task, options)?);
            Ok(())
        };
        self.metrics.insert(name.to_owned(), Arc::new(add));
        self
    }

    /// The names of all problems, sorted, and what they compute.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.problems.iter().map(|(name, (about, _))| (name.as_str(), about.as_str()))
    }

    /// The names of all laws, sorted.
    pub fn laws(&self) -> impl Iterator<Item = &str> {
        self.laws.keys().map(String::as_str)
    }

    /// The names of all encodings, sorted.
    pub fn encodings(&self) -> impl Iterator<Item = &str> {
        self.encodings.keys().map(String::as_str)
    }

    /// The problem that a section of an experiment asks for.
    ///
    /// # Errors
    /// When no problem has this name, or the problem does not use one of the options.
    pub fn problem(&self, config: &ProblemConfig) -> Result<Box<dyn Problem>, ExperimentError> {
        let (_, make) = find(&self.problems, "problem.name", &config.name)?;
        let mut options = config.clone();
        let problem = make(&mut options).map_err(|source| not_made("problem", &config.name, source))?;
        match options.first_option() {
            None => Ok(problem),
            Some(key) => Err(ExperimentError::UnheededOption { key, problem: config.name.clone() }),
        }
    }

    /// The law with the given name.
    ///
    /// # Errors
    /// When no law has this name, or the law cannot be made with these parameters.
    pub fn law(&self, name: &str, parameters: &LawParameters<'_>) -> Result<Box<dyn Law>, ExperimentError> {
        let made = find(&self.laws, "matrices.law", name)?(parameters);
        made.map_err(|source| not_made("matrices.law", name, source))
    }

    /// The encoding with the given name, or a general encoding with its parameters, as read by [`encoding_by_name`].
    /// `key` is the experiment's key that names the encoding.
    ///
    /// # Errors
    /// When no encoding has this name.
    pub fn encoding(&self, key: &'static str, name: &str) -> Result<Arc<dyn NumberEncoding>, ExperimentError> {
        if let Some(encoding) = self.encodings.get(name) {
            return Ok(Arc::clone(encoding));
        }
        if let Some((family, options)) = name.strip_suffix(')').and_then(|name| name.split_once('('))
            && let Some(make) = self.families.get(family.trim())
        {
            let options = options_of_name(options).map_err(|source| not_made(key, name, source))?;
            return made(&options, make(&options)).map_err(|source| not_made(key, name, source));
        }
        if name.contains('(') {
            return encoding_by_name(name).map_err(|source| match source {
                EncodingNameError::Unknown(_) => {
                    let known = GENERAL_ENCODINGS.iter().map(|name| (*name).to_owned());
                    unknown(key, name, known.chain(self.families.keys().cloned()).collect())
                }
                source => ExperimentError::Encoding { key, source },
            });
        }
        find(&self.encodings, key, name).cloned()
    }

    /// The configuration of a model, which knows how the model is built if its architecture is in the catalogue.
    ///
    /// # Errors
    /// When the architecture is unknown, or the model cannot be built with these options.
    pub fn model(&self, config: ModelConfig) -> Result<ModelConfig, ExperimentError> {
        let ModelConfig::Custom(custom) = config else { return Ok(config) };
        let name = custom.architecture.clone();
        let make = Arc::clone(self.architecture(&name)?);
        let build = move |config: &CustomModelConfig, vb: &VarBuilder<'_>| {
            let options = Table::try_from(&config.options).map(Options::new);
            let options = options.map_err(|error| MakeError::Options { message: error.to_string() })?;
            made(&options, make(config, &options, vb))
        };
        // Mistakes in the options show here.
        let shapes = VarBuilder::zeros(DType::F32, &Device::Cpu);
        build(&custom, &shapes).map_err(|source| not_made("model.options", &name, source))?;
        Ok(custom.built_by(move |config, vb| build(config, vb).map_err(candle_core::Error::wrap)).into())
    }

    /// Checks that no custom part has the name of a built-in one, which would be used in its place.
    pub(crate) fn check_names(&self) -> Result<(), ExperimentError> {
        let is_standard = |name: &String| !matches!(FigureName::from(name.as_str()), FigureName::Custom(_));
        let architecture = self.architectures.keys().find(|name| Architecture::NAMES.contains(&name.as_str()));
        let optimizer = self.optimizers.keys().find(|name| OptimizerConfig::NAMES.contains(&name.as_str()));
        let taken = [
            ("architecture", architecture),
            ("optimizer", optimizer),
            ("metric", self.metrics.keys().find(|name| is_standard(name))),
        ];
        match taken.into_iter().find_map(|(part, name)| Some((part, name?))) {
            None => Ok(()),
            Some((part, name)) => Err(ExperimentError::NameOfBuiltIn { part, name: name.clone() }),
        }
    }

    /// The constructor of a custom architecture.
    pub(crate) fn architecture(&self, name: &str) -> Result<&MakeModel, ExperimentError> {
        let known = Architecture::NAMES.iter().map(|name| (*name).to_owned()).chain(self.architectures.keys().cloned());
        self.architectures.get(name).ok_or_else(|| unknown("model.architecture", name, known.collect()))
    }

    /// The optimizer that an experiment asks for.
    ///
    /// # Errors
    /// When the name is unknown, or its options are wrong.
    pub fn optimizer(&self, choice: &Choice<OptimizerConfig>) -> Result<Box<dyn Optimizer>, ExperimentError> {
        let CustomConfig { name, options } = match choice {
            Choice::BuiltIn(config) => return Ok(config.build()),
            Choice::Custom(custom) => custom,
        };
        let known = OptimizerConfig::NAMES.iter().map(|name| (*name).to_owned()).chain(self.optimizers.keys().cloned());
        let make = self.optimizers.get(name).ok_or_else(|| unknown("train.optimizer.name", name, known.collect()))?;
        let options = Options::new(options.clone());
        made(&options, make(&options)).map_err(|source| not_made("train.optimizer", name, source))
    }

    /// The schedule of learning rates that an experiment asks for.
    ///
    /// # Errors
    /// When the name is unknown, or its options are wrong.
    pub fn schedule(
        &self,
        choice: &Choice<AfterWarmUp>,
        parameters: &ScheduleParameters,
    ) -> Result<Box<dyn Schedule>, ExperimentError> {
        let ScheduleParameters { lr, warmup_steps, .. } = *parameters;
        let CustomConfig { name, options } = match choice {
            Choice::BuiltIn(then) => return Ok(Box::new(WarmUp::new(lr, warmup_steps).then(*then))),
            Choice::Custom(custom) => custom,
        };
        let known = self.schedules.keys().cloned().collect();
        let make = self.schedules.get(name).ok_or_else(|| unknown("train.schedule.name", name, known))?;
        let options = Options::new(options.clone());
        made(&options, make(parameters, &options)).map_err(|source| not_made("train.schedule", name, source))
    }

    /// The custom metrics that an experiment asks for.
    ///
    /// # Errors
    /// When a name is unknown, or its options are wrong.
    pub fn metrics(&self, configs: &[CustomConfig], task: &Arc<Task>) -> Result<CustomMetrics, ExperimentError> {
        let mut metrics = CustomMetrics::default();
        for (index, CustomConfig { name, options }) in configs.iter().enumerate() {
            if configs[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(ExperimentError::SameMetricName { metric: name.clone() });
            }
            let known = self.metrics.keys().cloned().collect();
            let add = self.metrics.get(name).ok_or_else(|| unknown("evaluate.metric.name", name, known))?;
            let options = Options::new(options.clone());
            let added = add(task, &options, &mut metrics);
            made(&options, added).map_err(|source| not_made("evaluate.metric", name, source))?;
        }
        Ok(metrics)
    }
}

/// Returns what was made, if its constructor read all given options.
fn made<T>(options: &Options, made: Result<T, MakeError>) -> Result<T, MakeError> {
    let made = made?;
    options.check_read().map(|()| made)
}

/// The options between the brackets of a name, as in `base=20, digits=3`.
fn options_of_name(text: &str) -> Result<Options, MakeError> {
    let table = toml::from_str::<BTreeMap<String, Table>>(&format!("options = {{ {text} }}"));
    let table = table.map_err(|error| MakeError::Options { message: error.message().to_owned() })?;
    Ok(Options::new(table.into_values().next().unwrap_or_default()))
}

fn not_made(key: &'static str, name: &str, source: MakeError) -> ExperimentError {
    match source {
        MakeError::Law(source) => source.into(),
        source => ExperimentError::NotMade { key, name: name.to_owned(), source },
    }
}

fn unknown(key: &'static str, name: &str, known: Vec<String>) -> ExperimentError {
    ExperimentError::UnknownName { key, found: name.to_owned(), known }
}

fn find<'c, T>(entries: &'c BTreeMap<String, T>, key: &'static str, name: &str) -> Result<&'c T, ExperimentError> {
    entries.get(name).ok_or_else(|| unknown(key, name, entries.keys().cloned().collect()))
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("problems", &self.problems.keys())
            .field("laws", &self.laws.keys())
            .field("encodings", &self.encodings.keys())
            .field("architectures", &self.architectures.keys())
            .finish()
    }
}
