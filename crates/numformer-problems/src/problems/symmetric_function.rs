//! Functions of symmetric matrices by their eigenvalues.

use faer::{Mat, MatRef};

use crate::solve_error::require_square;
use crate::solvers::small::reshape;
use crate::{Eigenvectors, MAX_RESIDUAL, Magnitudes, Problem, SolveError, require_representable};

/// A function of a symmetric matrix, from n × n to n × n: f(A) = V f(Λ) Vᵀ, where A = VΛVᵀ is the decomposition into
/// eigenvalues and eigenvectors.
///
/// It is posed on matrices that are symmetric up to rounding, as [`Eigenvalues`](crate::Eigenvalues) are; logarithm and
/// square root on positive definite ones, of which they are symmetric, too. A candidate is compared with the target.
///
/// The algorithm is that formula. Rounding moves the eigenvalues by about n ε ‖A‖, and hence f(A) by at most L n ε ‖A‖,
/// where L is the largest slope of f between the eigenvalues: 1 for sine and cosine, 1 / λ for the logarithm and
/// 1 / (2√λ) for the square root, where λ is the smallest eigenvalue. Matrices for which this could exceed 10⁻¹⁰ of
/// f(A) are [`SolveError::Inaccurate`]: so is the logarithm of matrices near the identity, which is nearly zero.
/// Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, SymmetricFunction};
///
/// // The eigenvalues are 9 and 1.
/// let input = mat![[5.0, 4.0], [4.0, 5.0]];
/// let root = SymmetricFunction::SquareRoot.solve(input.as_ref())?;
/// assert!((root - mat![[2.0, 1.0], [1.0, 2.0]]).norm_max() < 1e-14);
/// let error = SymmetricFunction::Logarithm.solve(mat![[-1.0]].as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "expected positive eigenvalues, found -1");
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Higham (2008), *Functions of Matrices: Theory and Computation*: section 4.5 for the algorithm, and theorem 3.11 for
/// the derivative of f at a diagonalizable matrix.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SymmetricFunction {
    /// The logarithm.
    Logarithm,
    /// The square root.
    SquareRoot,
    /// The sine.
    Sine,
    /// The cosine.
    Cosine,
}

impl SymmetricFunction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Logarithm, Self::SquareRoot, Self::Sine, Self::Cosine];

    /// f of an eigenvalue.
    fn of(self, eigenvalue: f64) -> f64 {
        match self {
            Self::Logarithm => eigenvalue.ln(),
            Self::SquareRoot => eigenvalue.sqrt(),
            Self::Sine => eigenvalue.sin(),
            Self::Cosine => eigenvalue.cos(),
        }
    }

    /// ‖A‖ times the largest slope of f between the eigenvalues of A, of which `smallest` is the smallest.
    fn sensitivity(self, norm: f64, smallest: f64) -> f64 {
        match self {
            Self::Logarithm => norm / smallest,
            Self::SquareRoot => 0.5 * (norm / smallest.sqrt()),
            Self::Sine | Self::Cosine => norm,
        }
    }

    /// Whether f is defined on positive numbers alone.
    fn needs_positive(self) -> bool {
        matches!(self, Self::Logarithm | Self::SquareRoot)
    }
}

impl Problem for SymmetricFunction {
    fn name(&self) -> &'static str {
        match self {
            Self::Logarithm => "matrix-logarithm",
            Self::SquareRoot => "matrix-square-root",
            Self::Sine => "matrix-sine",
            Self::Cosine => "matrix-cosine",
        }
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // No entry exceeds the spectral norm, and that of A is at most the largest sum of magnitudes in a row.
        match self {
            Self::Logarithm => Magnitudes::ANY,
            Self::SquareRoot => Magnitudes::at_most(entries.largest.map(|bound| (rows as f64 * bound).sqrt())),
            Self::Sine | Self::Cosine => Magnitudes::at_most(1.0),
        }
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (n, _) = self.output_shape(input.shape())?;
        let pairs = Eigenvectors::default().solve(input)?;
        let (values, vectors) = pairs.split_at_row(1);
        reshape(output, (n, n));
        // They are in ascending order.
        let (Some(&smallest), Some(&largest)) = (values.row(0).iter().next(), values.row(0).iter().next_back()) else {
            return Ok(());
        };
        if self.needs_positive() && smallest <= 0.0 {
            return Err(SolveError::NotPositive { eigenvalue: smallest });
        }
        let images: Vec<f64> = values.row(0).iter().map(|value| self.of(*value)).collect();
        let size = images.iter().fold(0.0, |size: f64, image| size.max(image.abs()));
        let norm = f64::max(largest.abs(), smallest.abs());
        let error = n as f64 * f64::EPSILON * self.sensitivity(norm, smallest);
        // The sine of a zero matrix is zero and exact.
        let is_accurate = error <= MAX_RESIDUAL * size;
        if !is_accurate {
            return Err(SolveError::Inaccurate { allowed: MAX_RESIDUAL, residual: error / size });
        }
        for j in 0..n {
            for i in j..n {
                let entry = (0..n).map(|k| vectors[(i, k)] * images[k] * vectors[(j, k)]).sum();
                output[(i, j)] = entry;
                output[(j, i)] = entry;
            }
        }
        require_representable(output.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::MatrixExponential;
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, uniform};

