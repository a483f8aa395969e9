//! Encodings with a sign, digits and an exponent, such as P10 and P1000.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::nearest::value;
use crate::numbers::decimal::Decimal;
use crate::{Branch, DecodeError, EncodeError, EncodingError, NumberEncoding, SymbolMeaning, TokenId, WordGrammar};

/// An encoding of a number as a sign, the digits of the significand in some base, and an exponent of ten, one token
/// each.
///
/// A number is rounded to `±m·10^e`, where `m` has a fixed number of significant decimal digits. Its word is `±`, the
/// digits of `m` in the base (the most significant first), and `E<e>`. Zero is `+ 0 E0`. Numbers whose exponent falls
/// below the range are written as zero. For a precision of 3, rounding is that of C's `%.2e`: the exact binary value is
/// rounded to nearest, ties to even. The word stands for the `f64` nearest to `±m·10^e`.
///
/// Reading accepts from one to as many digits as the precision needs, including leading zeros, since a model may write
/// such words.
///
/// # Examples
/// ```
/// use numformer_encoding::{NumberEncoding, Positional};
///
/// let p10 = Positional::p10();
/// assert_eq!(p10.render(-0.0314159)?, "- 3 1 4 E-4");
/// assert_eq!(p10.parse("- 3 1 4 E-4")?, -0.0314);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 2. <https://arxiv.org/abs/2112.01898>
pub struct Positional {
    decimal: Decimal,
    base: u32,
    /// The number of digits that the largest significand, 10^precision - 1, has in the base.
    max_digits: usize,
    /// `+ -`, the digits, the exponents.
    symbols: Vec<String>,
}

/// The local ids: two signs, then the digits, then the exponents.
const FIRST_DIGIT: u32 = 2;

/// Keeps the largest significand that is read, which is below `base·10^15`, within 63 bits.
const MAX_BASE: u32 = 9_000;

impl Positional {
    /// The encoding with digits in `base` (2 to 9000), `precision` significant decimal digits (1 to 15), and a range of
    /// exponents of ten around 0 (within ±280).
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub fn new(base: u32, precision: u32, exponents: RangeInclusive<i32>) -> Result<Self, EncodingError> {
        if !(2..=MAX_BASE).contains(&base) {
            return Err(EncodingError::Base { max: MAX_BASE, found: base });
        }
        let decimal = Decimal::new(precision, exponents)?;
        let max_digits = (decimal.full() - 1).ilog(u64::from(base)) as usize + 1;
        let signs = ["+", "-"].map(String::from);
        let digits = (0..base).map(|digit| digit.to_string());
        let symbols = signs.into_iter().chain(digits).chain(decimal.exponent_symbols()).collect();
        Ok(Self { decimal, base, max_digits, symbols })
    }

    /// Three significant digits, one token each, exponents -100 to 100: `+ 3 1 4 E-2`.
    pub fn p10() -> Self {
        Self::new(10, 3, -100..=100).expect("the parameters are in range")
    }

    /// Three significant digits in one token, exponents -100 to 100: `+ 314 E-2`.
    pub fn p1000() -> Self {
        Self::new(1000, 3, -100..=100).expect("the parameters are in range")
    }

    /// The base of the digits.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// The number of significant decimal digits.
    pub fn precision(&self) -> u32 {
        self.decimal.precision()
    }

    /// The exponents of ten.
    pub fn exponents(&self) -> &RangeInclusive<i32> {
        self.decimal.exponents()
    }

    fn digit(&self, TokenId(id): TokenId) -> Option<u32> {
        id.checked_sub(FIRST_DIGIT).filter(|digit| *digit < self.base)
    }

    /// Reads a well-formed word of full length without a loop, if that length is one or three digits, as in the
    /// published encodings. [`decode`](NumberEncoding::decode) reads all other words with a loop.
    #[inline(always)]
    fn decode_full_length<'t>(&self, tokens: &'t [TokenId]) -> Option<(f64, &'t [TokenId])> {
        let (sign, significand, exponent, rest) = match (self.max_digits, tokens) {
            (1, [sign, a, exponent, rest @ ..]) => (sign, i64::from(self.digit(*a)?), exponent, rest),
            (3, [sign, a, b, c, exponent, rest @ ..]) => {
                let base = i64::from(self.base);
                let [a, b, c] = [self.digit(*a)?, self.digit(*b)?, self.digit(*c)?].map(i64::from);
                (sign, (a * base + b) * base + c, exponent, rest)
            }
            _ => return None,
        };
        let signed = match sign {
            TokenId(0) => significand,
            TokenId(1) => -significand,
            _ => return None,
        };
        Some((value(signed, self.exponent(*exponent)?), rest))
    }

    fn exponent(&self, TokenId(id): TokenId) -> Option<i32> {
        self.decimal.exponent_at(id.checked_sub(FIRST_DIGIT + self.base)?)
    }
}

