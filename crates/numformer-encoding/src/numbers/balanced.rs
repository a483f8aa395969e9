//! Encodings with a signed significand and an exponent, such as B1999.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::nearest::value;
use crate::numbers::decimal::Decimal;
use crate::{DecodeError, EncodeError, EncodingError, NumberEncoding, SymbolMeaning, TokenId, WordGrammar};

/// An encoding of a number as two tokens: a signed significand and an exponent of ten.
///
/// A number is rounded to `±m·10^e`, where `m` has a fixed number of significant decimal digits. Its word is
/// `N<±m> E<e>`. Zero is `N0 E0`. Rounding, range and values are those of [`Positional`](crate::Positional). The
/// significands run from `-10^precision` to `10^precision`. Writing uses neither these two ends nor significands with
/// fewer digits, but reading accepts them all.
///
/// # Examples
/// ```
/// use numformer_encoding::{Balanced, NumberEncoding};
///
/// let b1999 = Balanced::b1999();
/// assert_eq!(b1999.render(-0.0314159)?, "N-314 E-4");
/// assert_eq!(b1999.parse("N-314 E-4")?, -0.0314);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 2. <https://arxiv.org/abs/2112.01898>
pub struct Balanced {
    decimal: Decimal,
    /// The significands, then the exponents, both ascending.
    symbols: Vec<String>,
}

/// With more digits, a vocabulary would have more than 200,000 significands.
const MAX_PRECISION: u32 = 5;

impl Balanced {
    /// The encoding with `precision` significant decimal digits (1 to 5) and a range of exponents of ten around 0
    /// (within ±280).
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub fn new(precision: u32, exponents: RangeInclusive<i32>) -> Result<Self, EncodingError> {
        if !(1..=MAX_PRECISION).contains(&precision) {
            return Err(EncodingError::Precision { max: MAX_PRECISION, found: precision });
        }
        let decimal = Decimal::new(precision, exponents)?;
        let full = decimal.full() as i64;
        let significands = (-full..=full).map(|significand| format!("N{significand}"));
        let symbols = significands.chain(decimal.exponent_symbols()).collect();
        Ok(Self { decimal, symbols })
    }

    /// Three significant digits, exponents -100 to 100: `N314 E-2`.
    pub fn b1999() -> Self {
        Self::new(3, -100..=100).expect("the parameters are in range")
    }

    /// The number of significant decimal digits.
    pub fn precision(&self) -> u32 {
        self.decimal.precision()
    }

    /// The exponents of ten.
    pub fn exponents(&self) -> &RangeInclusive<i32> {
        self.decimal.exponents()
    }

    fn significand(&self, TokenId(id): TokenId) -> Option<i64> {
        (id < self.first_exponent()).then(|| i64::from(id) - self.decimal.full() as i64)
    }

    fn exponent(&self, TokenId(id): TokenId) -> Option<i32> {
        self.decimal.exponent_at(id.checked_sub(self.first_exponent())?)
    }

    /// The local id of the smallest exponent, after those of the significands.
    fn first_exponent(&self) -> u32 {
        2 * self.decimal.full() as u32 + 1
    }
}

impl NumberEncoding for Balanced {
    fn symbols(&self) -> &[String] {
        &self.symbols
    }

    fn max_word_len(&self) -> usize {
        2
    }

    #[inline]
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        let (significand, exponent) = self.decimal.round(x)?;
        let (zero, offset) = (self.decimal.full() as u32, significand as u32);
        let significand = if x < 0.0 { zero - offset } else { zero + offset };
        word.extend([TokenId(significand), TokenId(self.first_exponent() + self.decimal.exponent_index(exponent))]);
        Ok(())
    }

    #[inline]
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        let expected = |what, position| DecodeError::expected(what, position, tokens, &self.symbols);
        let significand = tokens.first().and_then(|&token| self.significand(token));
        let significand = significand.ok_or_else(|| expected("a significand", 0))?;
        let exponent = tokens.get(1).and_then(|&token| self.exponent(token));
        let exponent = exponent.ok_or_else(|| expected("an exponent", 1))?;
        Ok((value(significand, exponent), &tokens[2..]))
    }

    fn restricted(&self, magnitudes: RangeInclusive<f64>) -> Option<Arc<dyn NumberEncoding>> {
        let exponents = self.decimal.exponents_within(&magnitudes)?;
        let restricted = Self::new(self.precision(), exponents).expect("a part of a valid range");
        Some(Arc::new(restricted))
    }

    fn grammar(&self) -> Option<WordGrammar> {
        let first_exponent = self.first_exponent();
        Some(WordGrammar::sequence([0..first_exponent, first_exponent..self.symbols.len() as u32]))
    }

    fn meaning(&self, index: usize) -> Option<SymbolMeaning> {
        let id = TokenId(u32::try_from(index).ok()?);
        let significand = self.significand(id).map(SymbolMeaning::Significand);
        significand.or_else(|| self.exponent(id).map(SymbolMeaning::PowerOfTen))
    }
}

impl fmt::Debug for Balanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("precision", &self.precision())
            .field("exponents", self.exponents())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_paper() {
        let b1999 = Balanced::b1999();
        for (x, word) in
            [(3.144, "N314 E-2"), (-0.004, "N-400 E-5"), (0.0, "N0 E0"), (-0.0, "N0 E0"), (-1e-200, "N0 E0")]
        {
            assert_eq!(b1999.render(x).as_deref(), Ok(word));
        }
        assert_eq!(b1999.symbols().len(), 2001 + 201);
    }

    #[test]
    fn reading_accepts_every_significand() {
        let b1999 = Balanced::b1999();
        assert_eq!(b1999.parse("N1000 E-2"), Ok(10.0));
        assert_eq!(b1999.parse("N-7 E1"), Ok(-70.0));
        assert!(b1999.parse("N0 E-9").is_ok_and(|x| x == 0.0 && x.is_sign_positive()));
    }

    #[test]
    fn reading_says_what_was_expected_where() {
        let b1999 = Balanced::b1999();
        let message = |text| b1999.parse(text).expect_err("a malformed word").to_string();
        assert_eq!(message(""), "expected a significand at position 0, found the end");
        assert_eq!(message("E5"), "expected a significand at position 0, found `E5`");
        assert_eq!(message("N5"), "expected an exponent at position 1, found the end");
        assert_eq!(message("N5 N5"), "expected an exponent at position 1, found `N5`");
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert_eq!(Balanced::new(6, -1..=1).err(), Some(EncodingError::Precision { max: 5, found: 6 }));
        assert_eq!(Balanced::new(0, -1..=1).err(), Some(EncodingError::Precision { max: 5, found: 0 }));
        assert!(Balanced::new(5, -280..=280).is_ok());
    }
}
