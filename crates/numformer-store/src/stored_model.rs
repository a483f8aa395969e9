//! A trained model on disk, for use.

use std::fs;
use std::path::Path;
use std::process;

use candle_core::{Device, Error, Tensor};
use numformer_encoding::Vocabulary;
use numformer_model::{FlatLayout, Model, ModelConfig, Parameters};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    CONFIG, Checkpoint, CheckpointError, MODEL, STATE, VOCABULARY, from_json, from_safetensors, read, to_json,
    to_safetensors,
};
use crate::files::{sync_dir, write_synced};
use crate::layout::{NamedTensors, check_weights, named};

/// The document with the encodings of a [`StoredModel`].
pub const ENCODINGS: &str = "encodings.json";

/// A trained model with its vocabulary: everything needed to use it, and nothing about its training.
///
/// On disk it is a directory with `config.json`, `vocabulary.json` and `model.safetensors`, in the same form as in a
/// [`Checkpoint`]. If the encodings are known, it also has `encodings.json`. A checkpoint of an experiment can be
/// loaded as a model, too; one of a bare trainer has neither configuration nor vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// Sizes and options of the model.
    pub config: ModelConfig,
    /// Symbols in the order of their ids.
    pub vocabulary: Vocabulary,
    /// Weights by name.
    pub weights: NamedTensors,
    /// How the model reads and writes numbers, if known.
    pub encodings: Option<EncodingNames>,
}

/// The encodings of source and target, by name. The symbols alone do not determine them: `5` is a digit in base 10 and
/// in base 1000.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingNames {
    /// Encoding of the source.
    pub input: String,
    /// Encoding of the target.
    pub output: String,
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
        let layout = FlatLayout::new(parameters)?;
        let mut values = vec![0.0; layout.len()];
        layout.read(parameters, &mut values)?;
        Ok(Self { config: config.into(), vocabulary, weights: named(&layout, "", &values), encodings: None })
    }

    /// Sets how the model reads and writes numbers. A run that begins with these weights needs to know it.
    #[must_use]
    pub fn with_encodings(self, input: &str, output: &str) -> Self {
        let encodings = Some(EncodingNames { input: input.to_owned(), output: output.to_owned() });
        Self { encodings, ..self }
    }

    /// Writes the model to the new directory `dir`: either whole or, after a crash, not at all.
    ///
    /// # Errors
    /// When `dir` exists, a file cannot be written, or the parts do not fit each other as [`StoredModel::load`]
    /// requires.
    pub fn save(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.save_as(dir, Dtype::F32)
    }

    /// Like [`save`](Self::save), but with the weights rounded to bf16, in half as many bytes.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_in_bf16(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.save_as(dir, Dtype::BF16)
    }

    fn save_as(&self, dir: &Path, dtype: Dtype) -> Result<(), CheckpointError> {
        if dir.exists() {
            return Err(CheckpointError::Exists { path: dir.to_owned() });
        }
        self.check(dir)?;
        self.write(dir, dtype)
    }

    /// Writes the model without checking it.
    fn write(&self, dir: &Path, dtype: Dtype) -> Result<(), CheckpointError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // The process id is part of the name, because another process may be writing a model of the same name.
        let partial = dir.with_file_name(format!(".{name}.{}.partial", process::id()));
        let write = || {
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            fs::create_dir_all(&partial)?;
            write_synced(&partial.join(CONFIG), &to_json(&self.config))?;
            write_synced(&partial.join(VOCABULARY), &to_json(&self.vocabulary))?;
            write_synced(&partial.join(MODEL), &to_safetensors(&self.weights, dtype)?)?;
            if let Some(encodings) = &self.encodings {
                write_synced(&partial.join(ENCODINGS), &to_json(encodings))?;
            }
            sync_dir(&partial)?;
            fs::rename(&partial, dir)?;
            sync_dir(dir.parent().unwrap_or(Path::new(".")))
        };
        write().map_err(|source| {
            // Only the first error is reported.
            let _ = fs::remove_dir_all(&partial);
            CheckpointError::Io { path: dir.to_owned(), source }
        })
    }

    /// Reads a model, or the model of a checkpoint. For a checkpoint, it also compares the checksums.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the files do not fit each other. The weights must be finite and exactly
    /// those of the model that the configuration describes.
    pub fn load(dir: &Path) -> Result<Self, CheckpointError> {
        let model = if dir.join(STATE).exists() {
            Self::of(Checkpoint::load(dir)?, dir)?
        } else {
            let [config, vocabulary, weights, encodings] =
                [CONFIG, VOCABULARY, MODEL, ENCODINGS].map(|name| dir.join(name));
            if !config.exists() {
                return Err(CheckpointError::NoModel { path: dir.to_owned() });
            }
            Self {
                config: from_json(&config, &read(&config)?)?,
                vocabulary: from_json(&vocabulary, &read(&vocabulary)?)?,
                weights: from_safetensors(&weights, &read(&weights)?)?,
                encodings: match encodings.exists() {
                    true => Some(from_json(&encodings, &read(&encodings)?)?),
                    false => None,
                },
            }
        };
        model.check(dir)?;
        Ok(model)
    }

    /// The model of a checkpoint. `dir` is the directory of the checkpoint.
    fn of(checkpoint: Checkpoint<'_>, dir: &Path) -> Result<Self, CheckpointError> {
        let encoding = checkpoint.notes.get("experiment").and_then(|experiment| experiment.get("encoding"));
        let name = |of: &str| Some(encoding?.get(of)?.as_str()?.to_owned());
        Ok(Self {
            config: checkpoint.document(CONFIG, dir)?,
            vocabulary: checkpoint.document(VOCABULARY, dir)?,
            encodings: name("input").zip(name("output")).map(|(input, output)| EncodingNames { input, output }),
            weights: checkpoint.weights.into_owned(),
        })
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
        check_weights(&self.config, &self.weights)
            .map_err(|source| CheckpointError::Weights { path: dir.join(MODEL), source })
    }

    /// The weights as parameters on `device`. Call [`Parameters::frozen`] to use them, or [`Parameters::trainable`] to
    /// train them.
    ///
    /// # Errors
    /// When the weights are not exactly those of the model, a weight is not finite, or the device fails.
    pub fn parameters(&self, device: &Device) -> candle_core::Result<Parameters> {
        check_weights(&self.config, &self.weights).map_err(Error::wrap)?;
        let tensors = self
            .weights
            .iter()
            .map(|(name, (shape, values))| Ok((name.clone(), Tensor::from_slice(values, shape.as_slice(), device)?)));
        Parameters::from_tensors(tensors.collect::<candle_core::Result<Vec<_>>>()?, device)
    }

    /// The model on `device`, for use.
    ///
    /// # Errors
    /// As [`StoredModel::parameters`].
    pub fn model(&self, device: &Device) -> candle_core::Result<Model> {
        Model::new(&self.config, &self.parameters(device)?.frozen())
    }
}

