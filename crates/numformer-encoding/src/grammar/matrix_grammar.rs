//! Which tokens may follow which in a matrix of a given shape.

use std::ops::Range;
use std::slice;

use crate::{Layout, TokenId, WordGrammar};

/// The grammar of matrices of a known shape: which tokens may come next, up to the closing delimiter. It allows exactly
/// what [`MatrixEncoding::decode`](crate::MatrixEncoding::decode) reads as a matrix of that shape.
///
/// All sets of tokens are computed once; a step neither allocates nor copies.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_encoding::{MatrixEncoding, Positional, Vocabulary};
///
/// let p1000 = Positional::p1000();
/// let vocabulary = Vocabulary::reference(&p1000, &p1000);
/// let encoding = MatrixEncoding::new(Arc::new(p1000), &vocabulary)?;
/// let grammar = encoding.grammar().expect("the published encodings have one");
/// let mut state = grammar.start(1, 1, 6)?;
/// for token in vocabulary.tokenize("V1 V1 + 314")? {
///     assert!(grammar.is_allowed(&state, token));
///     grammar.advance(&mut state, token);
/// }
/// // An exponent may follow, but not a second significand.
/// let [number, exponent] = [vocabulary.id("314"), vocabulary.id("E-2")].map(|id| id.expect("of the encoding"));
/// assert!(!grammar.is_allowed(&state, number) && grammar.is_allowed(&state, exponent));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MatrixGrammar {
    letter: Option<Range<u32>>,
    dimensions: Vec<Range<u32>>,
    layout: Layout,
    delimiter: Range<u32>,
    word: WordGrammar,
    /// For each state of a word.
    levels: Vec<Vec<Level>>,
    /// The local id of each vocabulary id.
    local_ids: Vec<TokenId>,
}

/// The tokens that may follow when there is room for at least `spare` more tokens than the shortest matrix needs.
#[derive(Clone, Debug)]
struct Level {
    spare: usize,
    allowed: Vec<Range<u32>>,
}

/// The state of a [`MatrixGrammar`]: how far a matrix has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixState {
    place: Place,
    rows: usize,
    cols: usize,
    /// How many numbers are not complete yet.
    numbers: usize,
    /// How many more tokens may be written.
    room: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Letter,
    Rows,
    Columns,
    /// Inside a word, in this state of its grammar.
    Word(usize),
    Delimiter,
    /// After the delimiter, or after a token that was not allowed.
    Closed,
}

impl MatrixGrammar {
    /// `ids` holds the vocabulary id of each local id, and `local_ids` holds the local id of each vocabulary id.
    pub(crate) fn new(
        letter: Option<TokenId>,
        dimensions: &[TokenId],
        layout: Layout,
        delimiter: TokenId,
        word: WordGrammar,
        ids: &[TokenId],
        local_ids: Vec<TokenId>,
    ) -> Self {
        let levels = (0..word.states().len()).map(|state| levels(&word, state, ids)).collect();
        let dimensions = dimensions.iter().copied().map(just).collect();
        Self { letter: letter.map(just), dimensions, layout, delimiter: just(delimiter), word, levels, local_ids }
    }

    /// The state before the first token of a matrix of this shape. The matrix may have at most `room` tokens, including
    /// the closing delimiter.
    ///
    /// # Errors
    /// When the vocabulary has no tokens for this shape, the shape does not suit the layout, or the shortest such matrix
    /// has more than `room` tokens.
    pub fn start(&self, rows: usize, cols: usize, room: usize) -> Result<MatrixState, GrammarError> {
        let max = self.dimensions.len();
        if !(1..=max).contains(&rows) || !(1..=max).contains(&cols) {
            return Err(GrammarError::Shape { max, rows, cols });
        }
        if !self.layout.fits(rows, cols) {
            return Err(GrammarError::NotSquare { rows, cols });
        }
        let place = if self.letter.is_some() { Place::Letter } else { Place::Rows };
        let state = MatrixState { place, rows, cols, numbers: self.layout.count(rows, cols), room };
        let needed = self.shortest(&state);
        if needed > room { Err(GrammarError::Room { rows, cols, needed, found: room }) } else { Ok(state) }
    }

