//! The model of an experiment: its architecture and sizes.

use std::fmt;

use numformer_model::{CrossAttentionQuery, OutputProjection, Positions, StackConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::architecture::Architecture;
use crate::config::is_default;

/// Sizes of one half of the model, encoder or decoder. The defaults are those of the paper's smallest models: one
/// layer, 256 dimensions, 8 heads (Charton 2022, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizesConfig {
    /// Width of the hidden states.
    pub d_model: usize,
    /// Transformers: attention heads; 8 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_heads: Option<usize>,
    /// Number of layers; for a universal transformer, how often its layer is applied.
    pub n_layers: usize,
    /// Transformers: width of the hidden layer of the feed-forward network; 4 · `d_model` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
}

impl Default for SizesConfig {
    fn default() -> Self {
        Self { d_model: 256, n_heads: None, n_layers: 1, d_ff: None }
    }
}

impl From<StackConfig> for SizesConfig {
    fn from(StackConfig { d_model, n_heads, n_layers, d_ff }: StackConfig) -> Self {
        Self { d_model, n_heads: Some(n_heads), n_layers, d_ff }
    }
}

/// How the vectors of the tokens of numbers begin. All of them are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberVectors {
    /// At random, as those of all other tokens.
    #[default]
    Random,
    /// As [`value_vectors`](numformer_model::value_vectors) of what tokens stand for: a number, a significand, a digit or a
    /// power of ten.
    Values,
}

/// The model. Values that follow from the task (vocabulary, lengths) are not repeated here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchitectureConfig {
    /// The kind of model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub architecture: Architecture,
    /// The encoder's sizes.
    pub encoder: SizesConfig,
    /// The decoder's sizes; in recurrent models, the same as the encoder's.
    pub decoder: SizesConfig,
    /// Transformers: how positions are embedded.
    #[serde(default)]
    pub positions: Positions,
    /// How the vectors of the tokens of numbers begin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub number_vectors: NumberVectors,
    /// Transformers: longest sequence, including delimiters; as long as the task needs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<usize>,
    /// Transformers: the input of the cross-attention's queries.
    #[serde(default)]
    pub cross_attention_query: CrossAttentionQuery,
    /// The source of the output projection's weight.
    #[serde(default)]
    pub output_projection: OutputProjection,
    /// Transformers: whether layers have a gate that lets them pass their input on unchanged (Csordás et al. 2022).
    #[serde(default, skip_serializing_if = "is_default")]
    pub copy_gate: bool,
    /// Share of coefficients dropped in training, after the embeddings and at the end of each sub-layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropout: f64,
    /// Options of a custom architecture.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub options: Table,
}

impl ArchitectureConfig {
    /// A transformer with encoder and decoder of the same sizes.
    #[must_use]
    pub fn symmetric(sizes: StackConfig) -> Self {
        Self { encoder: sizes.clone().into(), decoder: sizes.into(), ..Self::default() }
    }
}

/// A value of an experiment that was changed, in addition to the settings, so that the experiment fits another
/// architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adaptation {
    /// Dotted path of the key.
    pub key: String,
    /// The value that the experiment had, as TOML; `absent` without one.
    pub former: String,
    /// The current value; `None` if the architecture has no such option.
    pub value: Option<String>,
    /// The architecture.
    pub architecture: Architecture,
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, former, value, architecture } = self;
        match value {
            None => {
                write!(f, "{key} = {former} is left out: it is not an option of the architecture `{architecture}`")
            }
            Some(value) => {
                write!(
                    f,
                    "{key} is {value} instead of {former}: both halves are alike in the architecture `{architecture}`"
                )
            }
        }
    }
}

/// Converts a table of another architecture to `architecture`, and returns the changes. Values from settings stay as
/// they are.
pub(crate) fn adapt(model: &mut Table, architecture: &Architecture, is_set: impl Fn(&str) -> bool) -> Vec<Adaptation> {
    if matches!(architecture, Architecture::Transformer | Architecture::Universal) {
        // Transformers have all options.
        return Vec::new();
    }
    let mut adaptations = Vec::new();
    let mut leave_out = |key: String, former: &Value| {
        let architecture = architecture.clone();
        adaptations.push(Adaptation { key, former: former.to_string(), value: None, architecture });
    };
    if let Architecture::Custom(_) = architecture {
        // A custom architecture has none of our options.
        let is_own = |key: &str| ["architecture", "options"].contains(&key) || is_set(&format!("model.{key}"));
        model
            .iter()
            .filter(|(key, _)| !is_own(key))
            .for_each(|(key, former)| leave_out(format!("model.{key}"), former));
        model.retain(|key, _| is_own(key));
        return adaptations;
    }
    for key in OF_TRANSFORMERS.into_iter().filter(|key| !is_set(key)) {
        let path: Vec<&str> = key.split('.').skip(1).collect();
        let table = match path[..] {
            [half, _] => model.get_mut(half).and_then(Value::as_table_mut),
            _ => Some(&mut *model),
        };
        if let (Some(table), Some(option)) = (table, path.last())
            && let Some(former) = table.remove(*option)
        {
            leave_out(key.to_owned(), &former);
        }
    }
    // The decoder has the same sizes as the encoder.
    let sizes = |model: &Table, half: &str| model.get(half).and_then(Value::as_table).cloned().unwrap_or_default();
    let (encoder, mut decoder) = (sizes(model, "encoder"), sizes(model, "decoder"));
    let SizesConfig { d_model, n_layers, .. } = SizesConfig::default();
    for (size, default) in [("d_model", d_model), ("n_layers", n_layers)] {
        let key = format!("model.decoder.{size}");
        let of = |half: &Table| half.get(size).cloned().unwrap_or(Value::Integer(default as i64));
        let (value, former) = (of(&encoder), of(&decoder));
        if value != former && !is_set(&key) {
            let [former, new] = [former.to_string(), value.to_string()];
            adaptations.push(Adaptation { key, former, value: Some(new), architecture: architecture.clone() });
            decoder.insert(size.to_owned(), value);
        }
    }
    if !decoder.is_empty() {
        model.insert("decoder".to_owned(), decoder.into());
    }
    adaptations
}

/// Options that recurrent models do not have.
pub(crate) const OF_TRANSFORMERS: [&str; 8] = [
    "model.positions",
    "model.max_positions",
    "model.cross_attention_query",
    "model.copy_gate",
    "model.encoder.n_heads",
    "model.encoder.d_ff",
    "model.decoder.n_heads",
    "model.decoder.d_ff",
];