/// Appends the tokens of the digits, most significant first.
#[inline(always)]
fn push_digits(mut significand: u64, base: u32, word: &mut Vec<TokenId>) {
    let base = u64::from(base);
    let first = word.len();
    while significand >= base {
        word.push(TokenId(FIRST_DIGIT + (significand % base) as u32));
        significand /= base;
    }
    word.push(TokenId(FIRST_DIGIT + significand as u32));
    word[first..].reverse();
}

impl NumberEncoding for Positional {
    fn symbols(&self) -> &[String] {
        &self.symbols
    }

    fn max_word_len(&self) -> usize {
        self.max_digits + 2
    }

    #[inline(always)] // into the loop over a matrix
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        let (significand, exponent) = self.decimal.round(x)?;
        let sign = TokenId(u32::from(x < 0.0 && significand > 0));
        let exponent = TokenId(FIRST_DIGIT + self.base + self.decimal.exponent_index(exponent));
        // One copy of a known length is about twice as fast as a push for each token. The published encodings have only
        // words of these lengths.
        let digit = |digit: u64| TokenId(FIRST_DIGIT + digit as u32);
        match (self.base, significand) {
            (10, m @ 100..=999) => {
                word.extend_from_slice(&[sign, digit(m / 100), digit(m / 10 % 10), digit(m % 10), exponent]);
            }
            (base, m) if m < u64::from(base) => word.extend_from_slice(&[sign, digit(m), exponent]),
            (base, m) => {
                word.push(sign);
                push_digits(m, base, word);
                word.push(exponent);
            }
        }
        Ok(())
    }

    #[inline(always)] // into the loop over a matrix, where it makes reading a quarter faster
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        if let Some(decoded) = self.decode_full_length(tokens) {
            return Ok(decoded);
        }
        let expected = |what, position| DecodeError::expected(what, position, tokens, &self.symbols);
        let Some(&TokenId(sign @ (0 | 1))) = tokens.first() else {
            return Err(expected("a sign", 0));
        };
        let mut significand = 0;
        let mut length = 1;
        while length <= self.max_digits
            && let Some(digit) = tokens.get(length).and_then(|&token| self.digit(token))
        {
            significand = significand * i64::from(self.base) + i64::from(digit);
            length += 1;
        }
        if length == 1 {
            return Err(expected("a digit", 1));
        }
        let Some(exponent) = tokens.get(length).and_then(|&token| self.exponent(token)) else {
            let what = if length <= self.max_digits { "a digit or an exponent" } else { "an exponent" };
            return Err(expected(what, length));
        };
        let signed = significand * (1 - 2 * i64::from(sign));
        Ok((value(signed, exponent), &tokens[length + 1..]))
    }

    fn restricted(&self, magnitudes: RangeInclusive<f64>) -> Option<Arc<dyn NumberEncoding>> {
        let exponents = self.decimal.exponents_within(&magnitudes)?;
        let restricted = Self::new(self.base, self.precision(), exponents).expect("a part of a valid range");
        Some(Arc::new(restricted))
    }

    fn grammar(&self) -> Option<WordGrammar> {
        let digits = FIRST_DIGIT..FIRST_DIGIT + self.base;
        let exponents = digits.end..self.symbols.len() as u32;
        // State `n` comes after the sign and `n - 1` digits.
        let after_digits = |n: usize| {
            let digit = (n <= self.max_digits).then(|| Branch { tokens: digits.clone(), next: Some(n + 1) });
            let exponent = (n > 1).then(|| Branch { tokens: exponents.clone(), next: None });
            digit.into_iter().chain(exponent).collect()
        };
        let sign = vec![Branch { tokens: 0..FIRST_DIGIT, next: Some(1) }];
        let states = [sign].into_iter().chain((1..=self.max_digits + 1).map(after_digits)).collect();
        Some(WordGrammar::new(states).expect("each state leads to the next, or to the end"))
    }

    fn meaning(&self, index: usize) -> Option<SymbolMeaning> {
        let id = TokenId(u32::try_from(index).ok()?);
        match id {
            TokenId(sign @ (0 | 1)) => Some(SymbolMeaning::Sign { is_negative: sign == 1 }),
            _ => match self.digit(id) {
                Some(digit) => Some(SymbolMeaning::Digit { base: self.base, digit }),
                None => self.exponent(id).map(SymbolMeaning::PowerOfTen),
            },
        }
    }
}

