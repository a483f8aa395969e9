//! Beam search: finds the answer that is the most probable as a whole.

use std::ops::Range;

use candle_core::{Error, Result, Tensor};

use crate::batched::Batched;
use crate::generate::constraint::{Constraint, Unconstrained};
use crate::generate::follow::has_work;
use crate::generate::scores::{Scores, largest, nothing_allowed, runs};
use crate::hypothesis::{End, Hypothesis};
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::Seq2Seq;

/// Settings of a beam search.
///
/// # Examples
/// ```
/// use numformer_model::{Beam, Stopping};
///
/// assert_eq!(Beam::new(3), Beam { width: 3, length_penalty: 1.0, stopping: Stopping::Exhausted });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beam {
    /// The number of unfinished answers followed at a time, and of finished answers kept.
    pub width: usize,
    /// The power of its length by which the logarithm of an answer's probability is divided. Zero ignores the length,
    /// and 1 compares means per token. The larger the power, the longer the answers.
    pub length_penalty: f64,
    /// When the search ends.
    pub stopping: Stopping,
}

impl Beam {
    /// A search of this width that compares means per token, and stops when nothing better can be found.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, length_penalty: 1.0, stopping: Stopping::default() }
    }

    /// The rank of an answer of `len` predicted tokens.
    fn score(&self, log_probability: f64, len: usize) -> f64 {
        log_probability / (len as f64).powf(self.length_penalty)
    }

    fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(Error::Msg("expected a beam width of at least 1, found 0".to_owned()));
        }
        if !self.length_penalty.is_finite() {
            return Err(Error::Msg(format!("expected a finite length penalty, found {}", self.length_penalty)));
        }
        Ok(())
    }
}

/// When the search for the answer to one source ends, before the limit of length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stopping {
    /// When no unfinished answer can become better than the worst finished answer kept.
    #[default]
    Exhausted,
    /// As soon as the number of finished answers is the width of the beam.
    Early,
}

/// An answer with its score among the answers to the same source.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The answer.
    pub hypothesis: Hypothesis,
    /// The logarithm of its probability divided by a power of its length; larger is better. Both count everything that
    /// was predicted: the tokens and, if the answer has ended, the closing delimiter.
    pub score: f64,
}

/// Beam search. Returns the best answers to each source, best first: at least one, and at most as many as the width of
/// the beam. An answer has at most `max_len` tokens, both delimiters included. Answers that are unfinished at that
/// length compete with those that have ended.
///
/// At each position, the most probable continuations of all followed answers are compared. Those that end are set
/// aside, and the others are followed until [`Stopping`] ends the search. A source whose search has ended costs nothing
/// more. As in [`greedy`](crate::greedy), answers do not depend on the batch.
///
/// Build `model` on [`Parameters::frozen`](crate::Parameters::frozen); otherwise every step is recorded for a backward
/// pass.
///
/// # Errors
/// As [`generate`](crate::generate), and also when the width is zero or the penalty is not finite.
pub fn beam<M: Seq2Seq>(model: &M, src: &Padded, max_len: usize, beam: &Beam) -> Result<Vec<Vec<Ranked>>> {
    beam_within(model, src, max_len, beam, &Unconstrained)
}

