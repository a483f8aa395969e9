//! Tokens and their positions as vectors.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::config::Positions;
use crate::norm::LayerNorm;

/// The sum of a token's vector and its position's, normalised.
#[derive(Clone, Debug)]
pub struct Embedding {
    tokens: Tensor,
    positions: Tensor,
    norm: LayerNorm,
}

impl Embedding {
    /// Takes `tokens.weight` `[vocab_size, d_model]` and, if learned, `positions.weight` `[max_positions, d_model]`
    /// from `vb`; both start from N(0, 1/`d_model`).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(
        vocab_size: usize,
        max_positions: usize,
        d_model: usize,
        positions: Positions,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let init = Init::Randn { mean: 0.0, stdev: (d_model as f64).powf(-0.5) };
        Ok(Self {
            tokens: vb.get_with_hints((vocab_size, d_model), "tokens.weight", init)?,
            positions: match positions {
                Positions::Learned => vb.get_with_hints((max_positions, d_model), "positions.weight", init)?,
                Positions::Sinusoidal => sinusoids(max_positions, d_model, vb)?,
            },
            norm: LayerNorm::new(d_model, &vb.pp("norm"))?,
        })
    }

    /// `ids` `[b, t]`, the first column at position `start`, to `[b, t, d_model]`.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or a position beyond the table.
    pub fn forward(&self, ids: &Tensor, start: usize) -> Result<Tensor> {
        let sum = numformer_ops::embedding(ids, &self.tokens, &self.positions, start)?;
        self.norm.forward(&sum)
    }

    /// The token vectors, `[vocab_size, d_model]`: the decoder's may serve as its output projection.
    pub(crate) fn tokens(&self) -> &Tensor {
        &self.tokens
    }
}

/// Column 2i of row p holds sin(p / 10000^(2i/d)), column 2i + 1 the cosine of the same angle.
///
/// Vaswani et al. (2017), section 3.5.
fn sinusoids(max_positions: usize, d_model: usize, vb: &VarBuilder) -> Result<Tensor> {
    let table: Vec<f32> = (0..max_positions)
        .flat_map(|position| {
            (0..d_model).map(move |column| {
                let frequency = 10_000f64.powf(-((column / 2 * 2) as f64) / d_model as f64);
                let angle = position as f64 * frequency;
                (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
            })
        })
        .collect();
    Tensor::from_vec(table, (max_positions, d_model), vb.device())?.to_dtype(vb.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Parameters;

    #[test]
    fn sinusoids_follow_their_formula() {
        let vb = Parameters::random(0, &Device::Cpu).trainable();
        let table = sinusoids(3, 4, &vb).expect("table");
        let rows: Vec<Vec<f32>> = table.to_vec2().expect("matrix");
        assert_eq!(rows[0], [0.0, 1.0, 0.0, 1.0]);
        let expected = [2f32.sin(), 2f32.cos(), 0.02f32.sin(), 0.02f32.cos()];
        for (found, expected) in rows[2].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
