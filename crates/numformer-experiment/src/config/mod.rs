//! The sections of an experiment, as plain data.

pub(crate) mod architecture;
pub(crate) mod architecture_config;
pub(crate) mod choice;
pub(crate) mod experiment_error;
pub(crate) mod one_or_many;
pub(crate) mod options;
pub(crate) mod syntax;

use std::path::PathBuf;

use numformer_data::{Repeated, Split, VocabularyKind};
use numformer_encoding::Layout;
use numformer_evaluate::FigureName;
use numformer_fused::Precision;
use numformer_problems::{Entries, InverseJudgement, LeftFactor, Signs};
use numformer_store::EncodingNames;
use numformer_train::{AfterWarmUp, DivergencePolicy, Goal, Gradients, OptimizerConfig, Patience};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::config::choice::{Choice, CustomConfig};
use crate::config::one_or_many::{OneOrMany, Span};
use crate::config::options::{MakeError, Options};

/// What is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemConfig {
    /// The problem, as the [`Catalogue`](crate::Catalogue) names it.
    pub name: String,
    /// How often the problem is posed, relative to the other problems.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
    /// The matrices that the problem is posed on; those of the experiment when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrices: Option<MatricesConfig>,
    /// Products: whether the left factor is transposed, as in the published program, or plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<LeftFactor>,
    /// Eigenvectors and the SVD: which signs vectors have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<Signs>,
    /// Inversions: what an answer is judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<InverseJudgement>,
    /// Custom problems: their options.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub options: Table,
}

impl ProblemConfig {
    /// The problem of this name, with defaults.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            weight: 1.0,
            matrices: None,
            left: None,
            signs: None,
            judgement: None,
            options: Table::new(),
        }
    }

    /// Removes the options of a custom problem and reads them as a custom type.
    ///
    /// # Errors
    /// When an option is unknown, is missing, or has an impossible value.
    pub fn take_options<T: DeserializeOwned>(&mut self) -> Result<T, MakeError> {
        Options::new(std::mem::take(&mut self.options)).read()
    }

    /// The key of an option that is set, if any.
    pub(crate) fn first_option(&self) -> Option<&'static str> {
        let options = [
            ("problem.left", self.left.is_some()),
            ("problem.signs", self.signs.is_some()),
            ("problem.judgement", self.judgement.is_some()),
            ("problem.options", !self.options.is_empty()),
        ];
        options.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

fn one() -> f64 {
    1.0
}

/// The default of weights and counts, which files may omit.
fn is_one<T: From<u8> + PartialEq>(value: &T) -> bool {
    *value == T::from(1)
}

/// The matrices a problem is posed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatricesConfig {
    /// The law of the entries, as the [`Catalogue`](crate::Catalogue) names it; if there are several, all are equally
    /// likely.
    pub law: OneOrMany<String>,
    /// Number of rows; of the first operand, if a problem has two.
    pub rows: Span,
    /// Number of columns; as many as rows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<Span>,
    /// Largest magnitude of an entry, `A` in the paper; of Gaussian entries, √3 standard deviations.
    #[serde(default = "MatricesConfig::default_bound")]
    pub bound: f64,
    /// The law of the independent entries that symmetric matrices are made from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub entries: Entries,
    /// The antisymmetric part of a matrix is multiplied by a number drawn uniformly from this interval within [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asymmetry: Option<[f64; 2]>,
    /// A matrix is multiplied by an integer drawn from this range, smallest and largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_scale: Option<[u32; 2]>,
    /// Custom laws: their options.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub options: Table,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl MatricesConfig {
    /// Square matrices of a law. `rows` is their number of rows, or a range of it.
    #[must_use]
    pub fn new(law: &str, rows: impl Into<Span>) -> Self {
        Self {
            law: law.to_owned().into(),
            rows: rows.into(),
            cols: None,
            bound: Self::default_bound(),
            entries: Entries::default(),
            asymmetry: None,
            random_scale: None,
            options: Table::new(),
        }
    }

    /// The paper's default.
    fn default_bound() -> f64 {
        10.0
    }

    /// All possible shapes, equally likely.
    #[must_use]
    pub fn shapes(&self) -> Vec<(usize, usize)> {
        match self.cols {
            None => self.rows.range().map(|n| (n, n)).collect(),
            Some(cols) => self.rows.range().flat_map(|r| cols.range().map(move |c| (r, c))).collect(),
        }
    }
}

/// How numbers are written, in the source and in the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingConfig {
    /// Encoding of the source, as the [`Catalogue`](crate::Catalogue) names it.
    pub input: String,
    /// Encoding of the target.
    pub output: String,
    /// Which entries of inputs are written, and in which order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub input_layout: Layout,
    /// The kind of vocabulary: which symbols exist.
    #[serde(default)]
    pub vocabulary: VocabularyKind,
    /// Whether sequences begin with the letter of their problem. When absent, they do if there are several problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_letters: Option<bool>,
}

