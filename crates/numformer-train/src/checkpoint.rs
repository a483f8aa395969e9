//! A run's state on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use numformer_encoding::Vocabulary;
use numformer_model::ModelConfig;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::config::is_default;
use crate::data_files::DataFingerprints;
use crate::experiment::Experiment;
use crate::figure_name::FigureName;
use crate::files::{is_full_disk, sync_dir, write_synced};
use crate::layout::LayoutError;

/// Version of the format; raised when older programs could misread a newer file.
const FORMAT: u32 = 1;
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const VOCABULARY: &str = "vocabulary.json";
pub(crate) const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
pub(crate) const STATE: &str = "state.json";

/// Everything needed to go on with a run, bit for bit: a directory with
///
/// - `config.json`: the model's sizes and options,
/// - `vocabulary.json`: the symbols in the order of their ids,
/// - `model.safetensors`: the weights by name,
/// - `optimizer.safetensors`: what the optimizer remembers: of Adam, `first_moment.NAME` and `second_moment.NAME`,
/// - `state.json`: format version, step, what happened up to there, experiment, fingerprints of its files of examples, and
///   length and CRC-32 of the other files.
///
/// The next batch needs no state of its own: it is a function of the experiment and the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What is run.
    pub experiment: Experiment,
    /// Fingerprints of the files of examples, if they come from some.
    pub data: DataFingerprints,
    /// Updates taken.
    pub step: u64,
    /// What happened up to there.
    pub progress: RunProgress,
    /// Sizes and options of the model.
    pub config: ModelConfig,
    /// Symbols in the order of their ids.
    pub vocabulary: Vocabulary,
    /// Weights by name.
    pub model: NamedTensors,
    /// What the optimizer remembers, by name.
    pub optimizer: NamedTensors,
}

/// What happened in a run, as far as the rest of it depends on that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunProgress {
    /// Steps left out since they diverged, in all.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped: u64,
    /// The last steps, as many of them as were left out one after another.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped_in_a_row: u32,
    /// Times that the run went back after it diverged.
    #[serde(skip_serializing_if = "is_default")]
    pub roll_backs: u32,
    /// For each stage that is over, the step after which it was.
    #[serde(skip_serializing_if = "is_default")]
    pub stages: Vec<u64>,
    /// The best evaluation by each figure that the experiment keeps checkpoints of.
    #[serde(skip_serializing_if = "is_default")]
    pub best: BTreeMap<FigureName, Best>,
    /// Whether the evaluation after the last step was broken off: it is done first when the run goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub unjudged: bool,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After so many updates.
    pub step: u64,
    /// The figure.
    pub value: f64,
}

/// `f32` tensors by name: shape and row-major coefficients.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation_data: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test_data: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    progress: RunProgress,
    experiment: Experiment,
    files: BTreeMap<String, Fingerprint>,
}

/// `state.json`: the state as it was written and the CRC-32 of that text, so that no file goes unchecked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: u32,
    crc32: u32,
    state: Box<RawValue>,
}

impl Sealed {
    fn new(state: &State) -> Self {
        let state = to_raw_value(state).expect("checkpoints are plain data");
        Self { format: FORMAT, crc32: crc32fast::hash(state.get().as_bytes()), state }
    }
}

/// What every format has: read before anything else.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fingerprint {
    bytes: usize,
    crc32: u32,
}

impl Fingerprint {
    fn of(content: &[u8]) -> Self {
        Self { bytes: content.len(), crc32: crc32fast::hash(content) }
    }
}

