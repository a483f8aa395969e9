//! The step of a recurrent layer on one token.

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::Activation;
use serde::{Deserialize, Serialize};

use crate::batched::Batched;
use crate::layers::linear::Linear;

/// The kind of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory, with a forget gate.
    Lstm,
    /// The gated recurrent unit.
    Gru,
}

/// The state of one layer after a token, `[b, d]` each.
#[derive(Clone, Debug)]
pub(super) struct CellState {
    /// The output of the layer.
    pub(super) hidden: Tensor,
    /// The internal state of an LSTM; `None` for a GRU.
    pub(super) kept: Option<Tensor>,
}

impl CellState {
    /// Applies `change` to all tensors of the state.
    pub(super) fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { hidden: change(&self.hidden)?, kept: self.kept.as_ref().map(change).transpose()? })
    }
}

impl Batched for CellState {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.map(|tensor| tensor.select(rows))
    }
}

/// One recurrent layer. Let x be the token's input, h and c the state before it, σ the sigmoid, and each W an affine
/// map of its two inputs side by side:
///
/// - LSTM: i, f, o = σ(W·\[x, h\]), g = tanh(W·\[x, h\]), c′ = f ∘ c + i ∘ g, h′ = o ∘ tanh(c′)
/// - GRU: r, z = σ(W·\[x, h\]), n = tanh(W·\[x, r ∘ h\]), h′ = z ∘ h + (1 − z) ∘ n
///
/// # References
/// - Hochreiter and Schmidhuber (1997), *Long Short-Term Memory*; Gers, Schmidhuber and Cummins (2000), *Learning to
///   Forget*.
/// - Cho et al. (2014), *Learning Phrase Representations using RNN Encoder-Decoder*.
///   <https://arxiv.org/abs/1406.1078>
#[derive(Clone, Debug)]
pub(super) enum RecurrentLayer {
    /// The rows of the weight are i, f, o, g.
    Lstm { gates: Linear, d: usize },
    /// The rows of the gates' weight are r, z.
    Gru { gates: Linear, candidate: Linear, d: usize },
}

impl RecurrentLayer {
    /// A layer whose input and state have width `d`.
    pub(super) fn new(cell: Cell, d: usize, vb: &VarBuilder) -> Result<Self> {
        let gates = vb.pp("gates");
        Ok(match cell {
            Cell::Lstm => Self::Lstm { gates: Linear::new(2 * d, 4 * d, &gates)?, d },
            Cell::Gru => Self::Gru {
                gates: Linear::new(2 * d, 2 * d, &gates)?,
                candidate: Linear::new(2 * d, d, &vb.pp("candidate"))?,
                d,
            },
        })
    }

    /// The state before the first token, for inputs like `x` `[b, d]`: zero.
    pub(super) fn start(&self, x: &Tensor) -> Result<CellState> {
        let zeros = || Tensor::zeros(x.shape(), x.dtype(), x.device());
        Ok(CellState {
            hidden: zeros()?,
            kept: match self {
                Self::Lstm { .. } => Some(zeros()?),
                Self::Gru { .. } => None,
            },
        })
    }

