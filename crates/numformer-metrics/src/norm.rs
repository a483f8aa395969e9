//! Entrywise matrix norms and the relative error they define.

use std::fmt;

use faer::MatRef;
use serde::{Deserialize, Serialize};

/// A norm on matrices.
///
/// All of these are entrywise: the matrix is read as one long vector. Configuration files call them
/// `l1`, `frobenius` and `max`. Their order is that in which reports list them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Norm {
    /// Σᵢⱼ |aᵢⱼ|, the default of Charton (2022).
    L1,
    /// √(Σᵢⱼ aᵢⱼ²).
    Frobenius,
    /// maxᵢⱼ |aᵢⱼ|.
    Max,
}

impl Norm {
    /// Every norm, in the order in which reports list them.
    pub const ALL: &[Self] = &[Self::L1, Self::Frobenius, Self::Max];

    /// The norm of the matrix of this shape with these entries.
    fn of(self, (rows, columns): (usize, usize), entry: impl Fn(usize, usize) -> f64 + Copy) -> f64 {
        // Column by column, as faer stores matrices.
        let magnitudes = || (0..columns).flat_map(move |j| (0..rows).map(move |i| entry(i, j).abs()));
        // `f64::max` would skip a NaN.
        let largest = || magnitudes().fold(0.0, |max, x| if x > max || x.is_nan() { x } else { max });
        match self {
            Self::L1 => magnitudes().sum(),
            Self::Max => largest(),
            Self::Frobenius => {
                // Squares of very large or very small entries leave the range of `f64`; those of
                // entries divided by the largest do not.
                let scale = largest();
                if scale == 0.0 || !scale.is_finite() {
                    return scale;
                }
                scale * magnitudes().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt()
            }
        }
    }
}

/// The name used in configuration files.
impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L1 => "l1",
            Self::Frobenius => "frobenius",
            Self::Max => "max",
        })
    }
}

/// The norm of a matrix of any shape; 0 for a matrix without entries.
///
/// The result is NaN if an entry is NaN. Otherwise it is infinite if an entry is infinite or the
/// sum is too large.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{Norm, norm};
///
/// let a = mat![[3.0, -4.0]];
/// assert_eq!(norm(a.as_ref(), Norm::L1), 7.0);
/// assert_eq!(norm(a.as_ref(), Norm::Frobenius), 5.0);
/// assert_eq!(norm(a.as_ref(), Norm::Max), 4.0);
/// ```
pub fn norm(a: MatRef<'_, f64>, norm: Norm) -> f64 {
    norm.of(a.shape(), |i, j| a[(i, j)])
}