#[cfg(test)]
mod tests {
    use numformer_model::{LayerWeights, OutputProjection, Positions, StackConfig, Transformer, TransformerConfig};

    use super::*;

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
        let other = dir.path().join("named");
        let model = model.with_encodings("p10", "positional(base = 2, precision = 3)");
        model.save(&other).expect("saved");
        assert_eq!(StoredModel::load(&other).expect("loaded"), model);
        fs::write(other.join(ENCODINGS), r#"{"input": "p10"}"#).expect("written");
        let error = StoredModel::load(&other).expect_err("no output").to_string();
        assert!(error.contains("encodings.json is malformed: missing field `output`"), "{error}");
        let error = model.save(&path).expect_err("exists").to_string();
        assert!(error.ends_with("model already exists: remove it, or save to another place"), "{error}");
    }

    #[test]
    fn in_bf16_weights_are_rounded_and_the_file_is_half_as_long() {
        let dir = tempfile::tempdir().expect("dir");
        let [whole, rounded] = ["whole", "rounded"].map(|name| dir.path().join(name));
        let model = untrained();
        model.save(&whole).expect("saved");
        model.save_in_bf16(&rounded).expect("saved");
        let weights = StoredModel::load(&rounded).expect("loaded").weights;
        for (name, (shape, values)) in &model.weights {
            let (found_shape, found) = &weights[name];
            assert_eq!(found_shape, shape);
            let rounded = |x: &f32| half::bf16::from_f32(*x).to_f32().to_bits();
            assert!(found.iter().map(|x| x.to_bits()).eq(values.iter().map(rounded)), "{name}");
        }
        let [whole, rounded] = [whole, rounded].map(|dir| fs::metadata(dir.join(MODEL)).expect("there").len());
        let coefficients: usize = weights.values().map(|(_, values)| values.len()).sum();
        // But for the lengths in the header.
        assert!((whole - rounded).abs_diff(2 * coefficients as u64) < 200, "{whole} {rounded}");
    }