impl Checkpoint {
    /// Writes the checkpoint to the new directory `dir`: either whole or, after a crash, not at all.
    ///
    /// # Errors
    /// When a file cannot be written; `dir` does not exist then.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        let partial = dir.with_extension("partial");
        self.write(&partial, dir).map_err(|source| {
            // The first error is the one to tell; what is left is overwritten by the next attempt.
            let _ = fs::remove_dir_all(&partial);
            CheckpointError::Io { path: dir.to_owned(), source }
        })
    }

    fn write(&self, partial: &Path, dir: &Path) -> io::Result<()> {
        if partial.exists() {
            fs::remove_dir_all(partial)?;
        }
        fs::create_dir_all(partial)?;
        let contents = [
            (CONFIG, to_json(&self.config)),
            (VOCABULARY, to_json(&self.vocabulary)),
            (MODEL, to_safetensors(&self.model)?),
            (OPTIMIZER, to_safetensors(&self.optimizer)?),
        ];
        let mut files = BTreeMap::new();
        for (name, content) in &contents {
            write_synced(&partial.join(name), content)?;
            files.insert((*name).to_owned(), Fingerprint::of(content));
        }
        let (progress, experiment) = (self.progress.clone(), self.experiment.clone());
        let DataFingerprints { train: data, validation: validation_data, test: test_data } = self.data;
        let state = State { step: self.step, data, validation_data, test_data, progress, experiment, files };
        write_synced(&partial.join(STATE), &to_json(&Sealed::new(&state)))?;
        sync_dir(partial)?;
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::rename(partial, dir)?;
        let checkpoints = dir.parent().unwrap_or(Path::new("."));
        sync_dir(checkpoints)?;
        // The folder of the checkpoints may be new.
        sync_dir(checkpoints.parent().unwrap_or(Path::new(".")))
    }

    /// Reads and checks a checkpoint.
    ///
    /// # Errors
    /// When a file is missing, damaged or of another format; the error names it.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(STATE);
        let content = read(&path)?;
        let FormatOnly { format } = from_json(&path, &content)?;
        if format != FORMAT {
            return Err(CheckpointError::Format { path, expected: FORMAT, found: format });
        }
        let Sealed { crc32: expected, state, .. } = from_json(&path, &content)?;
        let found = crc32fast::hash(state.get().as_bytes());
        if found != expected {
            return Err(CheckpointError::Checksum { path, expected, found });
        }
        let state: State = from_json(&path, state.get().as_bytes())?;
        let checked = |name: &str| -> Result<(PathBuf, Vec<u8>), CheckpointError> {
            let path = dir.join(name);
            let content = read(&path)?;
            let found = Fingerprint::of(&content);
            match state.files.get(name) {
                Some(expected) if *expected == found => Ok((path, content)),
                Some(expected) if expected.bytes != found.bytes => {
                    Err(CheckpointError::Length { path, expected: expected.bytes, found: found.bytes })
                }
                Some(expected) => Err(CheckpointError::Checksum { path, expected: expected.crc32, found: found.crc32 }),
                None => Err(CheckpointError::Malformed { path, reason: format!("{STATE} does not list it") }),
            }
        };
        let (config_path, config) = checked(CONFIG)?;
        let (vocabulary_path, vocabulary) = checked(VOCABULARY)?;
        let (model_path, model) = checked(MODEL)?;
        let (optimizer_path, optimizer) = checked(OPTIMIZER)?;
        Ok(Self {
            config: from_json(&config_path, &config)?,
            vocabulary: from_json(&vocabulary_path, &vocabulary)?,
            model: from_safetensors(&model_path, &model)?,
            optimizer: from_safetensors(&optimizer_path, &optimizer)?,
            experiment: state.experiment,
            data: DataFingerprints { train: state.data, validation: state.validation_data, test: state.test_data },
            step: state.step,
            progress: state.progress,
        })
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("checkpoints are plain data")
}

pub(crate) fn from_json<T: for<'de> Deserialize<'de>>(path: &Path, content: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(content)
        .map_err(|error| CheckpointError::Malformed { path: path.to_owned(), reason: error.to_string() })
}

