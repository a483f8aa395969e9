//! Random models and batches for the tests of the training steps.

use candle_core::{Device, Result};
use numformer_model::{Autodiff, FlatLayout, Parameters, TokenRows, Transformer, TransformerConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A batch of random tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    width: usize,
}

impl Tokens {
    /// One row for each length. Padding has id 1, which also occurs within sequences.
    pub(crate) fn random(seed: u64, lengths: &[u32], vocab_size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let width = lengths.iter().copied().max().unwrap_or(0).max(2) as usize;
        let row = |length: &u32| {
            let length = *length as usize;
            (0..width).map(|i| if i < length { rng.random_range(0..vocab_size as u32) } else { 1 }).collect::<Vec<_>>()
        };
        Self { ids: lengths.iter().flat_map(row).collect(), lengths: lengths.to_vec(), width }
    }

    pub(crate) fn rows(&self) -> TokenRows<'_> {
        TokenRows { ids: &self.ids, lengths: &self.lengths, width: self.width }
    }
}

/// Fresh weights, and the training step by automatic differentiation.
pub(crate) fn parameters_of(config: &TransformerConfig, seed: u64) -> Result<(Parameters, Autodiff<Transformer>)> {
    let parameters = Parameters::random(seed, &Device::Cpu);
    let model = Transformer::init(config, &parameters)?;
    let composition = Autodiff::new(model, &parameters)?;
    Ok((parameters, composition))
}

/// Weights in which every parameter matters.
pub(crate) fn weights_of(layout: &FlatLayout, parameters: &Parameters, seed: u64) -> Result<Vec<f32>> {
    let mut weights = vec![0.0; layout.len()];
    layout.read(parameters, &mut weights)?;
    // Norms and biases start at constants, so they are changed at random to make each matter.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    weights.iter_mut().for_each(|w| *w += rng.random_range(-0.1..0.1));
    Ok(weights)
}

/// Fails unless each parameter's gradients agree to `tolerance`, relative to the largest of all gradients.
#[track_caller]
pub(crate) fn assert_agree(layout: &FlatLayout, found: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(0f32, |a, x| a.max(x.abs()));
    for slot in layout.slots() {
        for (at, (f, e)) in found[slot.range()].iter().zip(&expected[slot.range()]).enumerate() {
            assert!((f - e).abs() <= tolerance * scale, "{} entry {at}: expected {e}, found {f}", slot.name());
        }
    }
}
