//! Judging a model on a fixed set of examples.

use std::fmt;

use candle_core::Device;
use numformer_data::{BatchSource, Sequences, Task};
use numformer_encoding::TokenId;
use numformer_metrics::{Accuracy, Metric, Norm, Tolerance, ToleranceCurve, Verdict};
use numformer_model::{End, Mode, Padded, Seq2Seq, greedy};
use serde::{Deserialize, Serialize};

use crate::trainer::TrainError;

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
    /// Matrices that were drawn for the examples and had no answer that can be trusted and written.
    #[serde(default)]
    pub rejected: u64,
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
        write!(f, "  {:<14}{:>9.4}", "cross-entropy", self.cross_entropy)?;
        if self.rejected > 0 {
            write!(f, "\n  {:<14}{:>9}", "drawn again", self.rejected)?;
        }
        Ok(())
    }
}

/// Judges `model` by greedy decoding on the first `count` examples of a source.
///
/// Build `model` on [`Parameters::frozen`](numformer_model::Parameters::frozen).
///
/// # Errors
/// When `count` is zero, examples cannot be made, or the model cannot read them.
pub fn evaluate(
    model: &impl Seq2Seq,
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    let mut curve = ToleranceCurve::standard();
    let (mut exact, mut decodable) = (Accuracy::default(), Accuracy::default());
    let (mut nats, mut tokens, mut rejected) = (0.0, 0, 0);
    let size = source.batch_size() as u64;
    if size == 0 {
        return Err(TrainError::NothingToEvaluate);
    }
    for index in 0..count.div_ceil(size) {
        let mut batch = source.batch(index)?;
        let wanted = size.min(count - index * size) as usize;
        batch.truncate(wanted);
        rejected += batch.rejected.iter().map(|count| u64::from(*count)).sum::<u64>();
        let (src, tgt) = (padded(&batch.src, device)?, padded(&batch.tgt, device)?);
        // Every token but the opening delimiter is predicted.
        let predicted: u64 = batch.tgt.lengths.iter().map(|length| u64::from(*length) - 1).sum();
        nats += f64::from(model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?) * predicted as f64;
        tokens += predicted;
        for (row, hypothesis) in greedy(model, &src, task.max_tgt_len())?.into_iter().enumerate() {
            let [src, tgt] = [tokens_of(batch.src.row(row)), tokens_of(batch.tgt.row(row))];
            let answer = tokens_of(&hypothesis.ids);
            let verdict = match hypothesis.end {
                End::Delimiter => task.judge(&src, &tgt, &answer, Norm::L1)?,
                End::Limit => Verdict::Malformed,
            };
            curve.update(&verdict);
            decodable.update(&verdict.is_decodable());
            exact.update(&(hypothesis.end == End::Delimiter && answer == tgt[1..tgt.len() - 1]));
        }
    }
    let measured = || {
        Some(Evaluation {
            count,
            accuracy: curve.value()?,
            exact: exact.value()?,
            decodable: decodable.value()?,
            cross_entropy: nats / tokens as f64,
            rejected,
        })
    };
    measured().ok_or(TrainError::NothingToEvaluate)
}

/// A batch of token ids as tensors.
pub(crate) fn padded(sequences: &Sequences, device: &Device) -> candle_core::Result<Padded> {
    Padded::new(&sequences.ids, &sequences.lengths, sequences.width, device)
}

pub(crate) fn tokens_of(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}
