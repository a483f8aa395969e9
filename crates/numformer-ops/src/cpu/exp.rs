//! The exponential function, written so that loops over it become vector code.

use std::f32::consts::{LN_2, LOG2_E};

/// The part of ln 2 that the nearest `f32` omits.
const LN_2_LOW: f32 = (std::f64::consts::LN_2 - LN_2 as f64) as f32;

/// Adding 1.5·2²³ rounds to an integer and leaves it in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// Below it the result is 0. The largest term of a softmax is e⁰ = 1, beside which e⁻⁴⁵ ≈ 3·10⁻²⁰ is lost. Were it kept,
/// sums of products with it would be subnormal numbers, which halve the speed of a training step once the model is
/// sure of its answers.
const SMALLEST: f32 = -45.0;
/// Above it the result is that of this argument, which is still finite.
const LARGEST: f32 = 88.0;

/// eˣ with a relative error below 2·10⁻⁷ for −45 ≤ x ≤ 88; 0 below that range, and e⁸⁸ above it.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, and eʳ is its Taylor polynomial of degree 7, whose remainder |r|⁸/8! stays below
/// 6·10⁻⁹. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let is_lost = x < SMALLEST;
    let x = x.clamp(SMALLEST, LARGEST);
    let shifted = x.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2, x);
    let r = n.mul_add(-LN_2_LOW, r);
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, coefficient);
    }
    // The exponent field of 2ⁿ is n + 127; the shift discards the bits of `shifted` above it.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if is_lost { 0.0 } else { p * power }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the values at the ends have the same bits")]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::simd::{tests::at_each_level, vectorized};

    vectorized! {
        fn exp_all(x: &mut [f32]) {
            for x in x {
                *x = exp(*x);
            }
        }
    }

    fn relative_error(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        (f64::from(exp(x)) - exact).abs() / exact
    }

    #[test]
    fn error_is_below_two_units_on_a_fine_grid() {
        let worst = (0..=1_330_000u32).map(|i| relative_error(-45.0 + i as f32 * 1e-4)).fold(0.0, f64::max);
        assert!(worst < 2e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn ends_are_held_and_nan_passes() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-45.000_01), 0.0);
        assert_eq!(exp(f32::INFINITY), exp(88.0));
        assert!(exp(-45.0) > 0.0 && exp(88.0).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.17 - 90.0).collect();
        let results = at_each_level(|| {
            let mut y = x.clone();
            exp_all(&mut y);
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        assert!(results.iter().all(|r| *r == results[0]));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn error_is_below_two_units(x in -45.0f32..88.0) {
            prop_assert!(relative_error(x) < 2e-7);
        }
    }
}
