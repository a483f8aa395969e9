//! Tokens and their positions as vectors.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::config::Positions;
use crate::layers::norm::LayerNorm;

/// The sum of the vectors of a token and its position, normalised.
#[derive(Clone, Debug)]
pub struct Embedding {
    tokens: Tensor,
    positions: Option<Tensor>,
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
        let positions = match positions {
            Positions::Learned => vb.get_with_hints((max_positions, d_model), "positions.weight", start(d_model))?,
            Positions::Sinusoidal => {
                let table = sinusoidal_positions(max_positions, d_model);
                Tensor::from_vec(table, (max_positions, d_model), vb.device())?.to_dtype(vb.dtype())?
            }
        };
        Ok(Self { positions: Some(positions), ..Self::without_positions(vocab_size, d_model, vb)? })
    }

    /// [`Embedding::new`] for a model that knows the order of its tokens because it reads them one after another.
    pub(crate) fn without_positions(vocab_size: usize, d_model: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            tokens: vb.get_with_hints((vocab_size, d_model), "tokens.weight", start(d_model))?,
            positions: None,
            norm: LayerNorm::new(d_model, &vb.pp("norm"))?,
        })
    }

    /// Maps `ids` `[b, t]`, with the first column at position `start`, to `[b, t, d_model]`.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or a position beyond the table.
    pub fn forward(&self, ids: &Tensor, start: usize) -> Result<Tensor> {
        let sum = match &self.positions {
            Some(positions) => numformer_ops::embedding(ids, &self.tokens, positions, start)?,
            None => {
                let (batch, t) = ids.dims2()?;
                self.tokens.index_select(&ids.flatten_all()?, 0)?.reshape((batch, t, self.tokens.dim(1)?))?
            }
        };
        self.norm.forward(&sum)
    }

    /// The token vectors, `[vocab_size, d_model]`. The decoder's may serve as its output projection.
    pub(crate) fn tokens(&self) -> &Tensor {
        &self.tokens
    }
}

/// The distribution of the initial vectors.
fn start(d_model: usize) -> Init {
    Init::Randn { mean: 0.0, stdev: (d_model as f64).powf(-0.5) }
}

/// The fixed table of positions, `[max_positions, d_model]`, row-major: column 2i of row p holds
/// sin(p / 10000^(2i/d)), column 2i + 1 the cosine of the same angle.
///
/// # Examples
/// ```
/// let table = numformer_model::sinusoidal_positions(2, 2);
/// assert_eq!(table, [0.0, 1.0, 1f32.sin(), 1f32.cos()]);
/// ```
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*, section 3.5. <https://arxiv.org/abs/1706.03762>
#[must_use]
pub fn sinusoidal_positions(max_positions: usize, d_model: usize) -> Vec<f32> {
    let row = move |position: usize| {
        (0..d_model).map(move |column| {
            let frequency = 10_000f64.powf(-((column / 2 * 2) as f64) / d_model as f64);
            let angle = position as f64 * frequency;
            (if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
        })
    };
    (0..max_positions).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_follow_their_formula() {
        let table = sinusoidal_positions(3, 4);
        assert_eq!(table[..4], [0.0, 1.0, 0.0, 1.0]);
        let expected = [2f32.sin(), 2f32.cos(), 0.02f32.sin(), 0.02f32.cos()];
        for (found, expected) in table[8..].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
