//! Encodings with one token per number, such as FP15.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::nearest::value;
use crate::numbers::decimal::decade;
use crate::{DecodeError, EncodeError, EncodingError, NumberEncoding, SymbolMeaning, TokenId, WordGrammar};

/// An encoding of a number as one token: a significand of `p` digits and one of a few exponents.
///
/// Let `v = |x|·10^d`, where `10^-d` is the unit; `k = floor(log10 v)`, at least 0; and
/// `m = floor(v·10^(p - 1 - k) + 1/2)`, where `m = 10^p` becomes `m = 10^(p - 1)`, `k + 1`. The token is `N<±m>e<k>`
/// and stands for the `f64` nearest to `±m·10^(k - d - p + 1)`. Below the unit there are fewer digits, down to `N0e0`
/// for zero.
///
/// All of this is computed in double precision exactly as written, and halves are rounded up. A number near the middle
/// of two representable numbers may therefore be rounded to either of them. This is the rule of the authors' program,
/// not that of the other encodings.
///
/// # Examples
/// ```
/// use numformer_encoding::{Floating, NumberEncoding};
///
/// let fp15 = Floating::fp15();
/// assert_eq!(fp15.render(-0.0314159)?, "N-314e5");
/// assert_eq!(fp15.parse("N-314e5")?, -0.0314);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 2. <https://arxiv.org/abs/2112.01898>
pub struct Floating {
    precision: u32,
    decimals: u32,
    /// 10^decimals.
    inverse_unit: f64,
    /// 10^precision: one more than the largest significand.
    full: u32,
    /// One per exponent.
    steps: Box<[Step]>,
    /// The value of each local id: zero, the positive numbers ascending, the negative ones descending.
    values: Box<[f64]>,
    /// The symbols of these numbers, then the symbols without a value.
    symbols: Vec<String>,
}

#[derive(Copy, Clone)]
struct Step {
    /// 10^(k + 1): where the next exponent begins.
    end: f64,
    /// 10^(precision - 1 - k): takes `v` to its significand.
    scale: f64,
}

/// With these limits there are at most 720,000 tokens, and `10^decimals` is exact in a double.
const MAX_PRECISION: u32 = 4;
const MAX_EXPONENTS: u32 = 40;
const MAX_DECIMALS: u32 = 22;

impl Floating {
    /// The encoding with `precision` significant decimal digits (1 to 4) and `exponents` decades (1 to 40). The lowest
    /// decade begins at the unit `10^-decimals` (`decimals` up to 22).
    ///
    /// # Errors
    /// When a parameter is out of range.
    pub fn new(precision: u32, exponents: u32, decimals: u32) -> Result<Self, EncodingError> {
        if !(1..=MAX_PRECISION).contains(&precision) {
            return Err(EncodingError::Precision { max: MAX_PRECISION, found: precision });
        }
        if !(1..=MAX_EXPONENTS).contains(&exponents) {
            return Err(EncodingError::ExponentCount { max: MAX_EXPONENTS, found: exponents });
        }
        if decimals > MAX_DECIMALS {
            return Err(EncodingError::Decimals { max: MAX_DECIMALS, found: decimals });
        }
        let digits = precision as i32;
        let full = 10_u32.pow(precision);
        let steps =
            (0..exponents as i32).map(|k| Step { end: value(1, k + 1), scale: value(1, digits - 1 - k) }).collect();

        let lowest = digits - 1 + decimals as i32;
        let positive = || {
            let subnormal = (1..full / 10).map(|m| (i64::from(m), 0));
            let normal = (0..exponents as i32).flat_map(move |k| (full / 10..full).map(move |m| (i64::from(m), k)));
            subnormal.chain(normal)
        };
        let numbers = || std::iter::once((0, 0)).chain(positive()).chain(positive().map(|(m, k)| (-m, k)));
        let values = numbers().map(|(m, k)| value(m, k - lowest)).collect();
        let symbols = numbers().map(|(m, k)| format!("N{m}e{k}")).collect();
        let inverse_unit = value(1, decimals as i32);
        Ok(Self { precision, decimals, inverse_unit, full, steps, values, symbols })
    }

    /// Three significant digits and 16 decades from 10^-7, so up to 9.99·10^8: `N314e7`. It has the
    /// [out-of-range symbols](Self::with_out_of_range_symbols).
    pub fn fp15() -> Self {
        Self::new(3, 16, 7).expect("the parameters are in range").with_out_of_range_symbols()
    }