pub(crate) fn to_safetensors(tensors: &NamedTensors) -> io::Result<Vec<u8>> {
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, (shape.clone(), values.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(io::Error::other)
}

pub(crate) fn from_safetensors(path: &Path, content: &[u8]) -> Result<NamedTensors, CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { path: path.to_owned(), reason };
    let tensors = SafeTensors::deserialize(content).map_err(|error| malformed(error.to_string()))?;
    tensors
        .iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(malformed(format!("`{name}`: expected F32, found {:?}", view.dtype())));
            }
            let words = view.data().as_chunks::<4>().0;
            let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            Ok((name.to_owned(), (view.shape().to_vec(), values)))
        })
        .collect()
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("cannot access checkpoint file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file was cut or grew.
    #[error("checkpoint file {} is damaged: expected {expected} bytes, found {found}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Length when written.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// A file's bytes changed.
    #[error("checkpoint file {} is damaged: expected CRC-32 {expected:08x}, found {found:08x}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// CRC-32 when written.
        expected: u32,
        /// CRC-32 found.
        found: u32,
    },
    /// A file was written by another version of the program.
    #[error("checkpoint file {} has format {found}, expected {expected}: use the version that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Format of this program.
        expected: u32,
        /// Format found.
        found: u32,
    },
    /// A file's content is not what it should be.
    #[error("checkpoint file {} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The weights are not those of the model that the configuration beside them describes.
    #[error("{} does not hold the weights of the model in the {CONFIG} beside it: take both from one place", path.display())]
    Weights {
        /// The file of the weights.
        path: PathBuf,
        /// What does not fit.
        source: LayoutError,
    },
    /// A model is only written to a new directory.
    #[error("{} exists: remove it, or save to another place", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A directory holds no model.
    #[error(
        "{} holds no model: expected {CONFIG}, {VOCABULARY} and {MODEL}; a run keeps them in checkpoints/step-...",
        path.display()
    )]
    NoModel {
        /// The directory.
        path: PathBuf,
    },
}

impl CheckpointError {
    /// Whether there is no room left to write to: it may be written once there is.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full_disk(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    fn checkpoint() -> Checkpoint {
        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let task = experiment.task(&Catalogue::standard()).expect("valid");
        let tensor = (vec![2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 1e30]);
        Checkpoint {
            data: DataFingerprints { train: Some(1), validation: None, test: Some(3) },
            step: 7,
            progress: RunProgress {
                skipped: 3,
                stages: vec![2, 5],
                best: [(FigureName::Exact, Best { step: 6, value: 0.5 })].into(),
                ..RunProgress::default()
            },
            config: experiment.model_config(&task).expect("valid"),
            vocabulary: task.vocabulary().clone(),
            model: BTreeMap::from([("w".to_owned(), tensor.clone())]),
            optimizer: BTreeMap::from([("first_moment.w".to_owned(), tensor)]),
            experiment,
        }
    }

    #[test]
    fn load_inverts_save_and_saving_again_replaces() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        let mut saved = checkpoint();
        saved.save(&path).expect("saved");
        assert_eq!(Checkpoint::load(&path).expect("loaded"), saved);
        saved.step = 8;
        saved.save(&path).expect("saved again");
        assert_eq!(Checkpoint::load(&path).expect("loaded").step, 8);
    }

    #[test]
    fn every_damage_names_the_file() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        for name in [CONFIG, VOCABULARY, MODEL, OPTIMIZER, STATE] {
            let file = path.join(name);
            checkpoint().save(&path).expect("saved");
            let content = fs::read(&file).expect("file");
            let damages: [(&str, Vec<u8>); 3] = [
                ("cut", content[..content.len() / 2].to_vec()),
                ("empty", Vec::new()),
                ("flipped", {
                    let mut flipped = content.clone();
                    flipped[content.len() / 2] ^= 0x10;
                    flipped
                }),
            ];
            for (damage, content) in damages {
                fs::write(&file, content).expect("damaged");
                let error = Checkpoint::load(&path).expect_err(damage).to_string();
                assert!(error.contains(name), "{name} {damage}: {error}");
            }
            fs::remove_file(&file).expect("removed");
            let error = Checkpoint::load(&path).expect_err("missing").to_string();
            assert!(error.contains(name), "{name} missing: {error}");
        }
    }

    #[test]
    fn another_format_asks_for_the_version_that_wrote_it() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        checkpoint().save(&path).expect("saved");
        // A later format may hold anything else.
        fs::write(path.join(STATE), r#"{"format": 2, "novelty": []}"#).expect("written");
        assert!(matches!(Checkpoint::load(&path), Err(CheckpointError::Format { found: 2, .. })));
    }
}
