//! Padded ids with lengths.

use numformer_encoding::TokenId;

use crate::Example;

/// The sources and targets of some examples; row `i` of one belongs to row `i` of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Inputs.
    pub src: Sequences,
    /// Answers.
    pub tgt: Sequences,
    /// For each example, the matrices that were drawn and had no answer, or none that can be written.
    pub rejected: Vec<u32>,
    /// For each example, which of the task's [laws](crate::Task::laws) its input was drawn from; none if the law has no
    /// name, or the example was read from a file.
    pub laws: Vec<Option<usize>>,
}

impl Batch {
    /// The batch of these examples, in this order.
    #[must_use]
    pub fn from_examples(examples: &[Example], padding: TokenId) -> Self {
        let mut batch = BatchBuilder::new(padding);
        examples.iter().for_each(|example| batch.push(example));
        batch.build()
    }

    /// The batch of these sources with their targets, in this order: for examples that are no matrices.
    ///
    /// Each sequence is to begin and end with the delimiter, as [`Vocabulary::delimited`] makes it.
    ///
    /// # Examples
    /// The digits of a number, and the same reversed:
    /// ```
    /// use numformer_data::Batch;
    /// use numformer_encoding::Vocabulary;
    ///
    /// let symbols = "<s> <pad> 0 1 2 3 4 5 6 7 8 9".split(' ').map(String::from);
    /// let vocabulary = Vocabulary::from_symbols(symbols.collect())?;
    /// let tokens = |text| vocabulary.delimited(text);
    /// let pairs = [(tokens("3 1 4")?, tokens("4 1 3")?), (tokens("2 7")?, tokens("7 2")?)];
    /// let batch = Batch::from_pairs(&pairs, vocabulary.padding());
    /// assert_eq!(batch.src.lengths, [5, 4]);
    /// assert_eq!(batch.tgt.row(1), [0, 9, 4, 0]);
    /// # Ok::<(), numformer_encoding::VocabularyError>(())
    /// ```
    ///
    /// [`Vocabulary::delimited`]: numformer_encoding::Vocabulary::delimited
    #[must_use]
    pub fn from_pairs<S: AsRef<[TokenId]>, T: AsRef<[TokenId]>>(pairs: &[(S, T)], padding: TokenId) -> Self {
        let (src, tgt): (Vec<_>, Vec<_>) = pairs.iter().map(|(src, tgt)| (src.as_ref(), tgt.as_ref())).unzip();
        Self {
            src: Sequences::from_rows(&src, padding),
            tgt: Sequences::from_rows(&tgt, padding),
            rejected: vec![0; pairs.len()],
            laws: vec![None; pairs.len()],
        }
    }

    /// Drops all but the first `count` examples.
    pub fn truncate(&mut self, count: usize) {
        self.src.truncate(count);
        self.tgt.truncate(count);
        self.rejected.truncate(count);
        self.laws.truncate(count);
    }
}

/// Gathers the tokens of examples, which are of different lengths until the last is known.
pub(crate) struct BatchBuilder {
    padding: TokenId,
    src: Gathered,
    tgt: Gathered,
    rejected: Vec<u32>,
    laws: Vec<Option<usize>>,
}

#[derive(Default)]
struct Gathered {
    tokens: Vec<TokenId>,
    ends: Vec<usize>,
}

impl BatchBuilder {
    pub(crate) fn new(padding: TokenId) -> Self {
        Self { padding, src: Gathered::default(), tgt: Gathered::default(), rejected: Vec::new(), laws: Vec::new() }
    }

    pub(crate) fn push(&mut self, example: &Example) {
        self.src.push(&example.src);
        self.tgt.push(&example.tgt);
        self.rejected.push(example.rejected);
        self.laws.push(example.law);
    }

    pub(crate) fn build(self) -> Batch {
        let (src, tgt) = (self.src.pad(self.padding), self.tgt.pad(self.padding));
        Batch { src, tgt, rejected: self.rejected, laws: self.laws }
    }
}

impl Gathered {
    fn push(&mut self, sequence: &[TokenId]) {
        self.tokens.extend_from_slice(sequence);
        self.ends.push(self.tokens.len());
    }

    fn pad(&self, padding: TokenId) -> Sequences {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let rows: Vec<_> = starts.zip(&self.ends).map(|(start, &end)| &self.tokens[start..end]).collect();
        Sequences::from_rows(&rows, padding)
    }
}

