//! Rounding to significant decimal digits, and back: the arithmetic that the encodings share.

use std::io::Write as _;
use std::ops::RangeInclusive;

use crate::nearest::value;
use crate::{EncodeError, EncodingError};

/// The largest number of significant digits. A double holds that many, and all such significands are below 2^52.
pub(crate) const MAX_PRECISION: u32 = 15;

/// Exponents stay within ±280, so that `m·10^e` and every power of ten used on the way are finite normal numbers. The
/// largest `m` that is read is below 10^19.
const MAX_EXPONENT: i32 = 280;

/// Rounds numbers to `m·10^e`, with `precision` digits in `m` and `e` in a range.
///
/// The result is that of C's `%.{precision - 1}e`: correct rounding of the exact binary value, ties to even. Zero, and
/// any number that rounds to an exponent below the range, becomes `m = 0, e = 0`.
pub(crate) struct Decimal {
    precision: u32,
    exponents: RangeInclusive<i32>,
    /// 10^precision: one more than the largest significand.
    full: u64,
    /// Entry `i` is for the exponent `min - 1 + i`. The first entry is one below the range, since a number with that
    /// exponent may be rounded up into the range.
    steps: Box<[Step]>,
}

#[derive(Copy, Clone)]
struct Step {
    /// 10^(e + precision): where the next exponent begins.
    end: f64,
    /// 10^-e: takes a number with this exponent to its significand.
    scale: f64,
}

impl Decimal {
    pub(crate) fn new(precision: u32, exponents: RangeInclusive<i32>) -> Result<Self, EncodingError> {
        if !(1..=MAX_PRECISION).contains(&precision) {
            return Err(EncodingError::Precision { max: MAX_PRECISION, found: precision });
        }
        let (min, max) = (*exponents.start(), *exponents.end());
        if !(-MAX_EXPONENT..=0).contains(&min) || !(0..=MAX_EXPONENT).contains(&max) {
            return Err(EncodingError::Exponents { limit: MAX_EXPONENT, min, max });
        }
        let digits = precision as i32;
        let steps = (min - 1..=max).map(|e| Step { end: value(1, e + digits), scale: value(1, -e) }).collect();
        Ok(Self { precision, exponents, full: 10_u64.pow(precision), steps })
    }

    pub(crate) fn precision(&self) -> u32 {
        self.precision
    }

    pub(crate) fn exponents(&self) -> &RangeInclusive<i32> {
        &self.exponents
    }

    /// 10^precision: one more than the largest significand.
    pub(crate) fn full(&self) -> u64 {
        self.full
    }

    /// The largest number that can be written.
    pub(crate) fn largest(&self) -> f64 {
        value(self.full as i64 - 1, *self.exponents.end())
    }

    /// The symbols of the exponents, ascending.
    pub(crate) fn exponent_symbols(&self) -> impl Iterator<Item = String> {
        self.exponents.clone().map(|e| format!("E{e}"))
    }

    /// The position of an exponent in the range.
    #[inline]
    pub(crate) fn exponent_index(&self, exponent: i32) -> u32 {
        exponent.abs_diff(*self.exponents.start())
    }

    /// The exponent at a position in the range.
    #[inline]
    pub(crate) fn exponent_at(&self, index: u32) -> Option<i32> {
        let exponent = self.exponents.start().checked_add_unsigned(index)?;
        (exponent <= *self.exponents.end()).then_some(exponent)
    }

    /// The exponents with which zero and numbers of these magnitudes are written; `None` if the largest magnitude is
    /// too large.
    pub(crate) fn exponents_within(&self, magnitudes: &RangeInclusive<f64>) -> Option<RangeInclusive<i32>> {
        let (_, largest) = self.round(*magnitudes.end()).ok()?;
        let smallest = match self.round(*magnitudes.start()).ok()? {
            (0, _) => *self.exponents.start(),
            (_, exponent) => exponent,
        };
        // Zero has the exponent 0.
        Some(smallest.min(0)..=largest.max(0))
    }

