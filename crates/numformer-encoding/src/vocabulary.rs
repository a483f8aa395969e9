//! Symbols and their ids.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spelling::{render_into, shortened};
use crate::{NumberEncoding, TokenId};

/// An ordered list of distinct symbols: the index of a symbol is its id.
///
/// Id 0 is the delimiter, which begins and ends a sequence; id 1 is the padding that follows the end. Copies share
/// their memory. With serde, a vocabulary is the list of its symbols.
///
/// # Examples
/// ```
/// use numformer_encoding::{Positional, Vocabulary};
///
/// let p1000 = Positional::p1000();
/// let vocabulary = Vocabulary::reference(&p1000, &p1000);
/// assert_eq!(vocabulary.len(), 1328);
/// let ids = vocabulary.tokenize("V1 V1 + 314 E-2")?;
/// assert_eq!(vocabulary.render(&ids), "V1 V1 + 314 E-2");
/// # Ok::<(), numformer_encoding::VocabularyError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Vocabulary {
    symbols: Arc<[String]>,
    ids: Arc<HashMap<String, TokenId>>,
}

/// The symbols that come first in every vocabulary of the reference program.
const REFERENCE_SPECIALS: [&str; 15] = [
    "<s>",
    "</s>",
    "<pad>",
    "(",
    ")",
    "<SPECIAL_0>",
    "<SPECIAL_1>",
    "<SPECIAL_2>",
    "<SPECIAL_3>",
    "<SPECIAL_4>",
    "<SPECIAL_5>",
    "<SPECIAL_6>",
    "<SPECIAL_7>",
    "<SPECIAL_8>",
    "<SPECIAL_9>",
];

/// The symbols that come after the task letters in every vocabulary of the reference program.
const REFERENCE_MARKS: [&str; 5] = ["+", "-", "10^", ".", "|"];

impl Vocabulary {
    /// The largest dimension in the vocabularies of the reference program: `V1` to `V100`.
    pub const MAX_DIMENSION: usize = 100;

    /// The letters that tell the problems of co-training apart, in the order of the reference program.
    pub const TASK_LETTERS: [&str; 7] = ["T", "A", "D", "M", "E", "F", "I"];

