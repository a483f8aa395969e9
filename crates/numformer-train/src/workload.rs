//! Fixed training shapes for timing.

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Error, Result};
use numformer_data::{Batch, Sequences};
use numformer_distributed::{Communicator, Solo};
use numformer_fused::Precision;
use numformer_model::{Parameters, StackConfig, TransformerConfig};
use numformer_ops::device::Accelerator;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::learners::device_learner::DeviceLearner;
use crate::learners::device_training::device_training;
use crate::learners::gradients::{Gradients, training_step};
use crate::learners::host_learner::HostLearner;
use crate::learners::learner::{Learner, Step};
use crate::optimizers::adam::Adam;
use crate::optimizers::optimizer::Update;
use crate::optimizers::optimizer_config::OptimizerConfig;
use crate::train_error::TrainError;

/// The shape of a published training run: lengths, sizes and vocabulary, with random tokens in place of matrices.
///
/// Speed depends only on shapes, so programs can be compared without their data.
///
/// # Examples
/// ```
/// use numformer_train::Workload;
///
/// let workload = Workload::named("T1").unwrap();
/// assert_eq!(workload.problem, "transpose 5x5, P1000");
/// assert_eq!((workload.src_len, workload.config.vocab_size), (79, 1328));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// The problem and the encoding that these lengths belong to.
    pub problem: &'static str,
    /// Tokens of a source, including delimiters.
    pub src_len: usize,
    /// Tokens of a target, including delimiters.
    pub tgt_len: usize,
    /// The model.
    pub config: TransformerConfig,
}

impl Workload {
    /// All names.
    pub const NAMES: [&'static str; 5] = ["T1", "T2", "T3", "T4", "T5"];

    /// The workload called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, problem, [src_len, tgt_len, d_model, n_heads, encoder, decoder, vocab_size]) = match name {
            "T1" => ("T1", "transpose 5x5, P1000", [79, 79, 256, 8, 1, 1, 1328]),
            "T2" => ("T2", "addition 10x10, B1999", [404, 204, 512, 8, 2, 2, 2329]),
            "T3" => ("T3", "eigenvalues 5x5, FP15", [29, 9, 512, 8, 6, 1, 29128]),
            "T4" => ("T4", "multiplication 5x5, P1000", [154, 79, 512, 8, 1, 4, 1328]),
            "T5" => ("T5", "transpose 3x3, P1000", [31, 31, 64, 4, 1, 1, 1328]),
            _ => return None,
        };
        let stack = |n_layers| StackConfig::new(d_model, n_heads, n_layers);
        let config = TransformerConfig::new(vocab_size, 512, stack(encoder), stack(decoder));
        Some(Self { name, problem, src_len, tgt_len, config })
    }

    /// A batch of random sources and targets. It depends only on `seed` and the sizes.
    #[must_use]
    pub fn batch(&self, seed: u64, batch_size: usize) -> [Sequences; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let vocab_size = self.config.vocab_size as u32;
        [self.src_len, self.tgt_len].map(|width| Sequences {
            ids: (0..batch_size * width).map(|_| rng.random_range(2..vocab_size)).collect(),
            lengths: vec![width as u32; batch_size],
            width,
        })
    }

    /// Floating-point operations of the products in a training step: three times those of the forward pass.
    #[must_use]
    pub fn flop_per_step(&self, batch_size: usize) -> f64 {
        let TransformerConfig { encoder, decoder, vocab_size, .. } = &self.config;
        let (s, t) = (self.src_len as f64, (self.tgt_len - 1) as f64);
        let (e, d) = (encoder.d_model as f64, decoder.d_model as f64);
        let feed_forward = |stack: &StackConfig| 2.0 * (stack.d_model * stack.d_ff()) as f64;
        // Multiplications per example: the projections of each token, then the scores and sums of each pair of tokens.
        let encoder_layer = s * (4.0 * e * e + feed_forward(encoder)) + 2.0 * s * s * e;
        let own = t * 4.0 * d * d + 2.0 * t * t * d;
        let cross = t * 2.0 * d * d + s * 2.0 * e * d + 2.0 * t * s * d;
        let decoder_layer = own + cross + t * feed_forward(decoder);
        let layers = encoder.n_layers as f64 * encoder_layer + decoder.n_layers as f64 * decoder_layer;
        3.0 * 2.0 * batch_size as f64 * (layers + t * d * *vocab_size as f64)
    }

    /// A model with fresh weights on the CPU, ready to train on batches of this shape.
    ///
    /// # Errors
    /// When there is not enough memory, or automatic differentiation is asked for bf16.
    pub fn training(&self, gradients: Gradients, precision: Precision) -> Result<TimedTraining> {
        self.training_across(gradients, precision, Arc::new(Solo))
    }

    /// Like [`training`](Self::training), but together with other ranks, each of which has its part of every batch.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    pub fn training_across(
        &self,
        gradients: Gradients,
        precision: Precision,
        ranks: Arc<dyn Communicator>,
    ) -> Result<TimedTraining> {
        let parameters = Parameters::random(0, &Device::Cpu);
        let (step, _) = training_step(&self.config.clone().into(), &parameters, gradients, precision, 0.0)?;
        let learner = HostLearner::new(step, Adam::default(), &parameters)?.across(ranks);
        Ok(TimedTraining { learner: Box::new(learner) })
    }

    /// Like [`training`](Self::training), but on a device.
    ///
    /// # Errors
    /// As [`training`](Self::training), and when the device fails.
    pub fn training_on(
        &self,
        device: Accelerator,
        gradients: Gradients,
        precision: Precision,
    ) -> Result<TimedTraining> {
        let parameters = Parameters::random(0, device.device());
        let optimizer = OptimizerConfig::default();
        let on = (device, optimizer.kind().expect("devices have the default optimizer"));
        let (training, how) = device_training(&self.config.clone().into(), &parameters, gradients, precision, 0.0, on)?;
        Ok(TimedTraining { learner: Box::new(DeviceLearner::new(training, optimizer)?.described_as(&how)) })
    }
}