    /// The magnitude of `x` as a significand and an exponent.
    #[inline]
    pub(crate) fn round(&self, x: f64) -> Result<(u64, i32), EncodeError> {
        let a = x.abs();
        let (mut significand, mut exponent) = match self.round_quickly(a) {
            Some(rounded) => rounded,
            None if a == 0.0 => return Ok((0, 0)),
            None if a.is_finite() => round_exactly(a, self.precision),
            None => return Err(EncodeError::NotFinite { value: x }),
        };
        if significand == self.full {
            significand /= 10;
            exponent += 1;
        }
        if exponent < *self.exponents.start() {
            return Ok((0, 0));
        }
        if exponent > *self.exponents.end() {
            return Err(EncodeError::TooLarge { value: x, largest: self.largest() });
        }
        Ok((significand, exponent))
    }

    /// Rounds with one multiplication and one rounding; `None` if the result is not certain to be right. The
    /// significand may be 10^precision.
    ///
    /// Rounding the scale and rounding the product each change the product by a relative 2^-53, so it is within
    /// `10^precision · 2^-52` of the exact one. The nearest integer is therefore the right one unless a half-integer is
    /// that near. The tolerance is twice that distance.
    #[inline]
    fn round_quickly(&self, a: f64) -> Option<(u64, i32)> {
        let lower = decade(a) + 1 - self.precision as i32;
        let first = *self.exponents.start() - 1;
        let i = usize::try_from(lower - first).ok().filter(|i| i + 1 < self.steps.len())?;
        let next = a >= self.steps[i].end;
        let scaled = a * self.steps[i + usize::from(next)].scale;

        // Below 2^52, adding 2^52 rounds to an integer and leaves it in the low bits.
        const SHIFT: f64 = (1_u64 << 52) as f64;
        let shifted = scaled + SHIFT;
        let distance = (scaled - (shifted - SHIFT)).abs();
        let tolerance = self.full as f64 * (2.0 * f64::EPSILON);
        if distance > 0.5 - tolerance {
            return None;
        }
        Some((shifted.to_bits() - SHIFT.to_bits(), lower + i32::from(next)))
    }
}

/// Rounds with the formatter of the standard library, which rounds the exact value, ties to even.
#[cold]
fn round_exactly(a: f64, precision: u32) -> (u64, i32) {
    let mut text = [0_u8; 32];
    let mut unused = &mut text[..];
    write!(unused, "{a:.*e}", precision as usize - 1).expect("15 digits, a point and an exponent fit 32 bytes");
    let length = 32 - unused.len();
    let text = std::str::from_utf8(&text[..length]).expect("the formatter writes UTF-8");
    let (digits, exponent) = text.split_once('e').expect("the formatter writes an exponent");
    let significand = digits.bytes().filter(u8::is_ascii_digit).fold(0, |m, digit| 10 * m + u64::from(digit - b'0'));
    let exponent: i32 = exponent.parse().expect("the exponent is a small integer");
    (significand, exponent + 1 - precision as i32)
}

/// The decimal exponent of a magnitude, or one less: floor(b·log10(2)) where `a` lies in [2^b, 2^(b+1)).
///
/// Zero and subnormal numbers give a result below that of every normal number; infinity and NaN give one above.
#[inline]
pub(crate) fn decade(a: f64) -> i32 {
    floor_log10_of_power_of_two((a.to_bits() >> 52) as i32 - 1023)
}

