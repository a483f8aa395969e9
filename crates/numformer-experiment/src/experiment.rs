//! Experiments: everything that defines a run, as plain data read from TOML.

use std::path::{Path, PathBuf};

use numformer_data::{Task, TaskBuilder, TaskError, VocabularyKind, read_text};
use numformer_encoding::EncodingNameError;
use numformer_problems::{Ensemble, EnsembleError, MAX_DIMENSION, RandomScale};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::catalogue::{Catalogue, LawParameters};
use crate::config::is_default;
use crate::config::{
    CheckpointConfig, DataConfig, EncodingConfig, EvaluateConfig, ExpectedConfig, LogConfig, MatricesConfig, OneOrMany,
    ProblemConfig, Span, StageConfig, StopConfig, TestSetConfig, TrainConfig,
};
use crate::draft::{Draft, apply, key_and_value};
use crate::model_config::{Architecture, ModelConfig};
use crate::presets;
use crate::signed;
use crate::syntax::SyntaxError;
use numformer_evaluate::text::did_you_mean;
use numformer_train::AdamConfig;
use numformer_train::AfterWarmUp;
use numformer_train::DivergencePolicy;
use numformer_train::OptimizerConfig;
use numformer_train::SgdConfig;

/// Everything that defines a run: the same experiment gives the same weights, bit for bit, on the same machine.
///
/// # Examples
/// ```
/// use numformer_experiment::{Catalogue, Experiment};
///
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.lr = 5e-4;
/// assert_eq!(experiment.task(&Catalogue::standard())?.max_src_len(), 31);
/// # Ok::<(), numformer_experiment::ExperimentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment, used for its run directory.
    pub name: String,
    /// Seed of the weights and of the training examples.
    #[serde(default)]
    pub seed: u64,
    /// A run or a model whose weights this one begins with; random weights when absent. What belongs to a symbol or a
    /// position that was not there before begins at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// What is computed: one problem or several.
    pub problem: OneOrMany<ProblemConfig>,
    /// The matrices it is computed on.
    pub matrices: MatricesConfig,
    /// How numbers are written.
    pub encoding: EncodingConfig,
    /// Where examples come from, other than the law of the matrices.
    #[serde(default)]
    pub data: DataConfig,
    /// The model; of the paper's default sizes when absent.
    #[serde(default)]
    pub model: ModelConfig,
    /// The optimisation.
    pub train: TrainConfig,
    /// When and on what the model is judged.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// When weights are saved.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// When training is reported.
    #[serde(default)]
    pub log: LogConfig,
    /// When a run ends before all its steps are taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stop: StopConfig,
    /// What `numformer reproduce` holds the result against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedConfig>,
    /// What is learned before the experiment proper, stage by stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageConfig>,
}

/// The name of the test split among test sets.
pub(crate) const TEST: &str = "test";

/// Examples of a window of buckets, at most: their lengths are looked at for every batch.
const MAX_WINDOW_EXAMPLES: u64 = 1 << 18;

impl Experiment {
    /// The experiment of a problem on square matrices of a law, with so many rows, or a range of them: numbers written in
    /// P1000, the model of the paper's smallest sizes, 20,000 steps of 64 examples at a learning rate of 1e-4. Every value may
    /// be set afterwards.
    ///
    /// # Examples
    /// ```
    /// use numformer_experiment::{Catalogue, Experiment};
    ///
    /// let mut experiment = Experiment::new("eigenvalues", "wigner", 3..=5).encoded("p1000", "fp15");
    /// experiment.train.steps = 100_000;
    /// experiment.validate(&Catalogue::standard())?;
    /// assert_eq!(experiment.name, "eigenvalues-wigner");
    /// # Ok::<(), numformer_experiment::ExperimentError>(())
    /// ```
    #[must_use]
    pub fn new(problem: &str, law: &str, rows: impl Into<Span>) -> Self {
        let p1000 = || "p1000".to_owned();
        Self {
            name: format!("{problem}-{law}"),
            seed: 0,
            start_from: None,
            problem: ProblemConfig::new(problem).into(),
            matrices: MatricesConfig::new(law, rows),
            encoding: EncodingConfig {
                input: p1000(),
                output: p1000(),
                vocabulary: VocabularyKind::default(),
                task_letters: None,
            },
            data: DataConfig::default(),
            model: ModelConfig::default(),
            train: TrainConfig::new(20_000, 1e-4),
            evaluate: EvaluateConfig::default(),
            checkpoint: CheckpointConfig::default(),
            log: LogConfig::default(),
            stop: StopConfig::default(),
            expected: None,
            stage: Vec::new(),
        }
    }