    /// Adds `NaN` and `-NaN`, which the authors' program writes for numbers that are out of range.
    ///
    /// These symbols keep the vocabulary compatible. Writing a number that is out of range is still an error, and so is
    /// reading one of these symbols.
    #[must_use]
    pub fn with_out_of_range_symbols(mut self) -> Self {
        self.symbols.truncate(self.values.len());
        self.symbols.extend(["NaN", "-NaN"].map(String::from));
        self
    }

    /// The number of significant decimal digits.
    pub fn precision(&self) -> u32 {
        self.precision
    }

    /// The number of decades.
    pub fn exponents(&self) -> u32 {
        self.steps.len() as u32
    }

    /// The lowest decade begins at `10^-decimals`.
    pub fn decimals(&self) -> u32 {
        self.decimals
    }

    /// The number of positive numbers, which is also the index of the largest.
    fn count(&self) -> u32 {
        self.values.len() as u32 / 2
    }

    /// The significand and the exponent of |x|.
    #[inline]
    fn round(&self, x: f64) -> Result<(u32, u32), EncodeError> {
        let v = x.abs() * self.inverse_unit;
        let lower = decade(v).max(0) as usize;
        let mut k = lower + usize::from(self.steps.get(lower).is_some_and(|step| v >= step.end));
        let Some(step) = self.steps.get(k) else {
            return Err(self.refuse(x));
        };
        let mut m = (v * step.scale + 0.5) as u32;
        if m == self.full {
            m /= 10;
            k += 1;
            if k == self.steps.len() {
                return Err(self.refuse(x));
            }
        }
        Ok((m, k as u32))
    }

    #[cold]
    fn refuse(&self, x: f64) -> EncodeError {
        if x.is_finite() {
            EncodeError::TooLarge { value: x, largest: self.values[self.count() as usize] }
        } else {
            EncodeError::NotFinite { value: x }
        }
    }
}

impl NumberEncoding for Floating {
    fn symbols(&self) -> &[String] {
        &self.symbols
    }

    fn max_word_len(&self) -> usize {
        1
    }

    #[inline]
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        let (m, k) = self.round(x)?;
        // Each exponent has 9·10^(p - 1) significands of full length, which follow the shorter ones of exponent 0.
        let magnitude = m + k * (self.full - self.full / 10);
        let sign = if x < 0.0 && m > 0 { self.count() } else { 0 };
        word.push(TokenId(magnitude + sign));
        Ok(())
    }

    #[inline]
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        if let Some((&TokenId(id), rest)) = tokens.split_first()
            && let Some(&x) = self.values.get(id as usize)
        {
            return Ok((x, rest));
        }
        Err(match DecodeError::expected("a number", 0, tokens, &self.symbols) {
            DecodeError::Unexpected { position, found, .. } if self.symbols[self.values.len()..].contains(&found) => {
                DecodeError::NoValue { position, found }
            }
            error => error,
        })
    }

    fn restricted(&self, magnitudes: RangeInclusive<f64>) -> Option<Arc<dyn NumberEncoding>> {
        let (_, k) = self.round(*magnitudes.end()).ok()?;
        let restricted = Self::new(self.precision, k + 1, self.decimals).expect("fewer exponents than before");
        Some(Arc::new(restricted))
    }

    fn grammar(&self) -> Option<WordGrammar> {
        let numbers = 0..self.values.len() as u32;
        Some(WordGrammar::sequence([numbers]))
    }

    fn meaning(&self, index: usize) -> Option<SymbolMeaning> {
        let id = u32::try_from(index).ok().filter(|id| *id <= 2 * self.count())?;
        let magnitude = if id > self.count() { id - self.count() } else { id };
        let (full, decade) = (self.full, self.full - self.full / 10);
        let k = magnitude.saturating_sub(full / 10) / decade;
        let m = i64::from(magnitude - k * decade);
        let lowest = self.precision as i32 - 1 + self.decimals as i32;
        Some(SymbolMeaning::number(if id > self.count() { -m } else { m }, k as i32 - lowest))
    }
}