/// Sequences of token ids, padded to a common width.
///
/// Ids are plain integers here, as a tensor library wants them.
///
/// # Examples
/// ```
/// use numformer_data::Sequences;
/// use numformer_encoding::TokenId;
///
/// let padding = TokenId(1);
/// let sequences = Sequences::from_rows(&[vec![TokenId(5)], vec![TokenId(6), TokenId(7)]], padding);
/// assert_eq!(sequences.ids, [5, 1, 6, 7]);
/// assert_eq!(sequences.lengths, [1, 2]);
/// assert_eq!(sequences.row(0), [5]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// Row-major, one row of `width` ids per sequence; after its own ids, a row is filled with padding.
    pub ids: Vec<u32>,
    /// The number of ids of each sequence, without padding.
    pub lengths: Vec<u32>,
    /// The length of the longest sequence.
    pub width: usize,
}

impl Sequences {
    /// Pads these sequences to the longest of them.
    #[must_use]
    pub fn from_rows<R: AsRef<[TokenId]>>(rows: &[R], TokenId(padding): TokenId) -> Self {
        let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * width);
        for (i, row) in rows.iter().enumerate() {
            ids.extend(row.as_ref().iter().map(|token| token.0));
            ids.resize((i + 1) * width, padding);
        }
        let lengths = rows.iter().map(|row| row.as_ref().len() as u32).collect();
        Self { ids, lengths, width }
    }

    /// The number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are no sequences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The ids of one sequence, without padding.
    ///
    /// # Panics
    /// If there are no more than `index` sequences.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u32] {
        let start = index * self.width;
        &self.ids[start..start + self.lengths[index] as usize]
    }

    fn truncate(&mut self, count: usize) {
        self.lengths.truncate(count);
        self.ids.truncate(count * self.width);
    }

    /// Whether a sequence is shorter than the longest, so that there is padding.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        self.lengths.iter().any(|length| (*length as usize) < self.width)
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    const PADDING: TokenId = TokenId(1);

    #[test]
    fn no_sequences_are_an_empty_batch() {
        let sequences = Sequences::from_rows::<Vec<TokenId>>(&[], PADDING);
        assert_eq!(sequences, Sequences::default());
        assert!(sequences.is_empty() && !sequences.is_padded());
    }

    #[test]
    fn pairs_are_examples_of_tokens_alone() {
        let example = |src: &[u32], tgt: &[u32]| {
            let [src, tgt] = [src, tgt].map(|ids| ids.iter().copied().map(TokenId).collect());
            Example { src, tgt, ..Example::default() }
        };
        let examples = [example(&[0, 3, 0], &[0, 2, 2, 0]), example(&[0, 0], &[0, 5, 0])];
        let pairs = examples.clone().map(|example| (example.src, example.tgt));
        assert_eq!(Batch::from_pairs(&pairs, PADDING), Batch::from_examples(&examples, PADDING));
        assert_eq!(Batch::from_pairs::<Vec<_>, Vec<_>>(&[], PADDING), Batch::default());
    }

    #[test]
    fn sequences_of_one_length_are_not_padded() {
        let rows = [[TokenId(3), TokenId(4)], [TokenId(5), PADDING]];
        assert!(!Sequences::from_rows(&rows, PADDING).is_padded());
        assert!(Sequences::from_rows(&[&rows[0][..], &rows[1][..1]], PADDING).is_padded());
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn rows_are_kept_and_the_rest_is_padding(
            rows in prop::collection::vec(prop::collection::vec((2..99_u32).prop_map(TokenId), 0..9), 0..9)
        ) {
            let sequences = Sequences::from_rows(&rows, PADDING);
            prop_assert_eq!(sequences.len(), rows.len());
            prop_assert_eq!(sequences.ids.len(), rows.len() * sequences.width);
            for (i, row) in rows.iter().enumerate() {
                let ids: Vec<u32> = row.iter().map(|token| token.0).collect();
                prop_assert_eq!(sequences.row(i), ids);
                let padding = &sequences.ids[i * sequences.width + row.len()..(i + 1) * sequences.width];
                prop_assert!(padding.iter().all(|id| *id == PADDING.0));
            }
        }
    }
}
