//! Trains a small model, saves it, loads it, and asks it for an answer and for the probability of one.
//!
//! ```sh
//! cargo run --release --example load_checkpoint                   # a model that learns to copy a number first
//! cargo run --release --example load_checkpoint -- imported       # one that `numformer import-lawt` wrote
//! ```
//!
//! Expected output, after some ten seconds: the parts of the model and their parameters, the transpose of the 1×1
//! matrix 3.14, which is the matrix itself, and a cross-entropy near 0 for it. An imported model answers in its own
//! way. Next: `compose`, for all parts of a run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use numformer::data::{Split, Task};
use numformer::encoding::{Positional, TokenId};
use numformer::evaluate::Scorer;
use numformer::fused::FusedStep;
use numformer::model::{Padded, Parameters, StackConfig, TransformerConfig, greedy};
use numformer::problems::{Transpose, UniformEntries};
use numformer::store::StoredModel;
use numformer::train::{Adam, HostLearner, Trainer, WarmUp};

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = temporary.path().join("trained");
            trained()?.save(&dir)?;
            dir
        }
    };
    let stored = StoredModel::load(&dir)?;
    println!("{} symbols; parameters:\n{}", stored.vocabulary.len(), stored.config.parameter_counts());

    // By hand: tokens to ids, delimiters around them, the model's answer back to tokens.
    let model = stored.model(&Device::Cpu)?;
    let is_known = |symbol: &str| stored.vocabulary.id(symbol).is_some();
    let number = ["N314 E-2", "+ 314 E-2", "+ 3 1 4 E-2"].into_iter().find(|number| number.split(' ').all(is_known));
    let matrix = format!("V1 V1 {}", number.context("numbers are not written as N314, 314, or 3 1 4")?);
    let ids: Vec<u32> = stored.vocabulary.delimited(&matrix)?.iter().map(|token| token.0).collect();
    let src = Padded::new(&ids, &[ids.len() as u32], ids.len(), &Device::Cpu)?;
    let answer = greedy(&model, &src, ids.len())?.swap_remove(0);
    let answer: Vec<_> = answer.ids.into_iter().map(TokenId).collect();
    println!("source  {matrix}\nanswer  {}", stored.vocabulary.render(&answer));

    // In one go: how probable the model finds the right answer.
    let scorer = Scorer::new(&stored)?;
    let score = scorer.score(&[scorer.parse(&format!("{matrix}\t{matrix}"))?])?.swap_remove(0);
    println!("cross-entropy of the source as its own transpose: {:.4}", score.cross_entropy);
    ensure!(score.cross_entropy < 0.5, "it knows that a number is its own transpose");
    Ok(())
}

/// A model that learned to transpose 1×1 matrices, which is to copy them.
fn trained() -> Result<StoredModel> {
    let p10 = Arc::new(Positional::p10());
    let task = Task::new(Transpose, UniformEntries::new(1, 1, 10.0)?, p10.clone(), p10)?;
    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(task.vocabulary().len(), task.max_src_len(), sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    let learner = HostLearner::new(FusedStep::new(&config, &parameters)?, Adam::default(), &parameters)?;
    let vocabulary = task.vocabulary().clone();
    let mut trainer = Trainer::new(learner, Arc::new(task).batches(0, Split::Train, 64))
        .with_steps(1_000)
        .with_schedule(WarmUp::new(1e-3, 100));
    trainer.run()?;
    trainer.show_weights(&parameters)?;
    Ok(StoredModel::new(config, vocabulary, &parameters)?)
}
