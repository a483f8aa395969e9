//! The checkpoint of a run of an experiment.

use std::path::Path;

use numformer_encoding::Vocabulary;
use numformer_model::ModelConfig;
use numformer_store::{CONFIG, Checkpoint, CheckpointError, StoredModel, VOCABULARY};
use numformer_train::Snapshot;
use serde::Serialize;
use serde_json::Value;

use crate::data_files::DataFingerprints;
use crate::experiment::Experiment;

/// The content of an experiment's checkpoints apart from the state of the run: enough to use the model, and to tell
/// whether the run can continue.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDescription {
    /// The experiment of the run.
    pub experiment: Experiment,
    /// Fingerprints of the files of examples, if the examples come from files.
    pub data: DataFingerprints,
    /// Sizes and options of the model.
    pub config: ModelConfig,
    /// Symbols in the order of their ids.
    pub vocabulary: Vocabulary,
}

/// A checkpoint of a run of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCheckpoint {
    /// The experiment of the run.
    pub description: RunDescription,
    /// The state of the run.
    pub snapshot: Snapshot,
}

/// The notes of the fingerprints, by split.
const DATA: [&str; 3] = ["data", "validation_data", "test_data"];
/// The note of the experiment.
const EXPERIMENT: &str = "experiment";

impl RunDescription {
    /// A snapshot of the run in the form in which it is written.
    pub(crate) fn checkpoint<'a>(&self, snapshot: &'a Snapshot) -> Checkpoint<'a> {
        let mut checkpoint = snapshot.checkpoint();
        let DataFingerprints { train, validation, test } = self.data;
        for (name, fingerprint) in DATA.into_iter().zip([train, validation, test]) {
            if let Some(fingerprint) = fingerprint {
                checkpoint.notes.insert(name.to_owned(), fingerprint.into());
            }
        }
        checkpoint.notes.insert(EXPERIMENT.to_owned(), value(&self.experiment));
        checkpoint.documents.insert(CONFIG.to_owned(), value(&self.config));
        checkpoint.documents.insert(VOCABULARY.to_owned(), value(&self.vocabulary));
        checkpoint
    }
}

fn value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("checkpoints are plain data")
}

impl RunCheckpoint {
    /// Writes the checkpoint to the new directory `dir`, as [`Checkpoint::save`] does.
    ///
    /// # Errors
    /// When a file cannot be written; `dir` then does not exist.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.description.checkpoint(&self.snapshot).save(dir)
    }

    /// Reads and checks a checkpoint.
    ///
    /// # Errors
    /// When a file is missing, damaged or of another format; the error names it.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::load(dir)?;
        let fingerprint =
            |name: &str| checkpoint.notes.contains_key(name).then(|| checkpoint.note(name, dir)).transpose();
        let [train, validation, test] = DATA.map(fingerprint);
        let description = RunDescription {
            experiment: checkpoint.note(EXPERIMENT, dir)?,
            data: DataFingerprints { train: train?, validation: validation?, test: test? },
            config: checkpoint.document(CONFIG, dir)?,
            vocabulary: checkpoint.document(VOCABULARY, dir)?,
        };
        Ok(Self { description, snapshot: Snapshot::of(checkpoint, dir)? })
    }
}

impl From<RunCheckpoint> for StoredModel {
    fn from(RunCheckpoint { description, snapshot }: RunCheckpoint) -> Self {
        let RunDescription { experiment, config, vocabulary, .. } = description;
        let encodings = Some(experiment.encoding.names());
        Self { config, vocabulary, weights: snapshot.weights, encodings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;
    use numformer_evaluate::FigureName;
    use numformer_train::{Best, RunProgress};

    pub(crate) fn checkpoint(step: u64) -> RunCheckpoint {
        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let task = experiment.task(&Catalogue::standard()).expect("valid");
        let tensor = (vec![1], vec![step as f32]);
        RunCheckpoint {
            description: RunDescription {
                data: DataFingerprints { train: Some(1), validation: None, test: Some(3) },
                config: experiment.model_config(&task, &Catalogue::standard()).expect("valid"),
                vocabulary: task.vocabulary().clone(),
                experiment,
            },
            snapshot: Snapshot {
                step,
                progress: RunProgress {
                    skipped: 3,
                    stages: vec![2, 5],
                    best: [(FigureName::Exact, Best { step: 6, value: 0.5 })].into(),
                    ..RunProgress::default()
                },
                weights: [("w".to_owned(), tensor.clone())].into(),
                memory: [("first_moment.w".to_owned(), tensor)].into(),
            },
        }
    }

    #[test]
    fn load_inverts_save() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        let saved = checkpoint(7);
        saved.save(&path).expect("saved");
        assert_eq!(RunCheckpoint::load(&path).expect("loaded"), saved);
        // It is a checkpoint like any other, too.
        assert_eq!(Snapshot::load(&path).expect("loaded"), saved.snapshot);
    }

    #[test]
    fn a_checkpoint_of_no_experiment_is_told() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        checkpoint(7).snapshot.checkpoint().save(&path).expect("saved");
        let error = RunCheckpoint::load(&path).expect_err("no experiment").to_string();
        assert!(error.ends_with("state.json is malformed: it has no `experiment`"), "{error}");
    }

    /// The format that an earlier version wrote, key by key.
    #[test]
    fn checkpoints_of_earlier_versions_are_read() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("step-7");
        let saved = checkpoint(7);
        saved.save(&path).expect("saved");
        let state = std::fs::read_to_string(path.join("state.json")).expect("a state");
        let state: Value = serde_json::from_str(&state).expect("JSON");
        let keys: Vec<&String> = state["state"].as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["data", "experiment", "files", "progress", "step", "test_data"]);
        let keys: Vec<&String> = state.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["crc32", "format", "state"]);
    }
}
