//! A trained model on disk, for use.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use numformer_encoding::Vocabulary;
use numformer_model::{Parameters, Transformer, TransformerConfig};

use crate::checkpoint::{
    CONFIG, Checkpoint, CheckpointError, MODEL, NamedTensors, STATE, VOCABULARY, from_json, from_safetensors, read,
    to_json, to_safetensors,
};
use crate::files::{sync_dir, write_synced};

/// A trained model with its vocabulary: what is needed to use it, and nothing of its training.
///
/// On disk it is a directory with `config.json`, `vocabulary.json` and `model.safetensors`, files as those of a
/// [`Checkpoint`], which can be loaded as a model too.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// Sizes and options of the transformer.
    pub config: TransformerConfig,
    /// Symbols in the order of their ids.
    pub vocabulary: Vocabulary,
    /// Weights by name.
    pub weights: NamedTensors,
}

impl StoredModel {
    /// Writes the model to the new directory `dir`: either whole or, after a crash, not at all.
    ///
    /// # Errors
    /// When `dir` exists, or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        if dir.exists() {
            return Err(CheckpointError::Exists { path: dir.to_owned() });
        }
        let partial = dir.with_extension("partial");
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
            // The first error is the one to tell; what is left is overwritten by the next attempt.
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
        let TransformerConfig { vocab_size, delimiter_id, padding_id, .. } = self.config;
        self.config.validate().map_err(|error| malformed(CONFIG, error.to_string()))?;
        if vocab_size != self.vocabulary.len() {
            let found = self.vocabulary.len();
            return Err(malformed(VOCABULARY, format!("expected {vocab_size} symbols, found {found}")));
        }
        let (delimiter, padding) = (self.vocabulary.delimiter().0, self.vocabulary.padding().0);
        if (delimiter_id, padding_id) != (delimiter, padding) {
            let found = format!("{delimiter_id} and {padding_id}");
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
        let tensors = self.weights.iter().map(|(name, (shape, values))| {
            Ok((name.clone(), Tensor::from_slice(values, shape.as_slice(), device)?))
        });
        Parameters::from_tensors(tensors.collect::<candle_core::Result<Vec<_>>>()?, device)
    }

    /// The model on `device`, for use.
    ///
    /// # Errors
    /// As [`StoredModel::parameters`], and when a tensor is missing or has another shape.
    pub fn transformer(&self, device: &Device) -> candle_core::Result<Transformer> {
        Transformer::new(&self.config, &self.parameters(device)?.frozen())
    }
}
