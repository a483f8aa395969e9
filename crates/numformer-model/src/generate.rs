//! Writing answers: from a trained model and sources to target tokens.

use candle_core::{D, Result, Tensor};

use crate::batched::Batched;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::Seq2Seq;

/// One generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypothesis {
    /// The tokens between the delimiters.
    pub ids: Vec<u32>,
    /// How the sequence ended.
    pub end: End,
}

/// How a generated sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the closing delimiter.
    Delimiter,
    /// At the limit of length, unfinished.
    Limit,
}

/// Greedy decoding: at each position the most probable token (of equals, the first), until the closing delimiter or
/// until `max_len` tokens, both delimiters included.
///
/// A sequence that has ended costs nothing more. An answer does not depend on what else is in the batch, but where two
/// tokens are equally probable to within rounding.
///
/// Build `model` on [`Parameters::frozen`](crate::Parameters::frozen), or every step is recorded for a backward pass.
///
/// # Errors
/// As [`Seq2Seq::encode`].
pub fn greedy<M: Seq2Seq>(model: &M, src: &Padded, max_len: usize) -> Result<Vec<Hypothesis>> {
    let batch = src.batch_size()?;
    let mut hypotheses = vec![Hypothesis { ids: Vec::new(), end: End::Limit }; batch];
    let mut memory = model.encode(src, Mode::Evaluate)?;
    let mut cache = M::Cache::default();
    // The hypothesis that each row continues, and its last token.
    let mut running: Vec<usize> = (0..batch).collect();
    let mut last = vec![model.delimiter_id(); batch];
    for _ in 1..max_len {
        let column = Tensor::new(last.as_slice(), src.ids().device())?.unsqueeze(1)?;
        let states = model.decode(&memory, &Padded::full(column), Some(&mut cache), Mode::Evaluate)?;
        let tokens: Vec<u32> = model.logits(&states)?.argmax(D::Minus1)?.flatten_all()?.to_vec1()?;
        let mut kept = Vec::new();
        for (row, token) in tokens.into_iter().enumerate() {
            let hypothesis = &mut hypotheses[running[row]];
            if token == model.delimiter_id() {
                hypothesis.end = End::Delimiter;
            } else {
                hypothesis.ids.push(token);
                last[kept.len()] = token;
                kept.push(row as u32);
            }
        }
        if kept.is_empty() {
            break;
        }
        if kept.len() < running.len() {
            memory = memory.select(&kept)?;
            cache = cache.select(&kept)?;
            running = kept.iter().map(|row| running[*row as usize]).collect();
            last.truncate(kept.len());
        }
    }
    Ok(hypotheses)
}
