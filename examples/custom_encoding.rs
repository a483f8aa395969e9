//! A custom encoding, used in a training run: numbers on a logarithmic scale, as a sign and a level.
//!
//! Run: `cargo run --release --example custom_encoding`
//!
//! Expected output: how 2.5 is written and read, then the progress of a small model that learns to transpose 2x2
//! matrices written that way: over 95% of 1,000 answers exact in twenty seconds. Next: `custom_problem`; `quickstart`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Result, ensure};
use numformer::data::Split;
use numformer::encoding::{DecodeError, EncodeError, NumberEncoding, TokenId};
use numformer::experiment::{ArchitectureConfig, Catalogue, Experiment, Run, TrainConfig};
use numformer::model::StackConfig;
use numformer::train::Progress;

/// Levels are powers of 1.1, from 1.1^-40 = 0.022 to 1.1^25 = 10.8; smaller numbers become zero. Rounding costs ≤ 5%.
const LEVELS: std::ops::RangeInclusive<i32> = -40..=25;
const BASE: f64 = 1.1;

#[derive(Debug)]
struct Logarithmic(Vec<String>);

impl Logarithmic {
    fn new() -> Self {
        let levels = LEVELS.map(|level| format!("L{level}"));
        Self(["+", "-", "zero"].map(String::from).into_iter().chain(levels).collect())
    }
}

impl NumberEncoding for Logarithmic {
    fn symbols(&self) -> &[String] {
        &self.0
    }
    fn max_word_len(&self) -> usize {
        2
    }
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        if !x.is_finite() {
            return Err(EncodeError::NotFinite { value: x });
        }
        let level = x.abs().log(BASE).round_ties_even();
        if level > f64::from(*LEVELS.end()) {
            return Err(EncodeError::TooLarge { value: x, largest: BASE.powi(*LEVELS.end()) });
        }
        let id = (2.0 + level - f64::from(LEVELS.start() - 1)).max(2.0) as u32;
        word.extend([TokenId(u32::from(x < 0.0 && id > 2)), TokenId(id)]);
        Ok(())
    }

    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        match tokens {
            [TokenId(0..=1), TokenId(2), rest @ ..] => Ok((0.0, rest)),
            [TokenId(sign @ 0..=1), TokenId(id), rest @ ..] if (3..self.0.len() as u32).contains(id) => {
                Ok(([1.0, -1.0][*sign as usize] * BASE.powi(LEVELS.start() + (*id as i32 - 3)), rest))
            }
            [TokenId(0..=1), ..] => Err(DecodeError::expected("a level", 1, tokens, &self.0)),
            _ => Err(DecodeError::expected("a sign", 0, tokens, &self.0)),
        }
    }
}

fn main() -> Result<()> {
    let logarithmic = Arc::new(Logarithmic::new());
    let word = logarithmic.render(2.5)?;
    println!("2.5 is written {word}, which reads {:.3}", logarithmic.parse(&word)?);
    let catalogue = Catalogue::standard().with_encoding("logarithmic", logarithmic);
    let mut experiment = Experiment::new("transpose", "uniform", 2).encoded("logarithmic", "logarithmic");
    experiment.model = ArchitectureConfig::symmetric(StackConfig::new(64, 4, 1));
    experiment.train = TrainConfig { warmup_steps: 200, ..TrainConfig::new(600, 1e-3) };
    (experiment.evaluate.every, experiment.evaluate.examples) = (200, 200);
    let mut run = Run::with_catalogue(experiment, &catalogue)?.with_observer(Progress::stderr());
    run.run()?;
    let evaluation = run.evaluate(Split::Test, 1_000)?;
    println!("{evaluation:#}\n\n{}", run.solve(Split::Test, 1)?[0]);
    ensure!(evaluation.exact > 0.95, "expected more than 95% exact answers, found {:.1}%", 100.0 * evaluation.exact);
    Ok(())
}
