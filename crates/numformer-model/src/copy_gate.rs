//! The gate by which a layer may leave its input as it is.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use numformer_ops::Activation;

use crate::linear::Linear;

/// Where the gate's bias starts: nearly closed, so that layers begin by copying. The value of the paper.
const START: f64 = -3.0;

/// A gate in each coordinate, computed by a feed-forward network: open, it lets a layer's output through; closed, the
/// layer's input.
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

    /// g ∘ `output` + (1 − g) ∘ `input`, with g the sigmoid of a feed-forward network of `attended`, what the layer's own
    /// feed-forward network reads. All `[.., d_model]`.
    pub(crate) fn forward(&self, attended: &Tensor, output: &Tensor, input: &Tensor) -> Result<Tensor> {
        let hidden = self.up.forward(attended, Activation::Relu)?;
        let gate = candle_nn::ops::sigmoid(&self.down.forward(&hidden, Activation::Identity)?)?;
        input + (gate * (output - input)?)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Parameters;

    #[test]
    fn a_gate_mixes_output_and_input_by_what_was_attended() {
        let tensor = |values: [f32; 2]| Tensor::new(&[values], &Device::Cpu).expect("a row");
        let parameters = Parameters::random(1, &Device::Cpu);
        let gate = CopyGate::new(2, 3, &parameters.frozen()).expect("a gate");
        let (attended, output, input) = ([0.5f32, -2.0], [1.0f32, 2.0], [-3.0f32, 5.0]);
        let found = gate.forward(&tensor(attended), &tensor(output), &tensor(input)).expect("a row");
        let found = found.to_vec2::<f32>().expect("a row").concat();

        let matrix = |name: &str| parameters.get(name).expect("a weight").to_vec2::<f32>().expect("a matrix");
        let bias = |name: &str| parameters.get(name).expect("a bias").to_vec1::<f32>().expect("a vector");
        let affine = |name: &str, x: &[f32]| -> Vec<f32> {
            let rows = matrix(&format!("{name}.weight")).into_iter().zip(bias(&format!("{name}.bias")));
            rows.map(|(row, b)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
        };
        let hidden: Vec<f32> = affine("up", &attended).into_iter().map(|x| x.max(0.0)).collect();
        for (i, raw) in affine("down", &hidden).into_iter().enumerate() {
            let g = 1.0 / (1.0 + (-raw).exp());
            let expected = g * output[i] + (1.0 - g) * input[i];
            assert!((found[i] - expected).abs() < 1e-6, "{} {expected}", found[i]);
            assert!(g < 0.2, "nearly closed: {g}");
        }
    }
}
