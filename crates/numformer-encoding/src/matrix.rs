//! Matrices as tokens: the shape, then the coefficients.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::spelling::symbol_or_unknown;
use crate::vocabulary::dimension_symbol;
use crate::{
    DecodeError, DenseMatrix, EncodeError, Layout, MatrixGrammar, NumberEncoding, TokenId, Vocabulary, VocabularyError,
};

/// A number encoding with dimension tokens, bound to a vocabulary. It reads and writes vocabulary ids.
///
/// A matrix is `V<rows> V<cols>`, then the words of its coefficients in row-major order, or in that of another
/// [layout](Self::with_layout). A task letter may come first. Delimiters are not part of it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_encoding::{MatrixEncoding, Positional, Vocabulary};
///
/// let p1000 = Positional::p1000();
/// let vocabulary = Vocabulary::reference(&p1000, &p1000);
/// let encoding = MatrixEncoding::new(Arc::new(p1000), &vocabulary)?;
/// let mut tokens = Vec::new();
/// encoding.encode(1, 2, [3.14159, -0.5], &mut tokens)?;
/// assert_eq!(vocabulary.render(&tokens), "V1 V2 + 314 E-2 - 500 E-3");
/// assert_eq!(encoding.decode(&tokens)?.coefficients, [3.14, -0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MatrixEncoding {
    number: Arc<dyn NumberEncoding>,
    vocabulary: Vocabulary,
    task_letter: Option<TokenId>,
    layout: Layout,
    /// The vocabulary id of each local id.
    ids: Vec<TokenId>,
    /// The local id of each vocabulary id, or [`FOREIGN`].
    local_ids: Vec<TokenId>,
    /// The ids of `V1`, `V2` and so on.
    dimensions: Vec<TokenId>,
}

/// Stands for a token that the number encoding does not know. No encoding has that many symbols.
const FOREIGN: TokenId = TokenId(u32::MAX);

/// Coefficients are gathered in blocks of this size, so that one call writes many numbers.
const BLOCK: usize = 64;

