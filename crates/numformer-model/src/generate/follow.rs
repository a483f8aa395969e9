//! Writing answers token by token.

use std::ops::Range;

use candle_core::{Device, Error, Result, Tensor};

use crate::batched::Batched;
use crate::generate::constraint::Constraint;
use crate::generate::scores::{Scores, nothing_allowed};
use crate::hypothesis::{End, Hypothesis};
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::Seq2Seq;

/// Whether there are sources to answer, by a model that can write so many tokens.
///
/// # Errors
/// When the model has too few positions: the last token of an answer needs none.
pub(crate) fn has_work<M: Seq2Seq>(model: &M, src: &Padded, max_len: usize) -> Result<bool> {
    match model.max_positions().map(|positions| positions + 1).filter(|limit| max_len > *limit) {
        None => Ok(src.batch_size()? > 0),
        Some(limit) => Err(Error::Msg(format!("expected answers of at most {limit} tokens, found {max_len}"))),
    }
}

/// Answers that are written side by side and independently of each other.
pub(crate) struct Paths<'d, M> {
    /// One row for each answer.
    pub(crate) memory: M,
    /// For each answer, the row of the batch that it answers.
    pub(crate) sources: Vec<usize>,
    pub(crate) device: &'d Device,
}

/// Writes answers token by token, until the closing delimiter or the limit. `choose` receives the path, the scores of
/// all tokens and the allowed ids, and returns the next token.
pub(crate) fn follow<M: Seq2Seq, C: Constraint>(
    model: &M,
    paths: Paths<'_, M::Memory>,
    max_len: usize,
    constraint: &C,
    mut choose: impl FnMut(usize, &[f32], &[Range<u32>]) -> Option<u32>,
) -> Result<Vec<Hypothesis>> {
    let Paths { mut memory, sources, device } = paths;
    let mut hypotheses = vec![Hypothesis { ids: Vec::new(), end: End::Limit }; sources.len()];
    let mut states: Vec<C::State> =
        sources.iter().map(|source| constraint.start(*source, max_len)).collect::<Result<_>>()?;
    let mut cache = M::Cache::default();
    // The path that each row continues, and its last token.
    let mut running: Vec<usize> = (0..sources.len()).collect();
    let mut last = vec![model.delimiter_id(); sources.len()];
    for position in 0..max_len.saturating_sub(1) {
        let column = Tensor::new(last.as_slice(), device)?.unsqueeze(1)?;
        let decoded = model.decode(&memory, &Padded::full(column), Some(&mut cache), Mode::Evaluate)?;
        let scores = Scores::read(&model.logits(&decoded)?, position, |row| sources[running[row]])?;
        let mut kept = Vec::with_capacity(running.len());
        for (row, &path) in running.iter().enumerate() {
            let state = &mut states[path];
            let token = choose(path, scores.row(row), constraint.allowed(state));
            let token = token.ok_or_else(|| nothing_allowed(sources[path], position))?;
            constraint.advance(state, token);
            let hypothesis = &mut hypotheses[path];
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