    /// Sets how numbers are written in sources and in targets.
    #[must_use]
    pub fn encoded(mut self, input: &str, output: &str) -> Self {
        (self.encoding.input, self.encoding.output) = (input.to_owned(), output.to_owned());
        self
    }

    /// An embedded experiment by name; see [`presets::PRESETS`].
    ///
    /// # Errors
    /// When there is no preset of that name.
    pub fn preset(name: &str) -> Result<Self, ExperimentError> {
        let (toml, origin) = preset_text(name)?;
        Self::from_toml(&toml, &origin, &Catalogue::standard())
    }

    /// Reads a preset's name or the path of a TOML file: what ends in `.toml` or holds a path separator is a file. Names
    /// are those of the standard catalogue.
    ///
    /// # Errors
    /// When there is no such preset or file, or as [`Experiment::from_toml`].
    pub fn load(name_or_path: &str) -> Result<Self, ExperimentError> {
        let (toml, origin) = Self::read(name_or_path)?;
        Self::from_toml(&toml, &origin, &Catalogue::standard())
    }

    /// The text that [`Experiment::load`] reads, and what names it in errors.
    pub(crate) fn read(name_or_path: &str) -> Result<(String, String), ExperimentError> {
        let path = Path::new(name_or_path);
        let is_file = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1;
        if !is_file {
            return preset_text(name_or_path);
        }
        let toml = read_text(path).map_err(|source| ExperimentError::Read { path: path.to_owned(), source })?;
        Ok((toml, name_or_path.to_owned()))
    }

    /// Reads and checks an experiment; `origin` names the text in errors, `catalogue` says what its names stand for.
    ///
    /// # Errors
    /// When the text is not TOML, a key is unknown or missing, or a value is impossible.
    pub fn from_toml(toml: &str, origin: &str, catalogue: &Catalogue) -> Result<Self, ExperimentError> {
        Draft::from_toml(toml, origin, &[] as &[&str])?.check(catalogue)
    }

    /// The experiment with some values set: each setting is `KEY=VALUE`, the key a dotted path, the value as in TOML. What
    /// is not TOML is text, so that names need no quotes. Of several problems, the key counts them from 0:
    /// `problem.1.weight=2`. With another `model.architecture`, what that one lacks is left out. Check the result with
    /// [`Experiment::validate`]; for settings of what is not read yet, see [`Draft`].
    ///
    /// # Errors
    /// When a setting is not of that form, or sets an unknown key or an impossible type.
    ///
    /// # Examples
    /// ```
    /// use numformer_experiment::Experiment;
    ///
    /// let experiment = Experiment::preset("transpose-3x3")?;
    /// let larger = experiment.with_settings(&["model.encoder.n_layers=4", "problem.name=inversion"])?;
    /// assert_eq!(larger.model.encoder.n_layers, 4);
    /// let error = larger.with_settings(&["train.stepz=3"]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `steps`?"));
    /// # Ok::<(), numformer_experiment::ExperimentError>(())
    /// ```
    pub fn with_settings(&self, settings: &[impl AsRef<str>]) -> Result<Self, ExperimentError> {
        apply(signed::table(self), settings).map(|(experiment, _)| experiment)
    }

    /// The dotted paths of the keys that a [setting](Self::with_settings) gives a value: those of its table, if its
    /// value is one.
    ///
    /// # Errors
    /// When the setting is not `KEY=VALUE`.
    ///
    /// # Examples
    /// ```
    /// use numformer_experiment::Experiment;
    ///
    /// assert_eq!(Experiment::keys_of_setting("train.lr=1e-3")?, ["train.lr"]);
    /// assert_eq!(Experiment::keys_of_setting("data={test='t.tsv', noise=0.1}")?, ["data.noise", "data.test"]);
    /// # Ok::<(), numformer_experiment::ExperimentError>(())
    /// ```
    pub fn keys_of_setting(setting: &str) -> Result<Vec<String>, ExperimentError> {
        fn push(path: &str, value: &Value, keys: &mut Vec<String>) {
            match value {
                Value::Table(table) => {
                    table.iter().for_each(|(key, value)| push(&format!("{path}.{key}"), value, keys))
                }
                _ => keys.push(path.to_owned()),
            }
        }
        let (path, value) = key_and_value(setting)
            .map_err(|problem| ExperimentError::Setting { setting: setting.to_owned(), problem })?;
        let mut keys = Vec::new();
        push(path, &value, &mut keys);
        Ok(keys)
    }

