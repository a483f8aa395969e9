//! Generation of answers: from a trained model and sources to target tokens.

pub(crate) mod beam_search;
pub(crate) mod constraint;
pub(crate) mod follow;
pub(crate) mod sampling;
pub(crate) mod scores;

use candle_core::Result;

use crate::generate::beam_search::{Beam, Ranked, beam_within};
use crate::generate::constraint::{Constraint, Unconstrained};
use crate::generate::follow::{Paths, follow, has_work};
use crate::generate::sampling::{Sampling, sample};
use crate::generate::scores::most_probable;
use crate::hypothesis::Hypothesis;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::Seq2Seq;

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
    if !has_work(model, src, max_len)? {
        return Ok(Vec::new());
    }
    if constraint.allows_all()
        && let Some(answers) = model.greedy_answers(src, max_len)?
    {
        return Ok(answers);
    }
    let prepared = model.prepared()?;
    let model = prepared.as_ref().unwrap_or(model);
    let sources = (0..src.batch_size()?).collect();
    let paths = Paths { memory: model.encode(src, Mode::Evaluate)?, sources, device: src.ids().device() };
    follow(model, paths, max_len, constraint, |_, scores, allowed| most_probable(scores, allowed))
}