impl fmt::Debug for Floating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floating")
            .field("precision", &self.precision)
            .field("exponents", &self.exponents())
            .field("decimals", &self.decimals)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_paper() {
        let fp15 = Floating::fp15();
        for (x, word) in [
            (3.144, "N314e7"),
            (-0.004, "N-400e4"),
            (0.0, "N0e0"),
            (-0.0, "N0e0"),
            (-4.9e-10, "N0e0"),
            (5e-10, "N1e0"),
            (-9.9e-8, "N-99e0"),
            (9.99e8, "N999e15"),
        ] {
            assert_eq!(fp15.render(x).as_deref(), Ok(word), "{x:e}");
        }
        assert_eq!(fp15.symbols().len(), 1 + 2 * (99 + 16 * 900) + 2);
    }

    #[test]
    fn halves_are_computed_in_double_precision() {
        let fp15 = Floating::fp15();
        assert_eq!(fp15.render(1.125).as_deref(), Ok("N113e7"), "a tie goes up");
        assert_eq!(fp15.render(1.3849999999999998).as_deref(), Ok("N139e7"), "the product is a tie");
        assert_eq!(fp15.render(9_995_000.0).as_deref(), Ok("N999e13"), "the product lies below the tie");
        assert_eq!(fp15.render(0.9994999999999999).as_deref(), Ok("N100e7"), "the product is a tie");
    }

    #[test]
    fn numbers_beyond_the_last_exponent_are_refused() {
        let fp15 = Floating::fp15();
        for x in [999_500_000.0, -1e9, 1e300, f64::MAX] {
            assert_eq!(fp15.round(x), Err(EncodeError::TooLarge { value: x, largest: 9.99e8 }));
        }
        assert!(matches!(fp15.round(f64::NAN), Err(EncodeError::NotFinite { .. })));
        assert!(matches!(fp15.round(f64::NEG_INFINITY), Err(EncodeError::NotFinite { .. })));
    }

    #[test]
    fn every_symbol_but_the_last_two_stands_for_its_value() {
        let fp15 = Floating::fp15();
        let (without_value, numbers) = fp15.symbols().split_last_chunk::<2>().map(|(n, w)| (w, n)).expect("symbols");
        assert_eq!(without_value, &["NaN", "-NaN"]);
        for (id, symbol) in numbers.iter().enumerate() {
            let (m, k) = symbol[1..].split_once('e').expect("a significand and an exponent");
            let k: i32 = k.parse().expect("an exponent");
            let expected: f64 = format!("{m}e{}", k - 9).parse().expect("a number");
            assert_eq!(fp15.decode(&[TokenId(id as u32)]), Ok((expected, &[][..])), "{symbol}");
            assert_eq!(fp15.render(expected).as_ref(), Ok(symbol));
        }
    }

    #[test]
    fn reading_says_what_was_expected_where() {
        let fp15 = Floating::fp15();
        let message = |text| fp15.parse(text).expect_err("a malformed word").to_string();
        assert_eq!(message(""), "expected a number at position 0, found the end");
        assert_eq!(message("NaN"), "expected a number at position 0, found `NaN`, which has no value");
        assert_eq!(message("-NaN N1e0"), "expected a number at position 0, found `-NaN`, which has no value");
        let unknown = fp15.decode(&[TokenId(29_001)]).expect_err("an id without symbol");
        assert_eq!(unknown.to_string(), "expected a number at position 0, found `<unknown 29001>`");
    }

    #[test]
    fn other_parameters_follow_the_same_rule() {
        let coarse = Floating::new(1, 3, 1).expect("valid parameters");
        assert_eq!(coarse.symbols().len(), 1 + 2 * 3 * 9);
        for (x, word) in [(0.04, "N0e0"), (0.05, "N1e0"), (-0.96, "N-1e1"), (7.4, "N7e1"), (94.0, "N9e2")] {
            assert_eq!(coarse.render(x).as_deref(), Ok(word), "{x}");
        }
        assert_eq!(coarse.parse("N-9e2"), Ok(-90.0));
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert_eq!(Floating::new(5, 16, 7).err(), Some(EncodingError::Precision { max: 4, found: 5 }));
        assert_eq!(Floating::new(3, 0, 7).err(), Some(EncodingError::ExponentCount { max: 40, found: 0 }));
        assert_eq!(Floating::new(3, 41, 7).err(), Some(EncodingError::ExponentCount { max: 40, found: 41 }));
        assert_eq!(Floating::new(3, 16, 23).err(), Some(EncodingError::Decimals { max: 22, found: 23 }));
    }
}