thread_local! {
    /// Local ids of the matrix being read. The buffer is kept, so that reading does not allocate once it is large
    /// enough.
    static LOCAL: Cell<Vec<TokenId>> = const { Cell::new(Vec::new()) };

    /// Entries of a matrix that is not written row by row, kept for the same reason.
    static ENTRIES: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

impl MatrixEncoding {
    /// Binds an encoding to a vocabulary. The dimensions are those that the vocabulary holds, from `V1` up to the first
    /// gap.
    ///
    /// # Errors
    /// When the vocabulary lacks a symbol of the encoding, or `V1`.
    pub fn new(number: Arc<dyn NumberEncoding>, vocabulary: &Vocabulary) -> Result<Self, VocabularyError> {
        let ids = number.symbols().iter().map(|symbol| vocabulary.require(symbol)).collect::<Result<Vec<_>, _>>()?;
        let mut local_ids = vec![FOREIGN; vocabulary.len()];
        for (local, id) in ids.iter().enumerate() {
            local_ids[id.0 as usize] = TokenId(local as u32);
        }
        let mut dimensions = vec![vocabulary.require(&dimension_symbol(1))?];
        dimensions.extend((2..).map_while(|dimension| vocabulary.id(&dimension_symbol(dimension))));
        Ok(Self {
            number,
            vocabulary: vocabulary.clone(),
            task_letter: None,
            layout: Layout::default(),
            ids,
            local_ids,
            dimensions,
        })
    }

    /// Begins every matrix with this symbol, which tells the problems of co-training apart.
    ///
    /// # Errors
    /// When the vocabulary lacks the symbol.
    pub fn with_task_letter(mut self, symbol: &str) -> Result<Self, VocabularyError> {
        self.task_letter = Some(self.vocabulary.require(symbol)?);
        Ok(self)
    }

    /// Writes matrices in this layout.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The symbol that every matrix begins with, if there is one.
    pub fn task_letter(&self) -> Option<TokenId> {
        self.task_letter
    }

    /// The layout in which matrices are written.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The encoding of the coefficients.
    pub fn number(&self) -> &dyn NumberEncoding {
        &*self.number
    }

    /// The vocabulary that the ids belong to.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The largest number of rows or columns.
    pub fn max_dimension(&self) -> usize {
        self.dimensions.len()
    }

    /// Checks that there are dimension tokens for a shape, and that it suits the layout.
    ///
    /// # Errors
    /// When one of the two does not hold.
    pub fn require_shape(&self, rows: usize, cols: usize) -> Result<(), EncodeError> {
        let max = self.max_dimension();
        if !(1..=max).contains(&rows) || !(1..=max).contains(&cols) {
            return Err(EncodeError::Shape { max, rows, cols });
        }
        if self.layout.fits(rows, cols) { Ok(()) } else { Err(EncodeError::NotSquare { rows, cols }) }
    }

    /// The number of tokens in the longest encoding of a matrix of that shape, without delimiters.
    pub fn max_len(&self, rows: usize, cols: usize) -> usize {
        self.header_len() + self.layout.count(rows, cols) * self.number.max_word_len()
    }

    /// Which tokens may follow which in a matrix; `None` if the encoding of numbers has no
    /// [grammar](NumberEncoding::grammar).
    pub fn grammar(&self) -> Option<MatrixGrammar> {
        let word = self.number.grammar()?;
        let delimiter = self.vocabulary.delimiter();
        let local_ids = self.local_ids.clone();
        Some(MatrixGrammar::new(self.task_letter, &self.dimensions, self.layout, delimiter, word, &self.ids, local_ids))
    }

    /// The number of tokens before the first coefficient.
    fn header_len(&self) -> usize {
        usize::from(self.task_letter.is_some()) + 2
    }

    /// Appends the tokens of a `rows`×`cols` matrix, all its coefficients given in row-major order, whatever the layout.
    ///
    /// # Errors
    /// When the vocabulary has no dimension tokens for the shape, the matrix does not suit the layout, the coefficients
    /// do not fill the shape exactly, or a coefficient cannot be written. `tokens` is unchanged then.
    ///
    /// # Panics
    /// When the number encoding writes an id beyond its symbols.
    pub fn encode(
        &self,
        rows: usize,
        cols: usize,
        coefficients: impl IntoIterator<Item = f64>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        let start = tokens.len();
        let result = self.append(rows, cols, coefficients.into_iter(), tokens);
        if result.is_err() {
            tokens.truncate(start);
        }
        result
    }

    fn append(
        &self,
        rows: usize,
        cols: usize,
        mut coefficients: impl Iterator<Item = f64>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        self.require_shape(rows, cols)?;
        tokens.extend(self.task_letter);
        tokens.extend([rows, cols].map(|n| self.dimensions[n - 1]));
        if self.layout == Layout::RowMajor {
            return self.append_words((rows, cols), coefficients, tokens);
        }
        let mut all = ENTRIES.take();
        all.clear();
        all.extend(coefficients.by_ref().take(rows * cols + 1));
        let result = if all.len() != rows * cols {
            let found = all.len() + coefficients.size_hint().0;
            Err(EncodeError::Count { expected: rows * cols, found })
        } else if self.layout == Layout::LowerTriangle {
            require_symmetric(rows, &all)
        } else {
            Ok(())
        };
        let result = result.and_then(|()| {
            let written = self.layout.entries(rows, cols).map(|(row, col)| all[row * cols + col]);
            self.append_words((rows, cols), written, tokens)
        });
        ENTRIES.set(all);
        result
    }

    /// Appends the words of the coefficients that are written of a `rows`×`cols` matrix, given in their order.
    fn append_words(
        &self,
        (rows, cols): (usize, usize),
        mut coefficients: impl Iterator<Item = f64>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        let first = tokens.len();
        let count = self.layout.count(rows, cols);
        let mut block = [0.0; BLOCK];
        let mut written = 0;
        while written < count {
            let wanted = BLOCK.min(count - written);
            let mut found = 0;
            for (slot, x) in block[..wanted].iter_mut().zip(&mut coefficients) {
                *slot = x;
                found += 1;
            }
            if found < wanted {
                return Err(EncodeError::Count { expected: count, found: written + found });
            }
            if let Err(error) = self.number.encode_all(&block[..wanted], tokens) {
                return Err(self.blame(&block[..wanted], written, (rows, cols), error));
            }
            written += wanted;
        }
        if coefficients.next().is_some() {
            return Err(EncodeError::Count { expected: count, found: count + 1 + coefficients.size_hint().0 });
        }
        for token in &mut tokens[first..] {
            *token = self.ids[token.0 as usize];
        }
        Ok(())
    }

    /// Finds the coefficient that `error` is about; `offset` coefficients came before `block`.
    #[cold]
    fn blame(&self, block: &[f64], offset: usize, (rows, cols): (usize, usize), error: EncodeError) -> EncodeError {
        let Some(index) = block.iter().position(|&x| self.number.encode(x, &mut Vec::new()).is_err()) else {
            return error;
        };
        let (row, column) = self.layout.entries(rows, cols).nth(offset + index).unwrap_or_default();
        EncodeError::Coefficient { row: row + 1, column: column + 1, value: block[index], source: Box::new(error) }
    }

    /// Reads all of `tokens` as one matrix, without delimiters.
    ///
    /// # Errors
    /// When `tokens` is not exactly one matrix. The error says where and why.
    pub fn decode(&self, tokens: &[TokenId]) -> Result<DenseMatrix, DecodeError> {
        let mut coefficients = Vec::new();
        let (rows, cols) = self.decode_into(tokens, &mut coefficients)?;
        Ok(DenseMatrix { rows, cols, coefficients })
    }

    /// Reads a matrix into `coefficients`, in row-major order, and returns its rows and columns. The old contents of
    /// the buffer are lost, and its memory is reused.
    ///
    /// # Errors
    /// When [`decode`](Self::decode) fails. `coefficients` is empty then.
    pub fn decode_into(&self, tokens: &[TokenId], coefficients: &mut Vec<f64>) -> Result<(usize, usize), DecodeError> {
        coefficients.clear();
        if let Some(letter) = self.task_letter
            && tokens.first() != Some(&letter)
        {
            let expected = format!("the task letter `{}`", symbol_or_unknown(self.vocabulary.symbols(), letter));
            return Err(DecodeError::expected(expected, 0, tokens, self.vocabulary.symbols()));
        }
        let header = self.header_len();
        let rows = self.dimension(tokens, header - 2, "rows")?;
        let cols = self.dimension(tokens, header - 1, "columns")?;
        if !self.layout.fits(rows, cols) {
            let expected = format!("`V{rows}`, as many columns as rows,");
            return Err(DecodeError::expected(expected, header - 1, tokens, self.vocabulary.symbols()));
        }
        let words = &tokens[header..];

        let mut local = LOCAL.take();
        local.clear();
        local.extend(words.iter().map(|id| self.local_ids.get(id.0 as usize).copied().unwrap_or(FOREIGN)));
        let rest = self.number.decode_all(&local, self.layout.count(rows, cols), coefficients).map(<[TokenId]>::len);
        LOCAL.set(local);

        let error = match rest {
            Ok(0) => {
                let mut room = ENTRIES.take();
                self.layout.unpack((rows, cols), coefficients, &mut room);
                ENTRIES.set(room);
                return Ok((rows, cols));
            }
            Ok(rest) => {
                let position = tokens.len() - rest;
                self.locate(DecodeError::Trailing { position, found: String::new() }, tokens)
            }
            Err(error) => self.locate(error.shifted(header), tokens),
        };
        coefficients.clear();
        Err(error)
    }

    fn dimension(&self, tokens: &[TokenId], position: usize, what: &str) -> Result<usize, DecodeError> {
        let index = tokens.get(position).and_then(|token| self.dimensions.iter().position(|id| id == token));
        index.map(|index| index + 1).ok_or_else(|| {
            let expected = format!("a number of {what} (`V1` to `V{}`)", self.max_dimension());
            DecodeError::expected(expected, position, tokens, self.vocabulary.symbols())
        })
    }

    /// Names the unexpected token by its symbol in the vocabulary, since the number encoding knows only its own
    /// symbols.
    #[cold]
    fn locate(&self, mut error: DecodeError, tokens: &[TokenId]) -> DecodeError {
        if let DecodeError::Unexpected { position, found, .. }
        | DecodeError::Trailing { position, found }
        | DecodeError::NoValue { position, found } = &mut error
            && let Some(&token) = tokens.get(*position)
        {
            *found = symbol_or_unknown(self.vocabulary.symbols(), token);
        }
        error
    }
}

/// Checks that a square matrix, given by all its entries, equals its transpose.
fn require_symmetric(rows: usize, all: &[f64]) -> Result<(), EncodeError> {
    for (row, column) in Layout::LowerTriangle.entries(rows, rows) {
        let (below, above) = (all[row * rows + column], all[column * rows + row]);
        // NaN equals itself here: that it cannot be written is said later.
        if below.partial_cmp(&above) != Some(Ordering::Equal) && !(below.is_nan() && above.is_nan()) {
            return Err(EncodeError::NotSymmetric { row: row + 1, column: column + 1, below, above });
        }
    }
    Ok(())
}

impl fmt::Debug for MatrixEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatrixEncoding")
            .field("number", &self.number)
            .field("vocabulary", &self.vocabulary)
            .field("task_letter", &self.task_letter)
            .field("layout", &self.layout)
            .field("max_dimension", &self.max_dimension())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Positional;

    fn p10() -> MatrixEncoding {
        let p10 = Positional::p10();
        let vocabulary = Vocabulary::reference(&p10, &p10);
        MatrixEncoding::new(Arc::new(p10), &vocabulary).expect("the vocabulary has the symbols of its encodings")
    }

    fn read(text: &str) -> Result<DenseMatrix, String> {
        let encoding = p10();
        let tokens = encoding.vocabulary().tokenize(text).expect("symbols of the vocabulary");
        encoding.decode(&tokens).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_follow_each_other() {
        let mut tokens = vec![TokenId(0)];
        let encoding = p10();
        encoding.encode(2, 1, [0.5, -20.0], &mut tokens).expect("numbers in range");
        assert_eq!(encoding.vocabulary().render(&tokens), "<s> V2 V1 + 5 0 0 E-3 - 2 0 0 E-1");
        let matrix = encoding.decode(&tokens[1..]).expect("its own tokens");
        assert_eq!(matrix, DenseMatrix { rows: 2, cols: 1, coefficients: vec![0.5, -20.0] });
    }

    #[test]
    fn blocks_of_coefficients_join_without_seam() {
        let encoding = p10();
        for (rows, cols) in [(1, BLOCK - 1), (1, BLOCK), (1, BLOCK + 1), (100, 100)] {
            let coefficients: Vec<f64> = (0..rows * cols).map(|i| i as f64 % 997.0).collect();
            let mut tokens = Vec::new();
            encoding.encode(rows, cols, coefficients.iter().copied(), &mut tokens).expect("numbers in range");
            assert!(tokens.len() <= encoding.max_len(rows, cols));
            let matrix = encoding.decode(&tokens).expect("its own tokens");
            assert_eq!(matrix, DenseMatrix { rows, cols, coefficients });
        }
    }

    #[test]
    fn refusing_to_write_names_the_coefficient_and_leaves_no_trace() {
        let encoding = p10();
        let mut tokens = vec![TokenId(7)];
        let mut refuse = |rows, cols, coefficients: &[f64]| {
            let error = encoding.encode(rows, cols, coefficients.iter().copied(), &mut tokens).expect_err("an error");
            assert_eq!(tokens, [TokenId(7)]);
            error
        };
        let mut wide = vec![1.0; 2 * BLOCK];
        wide[BLOCK + 2] = 1e103;
        let source = EncodeError::TooLarge { value: 1e103, largest: 9.99e102 };
        assert_eq!(
            refuse(2, BLOCK, &wide),
            EncodeError::Coefficient { row: 2, column: 3, value: 1e103, source: source.into() }
        );
        assert_eq!(refuse(1, 2, &[1.0, f64::NAN]).to_string(), "the coefficient in row 1, column 2 cannot be written");
        assert_eq!(refuse(2, 2, &[1.0; 3]), EncodeError::Count { expected: 4, found: 3 });
        assert_eq!(refuse(2, 2, &[1.0; 6]), EncodeError::Count { expected: 4, found: 6 });
        assert_eq!(refuse(0, 2, &[]), EncodeError::Shape { max: 100, rows: 0, cols: 2 });
        assert_eq!(refuse(1, 101, &[1.0; 101]), EncodeError::Shape { max: 100, rows: 1, cols: 101 });
    }

    #[test]
    fn refusing_to_read_says_what_was_expected_where() {
        let message = |text| read(text).expect_err("not a matrix");
        assert_eq!(message(""), "expected a number of rows (`V1` to `V100`) at position 0, found the end");
        assert_eq!(message("V2 +"), "expected a number of columns (`V1` to `V100`) at position 1, found `+`");
        assert_eq!(message("V2 V1 + 5 0 0 E-3 V7"), "expected a sign at position 7, found `V7`");
        assert_eq!(message("V2 V1 + 5 0 0 E-3 - 2"), "expected a digit or an exponent at position 9, found the end");
        assert_eq!(message("V1 V1 + 5 E0 <s> + 5 E0"), "expected the end at position 5, found `<s>`");
        let unknown = p10().decode(&[TokenId(9999)]).expect_err("an id without symbol");
        assert_eq!(
            unknown.to_string(),
            "expected a number of rows (`V1` to `V100`) at position 0, found `<unknown 9999>`"
        );
    }

    #[test]
    fn a_task_letter_comes_first() {
        let encoding = p10().with_task_letter("T").expect("a symbol of the vocabulary");
        let mut tokens = Vec::new();
        encoding.encode(1, 1, [0.5], &mut tokens).expect("a number in range");
        assert_eq!(encoding.vocabulary().render(&tokens), "T V1 V1 + 5 0 0 E-3");
        assert_eq!(tokens.len(), encoding.max_len(1, 1));
        assert_eq!(encoding.decode(&tokens).expect("its own tokens").coefficients, [0.5]);

        let message = |tokens: &[TokenId]| encoding.decode(tokens).expect_err("not a matrix").to_string();
        assert_eq!(message(&tokens[1..]), "expected the task letter `T` at position 0, found `V1`");
        assert_eq!(message(&tokens[..4]), "expected a digit at position 4, found the end");
        assert_eq!(message(&[]), "expected the task letter `T` at position 0, found the end");
        let missing = VocabularyError::MissingSymbol { symbol: "Q".into() };
        assert_eq!(p10().with_task_letter("Q").err(), Some(missing));
    }

    #[test]
    fn a_lower_triangle_is_of_a_symmetric_matrix() {
        let encoding = p10().with_layout(Layout::LowerTriangle);
        let mut tokens = vec![TokenId(7)];
        let mut refuse = |rows, cols, coefficients: &[f64]| {
            let error = encoding.encode(rows, cols, coefficients.iter().copied(), &mut tokens).expect_err("an error");
            assert_eq!(tokens, [TokenId(7)]);
            error
        };
        assert_eq!(
            refuse(1, 2, &[1.0, 2.0]).to_string(),
            "expected as many columns as rows, for the layout `lower-triangle`, found 1x2"
        );
        assert_eq!(
            refuse(2, 2, &[1.0, 2.0, 3.0, 4.0]).to_string(),
            "expected a symmetric matrix, for the layout `lower-triangle`, found 3 in row 2, column 1, and 2 in row 1, \
             column 2"
        );
        assert_eq!(refuse(2, 2, &[1.0, 2.0, 2.0]), EncodeError::Count { expected: 4, found: 3 });
        assert_eq!(refuse(2, 2, &[1.0; 7]), EncodeError::Count { expected: 4, found: 7 });
        let mut large = vec![1.0; 12 * 12];
        large[11 * 12 + 3] = 1e103;
        large[3 * 12 + 11] = 1e103;
        assert!(matches!(refuse(12, 12, &large), EncodeError::Coefficient { row: 12, column: 4, .. }));
        let nan = refuse(2, 2, &[1.0, f64::NAN, f64::NAN, 4.0]);
        assert_eq!(nan.to_string(), "the coefficient in row 2, column 1 cannot be written");

        let message = |text| {
            let tokens = encoding.vocabulary().tokenize(text).expect("symbols of the vocabulary");
            encoding.decode(&tokens).expect_err("not a matrix").to_string()
        };
        assert_eq!(message("V2 V3 + 5 E0"), "expected `V2`, as many columns as rows, at position 1, found `V3`");
        assert_eq!(message("V2 V2 + 5 E0 + 6 E0"), "expected a sign at position 8, found the end");
        assert_eq!(message("V1 V1 + 5 E0 + 6 E0"), "expected the end at position 5, found `+`");
    }

    proptest! {
        #![proptest_config(cases(256))]

        /// The triangle says what all entries say, in fewer tokens, and those of a leading block come first.
        #[test]
        fn a_lower_triangle_is_read_as_it_was_written(
            (n, pool) in (1_usize..14).prop_flat_map(|n| (Just(n), vec(-1e3..1e3, n * n))),
        ) {
            let whole = p10();
            let packed = p10().with_layout(Layout::LowerTriangle);
            let write = |encoding: &MatrixEncoding, n: usize| {
                let entries = (0..n).flat_map(|i| (0..n).map(move |j| (i.max(j), i.min(j))));
                let mut tokens = Vec::new();
                encoding.encode(n, n, entries.map(|(i, j)| pool[i * i + j]), &mut tokens).map(|()| tokens)
            };
            let tokens = write(&packed, n)?;
            prop_assert!(tokens.len() <= packed.max_len(n, n));
            prop_assert_eq!(packed.decode(&tokens)?, whole.decode(&write(&whole, n)?)?);
            if n > 1 {
                prop_assert!(tokens[2..].starts_with(&write(&packed, n - 1)?[2..]));
            }
            let grammar = packed.grammar().expect("the published encodings have one");
            let mut state = grammar.start(n, n, tokens.len() + 1)?;
            for &token in tokens.iter().chain([&packed.vocabulary().delimiter()]) {
                prop_assert!(grammar.is_allowed(&state, token));
                grammar.advance(&mut state, token);
            }
        }

        /// The leading blocks say what all entries say, and the entries of a smaller block come first.
        #[test]
        fn leading_blocks_are_read_as_they_were_written(
            (rows, cols, pool) in (1_usize..9, 1_usize..9)
                .prop_flat_map(|(rows, cols)| (Just(rows), Just(cols), vec(-1e3..1e3, rows * cols))),
            n in 1_usize..9,
        ) {
            let whole = p10();
            let blocks = p10().with_layout(Layout::LeadingBlocks);
            let write = |encoding: &MatrixEncoding, rows: usize, columns: usize| {
                let entries = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j)));
                let mut tokens = Vec::new();
                encoding.encode(rows, columns, entries.map(|(i, j)| pool[i * cols + j]), &mut tokens).map(|()| tokens)
            };
            let tokens = write(&blocks, rows, cols)?;
            prop_assert_eq!(blocks.decode(&tokens)?, whole.decode(&write(&whole, rows, cols)?)?);
            prop_assert!(tokens[2..].starts_with(&write(&blocks, rows.min(n), cols.min(n))?[2..]));
            let missing = blocks.encode(rows, cols, pool[1..].iter().copied(), &mut Vec::new());
            let found = rows * cols - 1;
            prop_assert_eq!(missing, Err(EncodeError::Count { expected: rows * cols, found }));
        }
    }

    #[test]
    fn buffers_are_used_again() {
        let encoding = p10();
        let tokens = encoding.vocabulary().tokenize("V1 V2 + 5 E0 + 6 E0").expect("symbols of the vocabulary");
        let mut coefficients = vec![1.0; 10];
        assert_eq!(encoding.decode_into(&tokens, &mut coefficients), Ok((1, 2)));
        assert_eq!(coefficients, [5.0, 6.0]);
        assert!(encoding.decode_into(&tokens[..6], &mut coefficients).is_err());
        assert!(coefficients.is_empty());
    }

    #[test]
    fn a_vocabulary_must_have_the_symbols_and_limits_the_shape() {
        let number = || Arc::new(Positional::new(2, 1, 0..=0).expect("valid parameters"));
        let bind = |symbols: &str| {
            let vocabulary = Vocabulary::from_symbols(symbols.split(' ').map(String::from).collect());
            MatrixEncoding::new(number(), &vocabulary.expect("distinct symbols"))
        };
        let missing = |symbol: &str| Some(VocabularyError::MissingSymbol { symbol: symbol.into() });
        assert_eq!(bind("<s> <pad> V1 + - 0 E0").err(), missing("1"));
        assert_eq!(bind("<s> <pad> V2 + - 0 1 E0").err(), missing("V1"));
        assert_eq!(bind("<s> <pad> V2 V4 V1 + - 0 1 E0").expect("all symbols").max_dimension(), 2);
    }
}
