//! Experiments: everything that defines a run, as plain data read from TOML.

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use numformer_data::{Task, TaskError};
use numformer_encoding::{NumberEncoding, UnknownEncoding, encoding_by_name};
use numformer_model::{CrossAttentionQuery, OutputProjection, Positions, StackConfig, TransformerConfig};
use numformer_problems::{Ensemble, EnsembleError, Problem, Transpose, UniformEntries};
use serde::{Deserialize, Serialize};

use crate::presets;

/// Everything that defines a run: the same experiment gives the same weights, bit for bit, on the same machine.
///
/// # Examples
/// ```
/// use numformer_train::Experiment;
///
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.lr = 5e-4;
/// assert_eq!(experiment.task()?.max_src_len(), 31);
/// # Ok::<(), numformer_train::ExperimentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment, used for its run directory.
    pub name: String,
    /// Seed of the weights and of the training examples.
    #[serde(default)]
    pub seed: u64,
    /// What is computed.
    pub problem: ProblemConfig,
    /// The matrices it is computed on.
    pub matrices: MatricesConfig,
    /// How numbers are written.
    pub encoding: EncodingConfig,
    /// The transformer.
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
}

/// What is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemConfig {
    /// The problem.
    pub name: ProblemName,
}

/// The problems there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemName {
    /// The transpose of a matrix.
    Transpose,
}

/// The matrices a problem is posed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatricesConfig {
    /// The law of the entries.
    pub law: Law,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Largest magnitude of an entry, `A` in the paper.
    #[serde(default = "MatricesConfig::default_bound")]
    pub bound: f64,
}

impl MatricesConfig {
    /// The paper's default.
    fn default_bound() -> f64 {
        10.0
    }
}

/// The laws of random matrices there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// Entries independent and uniform in [-bound, bound].
    Uniform,
}

/// How numbers are written, in the source and in the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingConfig {
    /// Encoding of the source.
    pub input: EncodingName,
    /// Encoding of the target.
    pub output: EncodingName,
}

/// The name of a number encoding that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EncodingName(String);

impl EncodingName {
    /// The encoding of that name.
    #[must_use]
    pub fn encoding(&self) -> Arc<dyn NumberEncoding> {
        encoding_by_name(&self.0).expect("names are checked when made")
    }
}

impl TryFrom<String> for EncodingName {
    type Error = UnknownEncoding;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        encoding_by_name(&name).map(|_| Self(name))
    }
}

impl From<EncodingName> for String {
    fn from(name: EncodingName) -> Self {
        name.0
    }
}

/// The transformer; what the task implies (vocabulary, lengths) is not repeated here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The encoder's sizes.
    pub encoder: StackConfig,
    /// The decoder's sizes.
    pub decoder: StackConfig,
    /// How positions enter the embedding.
    #[serde(default)]
    pub positions: Positions,
    /// Longest sequence, delimiters included; what the task needs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<usize>,
    /// What the queries of the cross-attention are computed from.
    #[serde(default)]
    pub cross_attention_query: CrossAttentionQuery,
    /// Where the weight of the output projection comes from.
    #[serde(default)]
    pub output_projection: OutputProjection,
}

/// The optimisation: Adam with linear warm-up and clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Examples per step.
    #[serde(default = "TrainConfig::default_batch_size")]
    pub batch_size: usize,
    /// Optimizer updates in all. The only value that may differ when a run is continued.
    pub steps: u64,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Steps over which the learning rate rises to `lr`.
    #[serde(default = "TrainConfig::default_warmup_steps")]
    pub warmup_steps: u64,
    /// Largest Euclidean norm of the gradient; a longer one is scaled down to it.
    #[serde(default = "TrainConfig::default_clip_norm")]
    pub clip_norm: f64,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
}

impl TrainConfig {
    // The paper's defaults (batch, warm-up, clipping).
    fn default_batch_size() -> usize {
        64
    }
    fn default_warmup_steps() -> u64 {
        10_000
    }
    fn default_clip_norm() -> f64 {
        5.0
    }
}

/// When and on what the model is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Steps between evaluations on the validation set.
    pub every: u64,
    /// Size of the validation set.
    pub examples: u64,
    /// Seed of the validation and test sets: apart from the run's, so that runs are judged on the same examples.
    pub seed: u64,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { every: 1_000, examples: 1_000, seed: 0 }
    }
}

/// When weights are saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; one more is written at the end.
    pub every: u64,
    /// How many of the latest are kept.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 1_000, keep: 2 }
    }
}

/// When training is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Steps between lines of the metrics log.
    pub every: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { every: 100 }
    }
}