    /// A vocabulary of `<s>`, `<pad>` and then these symbols, for sequences that need not be matrices.
    ///
    /// # Errors
    /// When a symbol occurs twice, is empty, or contains white space.
    ///
    /// # Examples
    /// ```
    /// use numformer_encoding::{TokenId, Vocabulary};
    ///
    /// let digits = Vocabulary::new((0..10).map(|digit| digit.to_string()))?;
    /// assert_eq!(digits.delimited("3 1 4")?, [0, 5, 3, 6, 0].map(TokenId));
    /// # Ok::<(), numformer_encoding::VocabularyError>(())
    /// ```
    pub fn new(symbols: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, VocabularyError> {
        let specials = ["<s>", "<pad>"].map(String::from).into_iter();
        Self::from_symbols(specials.chain(symbols.into_iter().map(Into::into)).collect())
    }

    /// The vocabulary of the authors' program for a pair of encodings, id for id, as its checkpoints need it.
    ///
    /// The symbols common to all these vocabularies come first, including the task letters. The symbols of both
    /// encodings and `V1` to `V100` follow, without duplicates, sorted by code point. The id of padding, 1, belongs to
    /// `</s>` in that program.
    pub fn reference(input: &dyn NumberEncoding, output: &dyn NumberEncoding) -> Self {
        let specials = [&REFERENCE_SPECIALS[..], &Self::TASK_LETTERS, &REFERENCE_MARKS].concat();
        let numbers = input.symbols().iter().chain(output.symbols()).cloned();
        let mut sorted: BTreeSet<String> = numbers.chain((1..=Self::MAX_DIMENSION).map(dimension_symbol)).collect();
        for special in &specials {
            sorted.remove(*special);
        }
        let symbols = specials.into_iter().map(String::from).chain(sorted).collect();
        Self::from_symbols(symbols).expect("the specials are distinct, and the rest was a set without them")
    }

    /// The smallest vocabulary for matrices of up to `max_dimension` rows or columns in a pair of encodings.
    ///
    /// It holds `<s>` and `<pad>`, the task letters as given, `V1` to `V<max_dimension>`, the symbols of the input
    /// encoding in its order, and those that the output encoding adds, in its order. If the numbers are bounded,
    /// [`NumberEncoding::restricted`] can first remove the symbols that they do not need:
    ///
    /// ```
    /// use numformer_encoding::{Floating, NumberEncoding, Vocabulary};
    ///
    /// let fp15 = Floating::fp15();
    /// let entries = fp15.restricted(0.0..=10.0).expect("10 is in range");
    /// let vocabulary = Vocabulary::compact(&*entries, &*entries, 5, &[])?;
    /// assert_eq!(vocabulary.len(), 16_406); // of 29,128
    /// # Ok::<(), numformer_encoding::VocabularyError>(())
    /// ```
    ///
    /// # Errors
    /// When a task letter is the same as another symbol.
    pub fn compact(
        input: &dyn NumberEncoding,
        output: &dyn NumberEncoding,
        max_dimension: usize,
        task_letters: &[&str],
    ) -> Result<Self, VocabularyError> {
        let letters = task_letters.iter().copied().map(String::from);
        let specials = ["<s>", "<pad>"].map(String::from).into_iter().chain(letters);
        let known: HashSet<&String> = input.symbols().iter().collect();
        let added = output.symbols().iter().filter(|symbol| !known.contains(symbol));
        let numbers = input.symbols().iter().chain(added).cloned();
        Self::from_symbols(specials.chain((1..=max_dimension).map(dimension_symbol)).chain(numbers).collect())
    }

    /// The vocabulary with these symbols, in this order.
    ///
    /// # Errors
    /// When there are fewer than two symbols, or a symbol occurs twice, is empty, or contains white space.
    pub fn from_symbols(symbols: Vec<String>) -> Result<Self, VocabularyError> {
        if symbols.len() < 2 {
            return Err(VocabularyError::TooSmall { found: symbols.len() });
        }
        let mut ids = HashMap::with_capacity(symbols.len());
        for (position, symbol) in symbols.iter().enumerate() {
            if symbol.is_empty() || symbol.contains(char::is_whitespace) {
                return Err(VocabularyError::InvalidSymbol { position, symbol: symbol.clone() });
            }
            let id = u32::try_from(position).map(TokenId).expect("memory does not hold 2^32 strings");
            if let Some(TokenId(first)) = ids.insert(symbol.clone(), id) {
                return Err(VocabularyError::Duplicate { symbol: symbol.clone(), first: first as usize, position });
            }
        }
        Ok(Self { symbols: symbols.into(), ids: Arc::new(ids) })
    }

    /// All symbols, in id order.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// The number of symbols.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// The id of a symbol.
    pub fn id(&self, symbol: &str) -> Option<TokenId> {
        self.ids.get(symbol).copied()
    }

    pub(crate) fn require(&self, symbol: &str) -> Result<TokenId, VocabularyError> {
        self.id(symbol).ok_or_else(|| VocabularyError::MissingSymbol { symbol: symbol.to_owned() })
    }

    /// The symbol of an id.
    pub fn symbol(&self, TokenId(id): TokenId) -> Option<&str> {
        self.symbols.get(id as usize).map(String::as_str)
    }

    /// The token that begins and ends every sequence.
    pub fn delimiter(&self) -> TokenId {
        TokenId(0)
    }

    /// The token that fills up the shorter sequences of a batch.
    pub fn padding(&self) -> TokenId {
        TokenId(1)
    }

    /// Reads symbols separated by white space.
    ///
    /// # Errors
    /// When a symbol is not in the vocabulary. The error names the first such symbol.
    pub fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, VocabularyError> {
        let unknown = |position, symbol: &str| VocabularyError::UnknownSymbol { position, symbol: shortened(symbol) };
        text.split_whitespace()
            .enumerate()
            .map(|(position, symbol)| self.id(symbol).ok_or_else(|| unknown(position, symbol)))
            .collect()
    }

    /// Reads symbols as [`tokenize`](Self::tokenize) does, and puts the delimiter before and after them to make a
    /// sequence.
    ///
    /// # Errors
    /// When [`tokenize`](Self::tokenize) fails.
    ///
    /// # Examples
    /// ```
    /// use numformer_encoding::Vocabulary;
    ///
    /// let symbols = ["<s>", "<pad>", "1", "3", "4"].map(String::from);
    /// let vocabulary = Vocabulary::from_symbols(symbols.into())?;
    /// let sequence = vocabulary.delimited("3 1 4")?;
    /// assert_eq!(vocabulary.render(&sequence), "<s> 3 1 4 <s>");
    /// # Ok::<(), numformer_encoding::VocabularyError>(())
    /// ```
    pub fn delimited(&self, text: &str) -> Result<Vec<TokenId>, VocabularyError> {
        let delimiter = [self.delimiter()];
        Ok([&delimiter, &self.tokenize(text)?[..], &delimiter].concat())
    }

    /// The symbols of `ids`, separated by spaces; `<unknown 12345>` stands for an id beyond the vocabulary.
    pub fn render(&self, ids: &[TokenId]) -> String {
        let mut text = String::new();
        self.render_into(ids, &mut text);
        text
    }

    /// Appends what [`render`](Self::render) gives.
    pub fn render_into(&self, ids: &[TokenId], text: &mut String) {
        render_into(&self.symbols, ids, text);
    }
}

/// The symbol for a number of rows or columns.
pub(crate) fn dimension_symbol(dimension: usize) -> String {
    format!("V{dimension}")
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        self.symbols == other.symbols
    }
}

