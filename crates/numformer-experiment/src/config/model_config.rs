//! The model of an experiment: its architecture and sizes.

use std::fmt;

use numformer_encoding::Vocabulary;
use numformer_model::{
    Cell, CrossAttentionQuery, LayerWeights, OutputProjection, Positions, RecurrentConfig, StackConfig,
    TransformerConfig,
};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::config::architecture::Architecture;
use crate::config::experiment_error::ExperimentError;
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

/// Default number of heads of a half, as in all models of the paper.
const DEFAULT_HEADS: usize = 8;

impl From<StackConfig> for SizesConfig {
    fn from(StackConfig { d_model, n_heads, n_layers, d_ff }: StackConfig) -> Self {
        Self { d_model, n_heads: Some(n_heads), n_layers, d_ff }
    }
}

/// The model. Values that follow from the task (vocabulary, lengths) are not repeated here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
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
}

impl ModelConfig {
    /// A transformer with encoder and decoder of the same sizes.
    #[must_use]
    pub fn symmetric(sizes: StackConfig) -> Self {
        Self { encoder: sizes.clone().into(), decoder: sizes.into(), ..Self::default() }
    }

    /// The model for sequences of `vocabulary`, at most `needed` tokens long.
    pub(crate) fn of(
        &self,
        vocabulary: &Vocabulary,
        needed: usize,
    ) -> Result<numformer_model::ModelConfig, ExperimentError> {
        let config: numformer_model::ModelConfig = match self.architecture {
            Architecture::Transformer => self.transformer(vocabulary, needed, LayerWeights::Separate)?.into(),
            Architecture::Universal => self.transformer(vocabulary, needed, LayerWeights::Shared)?.into(),
            Architecture::Lstm => self.recurrent(vocabulary, Cell::Lstm)?.into(),
            Architecture::Gru => self.recurrent(vocabulary, Cell::Gru)?.into(),
        };
        config.validate()?;
        Ok(config)
    }

    fn transformer(
        &self,
        vocabulary: &Vocabulary,
        needed: usize,
        layer_weights: LayerWeights,
    ) -> Result<TransformerConfig, ExperimentError> {
        let max_positions = self.max_positions.unwrap_or(needed);
        if max_positions < needed {
            return Err(ExperimentError::TooFewPositions { found: max_positions, needed });
        }
        let stack = |sizes: &SizesConfig| {
            let SizesConfig { d_model, n_heads, n_layers, d_ff } = *sizes;
            StackConfig { d_model, n_heads: n_heads.unwrap_or(DEFAULT_HEADS), n_layers, d_ff }
        };
        Ok(TransformerConfig {
            vocab_size: vocabulary.len(),
            max_positions,
            delimiter_id: vocabulary.delimiter().0,
            padding_id: vocabulary.padding().0,
            encoder: stack(&self.encoder),
            decoder: stack(&self.decoder),
            positions: self.positions,
            cross_attention_query: self.cross_attention_query,
            output_projection: self.output_projection,
            layer_weights,
            copy_gate: self.copy_gate,
            dropout: self.dropout,
        })
    }

    fn recurrent(&self, vocabulary: &Vocabulary, cell: Cell) -> Result<RecurrentConfig, ExperimentError> {
        let is_set = [
            !is_default(&self.positions),
            self.max_positions.is_some(),
            !is_default(&self.cross_attention_query),
            self.copy_gate,
            self.encoder.n_heads.is_some(),
            self.encoder.d_ff.is_some(),
            self.decoder.n_heads.is_some(),
            self.decoder.d_ff.is_some(),
        ];
        if let Some((key, _)) = OF_TRANSFORMERS.into_iter().zip(is_set).find(|(_, is_set)| *is_set) {
            return Err(ExperimentError::OptionOfTransformers { key, architecture: self.architecture });
        }
        let (encoder, decoder) = (&self.encoder, &self.decoder);
        let sizes = [
            ("model.decoder.d_model", encoder.d_model, decoder.d_model),
            ("model.decoder.n_layers", encoder.n_layers, decoder.n_layers),
        ];
        for (key, expected, found) in sizes {
            if expected != found {
                return Err(ExperimentError::UnequalHalves { key, architecture: self.architecture, expected, found });
            }
        }
        Ok(RecurrentConfig {
            cell,
            vocab_size: vocabulary.len(),
            delimiter_id: vocabulary.delimiter().0,
            padding_id: vocabulary.padding().0,
            d_model: encoder.d_model,
            n_layers: encoder.n_layers,
            output_projection: self.output_projection,
            dropout: self.dropout,
        })
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
                write!(f, "{key} is {value} instead of {former}: halves are alike in the architecture `{architecture}`")
            }
        }
    }
}