/// [`beam`] within a constraint. Probabilities are those of the unconstrained model, so the best answer is the most
/// probable of all allowed answers.
pub(crate) fn beam_within<M: Seq2Seq, C: Constraint>(
    model: &M,
    src: &Padded,
    max_len: usize,
    beam: &Beam,
    constraint: &C,
) -> Result<Vec<Vec<Ranked>>> {
    if !has_work(model, src, max_len)? {
        return Ok(Vec::new());
    }
    beam.check()?;
    let batch = src.batch_size()?;
    if max_len < 2 {
        // There is room for the opening delimiter at most.
        let nothing = Hypothesis { ids: Vec::new(), end: End::Limit };
        return Ok(vec![vec![Ranked { hypothesis: nothing, score: 0.0 }]; batch]);
    }
    let delimiter = model.delimiter_id();
    let prepared = model.prepared()?;
    let model = prepared.as_ref().unwrap_or(model);
    let mut memory = model.encode(src, Mode::Evaluate)?;
    let mut cache = M::Cache::default();
    let mut finished: Vec<Vec<Ranked>> = vec![Vec::new(); batch];
    let start = |source| {
        let state = constraint.start(source, max_len)?;
        Ok(Partial { source, ids: Vec::new(), log_probability: 0.0, state })
    };
    let mut running: Vec<Partial<C::State>> = (0..batch).map(start).collect::<Result<_>>()?;
    for len in 2..=max_len {
        let last: Vec<u32> = running.iter().map(|partial| *partial.ids.last().unwrap_or(&delimiter)).collect();
        let column = Tensor::new(last, src.ids().device())?.unsqueeze(1)?;
        let states = model.decode(&memory, &Padded::full(column), Some(&mut cache), Mode::Evaluate)?;
        let scores = Scores::read(&model.logits(&states)?, len - 2, |row| running[row].source)?;

        let mut followed = Vec::new();
        let mut first_row = 0;
        for siblings in running.chunk_by(|a, b| a.source == b.source) {
            let source = siblings[0].source;
            let kept = &mut finished[source];
            let mut next = Vec::new();
            let continued = siblings
                .iter()
                .zip(first_row..)
                .map(|(partial, row)| (partial.log_probability, scores.row(row), constraint.allowed(&partial.state)));
            // Of twice the width, at most half of the candidates end.
            let candidates = best(continued, beam.width.saturating_mul(2));
            if candidates.is_empty() {
                return Err(nothing_allowed(source, len - 2));
            }
            for Candidate { row, token, log_probability } in candidates {
                let Partial { ids, state, .. } = &siblings[row];
                let end = if token == delimiter { End::Delimiter } else { End::Limit };
                let ids = if token == delimiter { ids.clone() } else { [ids, &[token][..]].concat() };
                if token == delimiter || len == max_len {
                    let score = beam.score(log_probability, len - 1);
                    keep(kept, Ranked { hypothesis: Hypothesis { ids, end }, score }, beam.width);
                } else {
                    let mut state = state.clone();
                    constraint.advance(&mut state, token);
                    next.push((first_row + row, Partial { source, ids, log_probability, state }));
                }
                if next.len() == beam.width {
                    break;
                }
            }
            first_row += siblings.len();
            // The most probable answer comes first, and a continuation is never more probable. Its score is largest at
            // the shortest or the longest length, depending on the sign of the penalty.
            let attainable = next.first().map(|(_, partial)| {
                let at = |len| beam.score(partial.log_probability, len);
                at(len).max(at(max_len - 1))
            });
            let worst = kept.last().filter(|_| kept.len() == beam.width).map(|ranked| ranked.score);
            let is_done = match (worst, attainable, beam.stopping) {
                (Some(worst), Some(attainable), Stopping::Exhausted) => worst >= attainable,
                (Some(_), _, Stopping::Early) => true,
                _ => false,
            };
            if !is_done {
                followed.append(&mut next);
            }
        }
        if followed.is_empty() {
            break;
        }
        let (parents, next): (Vec<usize>, Vec<Partial<C::State>>) = followed.into_iter().unzip();
        let rows: Vec<u32> = parents.iter().map(|row| *row as u32).collect();
        // Rows of one source have the same memory.
        let same_sources = next.len() == running.len() && next.iter().zip(&running).all(|(a, b)| a.source == b.source);
        if !same_sources {
            memory = memory.select(&rows)?;
        }
        if !parents.into_iter().eq(0..running.len()) {
            cache = cache.select(&rows)?;
        }
        running = next;
    }
    Ok(finished)
}

/// An answer that has not ended.
struct Partial<S> {
    /// Row of its source in the batch.
    source: usize,
    ids: Vec<u32>,
    log_probability: f64,
    /// The state of the constraint for this answer.
    state: S,
}

/// A possible next token.
struct Candidate {
    /// The index of its partial answer among those to the same source.
    row: usize,
    token: u32,
    /// The log-probability of the answer including this token.
    log_probability: f64,
}

/// The `count` most probable continuations of all partial answers, best first; of equals, the first. Each partial
/// answer is given by the logarithm of its probability, the scores of all tokens after it, and the allowed ids.
fn best<'s>(partials: impl Iterator<Item = (f64, &'s [f32], &'s [Range<u32>])>, count: usize) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::new();
    for (row, (log_probability, scores, allowed)) in partials.enumerate() {
        let largest = largest(scores);
        let total: f64 = scores.iter().map(|score| f64::from((score - largest).exp())).sum();
        let constant = log_probability - f64::from(largest) - total.ln();
        for run in runs(scores, allowed) {
            for (token, score) in (run.first..).zip(run.scores) {
                let log_probability = constant + f64::from(*score);
                let is_among =
                    best.len() < count || best.last().is_some_and(|worst| log_probability > worst.log_probability);
                if is_among {
                    let place = best.partition_point(|other| other.log_probability >= log_probability);
                    best.insert(place, Candidate { row, token, log_probability });
                    best.truncate(count);
                }
            }
        }
    }
    best
}

/// Adds an answer to the best `width`; of equals, the first stays first.
fn keep(kept: &mut Vec<Ranked>, ranked: Ranked, width: usize) {
    let place = kept.partition_point(|other| other.score >= ranked.score);
    kept.insert(place, ranked);
    kept.truncate(width);
}
