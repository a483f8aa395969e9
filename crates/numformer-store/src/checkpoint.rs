//! A run's state on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::files::{is_full_disk, sync_dir, write_synced};
use crate::layout::{LayoutError, NamedTensors};

/// Version of the format. It is raised when older programs could misread a newer file.
const FORMAT: u32 = 1;
/// The document with the sizes and options of a model.
pub const CONFIG: &str = "config.json";
/// The document with the symbols of a vocabulary, in the order of their ids.
pub const VOCABULARY: &str = "vocabulary.json";
pub(crate) const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
pub(crate) const STATE: &str = "state.json";

/// Everything needed to go on with a run, bit for bit: a directory with
///
/// - `model.safetensors`: the weights by name,
/// - `optimizer.safetensors`: what the optimizer remembers, such as Adam's `first_moment.NAME` and
///   `second_moment.NAME`,
/// - documents of the program that saves it: an experiment saves `config.json` with the model's sizes and options, and
///   `vocabulary.json` with the symbols in the order of their ids,
/// - `state.json`: format version, step, other notes, and the length and CRC-32 of the other files.
///
/// The next batch needs no state of its own: it depends only on the step and on what the run was made from.
///
/// # Examples
/// ```
/// use std::borrow::Cow;
/// use numformer_store::{Checkpoint, NamedTensors};
///
/// let weights = NamedTensors::from([("w".to_owned(), (vec![2], vec![0.5, -1.0]))]);
/// let checkpoint = Checkpoint { step: 7, weights: Cow::Borrowed(&weights), ..Checkpoint::default() };
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("step-7");
/// checkpoint.save(&path)?;
/// assert_eq!(Checkpoint::load(&path)?, checkpoint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint<'a> {
    /// Updates taken.
    pub step: u64,
    /// Other notes in `state.json`, by name.
    pub notes: Map<String, Value>,
    /// Documents beside `state.json`, by file name. The names end in `.json`.
    pub documents: BTreeMap<String, Value>,
    /// Weights by name.
    pub weights: Cow<'a, NamedTensors>,
    /// What the optimizer remembers, by name.
    pub memory: Cow<'a, NamedTensors>,
}

#[derive(Serialize, Deserialize)]
struct State {
    step: u64,
    #[serde(flatten)]
    notes: Map<String, Value>,
    files: BTreeMap<String, Fingerprint>,
}

/// `state.json`: the text of the state and the CRC-32 of that text, so that no file goes unchecked.
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

/// The part that every format has. It is read before anything else.
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

impl Checkpoint<'_> {
    /// Writes the checkpoint to the new directory `dir`: either whole or, after a crash, not at all.
    ///
    /// # Errors
    /// When a file cannot be written. Then `dir` does not exist.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        let partial = dir.with_extension("partial");
        self.write(&partial, dir).map_err(|source| {
            // Only the first error is reported. The next attempt overwrites what is left.
            let _ = fs::remove_dir_all(&partial);
            CheckpointError::Io { path: dir.to_owned(), source }
        })
    }

    fn write(&self, partial: &Path, dir: &Path) -> io::Result<()> {
        if partial.exists() {
            fs::remove_dir_all(partial)?;
        }
        fs::create_dir_all(partial)?;
        let documents = self.documents.iter().map(|(name, document)| (name.as_str(), to_json(document)));
        let mut contents: Vec<(&str, Vec<u8>)> = documents.collect();
        contents.push((MODEL, to_safetensors(&self.weights, Dtype::F32)?));
        contents.push((OPTIMIZER, to_safetensors(&self.memory, Dtype::F32)?));
        let mut files = BTreeMap::new();
        for (name, content) in &contents {
            if !is_own_file(name) {
                return Err(io::Error::other(format!(
                    "expected a document with a name like config.json, found `{name}`"
                )));
            }
            write_synced(&partial.join(name), content)?;
            files.insert((*name).to_owned(), Fingerprint::of(content));
        }
        let state = State { step: self.step, notes: self.notes.clone(), files };
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

    /// A document, deserialized as `T`. `dir` is the directory of the checkpoint.
    ///
    /// # Errors
    /// When the document is missing, or is not a `T`.
    pub fn document<T: for<'de> Deserialize<'de>>(&self, name: &str, dir: &Path) -> Result<T, CheckpointError> {
        typed(self.documents.get(name), dir.join(name), "the checkpoint has no such document")
    }

    /// A note, deserialized as `T`. `dir` is the directory of the checkpoint.
    ///
    /// # Errors
    /// When the note is missing, or is not a `T`.
    pub fn note<T: for<'de> Deserialize<'de>>(&self, name: &str, dir: &Path) -> Result<T, CheckpointError> {
        typed(self.notes.get(name), dir.join(STATE), &format!("it has no `{name}`"))
    }
}

fn typed<T: for<'de> Deserialize<'de>>(
    value: Option<&Value>,
    path: PathBuf,
    missing: &str,
) -> Result<T, CheckpointError> {
    match value.map(|value| T::deserialize(value)) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(CheckpointError::Malformed { path, reason: error.to_string() }),
        None => Err(CheckpointError::Malformed { path, reason: missing.to_owned() }),
    }
}

/// Whether a file can belong to a checkpoint: one of our tensor files, or a document beside them.
fn is_own_file(name: &str) -> bool {
    let is_document = name.ends_with(".json") && name != STATE && !name.contains(['/', '\\', ':']);
    is_document || [MODEL, OPTIMIZER].contains(&name)
}

