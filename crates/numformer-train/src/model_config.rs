//! The model of an experiment: which architecture, and how large.

use std::fmt;

use numformer_encoding::Vocabulary;
use numformer_model::{
    Cell, CrossAttentionQuery, LayerWeights, OutputProjection, Positions, RecurrentConfig, StackConfig,
    TransformerConfig,
};
use serde::{Deserialize, Serialize};

use crate::config::is_default;
use crate::experiment::ExperimentError;

/// The kind of model that is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// The transformer of the paper.
    #[default]
    Transformer,
    /// A transformer that applies one layer again and again in each half (Dehghani et al. 2019).
    Universal,
    /// An encoder-decoder of LSTMs (Sutskever et al. 2014).
    Lstm,
    /// The same of gated recurrent units (Cho et al. 2014).
    Gru,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transformer => "transformer",
            Self::Universal => "universal",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        })
    }
}

/// Sizes of one half of the model, encoder or decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizesConfig {
    /// Width of the hidden states.
    pub d_model: usize,
    /// Transformers: attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_heads: Option<usize>,
    /// Number of layers; of a universal transformer, how often its layer is applied.
    pub n_layers: usize,
    /// Transformers: width of the hidden layer of the feed-forward network; 4 · `d_model` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
}

impl From<StackConfig> for SizesConfig {
    fn from(StackConfig { d_model, n_heads, n_layers, d_ff }: StackConfig) -> Self {
        Self { d_model, n_heads: Some(n_heads), n_layers, d_ff }
    }
}

/// The model; what the task implies (vocabulary, lengths) is not repeated here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The kind of model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub architecture: Architecture,
    /// The encoder's sizes.
    pub encoder: SizesConfig,
    /// The decoder's sizes; the encoder's again in recurrent models.
    pub decoder: SizesConfig,
    /// Transformers: how positions enter the embedding.
    #[serde(default)]
    pub positions: Positions,
    /// Transformers: longest sequence, delimiters included; what the task needs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<usize>,
    /// Transformers: what the queries of the cross-attention are computed from.
    #[serde(default)]
    pub cross_attention_query: CrossAttentionQuery,
    /// Where the weight of the output projection comes from.
    #[serde(default)]
    pub output_projection: OutputProjection,
    /// Transformers: whether layers have a gate by which they may leave their input as it is (Csordás et al. 2022).
    #[serde(default, skip_serializing_if = "is_default")]
    pub copy_gate: bool,
    /// Share of coefficients dropped in training, after the embeddings and at the end of each sub-layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropout: f64,
}

impl ModelConfig {
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
        let stack = |table, sizes: &SizesConfig| {
            let SizesConfig { d_model, n_heads, n_layers, d_ff } = *sizes;
            let architecture = self.architecture;
            let n_heads = n_heads.ok_or(ExperimentError::MissingHeads { table, architecture })?;
            Ok::<_, ExperimentError>(StackConfig { d_model, n_heads, n_layers, d_ff })
        };
        Ok(TransformerConfig {
            vocab_size: vocabulary.len(),
            max_positions,
            delimiter_id: vocabulary.delimiter().0,
            padding_id: vocabulary.padding().0,
            encoder: stack("model.encoder", &self.encoder)?,
            decoder: stack("model.decoder", &self.decoder)?,
            positions: self.positions,
            cross_attention_query: self.cross_attention_query,
            output_projection: self.output_projection,
            layer_weights,
            copy_gate: self.copy_gate,
            dropout: self.dropout,
        })
    }

    fn recurrent(&self, vocabulary: &Vocabulary, cell: Cell) -> Result<RecurrentConfig, ExperimentError> {
        let of_transformers = [
            ("model.positions", !is_default(&self.positions)),
            ("model.max_positions", self.max_positions.is_some()),
            ("model.cross_attention_query", !is_default(&self.cross_attention_query)),
            ("model.copy_gate", self.copy_gate),
            ("model.encoder.n_heads", self.encoder.n_heads.is_some()),
            ("model.encoder.d_ff", self.encoder.d_ff.is_some()),
            ("model.decoder.n_heads", self.decoder.n_heads.is_some()),
            ("model.decoder.d_ff", self.decoder.d_ff.is_some()),
        ];
        if let Some((key, _)) = of_transformers.into_iter().find(|(_, is_set)| *is_set) {
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
        let found = error(&format!("architecture = \"universal\"\n{RECURRENT}"));
        assert!(found.starts_with("my.toml, line "), "{found}");
        assert!(
            found.ends_with(": model.encoder has no `n_heads`, which the architecture `universal` needs"),
            "{found}"
        );
        let found = error(&format!("architecture = \"rnn\"\n{RECURRENT}"));
        assert!(found.contains("unknown variant `rnn`") && found.contains("`gru`"), "{found}");
        assert_eq!(error(&format!("dropout = 1.0\n{ATTENTIVE}")), "impossible model");
    }
}