    /// The ids that may follow, as ascending ranges. There is always at least one until the delimiter has been written.
    #[must_use]
    pub fn allowed(&self, state: &MatrixState) -> &[Range<u32>] {
        match state.place {
            Place::Letter => self.letter.as_slice(),
            Place::Rows => slice::from_ref(&self.dimensions[state.rows - 1]),
            Place::Columns => slice::from_ref(&self.dimensions[state.cols - 1]),
            Place::Word(word) => {
                let spare = state.room.saturating_sub(self.shortest(state));
                let level = self.levels[word].iter().rfind(|level| level.spare <= spare);
                level.map_or(&[], |level| &level.allowed)
            }
            Place::Delimiter => slice::from_ref(&self.delimiter),
            Place::Closed => &[],
        }
    }

    /// Whether a token may follow.
    #[must_use]
    pub fn is_allowed(&self, state: &MatrixState, TokenId(id): TokenId) -> bool {
        let allowed = self.allowed(state);
        let after = allowed.partition_point(|range| range.end <= id);
        allowed.get(after).is_some_and(|range| range.contains(&id))
    }

    /// Moves past `token`. If `token` is not allowed, no token may follow it.
    pub fn advance(&self, state: &mut MatrixState, token: TokenId) {
        let next = if self.is_allowed(state, token) { self.after(state, token) } else { Place::Closed };
        if next == Place::Word(0) && matches!(state.place, Place::Word(_)) || next == Place::Delimiter {
            state.numbers -= 1;
        }
        state.place = next;
        state.room = state.room.saturating_sub(1);
    }

    /// The place after a token that is allowed.
    fn after(&self, state: &MatrixState, TokenId(id): TokenId) -> Place {
        match state.place {
            Place::Letter => Place::Rows,
            Place::Rows => Place::Columns,
            Place::Columns => Place::Word(0),
            Place::Word(word) => {
                let TokenId(local) = self.local_ids[id as usize];
                let branch = self.word.states()[word].iter().find(|branch| branch.tokens.contains(&local));
                match branch.and_then(|branch| branch.next) {
                    Some(next) => Place::Word(next),
                    None if state.numbers > 1 => Place::Word(0),
                    None => Place::Delimiter,
                }
            }
            Place::Delimiter | Place::Closed => Place::Closed,
        }
    }

    /// The fewest tokens that complete the matrix, the delimiter included.
    fn shortest(&self, state: &MatrixState) -> usize {
        let word = self.word.shortest(0);
        match state.place {
            Place::Letter => 3 + state.numbers * word + 1,
            Place::Rows => 2 + state.numbers * word + 1,
            Place::Columns => 1 + state.numbers * word + 1,
            Place::Word(begun) => self.word.shortest(begun) + (state.numbers - 1) * word + 1,
            Place::Delimiter => 1,
            Place::Closed => 0,
        }
    }
}

/// The tokens that may follow in one state of a word, for each amount of room.
fn levels(word: &WordGrammar, state: usize, ids: &[TokenId]) -> Vec<Level> {
    let branches = &word.states()[state];
    let spare = |next: Option<usize>| 1 + next.map_or(0, |next| word.shortest(next)) - word.shortest(state);
    let mut spares: Vec<usize> = branches.iter().map(|branch| spare(branch.next)).collect();
    spares.sort_unstable();
    spares.dedup();
    let level = |limit| {
        let within = branches.iter().filter(|branch| spare(branch.next) <= limit);
        let locals = within.flat_map(|branch| branch.tokens.clone());
        // A grammar may name more symbols than there are.
        let mut allowed: Vec<u32> = locals.filter_map(|local| Some(ids.get(local as usize)?.0)).collect();
        allowed.sort_unstable();
        let ranges = allowed.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1);
        Level { spare: limit, allowed: ranges.collect() }
    };
    spares.into_iter().map(level).collect()
}

fn just(TokenId(id): TokenId) -> Range<u32> {
    id..id + 1
}

/// Why a matrix cannot be written under a grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The vocabulary has no dimension token for such a shape.
    #[error("expected a shape from 1x1 to {max}x{max}, found {rows}x{cols}")]
    Shape {
        /// The largest dimension.
        max: usize,
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        cols: usize,
    },
    /// A lower triangle belongs to a square matrix.
    #[error("expected as many columns as rows, for the layout `lower-triangle`, found {rows}x{cols}")]
    NotSquare {
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        cols: usize,
    },
    /// The shortest matrix of the shape is too long.
    #[error("expected room for at least {needed} tokens, for a {rows}x{cols} matrix and its delimiter, found {found}")]
    Room {
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        cols: usize,
        /// The number of tokens of the shortest such matrix, including the delimiter.
        needed: usize,
        /// The number of tokens that may be written.
        found: usize,
    },
}
