//! Random sampling of answers.

use std::ops::Range;

use candle_core::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::batched::Batched;
use crate::generate::constraint::Constraint;
use crate::generate::follow::{Paths, follow, has_work};
use crate::generate::scores::{GenerationError, largest, runs};
use crate::hypothesis::Hypothesis;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::parameters::fnv1a;
use crate::seq2seq::Seq2Seq;

/// Settings for drawing answers at random.
///
/// # Examples
/// ```
/// use numformer_model::Sampling;
///
/// assert_eq!(Sampling::new(4), Sampling { count: 4, temperature: 1.0, seed: 0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Number of answers to each source.
    pub count: usize,
    /// The divisor of the scores. At 1, a token is as probable as the model says; below 1, probable tokens become more
    /// probable.
    pub temperature: f64,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Sampling {
    /// `count` answers, each as probable as the model says.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, temperature: 1.0, seed: 0 }
    }

    fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::wrap(GenerationError::Temperature { found: self.temperature }));
        }
        if self.count == 0 {
            return Err(Error::wrap(GenerationError::Samples { found: 0 }));
        }
        Ok(())
    }

    /// The random numbers of one answer: a function of the seed, the index of the source and the number of the sample.
    fn generator(&self, index: u64, sample: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([self.seed, index, sample, fnv1a("sampling")]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }
}

/// Draws answers to each source. The first source has index `first_index`, and the others follow.
pub(crate) fn sample<M: Seq2Seq, C: Constraint>(
    model: &M,
    src: &Padded,
    first_index: u64,
    max_len: usize,
    sampling: &Sampling,
    constraint: &C,
) -> Result<Vec<Vec<Hypothesis>>> {
    if !has_work(model, src, max_len)? {
        return Ok(Vec::new());
    }
    sampling.check()?;
    let sources = src.batch_size()?;
    let of_source = |path: usize| path / sampling.count;
    let paths: Vec<usize> = (0..sources * sampling.count).map(of_source).collect();
    let prepared = model.prepared()?;
    let model = prepared.as_ref().unwrap_or(model);
    let mut memory = model.encode(src, Mode::Evaluate)?;
    if sampling.count > 1 {
        let rows: Vec<u32> = paths.iter().map(|source| *source as u32).collect();
        memory = memory.select(&rows)?;
    }
    let generator = |(path, source): (usize, &usize)| {
        sampling.generator(first_index.wrapping_add(*source as u64), (path % sampling.count) as u64)
    };
    let mut generators: Vec<ChaCha8Rng> = paths.iter().enumerate().map(generator).collect();
    let choose = |path: usize, scores: &[f32], allowed: &[Range<u32>]| {
        draw(scores, allowed, sampling.temperature, generators[path].random())
    };
    let paths = Paths { memory, sources: paths, device: src.ids().device() };
    let drawn = follow(model, paths, max_len, constraint, choose)?;
    Ok(drawn.chunks(sampling.count).map(<[Hypothesis]>::to_vec).collect())
}

/// The allowed token at which the sum of probabilities passes the fraction `share` of the total.
fn draw(scores: &[f32], allowed: &[Range<u32>], temperature: f64, share: f64) -> Option<u32> {
    let runs = runs(scores, allowed);
    let top = runs.clone().map(|run| largest(run.scores)).fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| (f64::from(score - top) / temperature).exp();
    let weights = || runs.clone().flat_map(|run| (run.first..).zip(run.scores)).map(|(token, x)| (token, weight(*x)));
    let mut left = share * weights().map(|(_, weight)| weight).sum::<f64>();
    let mut last = None;
    for (token, weight) in weights().filter(|(_, weight)| *weight > 0.0) {
        if left < weight {
            return Some(token);
        }
        left -= weight;
        // Rounding may leave a little after the last token.
        last = Some(token);
    }
    last
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "sets of ids are lists of ranges")]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_softmax_of_what_is_allowed() {
        let scores = [1.0_f32, 2.0, 0.0, -1e30, 3.0];
        let allowed = [0..1, 2..5];
        for temperature in [0.5, 1.0, 2.0] {
            let weights = [0, 2, 4].map(|token: usize| (f64::from(scores[token]) / temperature).exp());
            let total: f64 = weights.iter().sum();
            let draws = 100_000;
            let mut counts = [0_u32; 5];
            for i in 0..draws {
                let token = draw(&scores, &allowed, temperature, (f64::from(i) + 0.5) / f64::from(draws));
                counts[token.expect("some are allowed") as usize] += 1;
            }
            assert_eq!((counts[1], counts[3]), (0, 0));
            for (token, weight) in [0, 2, 4].into_iter().zip(weights) {
                let difference = f64::from(counts[token]) / f64::from(draws) - weight / total;
                assert!(difference.abs() < 2e-5, "{temperature}, {token}: {difference}");
            }
        }
    }

    #[test]
    fn something_is_drawn_wherever_something_is_allowed() {
        assert_eq!(draw(&[0.0, 1.0], &[], 1.0, 0.5), None);
        assert_eq!(draw(&[0.0, 1.0], &[0..2], 1.0, 1.0), Some(1));
        assert_eq!([0.1, 0.5, 0.9].map(|share| draw(&[f32::MIN; 3], &[0..9], 1.0, share)), [0, 1, 2].map(Some));
        assert_eq!(draw(&[-1e30, 1e30], &[0..2], 1e-3, 0.0), Some(1));
    }
}
