//! The copy gate, by which a layer may pass on its input unchanged.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use numformer_ops::Activation;

use crate::layers::linear::Linear;

/// Initial bias of the gate, from the paper: nearly closed, so that layers begin by copying.
const START: f64 = -3.0;

/// A gate in each coordinate, computed by a feed-forward network. An open gate passes on the layer's output, a closed
/// gate the layer's input.
///
/// # Reference
/// Csordás, Irie and Schmidhuber (2022), *The Neural Data Router*, section 2.2. <https://arxiv.org/abs/2110.07732>
#[derive(Clone, Debug)]
pub(crate) struct CopyGate {
    up: Linear,
    down: Linear,
}

impl CopyGate {
    pub(crate) fn new(d_model: usize, d_ff: usize, vb: &VarBuilder) -> Result<Self> {
        let start = Init::Const(START);
        Ok(Self {
            up: Linear::new(d_model, d_ff, &vb.pp("up"))?,
            down: Linear::with_bias_start(d_ff, d_model, start, &vb.pp("down"))?,
        })
    }

    pub(crate) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.up, &mut self.down].into_iter()
    }

    /// g ∘ `output` + (1 − g) ∘ `input`, where g is the sigmoid of a feed-forward network applied to `attended`, the
    /// input of the layer's own feed-forward network. All are `[.., d_model]`.
    pub(crate) fn forward(&self, attended: &Tensor, output: &Tensor, input: &Tensor) -> Result<Tensor> {
        let hidden = self.up.forward(attended, Activation::Relu)?;
        let gate = candle_nn::ops::sigmoid(&self.down.forward(&hidden, Activation::Identity)?)?;
        input + (gate * (output - input)?)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::Parameters;

    const ROWS: usize = 3;
    const D_MODEL: usize = 2;
    const D_FF: usize = 5;

    /// The names of the gate's parameters and its three inputs, in the order of [`naive`]'s values.
    const NAMES: [&str; 4] = ["up.weight", "up.bias", "down.weight", "down.bias"];

    /// The definition, coordinate by coordinate in `f64`: gᵢ = σ(b₂ᵢ + Σⱼ W₂ᵢⱼ·max(0, b₁ⱼ + Σₖ W₁ⱼₖ·aₖ)) and
    /// yᵢ = gᵢ·oᵢ + (1 − gᵢ)·xᵢ, for attended a, output o and input x.
    fn naive([up, up_bias, down, down_bias, attended, output, input]: &[Vec<f64>; 7]) -> Vec<f64> {
        let mut y = Vec::new();
        for row in 0..ROWS {
            for i in 0..D_MODEL {
                let mut raw = down_bias[i];
                for j in 0..D_FF {
                    let mut hidden = up_bias[j];
                    for k in 0..D_MODEL {
                        hidden += up[j * D_MODEL + k] * attended[row * D_MODEL + k];
                    }
                    raw += down[i * D_FF + j] * hidden.max(0.0);
                }
                let gate = 1.0 / (1.0 + (-raw).exp());
                let at = row * D_MODEL + i;
                y.push(gate * output[at] + (1.0 - gate) * input[at]);
            }
        }
        y
    }

    /// A gate with its parameters, and the inputs as variables.
    fn example() -> Result<(CopyGate, [Var; 7])> {
        let parameters = Parameters::random(1, &Device::Cpu);
        let gate = CopyGate::new(D_MODEL, D_FF, &parameters.trainable())?;
        let bias = parameters.get("down.bias").expect("a bias");
        assert_eq!(bias.to_vec1::<f32>()?, [-3.0; D_MODEL], "nearly closed");
        // Open enough that the derivative is not small.
        bias.set(&Tensor::new(&[0.5f32, -0.75], &Device::Cpu)?)?;
        let input = |values: [f32; ROWS * D_MODEL]| {
            Var::from_tensor(&Tensor::new(&values, &Device::Cpu)?.reshape((ROWS, D_MODEL))?)
        };
        let [up, up_bias, down, down_bias] = NAMES.map(|name| parameters.get(name).expect("a parameter"));
        let attended = input([0.5, -2.0, 1.5, 0.25, -1.0, -0.5])?;
        let output = input([1.0, 2.0, -0.5, 0.0, 3.0, -4.0])?;
        let copied = input([-3.0, 5.0, 0.5, 1.0, -2.0, 2.5])?;
        Ok((gate, [up, up_bias, down, down_bias, attended, output, copied]))
    }

    fn values(tensor: &Tensor) -> Result<Vec<f64>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    }

    #[test]
    fn a_gate_mixes_output_and_input_by_what_was_attended() -> Result<()> {
        let (gate, vars) = example()?;
        let found = values(&gate.forward(&vars[4], &vars[5], &vars[6])?)?;
        let expected = naive(&vars.each_ref().map(|var| values(var).expect("numbers")));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn gradients_agree_with_finite_differences_of_the_definition() -> Result<()> {
        let (gate, vars) = example()?;
        // A weighted sum, so that no two entries can be confused.
        let weights: Vec<f32> = (0..ROWS * D_MODEL).map(|i| 0.3 + 0.7 * i as f32).collect();
        let y = gate.forward(&vars[4], &vars[5], &vars[6])?;
        let gradients = (y * Tensor::from_slice(&weights, (ROWS, D_MODEL), &Device::Cpu)?)?.sum_all()?.backward()?;
        let at = vars.each_ref().map(|var| values(var).expect("numbers"));
        let sum = |values: &[Vec<f64>; 7]| -> f64 {
            naive(values).iter().zip(&weights).map(|(y, weight)| y * f64::from(*weight)).sum()
        };
        for (which, var) in vars.iter().enumerate() {
            let found = values(gradients.get(var).expect("every part receives a gradient"))?;
            for (entry, found) in found.into_iter().enumerate() {
                let moved = |distance: f64| {
                    let mut moved = at.clone();
                    moved[which][entry] += distance;
                    sum(&moved)
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((found - difference).abs() < 1e-5, "part {which}, entry {entry}: {found} {difference}");
            }
        }
        Ok(())
    }
}
