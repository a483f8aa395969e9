//! Padded ids with lengths.

use std::ops::Range;

use numformer_encoding::{Sequences, TokenId};

use crate::Example;

/// The sources and targets of some examples; row `i` of one belongs to row `i` of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Inputs.
    pub src: Sequences,
    /// Answers.
    pub tgt: Sequences,
    /// For each example, the number of matrices that were drawn but had no answer, or none that can be written.
    pub rejected: Vec<u32>,
    /// For each example, which of the task's [laws](crate::Task::laws) its input was drawn from; `None` if the law has
    /// no name, or the example was read from a file.
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

    /// The batch of these sources with their targets, in this order. It is for examples that are not matrices.
    ///
    /// Each sequence must begin and end with the delimiter, as [`Vocabulary::delimited`] makes it.
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

    /// Consecutive examples as a batch of their own.
    ///
    /// # Panics
    /// If there are fewer examples.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Self {
        Self {
            src: self.src.rows(range.clone()),
            tgt: self.tgt.rows(range.clone()),
            // A custom source may leave these lists empty.
            rejected: self.rejected.get(range.clone()).map(<[_]>::to_vec).unwrap_or_default(),
            laws: self.laws.get(range).map(<[_]>::to_vec).unwrap_or_default(),
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

/// Gathers the tokens of examples, whose lengths differ, until the last example is known.
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

#[cfg(test)]
mod tests {
    use super::*;

    const PADDING: TokenId = TokenId(1);

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
}
