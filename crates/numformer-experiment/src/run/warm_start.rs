//! Starting a run from the weights of another.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use numformer_encoding::Vocabulary;
use numformer_model::{
    CustomModelConfig, FlatLayout, LayerWeights, ModelConfig, RecurrentConfig, StackConfig, TransformerConfig,
};
use numformer_store::{
    CheckpointError, ENCODINGS, EncodingNames, LayoutError, StoredModel, check_weights, flat, latest,
};
use numformer_train::Difference;
use serde::Serialize;

use crate::catalogue::Catalogue;
use crate::config::architecture::Architecture;
use crate::config::experiment_error::ExperimentError;
use crate::run::run_checkpoint::RunCheckpoint;
use crate::run::run_dir::{EXPERIMENT, RunDirError};
use crate::run::symbol_meanings::{Halves, Meaning};

/// Loads the model of a run from its latest good checkpoint, or the stored model in `dir`. Also returns the damaged
/// checkpoints that were skipped.
pub(crate) fn load(dir: &Path) -> Result<(StoredModel, Vec<CheckpointError>), RunDirError> {
    if !dir.join(EXPERIMENT).is_file() {
        return Ok((StoredModel::load(dir)?, Vec::new()));
    }
    let Some(latest) = latest(dir, RunCheckpoint::load)? else {
        return Err(RunDirError::NoCheckpoint { path: dir.to_owned() });
    };
    Ok((latest.checkpoint.into(), latest.skipped))
}

/// The model that starts from the weights of another.
pub(crate) struct Beginner<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a FlatLayout,
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) encodings: &'a EncodingNames,
}

impl Beginner<'_> {
    /// Copies the weights of `stored` over `weights`. Weights of a symbol go to the symbol with the same meaning, even
    /// if its id differs. Weights of a position go to the same position. New symbols and positions keep the weights
    /// they have.
    ///
    /// # Errors
    /// When the models differ in more than vocabulary, positions and dropout, or the encodings of `stored` are unknown.
    pub(crate) fn take(
        &self,
        stored: &StoredModel,
        catalogue: &Catalogue,
        weights: &mut [f32],
    ) -> Result<TakenOver, StartError> {
        let differences = differences(&stored.config, self.config);
        if !differences.is_empty() {
            return Err(StartError::OtherModel(Differences(differences)));
        }
        // The models now differ only in vocabulary and positions, so every tensor of one is also a tensor of the other.
        check_weights(&stored.config, &stored.weights)?;
        if let ModelConfig::Custom(_) = self.config {
            // Only the model itself knows which rows belong to which symbols.
            if stored.vocabulary != *self.vocabulary {
                return Err(StartError::OtherVocabulary);
            }
            weights.copy_from_slice(&flat(self.layout, "", &stored.weights)?);
            let all = Rows { taken: self.vocabulary.len(), new: 0 };
            return Ok(TakenOver { encoder: all, decoder: all, positions: None });
        }
        let names = stored.encodings.as_ref().ok_or(StartError::UnknownEncodings)?;
        let old = Halves::new(&stored.vocabulary, names, catalogue).map_err(StartError::Encoding)?;
        let new = Halves::new(self.vocabulary, self.encodings, catalogue).map_err(StartError::Encoding)?;
        let (encoder, decoder) = (sources(&old.encoder, &new.encoder), sources(&old.decoder, &new.decoder));
        let mut taken_over =
            TakenOver { encoder: Rows::count(&encoder), decoder: Rows::count(&decoder), positions: None };
        for slot in self.layout.slots() {
            let name = slot.name();
            let dims = slot.shape().dims();
            let (_, values) = stored.weights.get(name).ok_or_else(|| LayoutError::missing(name))?;
            let to = &mut weights[slot.range()];
            match owner(name) {
                Owner::Symbols => {
                    let row = dims.iter().skip(1).product::<usize>();
                    let sources = if name.starts_with("encoder.") { &encoder } else { &decoder };
                    for (to, from) in to.chunks_exact_mut(row).zip(sources) {
                        if let Some(from) = from {
                            to.copy_from_slice(&values[from * row..(from + 1) * row]);
                        }
                    }
                }
                Owner::Positions => {
                    let shared = to.len().min(values.len());
                    to[..shared].copy_from_slice(&values[..shared]);
                    let row = dims.iter().skip(1).product::<usize>();
                    taken_over.positions = Some(Rows { taken: shared / row, new: (to.len() - shared) / row });
                }
                Owner::Layers => to.copy_from_slice(values),
            }
        }
        Ok(taken_over)
    }
}

/// What the rows of a weight belong to.
enum Owner {
    Symbols,
    Positions,
    Layers,
}

fn owner(name: &str) -> Owner {
    if name.ends_with("tokens.weight") || name.starts_with("projection.") {
        Owner::Symbols
    } else if name.ends_with("positions.weight") {
        Owner::Positions
    } else {
        Owner::Layers
    }
}

/// For each new symbol, the id of the old symbol with the same meaning.
fn sources(old: &[Meaning<'_>], new: &[Meaning<'_>]) -> Vec<Option<usize>> {
    let ids: HashMap<&Meaning<'_>, usize> = old.iter().enumerate().map(|(id, meaning)| (meaning, id)).collect();
    new.iter().map(|meaning| ids.get(meaning).copied()).collect()
}