impl Eq for Vocabulary {}

impl TryFrom<Vec<String>> for Vocabulary {
    type Error = VocabularyError;

    fn try_from(symbols: Vec<String>) -> Result<Self, Self::Error> {
        Self::from_symbols(symbols)
    }
}

impl From<Vocabulary> for Vec<String> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.symbols.to_vec()
    }
}

/// Why symbols do not form a vocabulary, or what a vocabulary lacks. Positions count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// There is no room for the delimiter and the padding.
    #[error("expected at least 2 symbols, found {found}")]
    TooSmall {
        /// The number of symbols.
        found: usize,
    },
    /// A symbol occurs twice.
    #[error("expected distinct symbols, found `{symbol}` at positions {first} and {position}")]
    Duplicate {
        /// The symbol.
        symbol: String,
        /// Where it occurs first.
        first: usize,
        /// Where it occurs again.
        position: usize,
    },
    /// A symbol is empty or contains white space, which separates symbols in a text.
    #[error("expected a symbol without white space at position {position}, found `{symbol}`")]
    InvalidSymbol {
        /// Where it stands.
        position: usize,
        /// The symbol.
        symbol: String,
    },
    /// A text contains a symbol that the vocabulary lacks.
    #[error("expected a symbol of the vocabulary at position {position}, found `{symbol}`")]
    UnknownSymbol {
        /// Where it stands.
        position: usize,
        /// The symbol.
        symbol: String,
    },
    /// An encoding needs a symbol that the vocabulary lacks.
    #[error("expected a vocabulary with the symbol `{symbol}`")]
    MissingSymbol {
        /// The symbol.
        symbol: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Positional;

    fn vocabulary(symbols: &str) -> Result<Vocabulary, VocabularyError> {
        Vocabulary::from_symbols(symbols.split(' ').map(String::from).collect())
    }

    #[test]
    fn ids_are_positions() {
        let vocabulary = vocabulary("<s> <pad> V1 V2").expect("distinct symbols");
        assert_eq!(vocabulary.id("V1"), Some(TokenId(2)));
        assert_eq!(vocabulary.symbol(TokenId(3)), Some("V2"));
        assert_eq!(vocabulary.id("V3"), None);
        assert_eq!(vocabulary.symbol(TokenId(4)), None);
        assert_eq!((vocabulary.delimiter(), vocabulary.padding()), (TokenId(0), TokenId(1)));
    }

    #[test]
    fn lists_that_are_no_vocabulary_are_refused() {
        assert_eq!(vocabulary("<s>"), Err(VocabularyError::TooSmall { found: 1 }));
        assert_eq!(
            vocabulary("<s> <pad> + <pad>"),
            Err(VocabularyError::Duplicate { symbol: "<pad>".into(), first: 1, position: 3 })
        );
        assert_eq!(vocabulary("<s> "), Err(VocabularyError::InvalidSymbol { position: 1, symbol: String::new() }));
        assert_eq!(vocabulary("<s> a\tb"), Err(VocabularyError::InvalidSymbol { position: 1, symbol: "a\tb".into() }));
    }

    #[test]
    fn compact_vocabularies_hold_what_is_written_and_no_more() {
        let input = Positional::new(10, 1, -1..=0).expect("valid parameters");
        let output = Positional::new(2, 1, 0..=1).expect("valid parameters");
        let vocabulary = Vocabulary::compact(&input, &output, 2, &["T", "E"]).expect("distinct symbols");
        let symbols = "<s> <pad> T E V1 V2 + - 0 1 2 3 4 5 6 7 8 9 E-1 E0 E1";
        assert_eq!(vocabulary.symbols().join(" "), symbols);
        assert_eq!(
            Vocabulary::compact(&input, &output, 2, &["+"]),
            Err(VocabularyError::Duplicate { symbol: "+".into(), first: 2, position: 5 })
        );
    }

    #[test]
    fn text_and_ids_convert_both_ways() {
        let vocabulary = vocabulary("<s> <pad> V1 V2").expect("distinct symbols");
        let ids = vocabulary.tokenize("  V2 V1\n<s>").expect("known symbols");
        assert_eq!(ids, [TokenId(3), TokenId(2), TokenId(0)]);
        assert_eq!(vocabulary.render(&ids), "V2 V1 <s>");
        assert_eq!(vocabulary.render(&[TokenId(2), TokenId(12_345)]), "V1 <unknown 12345>");
        assert_eq!(
            vocabulary.tokenize("V1 V3"),
            Err(VocabularyError::UnknownSymbol { position: 1, symbol: "V3".into() })
        );
    }

    #[test]
    fn a_delimited_text_is_a_whole_sequence() {
        let vocabulary = vocabulary("<s> <pad> 1 3").expect("distinct symbols");
        let ids = |text| vocabulary.delimited(text).map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(ids("3 1 3"), Ok(vec![0, 3, 2, 3, 0]));
        assert_eq!(ids(""), Ok(vec![0, 0]));
        assert_eq!(ids("3 4"), Err(VocabularyError::UnknownSymbol { position: 1, symbol: "4".into() }));
    }

    #[test]
    fn serde_form_is_the_list_of_symbols() {
        let p10 = Positional::p10();
        let vocabulary = Vocabulary::reference(&p10, &p10);
        let json = serde_json::to_string(&vocabulary).expect("a list of strings");
        assert!(json.starts_with(r#"["<s>","</s>","<pad>","(","#));
        assert_eq!(serde_json::from_str::<Vocabulary>(&json).expect("its own form"), vocabulary);
        let error = serde_json::from_str::<Vocabulary>(r#"["a","a"]"#).expect_err("a duplicate");
        assert!(error.to_string().starts_with("expected distinct symbols, found `a` at positions 0 and 1"));
    }
}