/// The distance of a candidate H from the exact answer T, relative to the size of the answer: ‖H - T‖ / ‖T‖.
///
/// In the norm L1 this is Σ |H - T| / Σ |T|, the measure of Charton (2022). Relative to an exact answer of zero, the
/// error is 0 if the candidate is zero too and infinite otherwise. It is NaN if an entry of either matrix is NaN or an
/// entry of the exact answer is infinite; no [`Tolerance`](crate::Tolerance) admits a NaN.
///
/// # Panics
/// If the two shapes differ.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{Norm, relative_error};
///
/// let exact = mat![[8.0, -2.0]];
/// let candidate = mat![[7.0, -2.0]];
/// assert_eq!(relative_error(candidate.as_ref(), exact.as_ref(), Norm::L1), 0.1);
/// assert_eq!(relative_error(candidate.as_ref(), exact.as_ref(), Norm::Max), 0.125);
/// ```
pub fn relative_error(candidate: MatRef<'_, f64>, exact: MatRef<'_, f64>, norm: Norm) -> f64 {
    assert_eq!(candidate.shape(), exact.shape(), "shapes of the candidate and of the exact answer");
    let distance = norm.of(exact.shape(), |i, j| candidate[(i, j)] - exact[(i, j)]);
    // This is the one quotient that division would leave undefined.
    if distance == 0.0 { 0.0 } else { distance / self::norm(exact, norm) }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small integers and infinities are exact")]
mod tests {
    use faer::{Mat, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    /// Allowed relative rounding error of a norm of a few dozen entries.
    const ROUNDING: f64 = 64.0 * f64::EPSILON;

    fn matrices() -> impl Strategy<Value = (Mat<f64>, Mat<f64>)> {
        (1..6usize, 1..6usize).prop_flat_map(|(rows, columns)| {
            let matrix = prop::collection::vec(-1e3..1e3, rows * columns)
                .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]));
            (matrix.clone(), matrix)
        })
    }

    #[test]
    fn norms_are_the_textbook_ones() {
        let a = mat![[1.0, -2.0], [2.0, 4.0]];
        assert_eq!(norm(a.as_ref(), Norm::L1), 9.0);
        assert_eq!(norm(a.as_ref(), Norm::Frobenius), 5.0);
        assert_eq!(norm(a.as_ref(), Norm::Max), 4.0);
    }

    #[test]
    fn the_empty_and_the_zero_matrix_have_norm_zero() {
        for &kind in Norm::ALL {
            assert_eq!(norm(Mat::new().as_ref(), kind), 0.0);
            assert_eq!(norm(Mat::zeros(2, 3).as_ref(), kind), 0.0);
        }
    }

    #[test]
    fn frobenius_neither_overflows_nor_underflows() {
        for scale in [1e-300, 1e-160, 1e160, 1e300] {
            let value = norm(mat![[3.0 * scale, 4.0 * scale]].as_ref(), Norm::Frobenius);
            assert!((value / (5.0 * scale) - 1.0).abs() < ROUNDING, "{value:e}");
        }
    }

    #[test]
    fn nan_and_infinity_are_passed_on() {
        for &kind in Norm::ALL {
            for position in 0..3 {
                let with = |x: f64| Mat::from_fn(1, 3, |_, j| if j == position { x } else { 1.0 });
                assert!(norm(with(f64::NAN).as_ref(), kind).is_nan());
                assert_eq!(norm(with(f64::NEG_INFINITY).as_ref(), kind), f64::INFINITY);
                let exact = mat![[1.0, 1.0, 1.0]];
                assert!(relative_error(with(f64::NAN).as_ref(), exact.as_ref(), kind).is_nan());
                assert_eq!(relative_error(with(f64::INFINITY).as_ref(), exact.as_ref(), kind), f64::INFINITY);
                assert!(relative_error(exact.as_ref(), with(f64::INFINITY).as_ref(), kind).is_nan());
            }
        }
    }

    #[test]
    fn error_against_zero_is_zero_or_infinite() {
        let zero = mat![[0.0, -0.0]];
        for &kind in Norm::ALL {
            assert_eq!(relative_error(zero.as_ref(), zero.as_ref(), kind), 0.0);
            assert_eq!(relative_error(mat![[0.0, 1e-30]].as_ref(), zero.as_ref(), kind), f64::INFINITY);
        }
    }

    #[test]
    #[should_panic(expected = "shapes of the candidate")]
    fn error_between_different_shapes_is_a_bug() {
        relative_error(mat![[1.0, 2.0]].as_ref(), mat![[1.0], [2.0]].as_ref(), Norm::L1);
    }

    #[test]
    fn names_agree_with_configuration_files() {
        for &kind in Norm::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn norms_are_norms((a, b) in matrices(), factor in -5.0..5.0) {
            for &kind in Norm::ALL {
                let (size_a, size_b) = (norm(a.as_ref(), kind), norm(b.as_ref(), kind));
                prop_assert!(norm((&a + &b).as_ref(), kind) <= (size_a + size_b) * (1.0 + ROUNDING));
                let scaled = norm((faer::Scale(factor) * &a).as_ref(), kind);
                prop_assert!((scaled - factor.abs() * size_a).abs() <= ROUNDING * size_a * factor.abs());
                prop_assert!((norm(a.transpose(), kind) - size_a).abs() <= ROUNDING * size_a);
            }
        }

        #[test]
        fn norms_are_ordered((a, _) in matrices()) {
            let [l1, frobenius, max] = [Norm::L1, Norm::Frobenius, Norm::Max].map(|kind| norm(a.as_ref(), kind));
            prop_assert!(max <= frobenius * (1.0 + ROUNDING) && frobenius <= l1 * (1.0 + ROUNDING));
        }

        #[test]
        fn error_of_a_scaled_answer_is_the_scale((a, _) in matrices(), growth in 1e-3..1.0_f64) {
            prop_assume!(norm(a.as_ref(), Norm::Max) > 1e-3);
            for &kind in Norm::ALL {
                let error = relative_error((faer::Scale(1.0 + growth) * &a).as_ref(), a.as_ref(), kind);
                prop_assert!((error - growth).abs() < ROUNDING);
            }
        }
    }
}
