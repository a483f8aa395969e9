//! A trained model on disk, for use.

use std::fs;
use std::path::Path;
use std::process;

use candle_core::{Device, Tensor};
use numformer_encoding::Vocabulary;
use numformer_model::{FlatLayout, Model, ModelConfig, Parameters};

use crate::checkpoint::{
    CONFIG, Checkpoint, CheckpointError, MODEL, NamedTensors, STATE, VOCABULARY, from_json, from_safetensors, named,
    read, to_json, to_safetensors,
};
use crate::files::{sync_dir, write_synced};

/// A trained model with its vocabulary: what is needed to use it, and nothing of its training.
///
/// On disk it is a directory with `config.json`, `vocabulary.json` and `model.safetensors`, files as those of a
/// [`Checkpoint`], which can be loaded as a model too.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// Sizes and options of the model.
    pub config: ModelConfig,
    /// Symbols in the order of their ids.
    pub vocabulary: Vocabulary,
    /// Weights by name.
    pub weights: NamedTensors,
}

impl StoredModel {
    /// Copies the weights of a model.
    ///
    /// # Errors
    /// When a device fails.
    pub fn new(
        config: impl Into<ModelConfig>,
        vocabulary: Vocabulary,
        parameters: &Parameters,
    ) -> candle_core::Result<Self> {
        let layout = FlatLayout::new(parameters);
        let mut values = vec![0.0; layout.len()];
        layout.read(parameters, &mut values)?;
        Ok(Self { config: config.into(), vocabulary, weights: named(&layout, "", &values) })
    }

    /// Writes the model to the new directory `dir`: either whole or, after a crash, not at all.
    ///
    /// # Errors
    /// When `dir` exists, or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        if dir.exists() {
            return Err(CheckpointError::Exists { path: dir.to_owned() });
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // The process is part of the name: another may be writing a model of the same name.
        let partial = dir.with_file_name(format!(".{name}.{}.partial", process::id()));
        let write = || {
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir_all(&partial)?;
            write_synced(&partial.join(CONFIG), &to_json(&self.config))?;
            write_synced(&partial.join(VOCABULARY), &to_json(&self.vocabulary))?;
            write_synced(&partial.join(MODEL), &to_safetensors(&self.weights)?)?;
            sync_dir(&partial)?;
            fs::rename(&partial, dir)?;
            sync_dir(dir.parent().unwrap_or(Path::new(".")))
        };
        write().map_err(|source| {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&partial);
            CheckpointError::Io { path: dir.to_owned(), source }
        })
    }

    /// Reads a model, or the model of a checkpoint, whose checksums are compared then.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the files do not fit each other.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let model = if dir.join(STATE).exists() {
            let Checkpoint { config, vocabulary, model, .. } = Checkpoint::load(dir)?;
            Self { config, vocabulary, weights: model }
        } else {
            let [config, vocabulary, weights] = [CONFIG, VOCABULARY, MODEL].map(|name| dir.join(name));
            if !config.exists() {
                return Err(CheckpointError::NoModel { path: dir.to_owned() });
            }
            Self {
                config: from_json(&config, &read(&config)?)?,
                vocabulary: from_json(&vocabulary, &read(&vocabulary)?)?,
                weights: from_safetensors(&weights, &read(&weights)?)?,
            }
        };
        model.check(dir)?;
        Ok(model)
    }

    fn check(&self, dir: &Path) -> Result<(), CheckpointError> {
        let malformed = |name: &str, reason: String| CheckpointError::Malformed { path: dir.join(name), reason };
        let (vocab_size, ids) = (self.config.vocab_size(), (self.config.delimiter_id(), self.config.padding_id()));
        self.config.validate().map_err(|error| malformed(CONFIG, error.to_string()))?;
        if vocab_size != self.vocabulary.len() {
            let found = self.vocabulary.len();
            return Err(malformed(VOCABULARY, format!("expected {vocab_size} symbols, found {found}")));
        }
        let (delimiter, padding) = (self.vocabulary.delimiter().0, self.vocabulary.padding().0);
        if ids != (delimiter, padding) {
            let found = format!("{} and {}", ids.0, ids.1);
            let reason = format!("expected the ids {delimiter} and {padding} of delimiter and padding, found {found}");
            return Err(malformed(CONFIG, reason));
        }
        Ok(())
    }

    /// The weights as parameters on `device`: for use by [`Parameters::frozen`], for training by
    /// [`Parameters::trainable`].
    ///
    /// # Errors
    /// When a tensor has not as many coefficients as its shape says, or the device fails.
    pub fn parameters(&self, device: &Device) -> candle_core::Result<Parameters> {
        let tensors = self
            .weights
            .iter()
            .map(|(name, (shape, values))| Ok((name.clone(), Tensor::from_slice(values, shape.as_slice(), device)?)));
        Parameters::from_tensors(tensors.collect::<candle_core::Result<Vec<_>>>()?, device)
    }

    /// The model on `device`, for use.
    ///
    /// # Errors
    /// As [`StoredModel::parameters`], and when a tensor is missing or has another shape.
    pub fn model(&self, device: &Device) -> candle_core::Result<Model> {
        Model::new(&self.config, &self.parameters(device)?.frozen())
    }
}