    #[test]
    fn a_failed_attempt_leaves_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let mut model = untrained();
        // Fewer values than the shape says. This is noticed only when the other files have been written.
        model.weights.get_mut("projection.bias").expect("every model has one").1.pop();
        let error = model.write(&dir.path().join("model"), Dtype::F32).expect_err("not writable");
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0);
    }

    /// Saving leaves alone models whose names differ after a dot, and another process's attempt at the same name.
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
            let refused = model.save(&path).expect_err("no model").to_string();
            assert!(!path.exists());
            model.write(&path, Dtype::F32).expect("written");
            let error = StoredModel::load(&path).expect_err("no model");
            assert_eq!(error.to_string(), refused);
            assert!(
                model.model(&Device::Cpu).is_err() || matches!(error, CheckpointError::Malformed { .. }),
                "{error}"
            );
            fs::remove_dir_all(&path).expect("removed");
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
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
        let expected = "model.safetensors does not hold the weights of the model that config.json beside it \
                        describes: take both from the same place: \
                        expected the tensors of the model, found no tensor `projection.bias`";
        assert!(missing.ends_with(expected), "{missing}");
        let extra = changed(&|model, _| drop(model.weights.insert("extra".to_owned(), (vec![1], vec![0.0]))));
        assert!(extra.ends_with("found unknown tensor `extra`"), "{extra}");
        let renamed = changed(&|model, _| {
            let bias = model.weights.remove("projection.bias").expect("every model has one");
            model.weights.insert("proj.bias".to_owned(), bias);
        });
        assert!(renamed.ends_with("found no tensor `projection.bias`; unknown tensor `proj.bias`"), "{renamed}");
        let shape = changed(&|_, config| config.max_positions = 7);
        assert!(
            shape.ends_with("`decoder.embedding.positions.weight`: expected shape [7, 4], found [6, 4]"),
            "{shape}"
        );
        let more_layers = changed(&|_, config| config.encoder.n_layers = 2);
        assert!(more_layers.contains("found no tensors `encoder.layers.1."), "{more_layers}");
        for (name, value) in [("projection.bias", f32::NAN), ("encoder.embedding.tokens.weight", f32::NEG_INFINITY)] {
            let not_finite =
                changed(&|model, _| model.weights.get_mut(name).expect("every model has one").1[1] = value);
            assert!(
                not_finite.ends_with(&format!("tensor `{name}`: expected finite numbers, found others")),
                "{not_finite}"
            );
        }
    }

    /// It is an error if the configuration has something that the weights lack, or the other way round.
    #[test]
    fn weights_of_another_configuration_are_refused() {
        let sizes = StackConfig::new(4, 2, 2);
        let two_layers = TransformerConfig::new(4, 6, sizes.clone(), sizes);
        let weights = |config: &TransformerConfig| {
            let parameters = Parameters::random(0, &Device::Cpu);
            Transformer::init(config, &parameters).expect("a model");
            let vocabulary = untrained().vocabulary;
            StoredModel::new(config.clone(), vocabulary, &parameters).expect("f32 on the CPU").weights
        };
        let changes: [&dyn Fn(&mut TransformerConfig); 6] = [
            &|config| config.encoder.n_layers = 1,
            &|config| config.decoder.n_layers = 1,
            &|config| config.copy_gate = true,
            &|config| config.positions = Positions::Sinusoidal,
            &|config| config.output_projection = OutputProjection::Separate,
            &|config| config.layer_weights = LayerWeights::Shared,
        ];
        for change in changes {
            let mut other = two_layers.clone();
            change(&mut other);
            for (config, weights) in [(&two_layers, weights(&other)), (&other, weights(&two_layers))] {
                let model = StoredModel { config: config.clone().into(), weights, ..untrained() };
                let error = model.model(&Device::Cpu).expect_err("another model's weights").to_string();
                assert!(error.contains("expected the tensors of the model, found "), "{error}");
            }
        }
    }
}
