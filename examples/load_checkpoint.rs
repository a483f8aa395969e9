//! Saves a model, loads it, and asks it for an answer and for the probability of one.
//!
//! ```sh
//! cargo run --release --example load_checkpoint                   # a fresh model, which knows nothing
//! cargo run --release --example load_checkpoint -- imported       # one that `numformer import-lawt` wrote
//! ```
//!
//! Expected output, for the fresh model: its parts and their parameters, an answer without sense, and a cross-entropy
//! near ln 1328 = 7.2, that of a guess among all symbols. Next: `quickstart`, where a model learns.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Device;
use numformer::encoding::{Preset, Vocabulary};
use numformer::evaluate::Scorer;
use numformer::model::{Padded, Parameters, StackConfig, Transformer, TransformerConfig, greedy};
use numformer::store::StoredModel;

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = temporary.path().join("fresh");
            fresh()?.save(&dir)?;
            dir
        }
    };
    let stored = StoredModel::load(&dir)?;
    println!("{} symbols; parameters:\n{}", stored.vocabulary.len(), stored.config.parameter_counts());

    // By hand: tokens to ids, delimiters around them, the model's answer back to tokens.
    let model = stored.model(&Device::Cpu)?;
    let number = if stored.vocabulary.id("N314").is_some() { "N314 E-2" } else { "+ 314 E-2" };
    let matrix = format!("V1 V1 {number}");
    let tokens = stored.vocabulary.tokenize(&matrix)?;
    let delimiter = stored.vocabulary.delimiter();
    let ids: Vec<u32> = [&[delimiter], &tokens[..], &[delimiter]].concat().iter().map(|token| token.0).collect();
    let src = Padded::new(&ids, &[ids.len() as u32], ids.len(), &Device::Cpu)?;
    let answer = greedy(&model, &src, 12)?.swap_remove(0);
    let answer: Vec<_> = answer.ids.into_iter().map(numformer::encoding::TokenId).collect();
    println!("source  {matrix}\nanswer  {}", stored.vocabulary.render(&answer));

    // In one go: how probable the model finds the right answer.
    let scorer = Scorer::new(&stored)?;
    let score = scorer.score(&[scorer.parse(&format!("{matrix}\t{matrix}"))?])?.swap_remove(0);
    println!("cross-entropy of the source as its own transpose: {:.2}", score.cross_entropy);
    ensure!(score.cross_entropy > 0.0, "no answer is certain");
    Ok(())
}

/// An untrained model.
fn fresh() -> Result<StoredModel> {
    let p1000 = Preset::P1000.encoding();
    let vocabulary = Vocabulary::reference(&*p1000, &*p1000);
    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(vocabulary.len(), 128, sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    Transformer::init(&config, &parameters)?;
    Ok(StoredModel::new(config, vocabulary, &parameters)?)
}