/// Converts a table of another architecture to `architecture`, and returns the changes. Values from settings stay as
/// they are.
pub(crate) fn adapt(model: &mut Table, architecture: Architecture, is_set: impl Fn(&str) -> bool) -> Vec<Adaptation> {
    if matches!(architecture, Architecture::Transformer | Architecture::Universal) {
        // Transformers have all options.
        return Vec::new();
    }
    let mut adaptations = Vec::new();
    for key in OF_TRANSFORMERS.into_iter().filter(|key| !is_set(key)) {
        let path: Vec<&str> = key.split('.').skip(1).collect();
        let table = match path[..] {
            [half, _] => model.get_mut(half).and_then(Value::as_table_mut),
            _ => Some(&mut *model),
        };
        if let (Some(table), Some(option)) = (table, path.last())
            && let Some(former) = table.remove(*option)
        {
            let former = former.to_string();
            adaptations.push(Adaptation { key: key.to_owned(), former, value: None, architecture });
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
            adaptations.push(Adaptation { key, former, value: Some(new), architecture });
            decoder.insert(size.to_owned(), value);
        }
    }
    if !decoder.is_empty() {
        model.insert("decoder".to_owned(), decoder.into());
    }
    adaptations
}

/// Options that recurrent models do not have.
const OF_TRANSFORMERS: [&str; 8] = [
    "model.positions",
    "model.max_positions",
    "model.cross_attention_query",
    "model.copy_gate",
    "model.encoder.n_heads",
    "model.encoder.d_ff",
    "model.decoder.n_heads",
    "model.decoder.d_ff",
];

#[cfg(test)]
mod tests {
    use crate::{Catalogue, Experiment, ExperimentError, presets};

    fn with_model(model: &str) -> Result<Experiment, ExperimentError> {
        let preset = presets::find("transpose-3x3").expect("embedded").toml;
        let begin = preset.find("[model.encoder]").expect("in the preset");
        let end = preset.find("[train]").expect("in the preset");
        let toml = format!("{}[model]\n{model}\n{}", &preset[..begin], &preset[end..]);
        Experiment::from_toml(&toml, "my.toml", &Catalogue::standard())
    }

    fn config(model: &str) -> numformer_model::ModelConfig {
        let experiment = with_model(model).expect(model);
        experiment.model_config(&experiment.task(&Catalogue::standard()).expect("valid")).expect("valid")
    }

    const RECURRENT: &str = "encoder = { d_model = 8, n_layers = 2 }\ndecoder = { d_model = 8, n_layers = 2 }";
    const ATTENTIVE: &str =
        "encoder = { d_model = 8, n_heads = 2, n_layers = 2 }\ndecoder = { d_model = 4, n_heads = 1, n_layers = 3 }";

