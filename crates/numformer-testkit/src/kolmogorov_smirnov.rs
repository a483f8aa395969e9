//! The Kolmogorov-Smirnov test.

/// The p-value of a sample under a continuous law: the probability that equally many independent draws from the law
/// would have an empirical distribution function at least as far from `cdf`.
///
/// It is computed from the limit law, corrected for the sample size. For samples of 50 draws or more, its error is at
/// most 0.015, and at most 2% of the p-value where that is below 0.01. A test at the level 0.001 is
/// `assert!(kolmogorov_smirnov(&sample, cdf) > 1e-3)`. A NaN in the sample gives 0.
///
/// # Panics
/// When the sample is empty.
///
/// # Examples
/// ```
/// use numformer_testkit::kolmogorov_smirnov;
///
/// let uniform = |x: f64| x.clamp(0.0, 1.0);
/// let grid: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
/// assert!(kolmogorov_smirnov(&grid, uniform) > 0.99);
/// let squares: Vec<f64> = grid.iter().map(|x| x * x).collect();
/// assert!(kolmogorov_smirnov(&squares, uniform) < 1e-3);
/// ```
///
/// # Reference
/// Stephens (1970), *Use of the Kolmogorov-Smirnov, Cramér-von Mises and related statistics without extensive tables*,
/// Journal of the Royal Statistical Society B 32, section 2. <https://doi.org/10.1111/j.2517-6161.1970.tb00821.x>
#[must_use]
pub fn kolmogorov_smirnov(sample: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    assert!(!sample.is_empty(), "expected at least one value in the sample");
    if sample.iter().any(|x| x.is_nan()) {
        return 0.0;
    }
    let root = (sample.len() as f64).sqrt();
    survival((root + 0.12 + 0.11 / root) * empirical_distance(sample, cdf))
}

/// The largest distance between the empirical distribution function and `cdf`.
pub fn empirical_distance(sample: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    sorted.iter().enumerate().fold(0.0, |largest: f64, (rank, x)| {
        let probability = cdf(*x);
        largest.max(probability - rank as f64 / n).max((rank + 1) as f64 / n - probability)
    })
}

/// The probability that a variable with the Kolmogorov distribution exceeds `t`.
fn survival(t: f64) -> f64 {
    // The alternating series converges slowly near 0, where the sum is 1 to within 1e-12.
    if t < 0.2 {
        return 1.0;
    }
    let series: f64 = (1..=100).map(|k: i32| (-1.0_f64).powi(k - 1) * (-2.0 * (f64::from(k) * t).powi(2)).exp()).sum();
    (2.0 * series).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the limit law from SciPy 1.17, `scipy.stats.kstwobign.sf`.
    #[test]
    fn tail_probabilities_are_those_of_kolmogorovs_law() {
        for (t, p) in
            [(0.1, 1.0), (0.5, 0.963_945_24), (1.0, 0.269_999_67), (1.3581, 0.049_999_63), (1.949, 0.001_003_71)]
        {
            assert!((survival(t) - p).abs() < 1e-8, "{t}: {}", survival(t));
        }
    }

    #[test]
    fn distance_is_taken_on_both_sides_of_a_step() {
        let uniform = |x: f64| x;
        assert!((empirical_distance(&[0.9], uniform) - 0.9).abs() < 1e-15);
        assert!((empirical_distance(&[0.1], uniform) - 0.9).abs() < 1e-15);
        assert!((empirical_distance(&[0.75, 0.25], uniform) - 0.25).abs() < 1e-15);
    }

    #[test]
    fn nan_is_not_a_draw_of_any_law() {
        assert!(kolmogorov_smirnov(&[0.5, f64::NAN], |x| x) <= 0.0);
    }
}