    /// Reads an experiment without checking its values.
    pub(crate) fn parse(toml: &str, origin: &str) -> Result<Self, ExperimentError> {
        let syntax = |error| ExperimentError::Syntax(SyntaxError::new(toml, origin, &error));
        let experiment: Self = toml::from_str(toml).map_err(syntax)?;
        Ok(experiment.completed(&toml::from_str(toml).map_err(syntax)?))
    }

    /// With the one default that depends on another value, where the table that the experiment was read from has none.
    pub(crate) fn completed(mut self, written: &Table) -> Self {
        if written.get("train").and_then(|train| train.get("warmup_steps")).is_none() {
            self.train.warmup_steps = TrainConfig::fitting_warmup_steps(self.train.steps);
        }
        self
    }

    /// The experiment as TOML, defaults written out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an experiment is plain data")
    }

    /// Checks every value, and that an example can be made; [`Experiment::task`] and [`Experiment::model_config`] cannot
    /// fail after it.
    ///
    /// # Errors
    /// Names the first impossible value.
    pub fn validate(&self, catalogue: &Catalogue) -> Result<(), ExperimentError> {
        let at_least_one = [
            ("train.batch_size", self.train.batch_size as u64),
            ("train.steps", self.train.steps),
            ("train.accumulate", u64::from(self.train.accumulate)),
            ("evaluate.every", self.evaluate.every),
            ("evaluate.examples", self.evaluate.examples),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
            ("log.every", self.log.every),
            ("data.bucket_window", u64::from(self.data.bucket_window)),
        ];
        for (key, found) in at_least_one {
            if found == 0 {
                return Err(ExperimentError::Zero { key });
            }
        }
        // A batch beyond its limit would not fit in memory.
        let at_most =
            [("train.steps", self.train.steps, 1 << 40), ("train.batch_size", self.train.batch_size as u64, 1 << 16)];
        for (key, found, limit) in at_most {
            if found > limit {
                return Err(ExperimentError::TooLarge { key: key.to_owned(), limit, found });
            }
        }
        if let Some((key, found)) = signed::larger_than_toml(self) {
            return Err(ExperimentError::TooLarge { key, limit: signed::LARGEST, found });
        }
        // Lengths are looked at a window at a time.
        let (window, limit) = (u64::from(self.data.bucket_window), MAX_WINDOW_EXAMPLES / self.train.batch_size as u64);
        if window > limit.max(1) {
            return Err(ExperimentError::TooLarge { key: "data.bucket_window".to_owned(), limit, found: window });
        }
        let problems =
            self.problem.0.iter().chain(self.stage.iter().filter_map(|s| s.problem.as_ref()).flat_map(|p| &p.0));
        let matrices = problems.filter_map(|problem| problem.matrices.as_ref()).chain([&self.matrices]);
        for MatricesConfig { rows, cols, .. } in matrices {
            for (key, span) in [("matrices.rows", Some(*rows)), ("matrices.cols", *cols)] {
                if let Some(Span { max, .. }) = span
                    && max > MAX_DIMENSION
                {
                    let (limit, found) = (MAX_DIMENSION as u64, max as u64);
                    return Err(ExperimentError::TooLarge { key: key.to_owned(), limit, found });
                }
            }
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(is_plain) {
            return Err(ExperimentError::Name { found: self.name.clone() });
        }
        for (key, found) in [("train.lr", self.train.lr), ("train.clip_norm", self.train.clip_norm)] {
            if !(found.is_finite() && found > 0.0) {
                return Err(ExperimentError::NotPositive { key, found });
            }
        }
        for (key, found) in [("train.weight_decay", self.train.weight_decay), ("data.noise", self.data.noise)] {
            if !(found.is_finite() && found >= 0.0) {
                return Err(ExperimentError::Negative { key, found });
            }
        }
        if let AfterWarmUp::Cosine { period, multiplier, shrink, min_lr } = self.train.schedule {
            if period == 0 {
                return Err(ExperimentError::Zero { key: "train.schedule.period" });
            }
            if !(multiplier.is_finite() && multiplier >= 1.0) {
                let key = "train.schedule.multiplier";
                return Err(ExperimentError::OutOfRange { key, expected: "1 or more", found: multiplier });
            }
            if !(shrink > 0.0 && shrink <= 1.0) {
                let key = "train.schedule.shrink";
                return Err(ExperimentError::OutOfRange { key, expected: "above 0 and at most 1", found: shrink });
            }
            if !(0.0..=self.train.lr).contains(&min_lr) {
                let key = "train.schedule.min_lr";
                return Err(ExperimentError::OutOfRange { key, expected: "from 0 to train.lr", found: min_lr });
            }
        }
        self.validate_optimizer()?;
        self.validate_ends()?;
        self.validate_test_sets()?;
        let task = self.task(catalogue)?;
        // A law that never suits its problem shows at once.
        task.try_every_law(self.seed)?;
        let longest = |task: &Task| task.max_src_len().max(task.max_tgt_len());
        let limit = self.model_config(&task)?.max_positions();
        for (stage, task) in self.stage.iter().zip(self.stage_tasks(catalogue, &task)?) {
            task.try_every_law(self.seed).map_err(|source| stage.error(source.into()))?;
            if let Some(found) = limit.filter(|limit| longest(&task) > *limit) {
                return Err(stage.error(ExperimentError::TooFewPositions { found, needed: longest(&task) }));
            }
        }
        for set in &self.evaluate.set {
            let of_set = self.of_test_set(set).task_written_as(catalogue, &task).map_err(|error| set.error(error))?;
            if let Some(found) = limit.filter(|limit| longest(&of_set) > *limit) {
                return Err(set.error(ExperimentError::TooFewPositions { found, needed: longest(&of_set) }));
            }
        }
        Ok(())
    }

    fn validate_test_sets(&self) -> Result<(), ExperimentError> {
        for (index, set) in self.evaluate.set.iter().enumerate() {
            if set.name == TEST || self.evaluate.set[..index].iter().any(|earlier| earlier.name == set.name) {
                return Err(ExperimentError::SameTestSetName { set: set.name.clone() });
            }
            if let Some(found) = set.noise.filter(|noise| !(noise.is_finite() && *noise >= 0.0)) {
                return Err(ExperimentError::Negative { key: "evaluate.set.noise", found });
            }
        }
        Ok(())
    }

    fn validate_optimizer(&self) -> Result<(), ExperimentError> {
        let share = |key, found: f64| match found {
            0.0..1.0 => Ok(()),
            _ => Err(ExperimentError::OutOfRange { key, expected: "from 0, below 1", found }),
        };
        share("train.label_smoothing", self.train.label_smoothing)?;
        match self.train.optimizer {
            OptimizerConfig::Adam(AdamConfig { beta1, beta2, epsilon }) => {
                share("train.optimizer.beta1", beta1)?;
                share("train.optimizer.beta2", beta2)?;
                if !(epsilon.is_finite() && epsilon > 0.0) {
                    return Err(ExperimentError::NotPositive { key: "train.optimizer.epsilon", found: epsilon });
                }
            }
            OptimizerConfig::Sgd(SgdConfig { momentum, .. }) => share("train.optimizer.momentum", momentum)?,
        }
        if let DivergencePolicy::RollBack { lr_factor, .. } = self.train.divergence
            && !(lr_factor > 0.0 && lr_factor < 1.0)
        {
            let key = "train.divergence.lr_factor";
            return Err(ExperimentError::OutOfRange { key, expected: "above 0, below 1", found: lr_factor });
        }
        Ok(())
    }

    fn validate_ends(&self) -> Result<(), ExperimentError> {
        if let Some(patience) = &self.stop.patience {
            if patience.evaluations == 0 {
                return Err(ExperimentError::Zero { key: "stop.patience.evaluations" });
            }
            if !(patience.min_delta.is_finite() && patience.min_delta >= 0.0) {
                return Err(ExperimentError::Negative { key: "stop.patience.min_delta", found: patience.min_delta });
            }
        }
        if !self.stage.is_empty() && self.data.train.is_some() {
            return Err(ExperimentError::StagesOfAFile);
        }
        let steps = self.stage.iter().filter_map(|stage| stage.steps).fold(0, u64::saturating_add);
        if !self.stage.is_empty() && steps >= self.train.steps {
            return Err(ExperimentError::StagesTooLong { found: steps, limit: self.train.steps });
        }
        for (index, stage) in self.stage.iter().enumerate() {
            if stage.steps == Some(0) {
                return Err(ExperimentError::Zero { key: "stage.steps" });
            }
            if stage.steps.is_none() && stage.until.is_none() {
                return Err(ExperimentError::EndlessStage { stage: stage.name.clone() });
            }
            if self.stage[..index].iter().any(|earlier| earlier.name == stage.name) || stage.name == self.name {
                return Err(ExperimentError::SameStageName { stage: stage.name.clone() });
            }
        }
        Ok(())
    }

    /// The task: what the model reads and writes.
    ///
    /// # Errors
    /// When a name is not in the catalogue, the matrices are impossible, or a problem is not posed on them.
    pub fn task(&self, catalogue: &Catalogue) -> Result<Task, ExperimentError> {
        let mut builder = self.task_builder(catalogue)?;
        for stage in &self.stage {
            let other = self.of_stage(stage).task_builder(catalogue).map_err(|error| stage.error(error))?;
            builder = builder.with_room_for(&other).map_err(|source| stage.error(source.into()))?;
        }
        Ok(builder.build()?)
    }

    /// The tasks of the stages, written as the experiment's own `task`.
    ///
    /// # Errors
    /// As [`Experiment::task`].
    pub(crate) fn stage_tasks(&self, catalogue: &Catalogue, task: &Task) -> Result<Vec<Task>, ExperimentError> {
        let tasks = self.stage.iter().map(|stage| {
            let builder = self.of_stage(stage).task_builder(catalogue)?.written_as(task);
            builder.build().map_err(|source| stage.error(source.into()))
        });
        tasks.collect()
    }

    /// The experiment on the examples of a test set.
    pub(crate) fn of_test_set(&self, set: &TestSetConfig) -> Self {
        let mut experiment = self.clone();
        experiment.stage.clear();
        // A set makes its own examples.
        experiment.data.test = None;
        experiment.problem = set.problem.clone().unwrap_or(experiment.problem);
        experiment.matrices = set.matrices.clone().unwrap_or(experiment.matrices);
        experiment.data.noise = set.noise.unwrap_or(experiment.data.noise);
        experiment.evaluate.seed = set.seed.unwrap_or(experiment.evaluate.seed);
        experiment
    }

    /// The experiment on a stage's problems and matrices.
    fn of_stage(&self, stage: &StageConfig) -> Self {
        let mut experiment = self.clone();
        experiment.problem = stage.problem.clone().unwrap_or(experiment.problem);
        experiment.matrices = stage.matrices.clone().unwrap_or(experiment.matrices);
        // One vocabulary: letters stand in all stages or in none.
        let of_several = |problem: &OneOrMany<ProblemConfig>| problem.0.len() > 1;
        let letters = self.encoding.task_letters.unwrap_or(of_several(&self.problem));
        experiment.encoding.task_letters = Some(letters);
        experiment
    }

    /// The task written as `trained` is, with its vocabulary: for a model of that task that is judged on this one.
    ///
    /// # Errors
    /// As [`Experiment::task`]; and when there is a problem or a dimension that the vocabulary has no symbol for.
    pub fn task_written_as(&self, catalogue: &Catalogue, trained: &Task) -> Result<Task, ExperimentError> {
        let task = self.task_builder(catalogue)?.written_as(trained).build()?;
        task.try_every_law(self.evaluate.seed)?;
        Ok(task)
    }

    fn task_builder(&self, catalogue: &Catalogue) -> Result<TaskBuilder, ExperimentError> {
        let EncodingConfig { input, output, vocabulary, task_letters } = &self.encoding;
        let input = catalogue.encoding("encoding.input", input)?;
        let output = catalogue.encoding("encoding.output", output)?;
        let mut builder = Task::builder(input, output).with_vocabulary(*vocabulary);
        for config in &self.problem.0 {
            let problem = catalogue.problem(config)?;
            let matrices = config.matrices.as_ref().unwrap_or(&self.matrices);
            let MatricesConfig { bound, entries, random_scale, .. } = *matrices;
            if self.data.noise > 0.0 && bound.total_cmp(&self.matrices.bound).is_ne() {
                return Err(ExperimentError::NoiseOfTwoBounds { bounds: [self.matrices.bound, bound] });
            }
            let mut laws: Vec<(String, Box<dyn Ensemble>)> = Vec::new();
            for shape in matrices.shapes() {
                let (rows, cols) = problem.input_shape(shape);
                for name in &matrices.law.0 {
                    let law = catalogue.law(name, &LawParameters { rows, cols, bound, entries })?;
                    laws.push((
                        name.clone(),
                        match random_scale {
                            None => law,
                            Some([min, max]) => Box::new(RandomScale::new(law, min..=max)?),
                        },
                    ));
                }
            }
            builder = builder.with_named_laws(problem, config.weight, laws);
        }
        if task_letters.unwrap_or(self.problem.0.len() > 1) {
            builder = builder.with_task_letters();
        }
        // The standard deviation of a uniform variable in [-A, A] is A / √3.
        Ok(builder.with_noise(self.data.noise * self.matrices.bound / 3.0_f64.sqrt()))
    }

    /// The model for `task`.
    ///
    /// # Errors
    /// When the sizes are impossible, an option means nothing to the architecture, or the table of positions is shorter
    /// than the task's sequences.
    pub fn model_config(&self, task: &Task) -> Result<numformer_model::ModelConfig, ExperimentError> {
        self.model.of(task.vocabulary(), task.max_src_len().max(task.max_tgt_len()))
    }
}

