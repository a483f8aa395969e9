//! A task that has nothing to do with matrices, on the same model and trainer: reversing a string of digits. A custom
//! source of batches is all it takes.
//!
//! Run: `cargo run --release --example beyond_matrices`
//!
//! Expected output: the progress of a small transformer, and its share of exact answers, nearly 1 after some twenty
//! seconds. Next: `compose` for tasks on matrices.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use numformer::data::{Batch, BatchSource, TaskError};
use numformer::encoding::Vocabulary;
use numformer::evaluate::Evaluator;
use numformer::fused::FusedStep;
use numformer::model::{Parameters, StackConfig, Transformer, TransformerConfig};
use numformer::train::{Adam, HostLearner, Progress, Trainer, WarmUp, every};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Strings of two to six digits, and the same backwards.
struct Reversed {
    vocabulary: Vocabulary,
    seed: u64,
}

impl BatchSource for Reversed {
    // A function of the seed and the index, so that a run can go on from anywhere.
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let tokens = |digits: &[String]| self.vocabulary.delimited(&digits.join(" ")).map_err(TaskError::other);
        let pairs = (0..self.batch_size()).map(|_| {
            let len = rng.random_range(2..=6);
            let mut digits: Vec<String> = (0..len).map(|_| rng.random_range(0..10).to_string()).collect();
            let src = tokens(&digits)?;
            digits.reverse();
            Ok((src, tokens(&digits)?))
        });
        Ok(Batch::from_pairs(&pairs.collect::<Result<Vec<_>, TaskError>>()?, self.vocabulary.padding()))
    }

    fn batch_size(&self) -> usize {
        64
    }
}

fn main() -> Result<()> {
    let vocabulary = Vocabulary::new((0..10).map(|digit| digit.to_string()))?;
    let digits = |seed| Reversed { vocabulary: vocabulary.clone(), seed };
    const MAX_LEN: usize = 8; // with both delimiters

    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(vocabulary.len(), MAX_LEN, sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    let learner = HostLearner::new(FusedStep::new(&config, &parameters)?, Adam::default(), &parameters)?;
    let model = Transformer::new(&config, &parameters.frozen())?;
    let evaluator = Evaluator::of_tokens(model, &parameters, digits(1), 500, MAX_LEN)?;
    let mut trainer = Trainer::new(learner, digits(0))
        .named("reversed digits")
        .with_steps(2_000)
        .with_schedule(WarmUp::new(1e-3, 100))
        .with_evaluation(every(500), evaluator)
        .with_observer(Progress::stderr());
    trainer.run()?;
    let exact = trainer.progress().latest("exact").context("no evaluation")?;
    println!("share of exact answers: {exact:.3}");
    ensure!(exact > 0.9, "it learned to reverse");
    Ok(())
}
