//! Writing answers: from a trained model and sources to target tokens.

use candle_core::{D, Result, Tensor};

use crate::cache::Cache;
use crate::padded::Padded;
use crate::transformer::Transformer;

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
/// Build `model` on [`Parameters::frozen`](crate::Parameters::frozen), or every step is recorded for a backward pass.
///
/// # Errors
/// As [`Transformer::encode`].
pub fn greedy(model: &Transformer, src: &Padded, max_len: usize) -> Result<Vec<Hypothesis>> {
    let delimiter = model.config().delimiter_id;
    let memory = model.encode(src)?;
    let batch = src.batch_size()?;
    let mut hypotheses = vec![Hypothesis { ids: Vec::new(), end: End::Limit }; batch];
    let mut cache = Cache::default();
    let mut last = Tensor::full(delimiter, (batch, 1), src.ids().device())?;
    for _ in 1..max_len {
        let states = model.decode(&memory, &Padded::full(last), Some(&mut cache))?;
        last = model.logits(&states)?.argmax(D::Minus1)?;
        let tokens = last.flatten_all()?.to_vec1::<u32>()?;
        for (hypothesis, token) in hypotheses.iter_mut().zip(tokens) {
            match (hypothesis.end, token == delimiter) {
                (End::Delimiter, _) => {}
                (End::Limit, true) => hypothesis.end = End::Delimiter,
                (End::Limit, false) => hypothesis.ids.push(token),
            }
        }
        if hypotheses.iter().all(|h| h.end == End::Delimiter) {
            break;
        }
    }
    Ok(hypotheses)
}
