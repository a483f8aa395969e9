//! The trait of all number encodings.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::spelling::{render_into, shortened, symbol_or_unknown};
use crate::{DecodeError, EncodeError, SymbolMeaning, TokenId, WordGrammar};

/// Writes real numbers as short words of tokens and reads them back.
///
/// Token ids are local: the index of a symbol in [`symbols`](Self::symbols). A
/// [`MatrixEncoding`](crate::MatrixEncoding) translates them to the ids of a vocabulary.
///
/// # Implementing
/// The first four methods are required. Words must be self-delimiting, so that one can follow another. Reading must be
/// total: any list of tokens gives a number or an error, never a panic. Reading a word that was written must give the
/// number that [`round`](Self::round) gives.
///
/// ```
/// use numformer_encoding::{DecodeError, EncodeError, NumberEncoding, TokenId};
///
/// /// Integers from -9 to 9, one token each.
/// #[derive(Debug)]
/// struct SmallIntegers(Vec<String>);
///
/// impl NumberEncoding for SmallIntegers {
///     fn symbols(&self) -> &[String] {
///         &self.0
///     }
///     fn max_word_len(&self) -> usize {
///         1
///     }
///     fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
///         if !x.is_finite() {
///             return Err(EncodeError::NotFinite { value: x });
///         }
///         let nearest = x.round_ties_even();
///         if nearest.abs() > 9.0 {
///             return Err(EncodeError::TooLarge { value: x, largest: 9.0 });
///         }
///         word.push(TokenId((nearest + 9.0) as u32));
///         Ok(())
///     }
///     fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
///         match tokens.split_first() {
///             Some((&TokenId(id), rest)) if id <= 18 => Ok((f64::from(id) - 9.0, rest)),
///             _ => Err(DecodeError::expected("an integer", 0, tokens, self.symbols())),
///         }
///     }
/// }
///
/// let integers = SmallIntegers((-9..=9).map(|i| i.to_string()).collect());
/// assert_eq!(integers.round(-3.6), Ok(-4.0));
/// assert_eq!(integers.render(-3.6), Ok("-4".to_owned()));
/// assert_eq!(integers.parse("-4"), Ok(-4.0));
/// ```
pub trait NumberEncoding: Debug + Send + Sync {
    /// Symbols in id order; the index is the id within this encoding.
    fn symbols(&self) -> &[String];

    /// The number of tokens in the longest word that [`encode`](Self::encode) writes.
    fn max_word_len(&self) -> usize;

    /// Appends the word for `x`, rounded to a representable number.
    ///
    /// # Errors
    /// When `x` is not finite or is too large to be written. `word` is unchanged then.
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError>;

    /// Reads one number off the front and returns it with the tokens left over.
    ///
    /// # Errors
    /// When `tokens` does not begin with a word. Positions in the error count from the start of `tokens`.
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError>;

    /// The representable number that `x` is written as: the best answer any model can give.
    ///
    /// # Errors
    /// When [`encode`](Self::encode) fails.
    fn round(&self, x: f64) -> Result<f64, EncodeError> {
        let mut word = Vec::with_capacity(self.max_word_len());
        self.encode(x, &mut word)?;
        Ok(self.decode(&word).expect("an encoding reads its own words").0)
    }

    /// The word for `x` as text: its symbols, separated by spaces.
    ///
    /// # Errors
    /// When [`encode`](Self::encode) fails.
    ///
    /// # Examples
    /// ```
    /// use numformer_encoding::{NumberEncoding, Preset};
    ///
    /// let words = Preset::ALL.map(|preset| preset.encoding().render(3.14159).unwrap());
    /// assert_eq!(words, ["+ 3 1 4 E-2", "+ 314 E-2", "N314 E-2", "N314e7"]);
    /// ```
    fn render(&self, x: f64) -> Result<String, EncodeError> {
        let mut word = Vec::with_capacity(self.max_word_len());
        self.encode(x, &mut word)?;
        let mut text = String::new();
        render_into(self.symbols(), &word, &mut text);
        Ok(text)
    }

