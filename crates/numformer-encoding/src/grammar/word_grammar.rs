//! Which symbols may follow which in a word.

use std::ops::Range;

/// The grammar of the words of a number encoding: an automaton over its local ids.
///
/// State 0 begins a word. Each state has branches. A branch consists of some tokens and of what comes after them: a
/// later state, or the end of the word. [`NumberEncoding::decode`](crate::NumberEncoding::decode) reads exactly the
/// words that a walk from state 0 to the end writes.
///
/// # Examples
/// A sign and one or two digits:
/// ```
/// use numformer_encoding::{Branch, WordGrammar};
///
/// let (signs, digits) = (0..2, 2..12);
/// let grammar = WordGrammar::new(vec![
///     vec![Branch { tokens: signs, next: Some(1) }],
///     vec![Branch { tokens: digits.clone(), next: Some(2) }, Branch { tokens: 12..13, next: None }],
///     vec![Branch { tokens: digits, next: None }],
/// ])?;
/// assert_eq!(grammar.shortest(0), 2);
/// # Ok::<(), numformer_encoding::WordGrammarError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordGrammar {
    states: Vec<Vec<Branch>>,
    /// For each state, the number of tokens on the shortest way to the end.
    shortest: Vec<usize>,
}

/// Tokens that may stand at one place of a word, and what comes after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Local ids.
    pub tokens: Range<u32>,
    /// The state after any of these tokens; `None` if the word ends there.
    pub next: Option<usize>,
}

impl WordGrammar {
    /// The automaton with these states.
    ///
    /// # Errors
    /// When there is no state, a state has no branches, a branch has no tokens, two branches of a state share a token,
    /// or a branch does not lead to a later state.
    pub fn new(states: Vec<Vec<Branch>>) -> Result<Self, WordGrammarError> {
        if states.is_empty() {
            return Err(WordGrammarError::NoTokens { state: 0 });
        }
        let mut shortest = vec![0; states.len()];
        // States lead only to later ones.
        for (state, branches) in states.iter().enumerate().rev() {
            for (index, Branch { tokens, next }) in branches.iter().enumerate() {
                if tokens.is_empty() {
                    return Err(WordGrammarError::NoTokens { state });
                }
                let shared = |other: &&Branch| other.tokens.start < tokens.end && tokens.start < other.tokens.end;
                if let Some(other) = branches[..index].iter().find(shared) {
                    return Err(WordGrammarError::Ambiguous { state, token: tokens.start.max(other.tokens.start) });
                }
                if let Some(next) = *next
                    && !(state + 1..states.len()).contains(&next)
                {
                    return Err(WordGrammarError::Next { state, count: states.len(), found: next });
                }
            }
            let lengths = branches.iter().map(|branch| 1 + branch.next.map_or(0, |next| shortest[next]));
            shortest[state] = lengths.min().ok_or(WordGrammarError::NoTokens { state })?;
        }
        Ok(Self { states, shortest })
    }

    /// The words with one token from each range, in this order.
    pub(crate) fn sequence<const N: usize>(places: [Range<u32>; N]) -> Self {
        let branch = |(place, tokens)| vec![Branch { tokens, next: (place + 1 < N).then_some(place + 1) }];
        Self::new(places.into_iter().enumerate().map(branch).collect())
            .expect("places with tokens, one after the other")
    }

    /// The branches of each state.
    #[must_use]
    pub fn states(&self) -> &[Vec<Branch>] {
        &self.states
    }

    /// The number of tokens on the shortest way from a state to the end of the word.
    ///
    /// # Panics
    /// When there is no such state.
    #[must_use]
    pub fn shortest(&self, state: usize) -> usize {
        self.shortest[state]
    }
}

/// Why states do not form a grammar of words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordGrammarError {
    /// Nothing may follow, although the word has not ended.
    #[error("expected tokens in every branch of state {state}, found none")]
    NoTokens {
        /// The state.
        state: usize,
    },
    /// A token leads to two states.
    #[error("expected each token in one branch of state {state}, found {token} in two")]
    Ambiguous {
        /// The state.
        state: usize,
        /// The token.
        token: u32,
    },
    /// A state leads to itself, to an earlier state, or to one that does not exist.
    #[error("expected state {state} of {count} to lead to a later one, found {found}")]
    Next {
        /// The state.
        state: usize,
        /// The number of states.
        count: usize,
        /// The state it leads to.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grammar(states: &[&[(Range<u32>, Option<usize>)]]) -> Result<WordGrammar, WordGrammarError> {
        let branch = |(tokens, next): &(Range<u32>, Option<usize>)| Branch { tokens: tokens.clone(), next: *next };
        WordGrammar::new(states.iter().map(|branches| branches.iter().map(branch).collect()).collect())
    }

    #[test]
    fn the_shortest_way_is_known_from_every_state() {
        let grammar =
            grammar(&[&[(0..1, Some(1))], &[(0..3, Some(2)), (3..4, Some(3))], &[(0..1, Some(3))], &[(5..9, None)]]);
        let grammar = grammar.expect("a grammar");
        assert_eq!([0, 1, 2, 3].map(|state| grammar.shortest(state)), [3, 2, 2, 1]);
    }

    #[test]
    fn states_that_are_no_grammar_say_why() {
        assert_eq!(grammar(&[]), Err(WordGrammarError::NoTokens { state: 0 }));
        assert_eq!(grammar(&[&[(0..1, Some(1))], &[]]), Err(WordGrammarError::NoTokens { state: 1 }));
        assert_eq!(grammar(&[&[(3..3, None)]]), Err(WordGrammarError::NoTokens { state: 0 }));
        let ambiguous = grammar(&[&[(0..5, None), (4..9, None)]]);
        assert_eq!(ambiguous, Err(WordGrammarError::Ambiguous { state: 0, token: 4 }));
        for next in [0, 1] {
            let expected = WordGrammarError::Next { state: 0, count: 1, found: next };
            assert_eq!(grammar(&[&[(0..5, Some(next))]]), Err(expected));
        }
    }
}
