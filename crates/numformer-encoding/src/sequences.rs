//! Padded ids with lengths.

use std::ops::Range;

use crate::TokenId;

/// Sequences of token ids, padded to a common width.
///
/// Ids are plain integers here, as a tensor library wants them.
///
/// # Examples
/// ```
/// use numformer_encoding::{Sequences, TokenId};
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
    /// If there is no sequence `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u32] {
        let start = index * self.width;
        &self.ids[start..start + self.lengths[index] as usize]
    }

    /// Drops all but the first `count` sequences.
    pub fn truncate(&mut self, count: usize) {
        self.lengths.truncate(count);
        self.ids.truncate(count * self.width);
    }

    /// Consecutive sequences, padded to the longest of these.
    ///
    /// # Panics
    /// If there are fewer sequences.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Self {
        let lengths = self.lengths[range.clone()].to_vec();
        let width = lengths.iter().copied().max().unwrap_or(0) as usize;
        let ids = range.flat_map(|index| &self.ids[index * self.width..][..width]).copied().collect();
        Self { ids, lengths, width }
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