/// The differences between the models, other than vocabulary, positions and dropout.
fn differences(there: &ModelConfig, here: &ModelConfig) -> Vec<Difference> {
    let [there, here] = [there, here].map(fields);
    let same_architecture = there[0].1 == here[0].1;
    let pairs = there.into_iter().zip(here).filter(|((_, left), (_, right))| left != right);
    let differences = pairs.map(|((key, left), (_, right))| Difference { key: key.to_owned(), left, right });
    // Other architectures have other fields.
    differences.take(if same_architecture { usize::MAX } else { 1 }).collect()
}

/// The keys and values, as in an experiment, of everything that defines the model apart from vocabulary, positions and
/// dropout. The first is the architecture.
fn fields(config: &ModelConfig) -> Vec<(&'static str, String)> {
    // Every field is named here, so that a new one cannot be forgotten.
    match config {
        ModelConfig::Transformer(config) => {
            let TransformerConfig {
                vocab_size: _,
                max_positions: _,
                delimiter_id: _,
                padding_id: _,
                encoder,
                decoder,
                positions,
                cross_attention_query,
                output_projection,
                layer_weights,
                copy_gate,
                dropout: _,
            } = config;
            let architecture = match layer_weights {
                LayerWeights::Separate => Architecture::Transformer,
                LayerWeights::Shared => Architecture::Universal,
            };
            let StackConfig { d_model: _, n_heads: _, n_layers: _, d_ff: _ } = encoder; // of both halves
            vec![
                ("model.architecture", toml(architecture)),
                ("model.encoder.d_model", toml(encoder.d_model)),
                ("model.encoder.n_heads", toml(encoder.n_heads)),
                ("model.encoder.n_layers", toml(encoder.n_layers)),
                ("model.encoder.d_ff", toml(encoder.d_ff())),
                ("model.decoder.d_model", toml(decoder.d_model)),
                ("model.decoder.n_heads", toml(decoder.n_heads)),
                ("model.decoder.n_layers", toml(decoder.n_layers)),
                ("model.decoder.d_ff", toml(decoder.d_ff())),
                ("model.positions", toml(positions)),
                ("model.cross_attention_query", toml(cross_attention_query)),
                ("model.output_projection", toml(output_projection)),
                ("model.copy_gate", toml(copy_gate)),
            ]
        }
        ModelConfig::Custom(config) => {
            let CustomModelConfig { architecture, max_src_len, max_tgt_len, options, .. } = config;
            vec![
                ("model.architecture", toml(architecture)),
                ("model.options", serde_json::Value::from(options.clone()).to_string()),
                ("longest source", max_src_len.to_string()),
                ("longest target", max_tgt_len.to_string()),
            ]
        }
        ModelConfig::Recurrent(config) => {
            let RecurrentConfig {
                cell,
                vocab_size: _,
                delimiter_id: _,
                padding_id: _,
                d_model,
                n_layers,
                output_projection,
                dropout: _,
            } = config;
            vec![
                ("model.architecture", toml(cell)),
                ("model.encoder.d_model", toml(d_model)),
                ("model.encoder.n_layers", toml(n_layers)),
                ("model.output_projection", toml(output_projection)),
            ]
        }
    }
}

fn toml(value: impl Serialize) -> String {
    toml::Value::try_from(value).expect("sizes and options are plain data").to_string()
}

/// What a run has taken over from the run that it [starts from](crate::Experiment::start_from): all weights of the
/// layers, and some rows of the embeddings. The other rows are new, and begin as in a fresh run. A model of a custom
/// architecture takes over all weights, those of all symbols included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOver {
    /// Symbols that the encoder reads.
    pub encoder: Rows,
    /// Symbols that the decoder reads and writes.
    pub decoder: Rows,
    /// Positions of both; `None` if positions are not learned.
    pub positions: Option<Rows>,
}

/// Rows of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Number of rows that were taken over.
    pub taken: usize,
    /// Number of rows that begin as in a fresh run.
    pub new: usize,
}

impl Rows {
    fn count(sources: &[Option<usize>]) -> Self {
        let taken = sources.iter().flatten().count();
        Self { taken, new: sources.len() - taken }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows taken over, {} new", self.taken, self.new)
    }
}

impl fmt::Display for TakenOver {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "symbols of the encoder: {}; of the decoder: {}", self.encoder, self.decoder)?;
        self.positions.iter().try_for_each(|positions| write!(f, "; positions: {positions}"))
    }
}

/// The reason that a run cannot start from the weights of another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The models differ.
    #[error("{0}; only vocabulary, positions and dropout may differ")]
    OtherModel(Differences),
    /// The vocabularies of two custom models differ.
    #[error("the vocabularies differ: a custom architecture can only start from weights for the same vocabulary")]
    OtherVocabulary,
    /// The weights are not those of their own configuration.
    #[error(transparent)]
    Weights(#[from] LayoutError),
    /// The meaning of the symbols is unknown.
    #[error(
        "it does not say which encodings its symbols belong to: import the checkpoint again, or write {ENCODINGS} beside its \
         weights, as {{\"input\": \"p10\", \"output\": \"p10\"}}"
    )]
    UnknownEncodings,
    /// An encoding has an unknown name.
    #[error("cannot read the encoding of its symbols")]
    Encoding(#[source] ExperimentError),
}

/// The keys in which two models differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences(pub Vec<Difference>);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&differences.join(", "))
    }
}

#[cfg(test)]
mod tests;
