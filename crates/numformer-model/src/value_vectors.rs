//! Vectors that tell how large a number is.

/// Vectors of numbers, `[values.len(), d]`, row-major: sines and cosines of each value, of the logarithm of its magnitude, and of
/// that logarithm with the sign of the value. Numbers that are near each other have similar vectors, and sums and products of
/// numbers are sums of angles.
///
/// A third of the vector, as far as d/2 pairs of sine and cosine can be divided by three, has each of these angles ω·φ(x), with
/// frequencies ω that grow geometrically. With m the smallest magnitude above 0 of all values and M the largest:
///
/// - φ(x) = x, and ω from 1/M to 1/m;
/// - φ(x) = ln(|x| / √(mM)), and ω from 1/ln(M/m), at most 1, to 12, so that numbers that differ by a tenth differ by about a
///   radian;
/// - the same, with sines and cosines multiplied by the sign of x.
///
/// For the logarithms, 0 counts as m/2; it has no sign, so that a third of its vector is 0. All other vectors have the length 1,
/// about that of a random vector of a token. If d is odd, the last entry is 0.
///
/// # Examples
/// ```
/// use numformer_model::value_vectors;
///
/// let vectors = value_vectors(&[1.0, 1.1, -50.0], 60);
/// let product = |i: usize, j: usize| -> f32 { (0..60).map(|k| vectors[60 * i + k] * vectors[60 * j + k]).sum() };
/// assert!((product(0, 0) - 1.0).abs() < 1e-5);
/// assert!(product(0, 1) > 0.8 && product(0, 2).abs() < 0.5);
/// ```
///
/// # Panics
/// When `d` is 0, or a value is not finite.
#[must_use]
pub fn value_vectors(values: &[f64], d: usize) -> Vec<f32> {
    assert!(d > 0, "expected vectors of at least one entry");
    assert!(values.iter().all(|x| x.is_finite()), "expected finite values");
    // Logarithms, because ratios of values may be beyond the range of doubles.
    let logarithms = values.iter().filter(|x| **x != 0.0).map(|x| x.abs().ln());
    let (least, most) =
        logarithms.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most): (f64, f64), x| (least.min(x), most.max(x)));
    let (least, most) = if least <= most { (least, most) } else { (0.0, 0.0) };
    let pairs = d / 2;
    let third = pairs / 3;
    let slowest = -(most - least).max(1.0).ln();
    let linear = frequencies(-most, -least, third);
    let [logarithmic, signed] = [third, pairs - 2 * third].map(|count| frequencies(slowest, FINEST.ln(), count));
    let scale = (1.0 / pairs.max(1) as f64).sqrt();
    let mut vectors = Vec::with_capacity(values.len() * d);
    for x in values {
        let logarithm = if *x == 0.0 { least - 2f64.ln() } else { x.abs().ln() } - (least + most) / 2.0;
        let sign = if *x == 0.0 { 0.0 } else { x.signum() };
        for (frequencies, phi, factor) in
            [(&linear, *x, 1.0), (&logarithmic, logarithm, 1.0), (&signed, logarithm, sign)]
        {
            for frequency in frequencies {
                // The product of the two is beyond all numbers only where neighbours are not told apart anyway.
                let angle = (frequency * phi).clamp(-f64::MAX, f64::MAX);
                let (sine, cosine) = angle.sin_cos();
                vectors.extend([sine, cosine].map(|wave| (scale * factor * wave) as f32));
            }
        }
        vectors.resize(vectors.len().next_multiple_of(d), 0.0);
    }
    // A single entry has room for no pair.
    vectors.resize(values.len() * d, 0.0);
    vectors
}

/// The highest frequency of logarithms.
const FINEST: f64 = 12.0;

/// `count` frequencies, each the same multiple of the one before, from the logarithms of the lowest and the highest.
fn frequencies(lowest: f64, highest: f64, count: usize) -> Vec<f64> {
    let step = (highest - lowest) / (count.max(2) - 1) as f64;
    (0..count).map(|k| (lowest + step * k as f64).exp().min(f64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_follow_their_formula() {
        let vectors = value_vectors(&[0.5, -8.0, 0.0], 12);
        // Two pairs in each third.
        let scale = (1.0f64 / 6.0).sqrt();
        let expected = |phi: f64, frequency: f64, factor: f64| {
            [(frequency * phi).sin(), (frequency * phi).cos()].map(|wave| (scale * factor * wave) as f32)
        };
        let [least, most] = [0.5f64, 8.0];
        let spread = (most / least).ln();
        for (vector, x) in vectors.chunks_exact(12).zip([0.5f64, -8.0, 0.0]) {
            let logarithm = (x.abs().max(0.25) / 2.0).ln();
            let sign = if x == 0.0 { 0.0 } else { x.signum() };
            let pairs = [
                expected(x, 1.0 / most, 1.0),
                expected(x, 1.0 / least, 1.0),
                expected(logarithm, 1.0 / spread, 1.0),
                expected(logarithm, 12.0, 1.0),
                expected(logarithm, 1.0 / spread, sign),
                expected(logarithm, 12.0, sign),
            ];
            for (found, expected) in vector.iter().zip(pairs.as_flattened()) {
                assert!((found - expected).abs() < 1e-6, "{x}: {found} {expected}");
            }
        }
    }

    #[test]
    fn values_and_widths_of_any_kind_have_finite_vectors_of_length_one() {
        let all: [&[f64]; 8] = [
            &[],
            &[0.0],
            &[1.0],
            &[-3.0, 3.0],
            &[1e-300, 1e300],
            &[1e200, 1e300],
            &[5e-324, -5e-324, 0.0],
            &[f64::MIN_POSITIVE, f64::MAX],
        ];
        for values in all {
            for d in [1, 2, 5, 7, 64] {
                let vectors = value_vectors(values, d);
                assert_eq!(vectors.len(), values.len() * d);
                for (vector, x) in vectors.chunks_exact(d).zip(values) {
                    let square: f32 = vector.iter().map(|x| x * x).sum();
                    assert!(square.is_finite(), "{values:?} {d}");
                    if *x != 0.0 && d > 1 {
                        assert!((square - 1.0).abs() < 1e-5, "{values:?} {d}: {square}");
                    }
                }
            }
        }
    }
}
