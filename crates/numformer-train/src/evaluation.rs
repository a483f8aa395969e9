//! Judging a model on a fixed set of examples.

use std::fmt;

use candle_core::Device;
use numformer_data::{Batch, Example, Sequences, Split, Task};
use numformer_encoding::TokenId;
use numformer_metrics::{Accuracy, Metric, Norm, Tolerance, ToleranceCurve, Verdict};
use numformer_model::{End, Hypothesis, Padded, Transformer, greedy};
use serde::{Deserialize, Serialize};

use crate::trainer::TrainError;

/// Examples decoded together. The answers do not depend on it, the cross-entropy only by rounding.
const BATCH: u64 = 256;

/// How a model did on a set of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of examples.
    pub count: u64,
    /// Share of answers whose relative L1 error is below each tolerance.
    pub accuracy: Vec<(Tolerance, f64)>,
    /// Share of answers equal to the exact one token for token.
    pub exact: f64,
    /// Share of answers that read as a matrix.
    pub decodable: f64,
    /// Mean cross-entropy per target token under teacher forcing, in nats.
    pub cross_entropy: f64,
}

impl fmt::Display for Evaluation {
    /// On one line, or with `{:#}` as a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        if !f.alternate() {
            for (tolerance, share) in &self.accuracy {
                write!(f, "{tolerance}: {:.1}  ", percent(*share))?;
            }
            return write!(f, "exact: {:.1}  cross-entropy {:.4}", percent(self.exact), self.cross_entropy);
        }
        let within = self.accuracy.iter().map(|(tolerance, share)| (format!("within {tolerance}"), *share));
        let others = [("exact".to_owned(), self.exact), ("decodable".to_owned(), self.decodable)];
        for (name, share) in within.chain(others) {
            writeln!(f, "  {name:<14}{:>8.2}%", percent(share))?;
        }
        write!(f, "  {:<14}{:>9.4}", "cross-entropy", self.cross_entropy)
    }
}

/// Judges `model` by greedy decoding on the first `count` examples of a split, which `seed` fixes.
///
/// Build `model` on [`Parameters::frozen`](numformer_model::Parameters::frozen).
///
/// # Errors
/// When `count` is zero, examples cannot be made, or the model cannot read them.
pub fn evaluate(
    model: &Transformer,
    task: &Task,
    split: Split,
    seed: u64,
    count: u64,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    let mut curve = ToleranceCurve::standard();
    let (mut exact, mut decodable) = (Accuracy::default(), Accuracy::default());
    let (mut nats, mut tokens) = (0.0, 0);
    for begin in (0..count).step_by(BATCH as usize) {
        let indices = begin..count.min(begin + BATCH);
        let examples: Vec<Example> = indices.map(|index| task.example(seed, split, index)).collect::<Result<_, _>>()?;
        let batch = Batch::from_examples(&examples, task.vocabulary().padding());
        let (src, tgt) = (padded(&batch.src, device)?, padded(&batch.tgt, device)?);
        // Every token but the opening delimiter is predicted.
        let predicted: u64 = batch.tgt.lengths.iter().map(|length| u64::from(*length) - 1).sum();
        nats += f64::from(model.loss(&src, &tgt)?.to_scalar::<f32>()?) * predicted as f64;
        tokens += predicted;
        for (example, hypothesis) in examples.iter().zip(greedy(model, &src, task.max_tgt_len())?) {
            let answer = answer_tokens(&hypothesis);
            let verdict = match hypothesis.end {
                End::Delimiter => task.judge(&example.src, &answer, Norm::L1)?,
                End::Limit => Verdict::Malformed,
            };
            curve.update(&verdict);
            decodable.update(&verdict.is_decodable());
            exact.update(&(hypothesis.end == End::Delimiter && answer == example.tgt[1..example.tgt.len() - 1]));
        }
    }
    let measured = || {
        Some(Evaluation {
            count,
            accuracy: curve.value()?,
            exact: exact.value()?,
            decodable: decodable.value()?,
            cross_entropy: nats / tokens as f64,
        })
    };
    measured().ok_or(TrainError::NothingToEvaluate)
}

/// A batch of token ids as tensors.
pub(crate) fn padded(sequences: &Sequences, device: &Device) -> candle_core::Result<Padded> {
    Padded::new(&sequences.ids, &sequences.lengths, sequences.width, device)
}

pub(crate) fn answer_tokens(hypothesis: &Hypothesis) -> Vec<TokenId> {
    hypothesis.ids.iter().copied().map(TokenId).collect()
}
