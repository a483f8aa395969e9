//! The models of experiments.

use numformer_encoding::Vocabulary;
use numformer_model::{
    Cell, CustomModelConfig, LayerWeights, ModelConfig, RecurrentConfig, StackConfig, TransformerConfig,
};
use numformer_train::Difference;
use toml::Value;

use crate::catalogue::Catalogue;
use crate::config::architecture::Architecture;
use crate::config::architecture_config::{ArchitectureConfig, OF_TRANSFORMERS, SizesConfig};
use crate::config::experiment_error::ExperimentError;
use crate::config::is_default;
use crate::experiment_difference::compare;

/// Default number of heads of a half, as in all models of the paper.
const DEFAULT_HEADS: usize = 8;

impl ArchitectureConfig {
    /// The model for sequences of `vocabulary`, with sources and targets of at most these lengths.
    pub(crate) fn of(
        &self,
        vocabulary: &Vocabulary,
        lengths: [usize; 2],
        catalogue: &Catalogue,
    ) -> Result<ModelConfig, ExperimentError> {
        let [src, tgt] = lengths;
        let needed = src.max(tgt);
        if let (Some(option), false) =
            (self.options.keys().next(), matches!(self.architecture, Architecture::Custom(_)))
        {
            let key = format!("model.options.{option}");
            return Err(ExperimentError::NotAnOption { key, architecture: self.architecture.clone() });
        }
        let config: ModelConfig = match &self.architecture {
            Architecture::Transformer => self.transformer(vocabulary, needed, LayerWeights::Separate)?.into(),
            Architecture::Universal => self.transformer(vocabulary, needed, LayerWeights::Shared)?.into(),
            Architecture::Lstm => self.recurrent(vocabulary, Cell::Lstm)?.into(),
            Architecture::Gru => self.recurrent(vocabulary, Cell::Gru)?.into(),
            Architecture::Custom(name) => return self.custom(name, vocabulary, lengths, catalogue),
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

    fn custom(
        &self,
        name: &str,
        vocabulary: &Vocabulary,
        lengths: [usize; 2],
        catalogue: &Catalogue,
    ) -> Result<ModelConfig, ExperimentError> {
        catalogue.architecture(name)?;
        let Self { architecture, options, .. } = self;
        let standard = Self { architecture: architecture.clone(), options: options.clone(), ..Self::default() };
        let [set, standard] = [self, &standard].map(|model| Value::try_from(model).expect("sizes are plain data"));
        let mut differences = Vec::new();
        compare("model", Some(&set), Some(&standard), &mut differences);
        if let Some(Difference { key, .. }) = differences.into_iter().next() {
            return Err(ExperimentError::NotAnOption { key, architecture: architecture.clone() });
        }
        let mut config = CustomModelConfig::new(name, vocabulary.len(), lengths);
        config.delimiter_id = vocabulary.delimiter().0;
        config.padding_id = vocabulary.padding().0;
        let options = serde_json::to_value(options).expect("a table of TOML is plain data");
        config.options = options.as_object().cloned().unwrap_or_default();
        catalogue.model(config.into())
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
            let key = key.to_owned();
            return Err(ExperimentError::NotAnOption { key, architecture: self.architecture.clone() });
        }
        let (encoder, decoder) = (&self.encoder, &self.decoder);
        let sizes = [
            ("model.decoder.d_model", encoder.d_model, decoder.d_model),
            ("model.decoder.n_layers", encoder.n_layers, decoder.n_layers),
        ];
        for (key, expected, found) in sizes {
            if expected != found {
                let architecture = self.architecture.clone();
                return Err(ExperimentError::UnequalHalves { key, architecture, expected, found });
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
    use super::ModelConfig;
    use crate::{Catalogue, Experiment, ExperimentError, presets};

    fn with_model(model: &str) -> Result<Experiment, ExperimentError> {
        let preset = presets::find("transpose-3x3").expect("embedded").toml;
        let begin = preset.find("[model.encoder]").expect("in the preset");
        let end = preset.find("[train]").expect("in the preset");
        let toml = format!("{}[model]\n{model}\n{}", &preset[..begin], &preset[end..]);
        Experiment::from_toml(&toml, "my.toml", &Catalogue::standard())
    }

    fn config(model: &str) -> ModelConfig {
        let experiment = with_model(model).expect(model);
        let catalogue = Catalogue::standard();
        experiment.model_config(&experiment.task(&catalogue).expect("valid"), &catalogue).expect("valid")
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
            let ModelConfig::Recurrent(found) = config(&toml) else { panic!("{name} is recurrent") };
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
        let found = experiment.model_config(&task, &Catalogue::standard()).expect("valid");
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
        assert!(found.contains("rnn") && found.contains("gru"), "{found}");
        assert_eq!(error(&format!("dropout = 1.0\n{ATTENTIVE}")), "impossible model");
    }
}