#[cfg(test)]
mod tests {
    use numformer_model::{StackConfig, Transformer, TransformerConfig};

    use super::*;
    use crate::{Experiment, RunDir, Trainer};

    fn untrained() -> StoredModel {
        let sizes = StackConfig::new(4, 2, 1);
        let config = TransformerConfig::new(4, 6, sizes.clone(), sizes);
        let parameters = Parameters::random(0, &Device::Cpu);
        Transformer::init(&config, &parameters).expect("a model");
        let symbols = ["<s>", "<pad>", "a", "b"].map(String::from).to_vec();
        let vocabulary = Vocabulary::from_symbols(symbols).expect("distinct");
        StoredModel::new(config, vocabulary, &parameters).expect("f32 on the CPU")
    }

    #[test]
    fn load_inverts_save_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("model");
        let model = untrained();
        model.save(&path).expect("saved");
        assert_eq!(StoredModel::load(&path).expect("loaded"), model);
        assert!(model.model(&Device::Cpu).is_ok());
        let error = model.save(&path).expect_err("exists").to_string();
        assert!(error.ends_with("model exists: remove it, or save to another place"), "{error}");
    }

    #[test]
    fn a_failed_attempt_leaves_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let mut model = untrained();
        // Fewer values than its shape says: noticed when the other files are written.
        model.weights.get_mut("projection.bias").expect("every model has one").1.pop();
        let error = model.save(&dir.path().join("model")).expect_err("not writable");
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0);
    }

    /// Models whose names differ in what follows a dot, and another process's attempt at the same name, are left alone.
    #[test]
    fn partial_models_are_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        let others = ["model.partial", ".model.0.partial"].map(|name| dir.path().join(name));
        for other in &others {
            untrained().save(other).expect("saved");
        }
        untrained().save(&dir.path().join("model.v2")).expect("saved");
        untrained().save(&dir.path().join("model")).expect("saved");
        assert!(others.iter().all(|other| StoredModel::load(other).is_ok()));
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 4);
    }

    #[test]
    fn a_checkpoint_of_a_run_is_a_model() {
        let dir = tempfile::tempdir().expect("dir");
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        experiment.train.steps = 1;
        experiment.evaluate.examples = 1;
        let run = RunDir::open(dir.path().join("run"), &experiment).expect("a run");
        let (mut trainer, _) = Trainer::new(experiment).expect("valid").in_dir(run).expect("new");
        let checkpoint = trainer.run().expect("trained").checkpoint.expect("saved");
        let model = StoredModel::load(&checkpoint).expect("a model");
        assert_eq!(&model.vocabulary, trainer.task().vocabulary());
        assert_eq!(model.weights.values().map(|(_, values)| values.len()).sum::<usize>(), trainer.weights().len());
        // A changed weight is noticed, as in every checkpoint.
        let weights = checkpoint.join(MODEL);
        let mut content = fs::read(&weights).expect("weights");
        *content.last_mut().expect("not empty") ^= 1;
        fs::write(&weights, content).expect("written");
        assert!(matches!(StoredModel::load(&checkpoint), Err(CheckpointError::Checksum { .. })));
    }

    #[test]
    fn what_is_no_model_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let error = StoredModel::load(dir.path()).expect_err("empty").to_string();
        assert!(error.contains("holds no model: expected config.json"), "{error}");

        let changed = |change: &dyn Fn(&mut StoredModel, &mut TransformerConfig)| {
            let path = dir.path().join("model");
            let mut model = untrained();
            let mut config = model.config.as_transformer().expect("a transformer").clone();
            change(&mut model, &mut config);
            model.config = config.into();
            model.save(&path).expect("saved");
            let error = StoredModel::load(&path).and_then(|model| {
                model
                    .model(&Device::Cpu)
                    .map(drop)
                    .map_err(|error| CheckpointError::Malformed { path: path.clone(), reason: error.to_string() })
            });
            fs::remove_dir_all(&path).expect("removed");
            error.expect_err("no model").to_string()
        };
        assert!(
            changed(&|_, config| config.vocab_size = 5)
                .contains("vocabulary.json is malformed: expected 5 symbols, found 4")
        );
        assert!(
            changed(&|_, config| config.padding_id = 2).contains("config.json is malformed: expected the ids 0 and 1")
        );
        assert!(changed(&|_, config| config.encoder.n_heads = 3).contains("d_model must be a multiple"));
        let missing = changed(&|model, _| drop(model.weights.remove("projection.bias")));
        assert!(missing.contains("no parameter `projection.bias`"), "{missing}");
    }
}