impl EncodingConfig {
    /// The names of both encodings.
    pub(crate) fn names(&self) -> EncodingNames {
        EncodingNames { input: self.input.clone(), output: self.output.clone() }
    }
}

/// Where examples come from, other than the law of the matrices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Normal noise on the entries of inputs, relative to the standard deviation of uniform ones: the standard
    /// deviation of the noise is `noise · matrices.bound / √3`.
    pub noise: f64,
    /// Number of batches whose examples are sorted by length together. This reduces padding if dimensions are mixed. 1
    /// turns sorting off.
    pub bucket_window: u32,
    /// Training examples that come again: a small set, drawn with a probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// A file of examples to train on, instead of generated ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// A file of examples to validate on during training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// A file of examples to test on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
}

impl DataConfig {
    /// Dotted path of the key that names the file of a split.
    #[must_use]
    pub fn key(split: Split) -> &'static str {
        match split {
            Split::Train => "data.train",
            Split::Validation => "data.validation",
            Split::Test => "data.test",
        }
    }

    /// The file of a split, if its examples come from one.
    #[must_use]
    pub fn file(&self, split: Split) -> Option<&PathBuf> {
        match split {
            Split::Train => self.train.as_ref(),
            Split::Validation => self.validation.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { noise: 0.0, bucket_window: 1, repeated: None, train: None, validation: None, test: None }
    }
}

/// The parameters, apart from options, that a custom schedule of learning rates is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleParameters {
    /// The experiment's `train.lr`.
    pub lr: f64,
    /// The experiment's `train.warmup_steps`.
    pub warmup_steps: u64,
    /// The experiment's `train.steps`.
    pub steps: u64,
}

/// The optimisation: an optimizer with linear warm-up and clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Examples per step.
    #[serde(default = "TrainConfig::default_batch_size")]
    pub batch_size: usize,
    /// Number of batches whose gradients make one step. This equals one larger batch, but needs the memory of only one
    /// of them.
    #[serde(default = "TrainConfig::default_accumulate", skip_serializing_if = "is_one")]
    pub accumulate: u32,
    /// Total number of optimizer updates. This and [`StopConfig`] may differ when a run is continued.
    pub steps: u64,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Steps over which the learning rate rises to `lr`. If a file does not set it, it is a tenth of the file's
    /// `steps`, at most 10,000. After reading, it no longer changes with `steps`, so a run can be extended.
    #[serde(default = "TrainConfig::default_warmup_steps")]
    pub warmup_steps: u64,
    /// The schedule of the learning rate after warm-up, or a custom schedule that also replaces the warm-up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schedule: Choice<AfterWarmUp>,
    /// Largest Euclidean norm of the gradient; a longer one is scaled down to it.
    #[serde(default = "TrainConfig::default_clip_norm")]
    pub clip_norm: f64,
    /// Decoupled weight decay: with Adam, AdamW.
    #[serde(default)]
    pub weight_decay: f64,
    /// Label smoothing: the share of a target's weight that is spread evenly over all tokens. At least 0 and below 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// The optimizer, which updates the weights.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimizer: Choice<OptimizerConfig>,
    /// What to do with a step whose loss or gradient is not finite.
    #[serde(default, skip_serializing_if = "is_default")]
    pub divergence: DivergencePolicy,
    /// How gradients are computed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradients: Gradients,
    /// The precision of products.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
}

impl TrainConfig {
    /// Training for a number of steps at a learning rate, with the paper's batches and clipping, and a warm-up that
    /// fits the steps.
    #[must_use]
    pub fn new(steps: u64, lr: f64) -> Self {
        Self {
            batch_size: Self::default_batch_size(),
            accumulate: Self::default_accumulate(),
            steps,
            lr,
            warmup_steps: Self::fitting_warmup_steps(steps),
            schedule: Choice::default(),
            clip_norm: Self::default_clip_norm(),
            weight_decay: 0.0,
            label_smoothing: 0.0,
            optimizer: Choice::default(),
            divergence: DivergencePolicy::default(),
            gradients: Gradients::default(),
            precision: Precision::default(),
        }
    }

    /// The parameters that a custom schedule is made from.
    pub(crate) fn schedule_parameters(&self) -> ScheduleParameters {
        let Self { lr, warmup_steps, steps, .. } = *self;
        ScheduleParameters { lr, warmup_steps, steps }
    }

