//! Experiments: everything that defines a run, as plain data.

use std::path::PathBuf;

use numformer_data::{Split, VocabularyKind};
use numformer_encoding::Layout;
use serde::{Deserialize, Serialize};

use crate::config::architecture_config::ArchitectureConfig;
use crate::config::experiment_error::ExperimentError;
use crate::config::one_or_many::{OneOrMany, Span};
use crate::config::{
    CheckpointConfig, DataConfig, EncodingConfig, EvaluateConfig, ExpectedConfig, LogConfig, MatricesConfig,
    ProblemConfig, StageConfig, StopConfig, TrainConfig, is_default,
};

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
    /// A run or a model whose weights this experiment starts from; random weights when absent. The weights of new
    /// symbols and positions are initialized at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// What is computed: one problem or several.
    pub problem: OneOrMany<ProblemConfig>,
    /// The matrices that the problem is computed on.
    pub matrices: MatricesConfig,
    /// How numbers are written.
    pub encoding: EncodingConfig,
    /// Sources of examples other than the law of the matrices.
    #[serde(default)]
    pub data: DataConfig,
    /// The model; of the paper's default sizes when absent.
    #[serde(default)]
    pub model: ArchitectureConfig,
    /// The optimisation.
    pub train: TrainConfig,
    /// When the model is evaluated, and on what.
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
    /// What `numformer reproduce` compares the result with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedConfig>,
    /// What is learned before the experiment proper, stage by stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stage: Vec<StageConfig>,
}

impl Experiment {
    /// Creates an experiment on square matrices drawn from a law. `rows` is their number of rows, or a range of it.
    /// Numbers are written in P1000, the model has the paper's smallest sizes, and training takes 20,000 steps of 64
    /// examples at a learning rate of 1e-4. Every value may be changed afterwards.
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
                input_layout: Layout::default(),
                vocabulary: VocabularyKind::default(),
                task_letters: None,
            },
            data: DataConfig::default(),
            model: ArchitectureConfig::default(),
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

    /// Makes the paths of files and runs absolute, so that a run can be resumed and judged from another directory.
    ///
    /// # Errors
    /// When the working directory cannot be read, or a path is empty.
    pub fn with_absolute_paths(mut self) -> Result<Self, ExperimentError> {
        let DataConfig { train, validation, test, .. } = &mut self.data;
        let paths = [
            ("start_from", &mut self.start_from),
            (DataConfig::key(Split::Train), train),
            (DataConfig::key(Split::Validation), validation),
            (DataConfig::key(Split::Test), test),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                let absolute = std::path::absolute(&*path);
                *path = absolute.map_err(|source| ExperimentError::Path { key, path: path.clone(), source })?;
            }
        }
        Ok(self)
    }

    /// Formats the experiment as TOML, including defaults.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an experiment is plain data")
    }
}
