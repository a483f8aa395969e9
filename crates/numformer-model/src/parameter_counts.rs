//! The number of coefficients of a model, part by part.

use std::fmt;

use crate::config::{LayerWeights, OutputProjection, Positions, StackConfig, TransformerConfig};
use crate::recurrent::{Cell, RecurrentConfig};

/// Number of trainable coefficients of a model, by part.
///
/// As in the published sizes, the key biases of attention are included, although they learn nothing: a key bias adds
/// the same value to all scores of a query, and the softmax cancels it. Their gradient is therefore zero up to
/// rounding.
///
/// # Examples
/// ```
/// use numformer_model::{StackConfig, TransformerConfig};
///
/// let config = TransformerConfig::new(1328, 128, StackConfig::new(64, 4, 1), StackConfig::new(64, 4, 1));
/// let counts = config.parameter_counts();
/// // Two embeddings, each of 1,328 tokens, 128 positions and a norm of 2 vectors.
/// assert_eq!(counts.embedding, 2 * (1328 + 128 + 2) * 64);
/// // The weight of the projection is the decoder's embedding; its bias is its own.
/// assert_eq!(counts.projection, 1328);
/// assert_eq!(counts.total(), 304_688);
/// // Key biases of the encoder's attention, and of the decoder's attention to itself and to the encoder.
/// assert_eq!(counts.key_biases, 3 * 64);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Tokens, learned positions and their norms, of both halves.
    pub embedding: u64,
    /// The encoder's layers.
    pub encoder_layers: u64,
    /// The decoder's layers.
    pub decoder_layers: u64,
    /// The output projection; a shared weight counts as embedding.
    pub projection: u64,
    /// All coefficients of a model of your own, whose parts are not known.
    pub other: u64,
    /// The key biases in the layers, which never get a gradient.
    pub key_biases: u64,
}

impl ParameterCounts {
    /// All coefficients, key biases included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.embedding + self.encoder_layers + self.decoder_layers + self.projection + self.other
    }
}

impl fmt::Display for ParameterCounts {
    /// A table of the parts that there are and of the total, with one line more if there are key biases.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("embedding", self.embedding),
            ("encoder layers", self.encoder_layers),
            ("decoder layers", self.decoder_layers),
            ("projection", self.projection),
        ];
        for (name, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  {name:<16}{count:>12}")?;
        }
        write!(f, "  {:<16}{:>12}", "total", self.total())?;
        if self.key_biases > 0 {
            write!(
                f,
                "\n  {:<16}{:>12}  biases of keys, to which softmax is blind",
                "without gradient", self.key_biases
            )?;
        }
        Ok(())
    }
}

impl TransformerConfig {
    /// Number of trainable coefficients of a model of this configuration, which must be
    /// [valid](TransformerConfig::validate).
    #[must_use]
    pub fn parameter_counts(&self) -> ParameterCounts {
        let (encoder, decoder) = (self.encoder.d_model as u64, self.decoder.d_model as u64);
        let vocab_size = self.vocab_size as u64;
        let positions = match self.positions {
            Positions::Learned => self.max_positions as u64,
            Positions::Sinusoidal => 0,
        };
        let own = |sizes| attention(sizes, sizes) + norm(sizes);
        let stored = |sizes: &StackConfig| match self.layer_weights {
            LayerWeights::Separate => sizes.n_layers as u64,
            LayerWeights::Shared => 1,
        };
        let layers = |sizes: &StackConfig, rest: u64| {
            let d = sizes.d_model as u64;
            let network = feed_forward(d, sizes.d_ff() as u64);
            let gate = if self.copy_gate { network } else { 0 };
            stored(sizes) * (own(d) + rest + network + norm(d) + gate)
        };
        ParameterCounts {
            embedding: [encoder, decoder].map(|d| (vocab_size + positions) * d + norm(d)).iter().sum(),
            encoder_layers: layers(&self.encoder, 0),
            decoder_layers: layers(&self.decoder, attention(decoder, encoder) + norm(decoder)),
            other: 0,
            projection: projection(self.output_projection, vocab_size, decoder),
            // The decoder attends to itself and to the encoder.
            key_biases: stored(&self.encoder) * encoder + 2 * stored(&self.decoder) * decoder,
        }
    }
}

impl RecurrentConfig {
    /// Number of trainable coefficients of a model of this configuration, which must be
    /// [valid](RecurrentConfig::validate).
    #[must_use]
    pub fn parameter_counts(&self) -> ParameterCounts {
        let (vocab_size, d) = (self.vocab_size as u64, self.d_model as u64);
        // An LSTM has four maps of input and state to a vector, a GRU three.
        let maps = match self.cell {
            Cell::Lstm => 4,
            Cell::Gru => 3,
        };
        let layers = self.n_layers as u64 * maps * linear(2 * d, d);
        ParameterCounts {
            embedding: 2 * (vocab_size * d + norm(d)),
            encoder_layers: layers,
            decoder_layers: layers,
            other: 0,
            projection: projection(self.output_projection, vocab_size, d),
            key_biases: 0,
        }
    }
}

/// A bias, and a weight if it is not the decoder's embedding.
fn projection(source: OutputProjection, vocab_size: u64, d: u64) -> u64 {
    match source {
        OutputProjection::Shared => vocab_size,
        OutputProjection::Separate => linear(d, vocab_size),
    }
}

fn linear(d_in: u64, d_out: u64) -> u64 {
    (d_in + 1) * d_out
}

/// Scale and shift.
fn norm(d: u64) -> u64 {
    2 * d
}

/// Queries and output have the width of the states; keys and values come from the memory's width.
fn attention(d: u64, d_memory: u64) -> u64 {
    2 * linear(d, d) + 2 * linear(d_memory, d)
}

fn feed_forward(d: u64, d_ff: u64) -> u64 {
    linear(d, d_ff) + linear(d_ff, d)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{Model, ModelConfig, Parameters};

    fn assert_counts(config: &ModelConfig) {
        let parameters = Parameters::random(0, &Device::Cpu);
        Model::new(config, &parameters.trainable()).expect("a model");
        let count = |part: &str| -> u64 {
            let all = parameters.to_vec().into_iter();
            all.filter(|(name, _)| name.contains(part)).map(|(_, var)| var.elem_count() as u64).sum()
        };
        let expected = ParameterCounts {
            embedding: count("embedding."),
            encoder_layers: count("encoder.layers."),
            decoder_layers: count("decoder.layers."),
            projection: count("projection."),
            other: 0,
            key_biases: count(".key.bias"),
        };
        assert_eq!(config.parameter_counts(), expected, "{config:?}");
        assert_eq!(expected.total(), parameters.element_count() as u64);
    }

    #[test]
    fn counts_are_those_of_the_weights() {
        let mut config = TransformerConfig::new(13, 10, StackConfig::new(12, 3, 2), StackConfig::new(8, 2, 3));
        config.decoder.d_ff = Some(20);
        for positions in [Positions::Learned, Positions::Sinusoidal] {
            for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                for layer_weights in [LayerWeights::Separate, LayerWeights::Shared] {
                    for copy_gate in [false, true] {
                        let config = config.clone();
                        let config =
                            TransformerConfig { positions, output_projection, layer_weights, copy_gate, ..config };
                        assert_counts(&config.into());
                    }
                }
            }
        }
        for cell in [Cell::Lstm, Cell::Gru] {
            for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                assert_counts(&RecurrentConfig { output_projection, ..RecurrentConfig::new(cell, 13, 6, 2) }.into());
            }
        }
    }
}
