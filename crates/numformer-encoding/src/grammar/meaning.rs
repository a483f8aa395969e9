//! What symbols stand for.

use crate::nearest::value;

/// What a symbol of a [`NumberEncoding`](crate::NumberEncoding) stands for, independently of the encoding.
///
/// Symbols of two encodings may be spelled alike but differ in meaning, as `5` does in base 10 and in base 1000. They
/// may also have the same meaning, as `E-2` does in both.
///
/// # Examples
/// ```
/// use numformer_encoding::{NumberEncoding, Positional, SymbolMeaning};
///
/// let (p10, p1000) = (Positional::p10(), Positional::p1000());
/// let meaning = |encoding: &Positional, symbol: &str| encoding.meaning(encoding.symbols().iter().position(|s| s ==
/// symbol)?); assert_eq!(meaning(&p10, "5"), Some(SymbolMeaning::Digit { base: 10, digit: 5 }));
/// assert_ne!(meaning(&p10, "5"), meaning(&p1000, "5"));
/// assert_eq!(meaning(&p10, "E-2"), meaning(&p1000, "E-2"));
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SymbolMeaning {
    /// The sign of what follows.
    Sign {
        /// Whether it is a minus.
        is_negative: bool,
    },
    /// A digit of a significand.
    Digit {
        /// Its base.
        base: u32,
        /// Its value.
        digit: u32,
    },
    /// A complete significand with its sign.
    Significand(i64),
    /// A power of ten.
    PowerOfTen(i32),
    /// A complete number: `significand·10^exponent`, where the significand is not a multiple of ten. Zero is `0·10^0`.
    Number {
        /// The significand, with its sign.
        significand: i64,
        /// The exponent of ten.
        exponent: i32,
    },
}

impl SymbolMeaning {
    /// The value of a number, a significand, a digit or a power of ten, as the nearest double; `None` for other symbols, such
    /// as signs.
    ///
    /// # Examples
    /// ```
    /// use numformer_encoding::SymbolMeaning;
    ///
    /// assert_eq!(SymbolMeaning::Number { significand: -31, exponent: -1 }.value(), Some(-3.1));
    /// assert_eq!(SymbolMeaning::PowerOfTen(2).value(), Some(100.0));
    /// assert_eq!(SymbolMeaning::Sign { is_negative: true }.value(), None);
    /// ```
    #[must_use]
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Sign { .. } => None,
            Self::Digit { digit, .. } => Some(f64::from(digit)),
            Self::Significand(significand) => Some(significand as f64),
            Self::PowerOfTen(exponent) => Some(value(1, exponent)),
            Self::Number { significand, exponent } => Some(value(significand, exponent)),
        }
    }

    /// The number `significand·10^exponent`.
    pub(crate) fn number(mut significand: i64, mut exponent: i32) -> Self {
        if significand == 0 {
            exponent = 0;
        }
        while significand != 0 && significand % 10 == 0 {
            significand /= 10;
            exponent += 1;
        }
        Self::Number { significand, exponent }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Balanced, Floating, NumberEncoding, Positional};

    fn meaning(encoding: &dyn NumberEncoding, symbol: &str) -> Option<SymbolMeaning> {
        encoding.meaning(encoding.symbols().iter().position(|other| other == symbol).expect(symbol))
    }

    #[test]
    fn every_symbol_of_an_encoding_has_a_meaning_of_its_own() {
        let encodings: [&dyn NumberEncoding; 5] = [
            &Positional::p10(),
            &Positional::p1000(),
            &Balanced::b1999(),
            &Floating::new(3, 16, 7).expect("valid parameters"),
            &Floating::new(1, 3, 1).expect("valid parameters"),
        ];
        for encoding in encodings {
            let count = encoding.symbols().len();
            let meanings: HashSet<_> = (0..count).map(|index| encoding.meaning(index).expect("a meaning")).collect();
            assert_eq!(meanings.len(), count, "{encoding:?}");
            assert_eq!(encoding.meaning(count), None, "{encoding:?}");
        }
    }

    #[test]
    fn the_value_of_a_word_of_one_token_is_what_is_read() {
        let floating = Floating::new(3, 16, 7).expect("valid parameters");
        for (id, symbol) in floating.symbols().iter().enumerate() {
            let value = floating.meaning(id).and_then(SymbolMeaning::value);
            assert_eq!(value, Some(floating.parse(symbol).expect(symbol)), "{symbol}");
        }
        let b1999 = Balanced::b1999();
        for (symbol, expected) in [("N-7", -7.0), ("E-2", 0.01), ("E5", 1e5)] {
            assert_eq!(meaning(&b1999, symbol).and_then(SymbolMeaning::value), Some(expected), "{symbol}");
        }
        for symbol in ["+", "-"] {
            assert_eq!(meaning(&Positional::p10(), symbol).and_then(SymbolMeaning::value), None);
        }
        let [none, all] = [i32::MIN, i32::MAX].map(|exponent| SymbolMeaning::PowerOfTen(exponent).value());
        assert_eq!((none, all), (Some(0.0), Some(f64::INFINITY)));
    }

    #[test]
    fn alike_symbols_differ_where_they_stand_for_something_else() {
        let (p10, p1000, b1999) = (Positional::p10(), Positional::p1000(), Balanced::b1999());
        assert_eq!(meaning(&p1000, "5"), Some(SymbolMeaning::Digit { base: 1000, digit: 5 }));
        assert_ne!(meaning(&p10, "5"), meaning(&p1000, "5"));
        for symbol in ["+", "-", "E-100", "E0", "E7"] {
            assert_eq!(meaning(&p10, symbol), meaning(&p1000, symbol), "{symbol}");
        }
        assert_eq!(meaning(&p10, "E-2"), Some(SymbolMeaning::PowerOfTen(-2)));
        assert_eq!(meaning(&b1999, "E-2"), meaning(&p10, "E-2"));
        assert_eq!(meaning(&b1999, "N-7"), Some(SymbolMeaning::Significand(-7)));

        // With another unit, the same spelling is another number, and the same number may be spelled differently.
        let [seven, eight] = [7, 8].map(|decimals| Floating::new(3, 16, decimals).expect("valid parameters"));
        assert_ne!(meaning(&seven, "N314e7"), meaning(&eight, "N314e7"));
        assert_eq!(meaning(&seven, "N314e7"), meaning(&eight, "N314e8"));
        assert_eq!(meaning(&seven, "N314e7"), Some(SymbolMeaning::Number { significand: 314, exponent: -2 }));
        let four_digits = Floating::new(4, 16, 7).expect("valid parameters");
        assert_eq!(meaning(&seven, "N-314e7"), meaning(&four_digits, "N-3140e7"));
        assert_eq!(meaning(&seven, "N0e0"), meaning(&four_digits, "N0e0"));
    }

    #[test]
    fn symbols_without_a_value_have_no_meaning() {
        let fp15 = Floating::fp15();
        assert_eq!((meaning(&fp15, "NaN"), meaning(&fp15, "-NaN")), (None, None));
    }

    #[test]
    fn fewer_symbols_mean_the_same() {
        let whole: [&dyn NumberEncoding; 4] =
            [&Positional::p10(), &Positional::p1000(), &Balanced::b1999(), &Floating::fp15()];
        for encoding in whole {
            let restricted = encoding.restricted(0.01..=10.0).expect("10 is in range");
            for symbol in restricted.symbols() {
                assert_eq!(meaning(&*restricted, symbol), meaning(encoding, symbol), "{symbol}");
            }
        }
    }
}