    #[test]
    fn every_architecture_is_read_and_written() {
        use numformer_model::{Cell, LayerWeights};
        for (name, weights) in [("transformer", LayerWeights::Separate), ("universal", LayerWeights::Shared)] {
            let found = config(&format!("architecture = \"{name}\"\ncopy_gate = true\ndropout = 0.1\n{ATTENTIVE}"));
            let found = found.as_transformer().expect("a transformer");
            assert_eq!((found.layer_weights, found.copy_gate, found.decoder.n_layers), (weights, true, 3));
            assert!((found.dropout - 0.1).abs() < 1e-12);
        }
        for (name, cell) in [("lstm", Cell::Lstm), ("gru", Cell::Gru)] {
            let toml = format!("architecture = \"{name}\"\ndropout = 0.1\n{RECURRENT}");
            let numformer_model::ModelConfig::Recurrent(found) = config(&toml) else { panic!("{name} is recurrent") };
            assert_eq!((found.cell, found.d_model, found.n_layers), (cell, 8, 2));
            let experiment = with_model(&toml).expect("valid");
            let again = Experiment::from_toml(&experiment.to_toml(), "again", &Catalogue::standard());
            assert_eq!(again.expect("its own output"), experiment);
        }
        assert_eq!(config(ATTENTIVE), config(&format!("architecture = \"transformer\"\n{ATTENTIVE}")));
    }

    /// Each half defaults to one layer, 256 dimensions and 8 heads, no matter which values are omitted.
    #[test]
    fn a_model_that_is_not_described_has_the_sizes_of_the_paper() {
        let preset = presets::find("transpose-3x3").expect("embedded").toml;
        let begin = preset.find("[model.encoder]").expect("in the preset");
        let end = preset.find("[train]").expect("in the preset");
        let without = format!("{}{}", &preset[..begin], &preset[end..]);
        let experiment = Experiment::from_toml(&without, "my.toml", &Catalogue::standard()).expect("no model");
        let task = experiment.task(&Catalogue::standard()).expect("valid");
        let found = experiment.model_config(&task).expect("valid");
        let found = found.as_transformer().expect("a transformer");
        let expected = numformer_model::StackConfig::new(256, 8, 1);
        assert_eq!((&found.encoder, &found.decoder), (&expected, &expected));
        let again = Experiment::from_toml(&experiment.to_toml(), "again", &Catalogue::standard());
        assert_eq!(again.expect("its own output"), experiment);

        let found = config("[model.encoder]\nn_layers = 2");
        let found = found.as_transformer().expect("a transformer");
        assert_eq!((found.encoder.n_layers, found.encoder.d_model, found.encoder.n_heads), (2, 256, 8));
        assert_eq!(found.decoder, expected);
        let lstm = config("architecture = \"lstm\"");
        assert_eq!(lstm.as_transformer(), None);
        let heads = config(&format!("architecture = \"universal\"\n{RECURRENT}"));
        assert_eq!(heads.as_transformer().expect("a transformer").encoder.n_heads, 8);
    }

    #[test]
    fn impossible_combinations_are_refused_with_their_line() {
        let error = |model: &str| with_model(model).expect_err(model).to_string();
        let of_lstm = |more: &str| error(&format!("architecture = \"lstm\"\n{more}\n{RECURRENT}"));
        for option in ["positions = \"sinusoidal\"", "max_positions = 64", "copy_gate = true"] {
            let (key, _) = option.split_once(' ').expect("an option");
            let found = of_lstm(option);
            assert!(found.starts_with("my.toml, line "), "{found}");
            assert!(found.ends_with(&format!(": model.{key} is not an option of the architecture `lstm`")), "{found}");
        }
        let found = error(&format!("architecture = \"gru\"\n{ATTENTIVE}"));
        assert!(found.ends_with(": model.encoder.n_heads is not an option of the architecture `gru`"), "{found}");
        let unequal = RECURRENT.replace("decoder = { d_model = 8", "decoder = { d_model = 4");
        let found = error(&format!("architecture = \"gru\"\n{unequal}"));
        let expected = ": model.decoder.d_model must be the encoder's in the architecture `gru`: expected 8, found 4";
        assert!(found.ends_with(expected), "{found}");
        let found = error(&format!("architecture = \"rnn\"\n{RECURRENT}"));
        assert!(found.contains("unknown variant `rnn`") && found.contains("`gru`"), "{found}");
        assert_eq!(error(&format!("dropout = 1.0\n{ATTENTIVE}")), "impossible model");
    }
}