/// The text of a preset, and what names it in errors.
fn preset_text(name: &str) -> Result<(String, String), ExperimentError> {
    let preset = presets::find(name)
        .ok_or_else(|| ExperimentError::UnknownPreset { name: name.to_owned(), known: presets::names() })?;
    Ok((preset.toml.to_owned(), format!("preset {name}")))
}

impl TestSetConfig {
    /// An error that names the set.
    fn error(&self, source: ExperimentError) -> ExperimentError {
        ExperimentError::TestSet { set: self.name.clone(), source: Box::new(source) }
    }
}

impl StageConfig {
    /// An error that names the stage.
    fn error(&self, source: ExperimentError) -> ExperimentError {
        ExperimentError::Stage { stage: self.name.clone(), source: Box::new(source) }
    }
}

/// Why there is no such experiment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// No preset has this name. The message leaves the many names there are to those who have room for them.
    #[error("no preset `{name}`{}; a file's name ends in .toml", did_you_mean(name, known.iter().copied()))]
    UnknownPreset {
        /// Name asked for.
        name: String,
        /// Names there are.
        known: Vec<&'static str>,
    },
    /// A file cannot be read.
    #[error("cannot read experiment {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The text is not an experiment.
    #[error(transparent)]
    Syntax(SyntaxError),
    /// A count is zero.
    #[error("{key} must be at least 1, found 0")]
    Zero {
        /// Dotted path of the key.
        key: &'static str,
    },
    /// A count is beyond what can be.
    #[error("{key} must be at most {limit}, found {found}")]
    TooLarge {
        /// Dotted path of the key.
        key: String,
        /// Largest value.
        limit: u64,
        /// Value found.
        found: u64,
    },
    /// The name cannot name a directory.
    #[error(
        "name must be letters, digits, `-`, `_` and `.` (not first), since a directory is named after it; found `{found}`"
    )]
    Name {
        /// Name found.
        found: String,
    },
    /// A stage is impossible.
    #[error("stage `{stage}`")]
    Stage {
        /// Its name.
        stage: String,
        /// What is wrong with it.
        source: Box<ExperimentError>,
    },
    /// A test set is impossible.
    #[error("evaluate.set `{set}`")]
    TestSet {
        /// Its name.
        set: String,
        /// What is wrong with it.
        source: Box<ExperimentError>,
    },
    /// Tables could not tell two test sets apart.
    #[error("expected test sets with names of their own, other than `{TEST}`, found `{set}` again")]
    SameTestSetName {
        /// The name.
        set: String,
    },
    /// A stage has no end.
    #[error("stage `{stage}` has no end: expected `steps`, `until`, or both")]
    EndlessStage {
        /// Its name.
        stage: String,
    },
    /// Reports could not tell two stages apart.
    #[error("expected stages with names of their own, other than the experiment's, found `{stage}` again")]
    SameStageName {
        /// The name.
        stage: String,
    },
    /// The experiment proper would never be trained.
    #[error(
        "stages come before the experiment proper: expected less than train.steps = {limit} of them, found {found}"
    )]
    StagesTooLong {
        /// Steps of all stages.
        found: u64,
        /// Steps of the run.
        limit: u64,
    },
    /// The examples of stages cannot come from the one file.
    #[error("stages make their own examples: expected no data.train beside them")]
    StagesOfAFile,
    /// A name stands for nothing.
    #[error("unknown name `{found}` in {key}{}; known: {}", did_you_mean(found, known.iter().map(String::as_str)), known.join(", "))]
    UnknownName {
        /// Dotted path of the key.
        key: &'static str,
        /// Name found.
        found: String,
        /// Names there are.
        known: Vec<String>,
    },
    /// There is no such encoding.
    #[error("{key}")]
    Encoding {
        /// Dotted path of the key.
        key: &'static str,
        /// Cause.
        source: EncodingNameError,
    },
    /// An option means nothing to the problem it is given to.
    #[error("{key} is not an option of the problem `{problem}`")]
    UnheededOption {
        /// Dotted path of the key.
        key: &'static str,
        /// Name of the problem.
        problem: String,
    },
    /// Noise is relative to a bound, and there are two.
    #[error("data.noise is relative to matrices.bound; expected one bound for all problems, found {} and {}", bounds[0], bounds[1])]
    NoiseOfTwoBounds {
        /// Two that differ.
        bounds: [f64; 2],
    },
    /// A number is negative or not finite.
    #[error("{key} must be zero or more, and finite, found {found}")]
    Negative {
        /// Dotted path of the key.
        key: &'static str,
        /// Value found.
        found: f64,
    },
    /// A number is not positive and finite.
    #[error("{key} must be positive and finite, found {found}")]
    NotPositive {
        /// Dotted path of the key.
        key: &'static str,
        /// Value found.
        found: f64,
    },
    /// A number is outside of its range.
    #[error("{key} must be {expected}, found {found}")]
    OutOfRange {
        /// Dotted path of the key.
        key: &'static str,
        /// The range.
        expected: &'static str,
        /// Value found.
        found: f64,
    },
    /// A setting is not `KEY=VALUE`, or goes through a value that is no table.
    #[error("`{setting}`: {problem}")]
    Setting {
        /// The setting.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The experiment that settings make is none.
    #[error("{settings}: {message}{hint}")]
    Settings {
        /// What is wrong.
        message: String,
        /// The nearest known name, if one is near.
        hint: String,
        /// The settings.
        settings: String,
    },
    /// Sequences would not fit the table of positions.
    #[error("model.max_positions must be at least {needed}, the longest sequence of the task, found {found}")]
    TooFewPositions {
        /// Value found.
        found: usize,
        /// Longest sequence of the task, delimiters included.
        needed: usize,
    },
    /// An option means nothing to a recurrent model.
    #[error("{key} is not an option of the architecture `{architecture}`")]
    OptionOfTransformers {
        /// Dotted path of the key.
        key: &'static str,
        /// The architecture.
        architecture: Architecture,
    },
    /// The encoder's states do not fit the decoder.
    #[error("{key} must be the encoder's in the architecture `{architecture}`: expected {expected}, found {found}")]
    UnequalHalves {
        /// Dotted path of the decoder's size.
        key: &'static str,
        /// The architecture.
        architecture: Architecture,
        /// The encoder's.
        expected: usize,
        /// The decoder's.
        found: usize,
    },
    /// The matrices are impossible.
    #[error("impossible matrices")]
    Ensemble(#[from] EnsembleError),
    /// The task is impossible.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model's sizes are impossible.
    #[error("impossible model")]
    Model(#[from] numformer_model::ConfigError),
}

impl ExperimentError {
    /// The key that a mistake is in, and its value where several may have the key.
    pub(crate) fn key(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::UnknownName { key, found, .. } => Some((key, Some(found))),
            Self::UnheededOption { key, .. }
            | Self::Encoding { key, .. }
            | Self::Zero { key }
            | Self::NotPositive { key, .. }
            | Self::OutOfRange { key, .. }
            | Self::Negative { key, .. } => Some((key, None)),
            Self::TooLarge { key, .. } => Some((key, None)),
            Self::OptionOfTransformers { key, .. } | Self::UnequalHalves { key, .. } => Some((key, None)),
            Self::TooFewPositions { .. } => Some(("model.max_positions", None)),
            Self::Name { .. } => Some(("name", None)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(toml: &str) -> Result<Experiment, ExperimentError> {
        Experiment::from_toml(toml, "my.toml", &Catalogue::standard())
    }

    const SMALL: &str = include_str!("../presets/cpu/transpose-3x3.toml");

    fn toml_with(from: &str, to: &str) -> String {
        let toml = SMALL;
        assert!(toml.contains(from), "{from} is not in the preset");
        toml.replacen(from, to, 1)
    }

    fn error_with(from: &str, to: &str) -> String {
        from_toml(&toml_with(from, to)).expect_err("a mistake").to_string()
    }

    #[test]
    fn every_preset_reads_and_carries_its_own_name() {
        for preset in presets::PRESETS {
            let experiment = Experiment::preset(preset.name).expect("embedded");
            assert_eq!(experiment.name, preset.name);
        }
    }

    #[test]
    fn toml_round_trip_keeps_the_experiment() {
        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let again = from_toml(&experiment.to_toml()).expect("its own output");
        assert_eq!(again, experiment);
    }

    #[test]
    fn unknown_keys_give_the_line_and_the_nearest_key() {
        let error = error_with("warmup_steps = 500", "warmup_step = 500");
        let line = 1 + SMALL.lines().position(|line| line.starts_with("warmup_steps")).expect("in the preset");
        let expected = format!("my.toml, line {line}: unknown key `warmup_step`; did you mean `warmup_steps`? ");
        assert!(error.starts_with(&expected), "{error}");
        let error = error_with("n_layers = 1", "n_layer = 1");
        assert!(error.contains("; did you mean `n_layers`? "), "{error}");
    }

    #[test]
    fn unknown_names_list_what_there_is() {
        let error = error_with("\"p1000\"", "\"p100\"");
        assert!(error.contains("p100") && error.contains("p1000") && error.contains("line"), "{error}");
        let error = error_with("\"transpose\"", "\"transposed\"");
        assert!(error.contains("did you mean `transpose`?"), "{error}");
        let error = Experiment::load("transpose-3x").expect_err("no preset").to_string();
        assert!(error.starts_with("no preset `transpose-3x`; did you mean `transpose-3x3`?"), "{error}");
    }

    /// As PowerShell and other programs for Windows write text.
    #[test]
    fn files_are_read_whatever_the_encoding_of_the_text() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("my.toml");
        let load = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            Experiment::load(path.to_str().expect("a name"))
        };
        let expected = from_toml(SMALL).expect("an experiment");
        let marked = format!("\u{feff}{SMALL}");
        assert_eq!(load(marked.as_bytes()).expect("an experiment"), expected);
        let utf16 = |bytes: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        assert_eq!(load(&utf16(u16::to_le_bytes)).expect("an experiment"), expected);
        assert_eq!(load(&utf16(u16::to_be_bytes)).expect("an experiment"), expected);
        let error = load(b"name = \"l\xe4ufe\"").expect_err("latin-1");
        let source = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(source, "expected text in UTF-8 or UTF-16, found neither at byte 9");
    }

    #[test]
    fn impossible_values_are_named() {
        for (from, to) in [("rows = 3", "rows = 0"), ("bound = 10.0", "bound = -1.0")] {
            let error = from_toml(&toml_with(from, to)).expect_err("impossible");
            assert!(matches!(error, ExperimentError::Ensemble(_)), "{error}");
        }
        assert!(error_with("steps = 1500", "steps = 0").ends_with(": train.steps must be at least 1, found 0"));
        assert!(error_with("lr = 1e-3", "lr = nan").ends_with(": train.lr must be positive and finite, found NaN"));
        assert_eq!(error_with("n_heads = 4", "n_heads = 5"), "impossible model");
        assert!(error_with("\"transpose-3x3\"", "\"../x\"").contains("found `../x`"));
        assert!(error_with("batch_size = 64", "batch_size = 1000000000").contains("at most 65536"));
        let error = error_with("[model.encoder]", "[model]\nmax_positions = 30\n[model.encoder]");
        let expected = ": model.max_positions must be at least 31, the longest sequence of the task, found 30";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn a_warm_up_that_is_not_given_fits_the_steps() {
        let of = |steps: &str, given: &str| {
            let toml = SMALL.replace("warmup_steps = 500", given);
            let line = toml.lines().find(|line| line.starts_with("steps")).expect("in the preset").to_owned();
            Experiment::parse(&toml.replace(&line, &format!("steps = {steps}")), "x").expect("an experiment").train
        };
        assert_eq!(of("1500", "").warmup_steps, 150);
        assert_eq!(of("3000000", "").warmup_steps, 10_000);
        assert_eq!(of("5", "").warmup_steps, 0);
        assert_eq!(of("5", "warmup_steps = 10000").warmup_steps, 10_000);
        assert!(of("5", "warmup_steps = 6").ends_in_warmup() && !of("5", "warmup_steps = 5").ends_in_warmup());
        // Written out, so that a run which is made longer keeps its own.
        let mut experiment = Experiment::parse(&SMALL.replace("warmup_steps = 500", ""), "x").expect("an experiment");
        let warmup = experiment.train.warmup_steps;
        experiment.train.steps *= 10;
        assert_eq!(Experiment::parse(&experiment.to_toml(), "x").expect("an experiment").train.warmup_steps, warmup);
    }

    #[test]
    fn difference_names_the_key_but_not_the_steps() {
        let a = Experiment::preset("transpose-3x3").expect("embedded");
        let mut b = a.clone();
        b.train.steps = 1;
        assert_eq!(a.difference(&b), None);
        b.model.encoder.d_ff = Some(7);
        let found = a.difference(&b).expect("d_ff");
        assert_eq!(found.to_string(), "model.encoder.d_ff is absent there and 7 here");
    }
}