/// Training without data, evaluation or logs, to time the steps alone.
pub struct TimedTraining {
    learner: Box<dyn Learner>,
}

impl TimedTraining {
    /// Number of coefficients.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.learner.layout().len()
    }

    /// How gradients are computed, and in which precision.
    #[must_use]
    pub fn how(&self) -> String {
        self.learner.how()
    }

    /// Takes a step of Adam, clipped at norm 5, on each batch, and returns the last loss. On a device, the loss is read
    /// only once.
    ///
    /// # Errors
    /// When the batches do not fit the workload, or there are none.
    pub fn steps<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a [Sequences; 2]>,
    ) -> std::result::Result<f64, TrainError> {
        let mut planned = batches.map(|[src, tgt]| {
            let batch = Batch { src: src.clone(), tgt: tgt.clone(), ..Batch::default() };
            Ok(Step { batches: vec![batch], first: 0, seed: 0, update: Update::at(1, 1e-4), clip_norm: 5.0 })
        });
        let outcomes = self.learner.learn(&mut planned)?;
        let last = outcomes.last().ok_or_else(|| Error::Msg("expected at least one batch".to_owned()))?;
        Ok(last.loss)
    }
}

impl fmt::Debug for TimedTraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedTraining").field("how", &self.learner.how()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_model_that_can_be() {
        for name in Workload::NAMES {
            let workload = Workload::named(name).expect("listed");
            assert_eq!(workload.name, name);
            assert!(workload.config.validate().is_ok(), "{name}");
            assert!(workload.src_len <= workload.config.max_positions);
        }
        assert_eq!(Workload::named("T6"), None);
    }

    #[test]
    fn operations_are_those_of_the_products() {
        let gflop = |name| Workload::named(name).expect("listed").flop_per_step(64) / 1e9;
        // Counted by hand for T1: 79 and 78 tokens, 256 wide, 1328 classes.
        let encoder = 79.0 * 12.0 * 65_536.0 + 2.0 * 79.0 * 79.0 * 256.0;
        let decoder = 78.0 * 14.0 * 65_536.0 + 79.0 * 2.0 * 65_536.0 + 2.0 * 78.0 * (78.0 + 79.0) * 256.0;
        let expected = 6.0 * 64.0 * (encoder + decoder + 78.0 * 256.0 * 1328.0) / 1e9;
        assert!((gflop("T1") - expected).abs() < 1e-9, "{} {expected}", gflop("T1"));
        assert!((60.0..80.0).contains(&gflop("T1")) && (240.0..300.0).contains(&gflop("T3")));
    }

    #[test]
    fn training_on_one_batch_lowers_the_loss() {
        let workload = Workload::named("T5").expect("listed");
        let batch = workload.batch(0, 4);
        for gradients in [Gradients::Fused, Gradients::Autodiff] {
            let mut training = workload.training(gradients, Precision::F32).expect("a small model");
            let losses: Vec<f64> =
                (0..6).map(|_| training.steps([&batch].into_iter()).expect("its own batch")).collect();
            assert!((losses[0] - 1328f64.ln()).abs() < 1.0 && losses[5] < losses[0] - 0.02, "{losses:?}");
        }
    }
}