    /// The number whose word is this text, symbols separated by white space: the inverse of [`render`](Self::render).
    ///
    /// # Errors
    /// When the encoding lacks a symbol of the text, or the symbols are not exactly one word. A missing symbol is
    /// reported first.
    ///
    /// # Examples
    /// ```
    /// use numformer_encoding::{NumberEncoding, Positional};
    ///
    /// let p10 = Positional::p10();
    /// assert_eq!(p10.parse("+ 3 1 4 E-2"), Ok(3.14));
    /// let error = |text| p10.parse(text).unwrap_err().to_string();
    /// assert_eq!(error("+ 3 1 pi"), "expected a symbol of the encoding at position 3, found `pi`");
    /// assert_eq!(error("+ 3 1"), "expected a digit or an exponent at position 3, found the end");
    /// assert_eq!(error("+ 3 E0 + 1 E0"), "expected the end at position 3, found `+`");
    /// ```
    fn parse(&self, text: &str) -> Result<f64, DecodeError> {
        let symbols = self.symbols();
        let unknown = |position, found| DecodeError::Unexpected {
            expected: "a symbol of the encoding".into(),
            position,
            found: shortened(found),
        };
        let id = |(position, found)| {
            let index = symbols.iter().position(|symbol| symbol == found);
            index.map(|index| TokenId(index as u32)).ok_or_else(|| unknown(position, found))
        };
        let tokens = text.split_whitespace().enumerate().map(id).collect::<Result<Vec<_>, _>>()?;
        let (x, rest) = self.decode(&tokens)?;
        match rest.first() {
            None => Ok(x),
            Some(&next) => {
                let (position, found) = (tokens.len() - rest.len(), symbol_or_unknown(symbols, next));
                Err(DecodeError::Trailing { position, found })
            }
        }
    }

    /// Appends the words of all `numbers`.
    ///
    /// This method is compiled once per implementation, so a `dyn NumberEncoding` costs one virtual call per matrix and
    /// none per number. There is no reason to override this method or [`decode_all`](Self::decode_all).
    ///
    /// # Errors
    /// When a number cannot be written. The words of the numbers before it have been appended then.
    fn encode_all(&self, numbers: &[f64], words: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        words.reserve(numbers.len() * self.max_word_len());
        numbers.iter().try_for_each(|&x| self.encode(x, words))
    }

    /// Reads exactly `count` numbers off the front, appends them, and returns the tokens left over.
    ///
    /// # Errors
    /// When a word is missing or malformed. The numbers before it have been appended then.
    fn decode_all<'t>(
        &self,
        tokens: &'t [TokenId],
        count: usize,
        numbers: &mut Vec<f64>,
    ) -> Result<&'t [TokenId], DecodeError> {
        let mut rest = tokens;
        for _ in 0..count {
            let (x, after) = self.decode(rest).map_err(|error| error.shifted(tokens.len() - rest.len()))?;
            numbers.push(x);
            rest = after;
        }
        Ok(rest)
    }

    /// The same encoding without the symbols that are needed neither for zero nor for numbers of these magnitudes;
    /// `None` if there is no such encoding. Both encodings write zero and numbers of these magnitudes with the same
    /// symbols. The restricted encoding may write smaller numbers as zero, and it refuses larger numbers if the symbols
    /// for them were removed.
    fn restricted(&self, _magnitudes: RangeInclusive<f64>) -> Option<Arc<dyn NumberEncoding>> {
        None
    }

    /// Which symbols may follow which in a word; `None` if that is not known. The grammar allows exactly the words that
    /// [`decode`](Self::decode) reads. With it, a model can be kept from writing anything else.
    fn grammar(&self) -> Option<WordGrammar> {
        None
    }

    /// What the symbol at this index of [`symbols`](Self::symbols) stands for, in terms that other encodings share;
    /// `None` if there are no such terms. With it, a model that changes its encoding keeps what it has learned about
    /// such symbols.
    fn meaning(&self, _index: usize) -> Option<SymbolMeaning> {
        None
    }
}
