//! Generation of answers: from a trained model and sources to target tokens.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use crate::batched::Batched;
use crate::beam_search::{Beam, Ranked, beam_within};
use crate::constraint::{Constraint, Unconstrained};
use crate::mode::Mode;
use crate::padded::Padded;
use crate::sampling::{Sampling, sample};
use crate::scores::{Scores, most_probable, nothing_allowed};
use crate::seq2seq::Seq2Seq;

/// One generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypothesis {
    /// The tokens between the delimiters.
    pub ids: Vec<u32>,
    /// How the sequence ended.
    pub end: End,
}

/// An answer with its score, as a decoding returns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The answer.
    pub hypothesis: Hypothesis,
    /// Its [score](crate::Ranked::score) among the answers of a beam; `None` for other decodings.
    pub score: Option<f64>,
}

impl From<Hypothesis> for Candidate {
    fn from(hypothesis: Hypothesis) -> Self {
        Self { hypothesis, score: None }
    }
}

impl From<Ranked> for Candidate {
    fn from(Ranked { hypothesis, score }: Ranked) -> Self {
        Self { hypothesis, score: Some(score) }
    }
}

/// How a generated sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the closing delimiter.
    Delimiter,
    /// At the maximum length, unfinished.
    Limit,
}

/// The method by which answers are found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decoding {
    /// The most probable token at each position.
    #[default]
    Greedy,
    /// The answers that are the most probable as a whole, best first.
    Beam(Beam),
    /// Answers drawn at random.
    Sample(Sampling),
}

/// Generates answers to each source: at least one, the best first if they are ranked. An answer has at most `max_len`
/// tokens, both delimiters included, and only tokens that `constraint` allows.
///
/// A sequence that has ended costs nothing more. An answer does not depend on the rest of the batch, except where two
/// tokens are equally probable up to rounding. Samples are functions of the seed and the index of the source: the first
/// row has index `first_index`, and the others follow. If the constraint forbids tokens, a beam ranks answers by their
/// probabilities under the unconstrained model, and samples are drawn from the renormalised probabilities of the
/// allowed tokens.
///
/// Build `model` on [`Parameters::frozen`](crate::Parameters::frozen); otherwise every step is recorded for a backward
/// pass.
///
/// # Errors
/// As [`Seq2Seq::encode`], and when the decoding is impossible. Also when the model's scores are not finite or the
/// constraint allows nothing; the error then names the row and the position.
pub fn generate<M: Seq2Seq, C: Constraint>(
    model: &M,
    src: &Padded,
    first_index: u64,
    max_len: usize,
    decoding: &Decoding,
    constraint: &C,
) -> Result<Vec<Vec<Candidate>>> {
    fn of_all<A: Into<Candidate>>(rows: impl IntoIterator<Item = Vec<A>>) -> Vec<Vec<Candidate>> {
        rows.into_iter().map(|row| row.into_iter().map(A::into).collect()).collect()
    }
    Ok(match decoding {
        Decoding::Greedy => {
            of_all(greedy_within(model, src, max_len, constraint)?.into_iter().map(|answer| vec![answer]))
        }
        Decoding::Beam(search) => of_all(beam_within(model, src, max_len, search, constraint)?),
        Decoding::Sample(sampling) => of_all(sample(model, src, first_index, max_len, sampling, constraint)?),
    })
}

/// Greedy decoding: writes the most probable token at each position (of equals, the first), until the closing delimiter
/// or until `max_len` tokens, both delimiters included. Like [`generate`], without a constraint.
///
/// # Errors
/// As [`generate`].
pub fn greedy<M: Seq2Seq>(model: &M, src: &Padded, max_len: usize) -> Result<Vec<Hypothesis>> {
    greedy_within(model, src, max_len, &Unconstrained)
}

fn greedy_within<M: Seq2Seq, C: Constraint>(
    model: &M,
    src: &Padded,
    max_len: usize,
    constraint: &C,
) -> Result<Vec<Hypothesis>> {
    let sources = (0..src.batch_size()?).collect();
    let paths = Paths { memory: model.encode(src, Mode::Evaluate)?, sources, device: src.ids().device() };
    follow(model, paths, max_len, constraint, |_, scores, allowed| most_probable(scores, allowed))
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