impl Checkpoint<'static> {
    /// Reads and checks a checkpoint.
    ///
    /// # Errors
    /// When a file is missing, damaged or in another format. The error names the file.
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
        let State { step, notes, files } = from_json(&path, state.get().as_bytes())?;
        let checked = |name: &str| -> Result<(PathBuf, Vec<u8>), CheckpointError> {
            let path = dir.join(name);
            let Some(expected) = files.get(name).filter(|_| is_own_file(name)) else {
                return Err(CheckpointError::Malformed { path, reason: format!("{STATE} does not list it") });
            };
            let content = read(&path)?;
            let found = Fingerprint::of(&content);
            if expected.bytes != found.bytes {
                return Err(CheckpointError::Length { path, expected: expected.bytes, found: found.bytes });
            }
            if *expected != found {
                return Err(CheckpointError::Checksum { path, expected: expected.crc32, found: found.crc32 });
            }
            Ok((path, content))
        };
        let tensors = |name: &str| {
            let (path, content) = checked(name)?;
            from_safetensors(&path, &content)
        };
        let (weights, memory) = (tensors(MODEL)?, tensors(OPTIMIZER)?);
        let documents = files.keys().filter(|name| ![MODEL, OPTIMIZER].contains(&name.as_str())).map(|name| {
            let (path, content) = checked(name)?;
            Ok((name.clone(), from_json(&path, &content)?))
        });
        let documents = documents.collect::<Result<_, _>>()?;
        Ok(Self { step, notes, documents, weights: Cow::Owned(weights), memory: Cow::Owned(memory) })
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

/// A safetensors file of weights, each an `F32` or, rounded, a `BF16`.
pub(crate) fn to_safetensors(tensors: &NamedTensors, dtype: Dtype) -> io::Result<Vec<u8>> {
    let to_bytes = |values: &[f32]| match dtype {
        Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(name, (shape, values))| (name, (shape.clone(), to_bytes(values)))).collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views.and_then(|views| safetensors::serialize(views, None)).map_err(io::Error::other)
}

pub(crate) fn from_safetensors(path: &Path, content: &[u8]) -> Result<NamedTensors, CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { path: path.to_owned(), reason };
    let tensors = SafeTensors::deserialize(content).map_err(|error| malformed(error.to_string()))?;
    tensors
        .iter()
        .map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => {
                    let words = view.data().as_chunks::<4>().0;
                    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
                }
                Dtype::BF16 => {
                    let halves = view.data().as_chunks::<2>().0;
                    halves.iter().map(|half| bf16::from_le_bytes(*half).to_f32()).collect()
                }
                other => return Err(malformed(format!("`{name}`: expected F32 or BF16, found {other:?}"))),
            };
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
    /// The logs up to the checkpoint cannot be written, so it was not written either.
    #[error("cannot write the logs, which come before the checkpoint")]
    Logs(#[source] io::Error),
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
    #[error(
        "{} does not hold the weights of the model that {CONFIG} beside it describes: take both from the same place",
        path.display()
    )]
    Weights {
        /// The file of the weights.
        path: PathBuf,
        /// What does not fit.
        source: LayoutError,
    },
    /// A model is only written to a new directory.
    #[error("{} already exists: remove it, or save to another place", path.display())]
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
    /// Another process uses the directory.
    #[error("run directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Every checkpoint is damaged.
    #[error(
        "no checkpoint in {} can be read: restore one, or remove that directory to start the run again",
        path.display()
    )]
    NoGoodCheckpoint {
        /// The directory of the checkpoints.
        path: PathBuf,
        /// What is wrong with the newest.
        source: Box<CheckpointError>,
    },
    /// A custom store failed, or a run cannot go on from a checkpoint.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl CheckpointError {
    /// A custom error.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// Whether there is no room left. The write may succeed once there is.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Logs(source) if is_full_disk(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint<'static> {
        let tensor = (vec![2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 1e30]);
        let Value::Object(notes) = serde_json::json!({"seed": u64::MAX, "lr": 1e-3}) else { unreachable!("an object") };
        Checkpoint {
            step: 7,
            notes,
            documents: [(CONFIG.to_owned(), serde_json::json!({"d_model": 16}))].into(),
            weights: Cow::Owned([("w".to_owned(), tensor.clone())].into()),
            memory: Cow::Owned([("first_moment.w".to_owned(), tensor)].into()),
        }
    }

    #[test]
    fn load_inverts_save_and_saving_again_replaces() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        let mut saved = checkpoint();
        saved.save(&path).expect("saved");
        let loaded = Checkpoint::load(&path).expect("loaded");
        assert_eq!(loaded, saved);
        assert_eq!(loaded.note::<u64>("seed", &path).expect("noted"), u64::MAX);
        let error = loaded.document::<u64>(CONFIG, &path).expect_err("an object").to_string();
        assert!(error.contains("config.json is malformed"), "{error}");
        saved.step = 8;
        saved.save(&path).expect("saved again");
        assert_eq!(Checkpoint::load(&path).expect("loaded").step, 8);
    }

    #[test]
    fn documents_stay_in_their_directory() {
        let dir = tempfile::tempdir().expect("dir");
        for name in ["../config.json", "state.json", "a/b.json", "config.toml"] {
            let documents = [(name.to_owned(), Value::Null)].into();
            let error = Checkpoint { documents, ..checkpoint() }.save(&dir.path().join("step-7")).expect_err(name);
            assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0);
    }

    #[test]
    fn every_damage_names_the_file() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        for name in [CONFIG, MODEL, OPTIMIZER, STATE] {
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