    /// Number of training examples seen after `step` updates.
    #[must_use]
    pub fn examples(&self, step: u64) -> u64 {
        step * u64::from(self.accumulate) * self.batch_size as u64
    }

    /// The warm-up that fits a number of steps: a tenth of them, at most the paper's 10,000.
    pub(crate) fn fitting_warmup_steps(steps: u64) -> u64 {
        (steps / 10).min(Self::default_warmup_steps())
    }

    /// Whether the run ends before the learning rate reaches `lr`.
    #[must_use]
    pub fn ends_in_warmup(&self) -> bool {
        self.warmup_steps > self.steps
    }

    // The paper's defaults (batch, warm-up, clipping).
    fn default_batch_size() -> usize {
        64
    }
    fn default_accumulate() -> u32 {
        1
    }
    fn default_warmup_steps() -> u64 {
        10_000
    }
    fn default_clip_norm() -> f64 {
        5.0
    }
}

/// When the model is evaluated, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Steps between evaluations on the validation set.
    pub every: u64,
    /// Size of the validation set.
    pub examples: u64,
    /// Seed of the validation and test sets. It is separate from the run's seed, so that runs are judged on the same
    /// examples.
    pub seed: u64,
    /// Other matrices that a trained model is judged on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<TestSetConfig>,
    /// Custom metrics. Their figures are part of every evaluation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metric: Vec<CustomConfig>,
}

/// The name of the test split among test sets.
pub(crate) const TEST: &str = "test";

/// A set of examples that a trained model is judged on, in addition to its test split. The examples are written with
/// the tokens of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSetConfig {
    /// Its name in tables.
    pub name: String,
    /// What is computed; the experiment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<OneOrMany<ProblemConfig>>,
    /// The matrices that the problem is computed on; the experiment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrices: Option<MatricesConfig>,
    /// Noise on the inputs; the experiment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Seed of the examples; that of the experiment's test split when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { every: 1_000, examples: 1_000, seed: 0, set: Vec::new(), metric: Vec::new() }
    }
}

/// When weights are saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints. One more checkpoint is written at the end.
    pub every: u64,
    /// How many of the latest checkpoints are kept.
    pub keep: usize,
    /// For each of these figures of the validation set, the best checkpoint is also kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub best: Vec<FigureName>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 1_000, keep: 2, best: Vec::new() }
    }
}

/// When a run ends before all its steps are taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopConfig {
    /// A goal: the run ends when a figure of the validation set reaches this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Goal>,
    /// Patience: how long a figure of the validation set may go without improving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<Patience>,
}

/// What a trained model is expected to reach on unseen matrices. It changes nothing in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedConfig {
    /// The figure.
    pub metric: FigureName,
    /// The value to reach or surpass.
    pub value: f64,
    /// The source of the value, or a note that no published figure is available.
    pub source: String,
    /// What others report, if it is not what is expected here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedConfig>,
}

/// What others report of a problem: shown beside what a model is found to reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedConfig {
    /// The figures, and the value of each.
    pub figures: Vec<Goal>,
    /// About how many training examples they took; `None` if that was not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<u64>,
}

impl ExpectedConfig {
    /// The value as a goal.
    #[must_use]
    pub fn goal(&self) -> Goal {
        Goal { metric: self.metric.clone(), value: self.value }
    }
}

/// A stage of a curriculum: what is learned before the experiment proper, with its model, encodings and optimisation.
///
/// A stage ends after its steps, or earlier if its goal is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Its name in reports.
    pub name: String,
    /// What is computed; the experiment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<OneOrMany<ProblemConfig>>,
    /// The matrices that the problem is computed on; the experiment's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrices: Option<MatricesConfig>,
    /// Maximum number of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The goal that an evaluation on the stage's own examples must reach for the stage to end early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Goal>,
}

/// When training is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Steps between lines of the metrics log.
    pub every: u64,
    /// Whether TensorBoard event files are also written.
    #[serde(skip_serializing_if = "is_default")]
    pub tensorboard: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { every: 100, tensorboard: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_square_unless_columns_are_given() {
        let shapes = |cols| {
            let rows = Span { min: 2, max: 3 };
            let law = "uniform".to_owned().into();
            MatricesConfig {
                law,
                rows,
                cols,
                bound: 1.0,
                entries: Entries::Uniform,
                asymmetry: None,
                random_scale: None,
                options: Table::new(),
            }
            .shapes()
        };
        assert_eq!(shapes(None), [(2, 2), (3, 3)]);
        assert_eq!(shapes(Some(4.into())), [(2, 4), (3, 4)]);
        assert_eq!(shapes(Some(Span { min: 1, max: 2 })), [(2, 1), (2, 2), (3, 1), (3, 2)]);
    }
}