impl Experiment {
    /// An embedded experiment by name; see [`presets::PRESETS`].
    ///
    /// # Errors
    /// When there is no preset of that name.
    pub fn preset(name: &str) -> Result<Self, ExperimentError> {
        let preset = presets::PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| ExperimentError::UnknownPreset { name: name.to_owned(), known: presets::names() })?;
        Self::from_toml(preset.toml, &format!("preset {name}"))
    }

    /// Reads a preset's name or the path of a TOML file: what ends in `.toml` or holds a path separator is a file.
    ///
    /// # Errors
    /// When there is no such preset or file, or as [`Experiment::from_toml`].
    pub fn load(name_or_path: &str) -> Result<Self, ExperimentError> {
        let path = Path::new(name_or_path);
        let is_file = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1;
        if !is_file {
            return Self::preset(name_or_path);
        }
        let toml =
            fs::read_to_string(path).map_err(|source| ExperimentError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&toml, name_or_path)
    }

    /// Reads and checks an experiment; `origin` names the text in errors.
    ///
    /// # Errors
    /// When the text is not TOML, a key is unknown or missing, or a value is impossible.
    pub fn from_toml(toml: &str, origin: &str) -> Result<Self, ExperimentError> {
        let experiment: Self =
            toml::from_str(toml).map_err(|error| ExperimentError::Syntax(SyntaxError::new(toml, origin, &error)))?;
        experiment.validate()?;
        Ok(experiment)
    }

    /// The experiment as TOML, defaults written out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an experiment is plain data")
    }

    /// Checks every value; [`Experiment::task`] and [`Experiment::transformer`] cannot fail after it.
    ///
    /// # Errors
    /// Names the first impossible value.
    pub fn validate(&self) -> Result<(), ExperimentError> {
        let at_least_one = [
            ("train.batch_size", self.train.batch_size as u64),
            ("train.steps", self.train.steps),
            ("evaluate.every", self.evaluate.every),
            ("evaluate.examples", self.evaluate.examples),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
            ("log.every", self.log.every),
        ];
        for (key, found) in at_least_one {
            if found == 0 {
                return Err(ExperimentError::Zero { key });
            }
        }
        // TOML's integers are signed; a batch beyond the second limit would not fit in memory.
        let at_most = [
            ("seed", self.seed, i64::MAX as u64),
            ("evaluate.seed", self.evaluate.seed, i64::MAX as u64),
            ("train.steps", self.train.steps, 1 << 40),
            ("train.batch_size", self.train.batch_size as u64, 1 << 16),
        ];
        for (key, found, limit) in at_most {
            if found > limit {
                return Err(ExperimentError::TooLarge { key, limit, found });
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
        let decay = self.train.weight_decay;
        if !(decay.is_finite() && decay >= 0.0) {
            return Err(ExperimentError::NotPositive { key: "train.weight_decay", found: decay });
        }
        let task = self.task()?;
        self.transformer(&task).map(drop)
    }

    /// The task: what the model reads and writes.
    ///
    /// # Errors
    /// When the matrices are impossible, or the problem is not posed on them.
    pub fn task(&self) -> Result<Task, ExperimentError> {
        let MatricesConfig { law, rows, cols, bound } = self.matrices;
        let problem: Box<dyn Problem> = match self.problem.name {
            ProblemName::Transpose => Box::new(Transpose),
        };
        let ensemble: Box<dyn Ensemble> = match law {
            Law::Uniform => Box::new(UniformEntries::new(rows, cols, bound)?),
        };
        let (input, output) = (&self.encoding.input, &self.encoding.output);
        Ok(Task::new(problem, ensemble, input.encoding(), output.encoding())?)
    }

    /// The transformer for `task`.
    ///
    /// # Errors
    /// When the sizes are impossible, or the table of positions is shorter than the task's sequences.
    pub fn transformer(&self, task: &Task) -> Result<TransformerConfig, ExperimentError> {
        let model = &self.model;
        let needed = task.max_src_len().max(task.max_tgt_len());
        let max_positions = model.max_positions.unwrap_or(needed);
        if max_positions < needed {
            return Err(ExperimentError::TooFewPositions { found: max_positions, needed });
        }
        let vocabulary = task.vocabulary();
        let config = TransformerConfig {
            vocab_size: vocabulary.len(),
            max_positions,
            delimiter_id: vocabulary.delimiter().0,
            padding_id: vocabulary.padding().0,
            encoder: model.encoder.clone(),
            decoder: model.decoder.clone(),
            positions: model.positions,
            cross_attention_query: model.cross_attention_query,
            output_projection: model.output_projection,
        };
        config.validate()?;
        Ok(config)
    }

    /// The first key in which `other` differs, number of steps apart: `None` when one run can serve both.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let mut other = other.clone();
        other.train.steps = self.train.steps;
        let tables =
            [self, &other].map(|experiment| toml::Value::try_from(experiment).expect("an experiment is plain data"));
        first_difference("", &tables[0], &tables[1])
    }
}

/// A key with different values in two experiments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path of the key.
    pub key: String,
    /// Value in the first experiment, as TOML; `absent` without one.
    pub left: String,
    /// Value in the second.
    pub right: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, left, right } = self;
        write!(f, "{key} is {left} there and {right} here")
    }
}

