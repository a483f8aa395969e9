//! Pairs of source and target, and a model's results for them.

use std::iter;

use candle_core::Device;
use numformer_encoding::TokenId;
use numformer_model::{Candidate, End, Hypothesis, Padded, Seq2Seq};

/// Maximum number of tokens that are run together, including padding. It bounds memory for sequences of any length.
const TOKENS: usize = 16_384;

/// A source and a target as ids, with their delimiters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub(crate) src: Vec<u32>,
    pub(crate) tgt: Vec<u32>,
}

impl Pair {
    /// Number of tokens that are predicted: those of the target and the closing delimiter.
    pub(crate) fn target_tokens(&self) -> usize {
        self.tgt.len() - 1
    }

    /// The target without its delimiters.
    pub(crate) fn inner(&self) -> &[u32] {
        &self.tgt[1..self.tgt.len() - 1]
    }
}

/// A model's result for a pair, in ids.
pub(crate) struct Scored {
    pub(crate) cross_entropy: f64,
    pub(crate) answer: Option<Candidate>,
}

impl Scored {
    /// Whether the model's own answer is the target; `None` if no answer was requested.
    pub(crate) fn is_exact(&self, pair: &Pair) -> Option<bool> {
        let answer = self.answer.as_ref().map(|answer| &answer.hypothesis);
        answer.map(|answer| answer.end == End::Delimiter && answer.ids == pair.inner())
    }
}

/// Pairs that are run together.
pub(crate) struct Batch<'p> {
    /// Number of pairs before these.
    pub(crate) first: usize,
    pub(crate) pairs: &'p [Pair],
    /// Mean cross-entropy of each pair.
    pub(crate) cross_entropies: &'p [f64],
}

/// Scores pairs in order. `answer` provides the model's own answers.
pub(crate) fn score_pairs<E: From<candle_core::Error>>(
    model: &impl Seq2Seq,
    pairs: &[Pair],
    device: &Device,
    mut answer: impl FnMut(Batch<'_>) -> Result<Vec<Option<Candidate>>, E>,
) -> Result<Vec<Scored>, E> {
    let padding = model.padding_id();
    let mut scored = Vec::with_capacity(pairs.len());
    while scored.len() < pairs.len() {
        let first = scored.len();
        let rest = &pairs[first..];
        let pairs = &rest[..fitting(rest)];
        let src = padded(pairs.iter().map(|pair| pair.src.as_slice()), padding, device)?;
        let tgt = padded(pairs.iter().map(|pair| pair.tgt.as_slice()), padding, device)?;
        let cross_entropies: Vec<f64> = model.losses(&src, &tgt)?.into_iter().map(f64::from).collect();
        let answers = answer(Batch { first, pairs, cross_entropies: &cross_entropies })?;
        let both = cross_entropies.into_iter().zip(answers);
        scored.extend(both.map(|(cross_entropy, answer)| Scored { cross_entropy, answer }));
    }
    Ok(scored)
}

pub(crate) fn padded<'a>(
    sequences: impl Iterator<Item = &'a [u32]> + Clone,
    padding: u32,
    device: &Device,
) -> candle_core::Result<Padded> {
    let width = sequences.clone().map(<[u32]>::len).max().unwrap_or(0);
    let lengths: Vec<u32> = sequences.clone().map(|sequence| sequence.len() as u32).collect();
    let mut ids = Vec::with_capacity(lengths.len() * width);
    for sequence in sequences {
        ids.extend(sequence);
        ids.extend(iter::repeat_n(padding, width - sequence.len()));
    }
    Padded::new(&ids, &lengths, width, device)
}

/// How many of the first pairs are run together: at least one.
fn fitting(pairs: &[Pair]) -> usize {
    let mut width = 0;
    let too_many = |(index, pair): (usize, &Pair)| {
        width = pair.src.len().max(pair.tgt.len()).max(width);
        (index + 1) * width > TOKENS
    };
    pairs.iter().enumerate().map(too_many).position(|too_many| too_many).unwrap_or(pairs.len()).max(1)
}

/// The tokens of an answer; `None` if the model did not end the answer.
pub(crate) fn finished(answer: &Hypothesis) -> Option<Vec<TokenId>> {
    (answer.end == End::Delimiter).then(|| tokens_of(&answer.ids))
}

pub(crate) fn tokens_of(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_to_the_budget() {
        let pair = |len| Pair { src: vec![0; len], tgt: vec![0; 2] };
        assert_eq!(fitting(&vec![pair(TOKENS / 4); 9]), 4);
        assert_eq!(fitting(&[pair(2), pair(TOKENS), pair(2)]), 1);
        assert_eq!(fitting(&[pair(2 * TOKENS), pair(2)]), 1);
        assert_eq!(fitting(&[pair(2), pair(3)]), 2);
    }
}