    /// MMᵀ + I with up to eight rows.
    fn positive_definite() -> impl Strategy<Value = Mat<f64>> {
        (0..=8_usize).prop_flat_map(|n| {
            uniform(n, n).prop_map(move |m| {
                let product = &m * m.transpose() + Mat::<f64>::identity(n, n);
                mirrored(product.as_ref())
            })
        })
    }

    fn solve(function: SymmetricFunction, a: &Mat<f64>) -> Mat<f64> {
        function.solve(a.as_ref()).unwrap()
    }

    #[test]
    fn functions_of_numbers() {
        for x in [1e-3_f64, 0.5, 1.5, 2.0, 100.0] {
            for (function, expected) in [
                (SymmetricFunction::Logarithm, x.ln()),
                (SymmetricFunction::SquareRoot, x.sqrt()),
                (SymmetricFunction::Sine, x.sin()),
                (SymmetricFunction::Cosine, x.cos()),
            ] {
                let found = solve(function, &mat![[x]])[(0, 0)];
                assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{function:?} of {x}: {found}");
            }
        }
        assert_eq!(solve(SymmetricFunction::Sine, &Mat::zeros(3, 3)), Mat::<f64>::zeros(3, 3));
        for function in SymmetricFunction::ALL {
            assert_eq!(solve(function, &Mat::new()).shape(), (0, 0));
            assert_zero_is_wrong(&function, mat![[3.0, 1.0], [1.0, 2.0]].as_ref());
        }
    }

    #[test]
    fn what_has_no_answer_is_refused() {
        let error = |function: SymmetricFunction, a: Mat<f64>| function.solve(a.as_ref()).unwrap_err();
        for function in [SymmetricFunction::Logarithm, SymmetricFunction::SquareRoot] {
            let indefinite = error(function, mat![[1.0, 2.0], [2.0, 1.0]]);
            assert!(matches!(indefinite, SolveError::NotPositive { eigenvalue } if (eigenvalue + 1.0).abs() < 1e-14));
            assert_eq!(error(function, Mat::zeros(2, 2)), SolveError::NotPositive { eigenvalue: 0.0 });
            // Rounding moves the smaller eigenvalue by a thousandth of itself.
            let near = error(function, mat![[1.0, 0.0], [0.0, 1e-13]]);
            assert!(matches!(near, SolveError::Inaccurate { .. }), "{function:?}: {near}");
        }
        // Their smaller eigenvalue is not a normal number.
        for function in [SymmetricFunction::Logarithm, SymmetricFunction::SquareRoot] {
            let tiny = error(function, mat![[1e-300, 0.0], [0.0, 1e-322]]);
            assert!(matches!(tiny, SolveError::Inaccurate { .. } | SolveError::NotPositive { .. }), "{tiny}");
        }
        // Rounding leaves nothing of a logarithm near zero.
        let one = error(SymmetricFunction::Logarithm, mat![[1.0]]);
        assert!(matches!(one, SolveError::Inaccurate { .. }), "{one}");
        for function in SymmetricFunction::ALL {
            assert!(matches!(error(function, mat![[1.0, 2.0], [3.0, 9.0]]), SolveError::NotSymmetric { .. }));
            assert!(matches!(error(function, mat![[f64::NAN]]), SolveError::NotFinite { .. }));
            assert!(matches!(error(function, Mat::zeros(1, 2)), SolveError::Shape { .. }));
        }
        // Five digits of this angle are known.
        let lost = error(SymmetricFunction::Sine, mat![[1e10, 0.0], [0.0, 1.0]]);
        assert!(matches!(lost, SolveError::Inaccurate { .. }), "{lost}");
    }

    #[test]
    fn magnitudes_of_answers() {
        let of = |function: SymmetricFunction| function.output_magnitudes((4, 4), Magnitudes::at_most(9.0));
        assert_eq!(of(SymmetricFunction::Logarithm), Magnitudes::ANY);
        assert_eq!(of(SymmetricFunction::SquareRoot), Magnitudes::at_most(6.0));
        assert_eq!(of(SymmetricFunction::Sine), Magnitudes::at_most(1.0));
    }

    proptest! {
        #![proptest_config(cases(100))]

        #[test]
        fn exponential_and_square_undo_them(a in positive_definite()) {
            let root = assert_solved(&SymmetricFunction::SquareRoot, a.as_ref(), MAX_RESIDUAL);
            let limit = 1e-10 * size(a.as_ref()).max(1.0);
            prop_assert!(size((&root * &root - &a).as_ref()) <= limit);
            let logarithm = solve(SymmetricFunction::Logarithm, &a);
            let again = MatrixExponential.solve(logarithm.as_ref()).unwrap();
            prop_assert!(size((again - &a).as_ref()) <= limit, "{:?}", a);
        }

        #[test]
        fn squares_of_sine_and_cosine_add_up_to_one(a in (0..=8_usize).prop_flat_map(|n| uniform(n, n))) {
            let a = mirrored(a.as_ref());
            let [sine, cosine] = [SymmetricFunction::Sine, SymmetricFunction::Cosine].map(|of| solve(of, &a));
            let sum = &sine * &sine + &cosine * &cosine;
            prop_assert!(size((sum - Mat::<f64>::identity(a.nrows(), a.nrows())).as_ref()) < 1e-12);
            // The angle doubled.
            let double = solve(SymmetricFunction::Sine, &(faer::Scale(2.0) * &a));
            prop_assert!(size((double - faer::Scale(2.0) * (&sine * &cosine)).as_ref()) < 1e-11);
        }
    }
}