fn first_difference(path: &str, left: &toml::Value, right: &toml::Value) -> Option<Difference> {
    if let (Some(a), Some(b)) = (left.as_table(), right.as_table()) {
        let only_right = b.keys().filter(|key| !a.contains_key(*key));
        return a.keys().chain(only_right).find_map(|key| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => first_difference(&path, a, b),
                (a, b) => Some(Difference {
                    key: path,
                    left: a.map_or("absent".to_owned(), toml::Value::to_string),
                    right: b.map_or("absent".to_owned(), toml::Value::to_string),
                }),
            }
        });
    }
    (left != right).then(|| Difference { key: path.to_owned(), left: left.to_string(), right: right.to_string() })
}

/// Why there is no such experiment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// No preset has this name.
    #[error("no preset `{name}`{}; presets: {}; a file's name ends in .toml", did_you_mean(name, known.iter().copied()), known.join(", "))]
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
        key: &'static str,
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
    /// A number is not positive and finite.
    #[error("{key} must be positive and finite, found {found}")]
    NotPositive {
        /// Dotted path of the key.
        key: &'static str,
        /// Value found.
        found: f64,
    },
    /// Sequences would not fit the table of positions.
    #[error("model.max_positions must be at least {needed}, the longest sequence of the task, found {found}")]
    TooFewPositions {
        /// Value found.
        found: usize,
        /// Longest sequence of the task, delimiters included.
        needed: usize,
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

/// What in a text is not an experiment, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}, line {line}: {message}{hint}")]
pub struct SyntaxError {
    /// The file or preset.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// What was found.
    pub message: String,
    /// The nearest known name, if one is near.
    pub hint: String,
}

impl SyntaxError {
    fn new(toml: &str, origin: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(toml.len()));
        let message = error.message().trim().replace('\n', ", ");
        // serde writes "unknown field `x`, expected one of `a`, `b`": the names stand between backticks.
        let mut names = message.split('`').skip(1).step_by(2);
        let hint = match names.next() {
            Some(unknown) if message.starts_with("unknown ") => did_you_mean(unknown, names),
            _ => String::new(),
        };
        Self {
            origin: origin.to_owned(),
            line: 1 + toml[..start].matches('\n').count(),
            message: message.replace("unknown field", "unknown key"),
            hint,
        }
    }
}

/// `; did you mean `y`?` for the known name nearest to `name`, or nothing when none is near.
fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    // Similarity runs from 0 to 1; below 0.7 suggestions stop making sense to a reader.
    const NEAR: f64 = 0.7;
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, nearest)| format!("; did you mean `{nearest}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml_with(from: &str, to: &str) -> String {
        let toml = presets::PRESETS[0].toml;
        assert!(toml.contains(from), "{from} is not in the preset");
        toml.replacen(from, to, 1)
    }

    fn error_with(from: &str, to: &str) -> String {
        Experiment::from_toml(&toml_with(from, to), "my.toml").expect_err("a mistake").to_string()
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
        let again = Experiment::from_toml(&experiment.to_toml(), "written").expect("its own output");
        assert_eq!(again, experiment);
    }

    #[test]
    fn unknown_keys_give_the_line_and_the_nearest_key() {
        let error = error_with("warmup_steps = 500", "warmup_step = 500");
        let line = 1 + presets::PRESETS[0]
            .toml
            .lines()
            .position(|line| line.starts_with("warmup_steps"))
            .expect("in the preset");
        assert!(error.starts_with(&format!("my.toml, line {line}: unknown key `warmup_step`")), "{error}");
        assert!(error.ends_with("did you mean `warmup_steps`?"), "{error}");
        let error = error_with("n_layers = 1", "n_layer = 1");
        assert!(error.ends_with("did you mean `n_layers`?"), "{error}");
    }

    #[test]
    fn unknown_names_list_what_there_is() {
        let error = error_with("\"p1000\"", "\"p100\"");
        assert!(error.contains("p100") && error.contains("p1000") && error.contains("line"), "{error}");
        let error = error_with("\"transpose\"", "\"transposed\"");
        assert!(error.ends_with("did you mean `transpose`?"), "{error}");
        let error = Experiment::load("transpose-3x").expect_err("no preset").to_string();
        assert!(error.contains("did you mean `transpose-3x3`?"), "{error}");
    }

    #[test]
    fn impossible_values_are_named() {
        for (from, to) in [("rows = 3", "rows = 0"), ("bound = 10.0", "bound = -1.0")] {
            let error = Experiment::from_toml(&toml_with(from, to), "my.toml").expect_err("impossible");
            assert!(matches!(error, ExperimentError::Ensemble(_)), "{error}");
        }
        assert_eq!(error_with("steps = 1500", "steps = 0"), "train.steps must be at least 1, found 0");
        assert_eq!(error_with("lr = 1e-3", "lr = nan"), "train.lr must be positive and finite, found NaN");
        assert_eq!(error_with("n_heads = 4", "n_heads = 5"), "impossible model");
        assert!(error_with("\"transpose-3x3\"", "\"../x\"").contains("found `../x`"));
        assert!(error_with("batch_size = 64", "batch_size = 1000000000").contains("at most 65536"));
        assert_eq!(
            error_with("[model.encoder]", "[model]\nmax_positions = 30\n[model.encoder]"),
            "model.max_positions must be at least 31, the longest sequence of the task, found 30"
        );
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