impl fmt::Debug for Positional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Positional")
            .field("base", &self.base)
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
        let (p10, p1000) = (Positional::p10(), Positional::p1000());
        for (x, in_p10, in_p1000) in [
            (3.144, "+ 3 1 4 E-2", "+ 314 E-2"),
            (-0.004, "- 4 0 0 E-5", "- 400 E-5"),
            (0.0, "+ 0 E0", "+ 0 E0"),
            (-0.0, "+ 0 E0", "+ 0 E0"),
            (-1e-200, "+ 0 E0", "+ 0 E0"),
        ] {
            assert_eq!(p10.render(x).as_deref(), Ok(in_p10));
            assert_eq!(p1000.render(x).as_deref(), Ok(in_p1000));
        }
    }

    #[test]
    fn any_base_writes_its_own_digits() {
        let binary = Positional::new(2, 1, -3..=3).expect("valid parameters");
        assert_eq!(binary.render(6.0).as_deref(), Ok("+ 1 1 0 E0"));
        assert_eq!(binary.render(-0.8).as_deref(), Ok("- 1 0 0 0 E-1"));
        assert_eq!(binary.max_word_len(), 6);
        assert_eq!(binary.parse("- 1 0 0 0 E-1"), Ok(-0.8));
    }

    #[test]
    fn reading_accepts_short_and_padded_significands() {
        let p10 = Positional::p10();
        assert_eq!(p10.parse("+ 7 E1"), Ok(70.0));
        assert_eq!(p10.parse("- 0 0 7 E0"), Ok(-7.0));
        assert!(p10.parse("- 0 0 E5").is_ok_and(|x| x == 0.0 && x.is_sign_positive()));
    }

    #[test]
    fn reading_says_what_was_expected_where() {
        let p10 = Positional::p10();
        let message = |text| p10.parse(text).expect_err("a malformed word").to_string();
        assert_eq!(message(""), "expected a sign at position 0, found the end");
        assert_eq!(message("3 1"), "expected a sign at position 0, found `3`");
        assert_eq!(message("+"), "expected a digit at position 1, found the end");
        assert_eq!(message("+ E5"), "expected a digit at position 1, found `E5`");
        assert_eq!(message("+ 3 -"), "expected a digit or an exponent at position 2, found `-`");
        assert_eq!(message("+ 3 1 4 1 E5"), "expected an exponent at position 4, found `1`");
        let unknown = p10.decode(&[TokenId(0), TokenId(4), TokenId(u32::MAX)]).expect_err("an id without symbol");
        assert_eq!(unknown.to_string(), "expected a digit or an exponent at position 2, found `<unknown 4294967295>`");
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert_eq!(Positional::new(1, 3, -1..=1).err(), Some(EncodingError::Base { max: 9000, found: 1 }));
        assert_eq!(Positional::new(9001, 3, -1..=1).err(), Some(EncodingError::Base { max: 9000, found: 9001 }));
        assert_eq!(Positional::new(10, 16, -1..=1).err(), Some(EncodingError::Precision { max: 15, found: 16 }));
    }

    #[test]
    fn the_largest_significand_read_does_not_overflow() {
        // 9000^4 is the first power of the base beyond 10^15. Words may have four digits; a fifth would be too many.
        let encoding = Positional::new(9000, 15, -280..=280).expect("the largest parameters");
        assert_eq!(encoding.parse("+ 8999 8999 8999 8999 E0"), Ok(9000_f64.powi(4) - 1.0));
        assert!(encoding.parse("- 8999 8999 8999 8999 E280").is_ok_and(|x| x.is_finite()));
    }
}
