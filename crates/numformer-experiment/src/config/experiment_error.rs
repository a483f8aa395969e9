//! Errors of reading and checking experiments.

use std::io;
use std::path::PathBuf;

use numformer_data::TaskError;
use numformer_encoding::EncodingNameError;
use numformer_evaluate::text::did_you_mean;
use numformer_problems::LawError;

use crate::config::TEST;
use crate::config::architecture::Architecture;
use crate::config::options::MakeError;
use crate::config::syntax::SyntaxError;

/// Errors of reading and checking experiments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// No preset has this name. The message omits the list of names, which is long.
    #[error("no preset `{name}`{}; the name of a file must end in .toml", did_you_mean(name, known.iter().copied()))]
    UnknownPreset {
        /// The requested name.
        name: String,
        /// The known names.
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
    /// A count is too large.
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
    #[error("expected unique names of test sets, other than `{TEST}`, found `{set}` again")]
    SameTestSetName {
        /// The name.
        set: String,
    },
    /// Two metrics have the same name.
    #[error("expected unique names of metrics, found `{metric}` again")]
    SameMetricName {
        /// The name.
        metric: String,
    },
    /// A custom part of a catalogue has the name of a built-in one.
    #[error("the {part} `{name}` of the catalogue has the name of a built-in {part}: choose another name")]
    NameOfBuiltIn {
        /// What kind of part it is.
        part: &'static str,
        /// The name.
        name: String,
    },
    /// The working directory, which relative paths begin at, cannot be read.
    #[error("cannot make the path {} of {key} absolute", path.display())]
    Path {
        /// Dotted path of the key.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A stage has no end.
    #[error("stage `{stage}` has no end: expected `steps`, `until`, or both")]
    EndlessStage {
        /// Its name.
        stage: String,
    },
    /// Reports could not tell two stages apart.
    #[error("expected unique names of stages, other than the experiment's, found `{stage}` again")]
    SameStageName {
        /// The name.
        stage: String,
    },
    /// The experiment proper would never be trained.
    #[error("expected fewer than train.steps = {limit} steps in all stages together, found {found}")]
    StagesTooLong {
        /// Steps of all stages.
        found: u64,
        /// Steps of the run.
        limit: u64,
    },
    /// The examples of stages cannot all come from one file.
    #[error("stages generate their own examples: expected no data.train")]
    StagesOfAFile,
    /// A name is unknown.
    #[error("unknown name `{found}` in {key}{}; known: {}", did_you_mean(found, known.iter().map(String::as_str)), known.join(", "))]
    UnknownName {
        /// Dotted path of the key.
        key: &'static str,
        /// Name found.
        found: String,
        /// The known names.
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
    /// A part cannot be made.
    #[error("{key} `{name}`: {source}")]
    NotMade {
        /// Dotted path of the key.
        key: &'static str,
        /// Its name.
        name: String,
        /// Cause.
        source: MakeError,
    },
    /// No evaluation has this figure.
    #[error("unknown figure `{found}` in {key}{}; known: {}", did_you_mean(found, known.iter().map(String::as_str)), known.join(", "))]
    UnknownFigure {
        /// Dotted path of the key.
        key: &'static str,
        /// Name found.
        found: String,
        /// The figures of the experiment.
        known: Vec<String>,
    },
    /// The problem does not use an option that it is given.
    #[error("{key} is not an option of the problem `{problem}`")]
    UnheededOption {
        /// Dotted path of the key.
        key: &'static str,
        /// Name of the problem.
        problem: String,
    },
    /// Noise is relative to a bound, but there is more than one bound.
    #[error("data.noise is relative to matrices.bound; expected one bound for all problems, found {} and {}", bounds[0], bounds[1])]
    NoiseOfTwoBounds {
        /// Two bounds that differ.
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
    /// A number is outside its range.
    #[error("{key} must be {expected}, found {found}")]
    OutOfRange {
        /// Dotted path of the key.
        key: &'static str,
        /// The range.
        expected: &'static str,
        /// Value found.
        found: f64,
    },
    /// A setting is not `KEY=VALUE`, or its path goes through a value that is not a table.
    #[error("`{setting}`: {problem}")]
    Setting {
        /// The setting.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The settings do not result in an experiment.
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
    /// The architecture does not have an option that is set.
    #[error("{key} is not an option of the architecture `{architecture}`")]
    NotAnOption {
        /// Dotted path of the key.
        key: String,
        /// The architecture.
        architecture: Architecture,
    },
    /// An encoding does not say what its symbols stand for.
    #[error(
        "model.number_vectors = \"values\": the encoding `{encoding}` does not say what its symbols stand for; implement \
         `NumberEncoding::meaning`, or use \"random\""
    )]
    NoValues {
        /// The encoding.
        encoding: String,
    },
    /// Examples of a file are asked to come again as drawn ones do.
    #[error(
        "data.repeated is for examples that are drawn, and those of data.train come from a file: leave out one of them"
    )]
    RepeatedFile,
    /// The encoder's states do not fit the decoder.
    #[error("{key} must be the encoder's in the architecture `{architecture}`: expected {expected}, found {found}")]
    UnequalHalves {
        /// Dotted path of the decoder's size.
        key: &'static str,
        /// The architecture.
        architecture: Architecture,
        /// The encoder's size.
        expected: usize,
        /// The decoder's size.
        found: usize,
    },
    /// The matrices are impossible.
    #[error("impossible matrices")]
    Law(#[from] LawError),
    /// The task is impossible.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model's sizes are impossible.
    #[error("impossible model")]
    Model(#[from] numformer_model::ConfigError),
}

impl ExperimentError {
    /// The key that contains the mistake, and its value if several entries may have that key.
    pub(crate) fn key(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::UnknownName { key, found, .. } | Self::UnknownFigure { key, found, .. } => Some((key, Some(found))),
            Self::SameMetricName { metric } => Some(("evaluate.metric.name", Some(metric))),
            Self::NotMade { key, .. } => Some((key, None)),
            Self::UnheededOption { key, .. }
            | Self::Encoding { key, .. }
            | Self::Zero { key }
            | Self::NotPositive { key, .. }
            | Self::OutOfRange { key, .. }
            | Self::Negative { key, .. } => Some((key, None)),
            Self::TooLarge { key, .. } => Some((key, None)),
            Self::NotAnOption { key, .. } => Some((key, None)),
            Self::UnequalHalves { key, .. } => Some((key, None)),
            Self::TooFewPositions { .. } => Some(("model.max_positions", None)),
            Self::NoValues { .. } => Some(("model.number_vectors", None)),
            Self::RepeatedFile => Some(("data.repeated", None)),
            Self::Name { .. } => Some(("name", None)),
            _ => None,
        }
    }
}
