//! Scores of the possible next tokens.

use std::ops::Range;

use candle_core::{Error, Result, Tensor};

/// The scores of every token for each row of a batch, all of them finite.
pub(crate) struct Scores {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Scores {
    /// Reads the logits `[.., vocab_size]` for the token at `position` of the answers, counted from 0. `sources` maps
    /// each row to its row in the batch of sources.
    pub(crate) fn read(logits: &Tensor, position: usize, sources: impl Fn(usize) -> usize) -> Result<Self> {
        let vocab_size = logits.dims().last().copied().unwrap_or(0);
        let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
        // A loop without an early exit is faster.
        let are_finite = values.iter().fold(true, |are_finite, x| are_finite & x.is_finite());
        if !are_finite && let Some(bad) = values.iter().position(|x| !x.is_finite()) {
            let (row, token) = (sources(bad / vocab_size), (bad % vocab_size) as u32);
            return Err(Error::wrap(GenerationError::NotFinite { row, position, token, found: values[bad] }));
        }
        Ok(Self { values, vocab_size })
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.vocab_size..][..self.vocab_size]
    }
}

/// The scores of consecutive tokens, the first of which has id `first`.
pub(crate) struct Run<'s> {
    pub(crate) first: u32,
    pub(crate) scores: &'s [f32],
}

/// The scores of the allowed tokens.
pub(crate) fn runs<'s>(scores: &'s [f32], allowed: &'s [Range<u32>]) -> impl Iterator<Item = Run<'s>> + Clone {
    allowed.iter().map(|range| {
        let within = |id: u32| (id as usize).min(scores.len());
        Run { first: range.start, scores: &scores[within(range.start)..within(range.end)] }
    })
}

/// The largest of the scores. It is computed sixteen at a time, which compilers turn into vector code.
pub(crate) fn largest(scores: &[f32]) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// The allowed token with the largest score; of equals, the first.
pub(crate) fn most_probable(scores: &[f32], allowed: &[Range<u32>]) -> Option<u32> {
    let mut best: Option<(f32, Run<'_>)> = None;
    for run in runs(scores, allowed).filter(|run| !run.scores.is_empty()) {
        let largest = largest(run.scores);
        if best.as_ref().is_none_or(|(best, _)| largest > *best) {
            best = Some((largest, run));
        }
    }
    let (largest, run) = best?;
    (run.first..).zip(run.scores).find(|(_, x)| **x >= largest).map(|(token, _)| token)
}

/// The error for a row in which no token may follow.
pub(crate) fn nothing_allowed(row: usize, position: usize) -> Error {
    Error::wrap(GenerationError::NothingAllowed { row, position })
}

/// The reason why no answer can be written. Rows are those of the batch. Positions are those in the answer, without the
/// opening delimiter. Both are counted from 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerationError {
    /// The model's scores are not finite: it has diverged or is damaged.
    #[error("expected finite scores of tokens in row {row}, position {position}, found {found} for token {token}")]
    NotFinite {
        /// Row of the source.
        row: usize,
        /// Position of the next token.
        position: usize,
        /// The token with that score.
        token: u32,
        /// The score.
        found: f32,
    },
    /// The constraint allows neither a token nor the end.
    #[error("expected a token that may follow in row {row}, position {position}, found none")]
    NothingAllowed {
        /// Row of the source.
        row: usize,
        /// Position of the next token.
        position: usize,
    },
    /// The temperature is not positive and finite.
    #[error("expected a positive, finite temperature, found {found}")]
    Temperature {
        /// The temperature.
        found: f64,
    },
    /// No samples are requested.
    #[error("expected at least one sample of each answer, found {found}")]
    Samples {
        /// The number of samples.
        found: usize,
    },
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "sets of ids are lists of ranges")]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_most_probable_token_is_the_first_of_the_largest_that_are_allowed() {
        let mut scores: Vec<f32> = (0..100).map(|i| (i * 37 % 101) as f32).collect();
        let all = || std::slice::from_ref(&(0..u32::MAX));
        let expected = scores.iter().position(|x| *x >= 100.0).expect("one of them") as u32;
        assert_eq!(most_probable(&scores, all()), Some(expected));
        scores[3] = 100.0;
        assert_eq!(most_probable(&scores, all()), Some(3));
        assert_eq!(most_probable(&scores, &[1..2, 4..5, 90..200]), {
            let best = [1, 4].into_iter().chain(90..100).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            best.map(|token| token as u32)
        });
        assert_eq!(most_probable(&scores, &[]), None);
        assert_eq!(most_probable(&scores, &[100..105]), None);
        // Improbable as it is, it is the only token allowed.
        assert_eq!(most_probable(&[0.0, f32::MIN], &[1..2]), Some(1));
    }

    #[test]
    fn scores_that_are_of_no_use_are_named() {
        let read = |bad: f32| {
            let logits = Tensor::new(&[[0.5, 1.0, 2.0], [f32::MIN, bad, 0.0]], &Device::Cpu).expect("logits");
            Scores::read(&logits, 4, |row| [5, 7][row]).map(|scores| scores.row(1)[1])
        };
        assert_eq!(read(3.0).ok(), Some(3.0));
        let message = read(f32::NAN).expect_err("no number").to_string();
        assert!(message.contains("in row 7, position 4, found NaN for token 1"), "{message}");
        assert!(read(f32::INFINITY).is_err() && read(f32::NEG_INFINITY).is_err());
    }
}