/// floor(b·log10(2)) for |b| ≤ 1100: 315653 / 2^20 is log10(2) to within 4e-8.
const fn floor_log10_of_power_of_two(b: i32) -> i32 {
    (b * 315_653) >> 20
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use numformer_testkit::strategies::{finite, log_uniform, near_ties};
    use proptest::prelude::*;

    use super::*;

    /// Rounds a finite number with the formatter of the standard library, including zero and the limits.
    fn by_formatting(decimal: &Decimal, x: f64) -> Option<(u64, i32)> {
        let (mut significand, mut exponent) = round_exactly(x.abs(), decimal.precision);
        if x == 0.0 || exponent < *decimal.exponents.start() {
            (significand, exponent) = (0, 0);
        }
        (exponent <= *decimal.exponents.end()).then_some((significand, exponent))
    }

    fn all_exponents(precision: u32) -> Decimal {
        Decimal::new(precision, -MAX_EXPONENT..=MAX_EXPONENT).expect("the limits are allowed")
    }

    #[test]
    fn estimate_of_the_decimal_exponent_is_exact() {
        for b in -1100..=1100 {
            assert_eq!(floor_log10_of_power_of_two(b), (f64::from(b) * 2_f64.log10()).floor() as i32, "2^{b}");
        }
    }

    #[test]
    fn rounding_goes_to_even_on_exact_ties_and_by_the_binary_value_otherwise() {
        let decimal = all_exponents(3);
        assert_eq!(decimal.round(1.125), Ok((112, -2)), "a tie");
        assert_eq!(decimal.round(1.375), Ok((138, -2)), "a tie");
        assert_eq!(decimal.round(100.5), Ok((100, 0)), "a tie");
        assert_eq!(decimal.round(999.5), Ok((100, 1)), "a tie at the end of a decade");
        assert_eq!(decimal.round(9.995), Ok((999, -2)), "the double lies below");
        assert_eq!(decimal.round(1.385), Ok((139, -2)), "the double lies above");
        assert_eq!(decimal.round(1e22), Ok((100, 20)));
        assert_eq!(decimal.round(1e23), Ok((100, 21)), "the double lies below");
    }

    #[test]
    fn the_ends_of_the_range_are_zero_and_an_error() {
        let decimal = Decimal::new(3, -4..=2).expect("a small range");
        assert_eq!(decimal.round(0.00999), Ok((0, 0)));
        assert_eq!(decimal.round(0.009996), Ok((100, -4)), "rounded up into the range");
        assert_eq!(decimal.round(-0.0), Ok((0, 0)));
        assert_eq!(decimal.round(f64::MIN_POSITIVE / 2.0), Ok((0, 0)));
        assert_eq!(decimal.round(-99_949.0), Ok((999, 2)));
        assert_eq!(decimal.round(99_950.0), Err(EncodeError::TooLarge { value: 99_950.0, largest: 99_900.0 }));
        assert_eq!(decimal.round(f64::MAX), Err(EncodeError::TooLarge { value: f64::MAX, largest: 99_900.0 }));
        assert_eq!(decimal.round(f64::INFINITY), Err(EncodeError::NotFinite { value: f64::INFINITY }));
        assert!(matches!(decimal.round(f64::NAN), Err(EncodeError::NotFinite { value }) if value.is_nan()));
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert_eq!(Decimal::new(0, -1..=1).err(), Some(EncodingError::Precision { max: 15, found: 0 }));
        assert_eq!(Decimal::new(16, -1..=1).err(), Some(EncodingError::Precision { max: 15, found: 16 }));
        for (min, max) in [(1, 2), (-2, -1), (-281, 0), (0, 281), (i32::MIN, i32::MAX)] {
            assert_eq!(Decimal::new(3, min..=max).err(), Some(EncodingError::Exponents { limit: 280, min, max }));
        }
    }

    proptest! {
        #![proptest_config(cases(20_000))]

        #[test]
        fn rounding_is_that_of_the_formatter(
            precision in 1..=MAX_PRECISION,
            x in prop_oneof![finite(), log_uniform(-12..=12), (1..=17_u32).prop_flat_map(|p| near_ties(p, -30..=30))],
        ) {
            let decimal = all_exponents(precision);
            prop_assert_eq!(decimal.round(x).ok(), by_formatting(&decimal, x));
        }
    }

    /// The finite numbers among `count` bit patterns of a 64-bit sequence with good low and high bits.
    fn bit_patterns(count: u64) -> impl Iterator<Item = f64> {
        // The additive sequence of the golden ratio visits sign, exponent and leading bits evenly.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        (1..=count).map(|i| f64::from_bits(i.wrapping_mul(GOLDEN))).filter(|x| x.is_finite())
    }

    fn check_bit_patterns(count: u64) {
        let decimal = all_exponents(3);
        for x in bit_patterns(count) {
            assert_eq!(decimal.round(x).ok(), by_formatting(&decimal, x), "{x:e}");
        }
    }

    #[test]
    fn rounding_is_that_of_the_formatter_on_millions_of_bit_patterns() {
        check_bit_patterns(3_000_000);
    }

    #[test]
    #[ignore = "four billion numbers: 20 min in a release build"]
    fn rounding_is_that_of_the_formatter_on_billions_of_bit_patterns() {
        check_bit_patterns(4_000_000_000);
    }
}