    /// The state after a token with input `x` `[b, d]`.
    pub(super) fn step(&self, x: &Tensor, state: &CellState) -> Result<CellState> {
        let h = &state.hidden;
        match self {
            Self::Lstm { gates, d } => {
                let rows = gates.forward(&Tensor::cat(&[x, h], D::Minus1)?, Activation::Identity)?;
                let open = candle_nn::ops::sigmoid(&rows.narrow(D::Minus1, 0, 3 * d)?.contiguous()?)?;
                let [i, f, o] = [0, 1, 2].map(|gate| open.narrow(D::Minus1, gate * d, *d));
                let g = rows.narrow(D::Minus1, 3 * d, *d)?.tanh()?;
                let new = (i? * g)?;
                let kept = match &state.kept {
                    Some(c) => (new + (f? * c)?)?,
                    None => new,
                };
                Ok(CellState { hidden: (o? * kept.tanh()?)?, kept: Some(kept) })
            }
            Self::Gru { gates, candidate, d } => {
                let rows = gates.forward(&Tensor::cat(&[x, h], D::Minus1)?, Activation::Identity)?;
                let open = candle_nn::ops::sigmoid(&rows)?;
                let [r, z] = [0, 1].map(|gate| open.narrow(D::Minus1, gate * d, *d));
                let inputs = Tensor::cat(&[x, &(r? * h)?], D::Minus1)?;
                let n = candidate.forward(&inputs, Activation::Identity)?.tanh()?;
                // z ∘ h + (1 − z) ∘ n
                let hidden = (&n + (z? * (h - &n)?)?)?;
                Ok(CellState { hidden, kept: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Parameters;

    const D: usize = 3;
    const X: [f32; D] = [0.5, -1.5, 2.0];
    const H: [f32; D] = [-0.3, 0.9, 0.1];
    const C: [f32; D] = [1.5, -0.2, 0.7];

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Row `row` of the affine map `name`, applied to `inputs`.
    fn affine(parameters: &Parameters, name: &str, row: usize, inputs: &[f64]) -> f64 {
        let get = |part: &str| parameters.get(&format!("{name}.{part}")).expect("a parameter").as_detached_tensor();
        let weight = get("weight").to_vec2::<f32>().expect("a matrix");
        let bias = get("bias").to_vec1::<f32>().expect("a vector");
        f64::from(bias[row]) + weight[row].iter().zip(inputs).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
    }

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, values.len()), &Device::Cpu).expect("a row")
    }

    fn assert_close(found: &Tensor, expected: impl Fn(usize) -> f64) {
        let found = found.flatten_all().and_then(|found| found.to_vec1::<f32>()).expect("a vector");
        for (i, found) in found.into_iter().enumerate() {
            assert!((f64::from(found) - expected(i)).abs() < 1e-6, "{i}: {found} {}", expected(i));
        }
    }

    fn side_by_side(x: &[f32], h: impl IntoIterator<Item = f64>) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).chain(h).collect()
    }

    #[test]
    fn an_lstm_follows_its_formula() {
        let parameters = Parameters::random(1, &Device::Cpu);
        let layer = RecurrentLayer::new(Cell::Lstm, D, &parameters.frozen()).expect("a layer");
        let found = layer.step(&row(&X), &CellState { hidden: row(&H), kept: Some(row(&C)) }).expect("a state");
        let inputs = side_by_side(&X, H.map(f64::from));
        let gate = |k: usize, i: usize| affine(&parameters, "gates", k * D + i, &inputs);
        let kept = |i: usize| sigmoid(gate(1, i)) * f64::from(C[i]) + sigmoid(gate(0, i)) * gate(3, i).tanh();
        assert_close(found.kept.as_ref().expect("an LSTM has an internal state"), kept);
        assert_close(&found.hidden, |i| sigmoid(gate(2, i)) * kept(i).tanh());
    }

    #[test]
    fn a_gru_follows_its_formula() {
        let parameters = Parameters::random(2, &Device::Cpu);
        let layer = RecurrentLayer::new(Cell::Gru, D, &parameters.frozen()).expect("a layer");
        let found = layer.step(&row(&X), &CellState { hidden: row(&H), kept: None }).expect("a state");
        let h = |i: usize| f64::from(H[i]);
        let inputs = side_by_side(&X, (0..D).map(h));
        let gate = |k: usize, i: usize| sigmoid(affine(&parameters, "gates", k * D + i, &inputs));
        let reset = side_by_side(&X, (0..D).map(|i| gate(0, i) * h(i)));
        let n = |i: usize| affine(&parameters, "candidate", i, &reset).tanh();
        assert_close(&found.hidden, |i| gate(1, i) * h(i) + (1.0 - gate(1, i)) * n(i));
        assert!(found.kept.is_none());
    }
}
