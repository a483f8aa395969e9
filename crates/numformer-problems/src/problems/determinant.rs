//! The determinant and the trace.

use faer::{Mat, MatRef, Scale};

use super::eigen::require_square;
use crate::small::{Lu, power_of_two, power_of_two_scale, reshape, rows_of, with_capacity};
use crate::{Problem, SolveError, require_finite, require_representable};

/// The determinant of a square matrix: from $n \times n$ to $1 \times 1$.
///
/// A candidate is compared with the target. The algorithm is LU decomposition with partial pivoting; a determinant below
/// the range of `f64` is rounded to zero, one above is [`SolveError::Overflow`].
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Determinant, Problem};
///
/// assert_eq!(Determinant.solve(mat![[4.0, 2.0], [1.0, 3.0]].as_ref())?, mat![[10.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 3.2.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Determinant;

/// The trace of a square matrix: from $n \times n$ to $1 \times 1$.
///
/// A candidate is compared with the target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Trace};
///
/// assert_eq!(Trace.solve(mat![[4.0, 2.0], [1.0, 3.0]].as_ref())?, mat![[7.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace;

impl Problem for Determinant {
    fn name(&self) -> &'static str {
        "determinant"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok((1, 1))
    }

    fn output_bound(&self, (rows, _): (usize, usize), bound: f64) -> Option<f64> {
        // Hadamard's: the product of the Euclidean norms of the columns.
        let largest = (bound * (rows as f64).sqrt()).powi(rows as i32);
        largest.is_finite().then_some(largest)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let (n, scale) = (input.nrows(), power_of_two_scale(input));
        let of_scaled = with_capacity!(n, small_determinant(input, scale), else large_determinant(input, scale));
        // Scaling by 2^s multiplies the determinant by 2^(sn).
        output[(0, 0)] = of_scaled.divided_by_power(scale, n).to_f64();
        require_representable(output.as_ref())
    }
}

impl Problem for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok((1, 1))
    }

    fn output_bound(&self, (rows, _): (usize, usize), bound: f64) -> Option<f64> {
        Some(rows as f64 * bound)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        output[(0, 0)] = (0..input.nrows()).map(|i| input[(i, i)]).sum();
        require_representable(output.as_ref())
    }
}

fn small_determinant<const N: usize>(input: MatRef<'_, f64>, scale: f64) -> WideProduct {
    Lu::<N>::new(rows_of(input, scale), input.nrows()).pivots().fold(WideProduct::ONE, WideProduct::times)
}

fn large_determinant(input: MatRef<'_, f64>, scale: f64) -> WideProduct {
    let a = Scale(scale) * input;
    let lu = a.partial_piv_lu();
    // The sign of a permutation: each cycle of even length changes it.
    let permutation = lu.P().arrays().0;
    let mut seen = vec![false; permutation.len()];
    let mut sign = 1.0;
    for start in 0..permutation.len() {
        let mut length = 0;
        let mut at = start;
        while !seen[at] {
            seen[at] = true;
            at = permutation[at];
            length += 1;
        }
        if length > 0 && length % 2 == 0 {
            sign = -sign;
        }
    }
    (0..a.nrows()).map(|i| lu.U()[(i, i)]).fold(WideProduct::ONE.times(sign), WideProduct::times)
}

/// A product of finite numbers, with an exponent of its own so that no partial product leaves the range of `f64`.
#[derive(Copy, Clone, Debug)]
struct WideProduct {
    /// Zero, or of magnitude in $[1, 2)$.
    significand: f64,
    /// The power of two it is multiplied by.
    exponent: i64,
}

impl WideProduct {
    const ONE: Self = Self { significand: 1.0, exponent: 0 };

    fn times(self, factor: f64) -> Self {
        // Subnormal numbers first become normal ones.
        let (factor, shift) = if factor.is_subnormal() { (factor * power_of_two(54), -54) } else { (factor, 0) };
        let (a, e) = split(factor);
        let (significand, carry) = split(self.significand * a);
        Self { significand, exponent: self.exponent + e + carry + shift }
    }

    /// The product divided by a power of two, `count` times.
    fn divided_by_power(self, power: f64, count: usize) -> Self {
        Self { exponent: self.exponent - split(power).1 * count as i64, ..self }
    }

    fn to_f64(self) -> f64 {
        // In two steps: a factor of its own may lie outside the range where the result does not.
        let exponent = self.exponent.clamp(-2200, 2200) as i32;
        let half = exponent / 2;
        self.significand * power_of_two(half.clamp(-1022, 1023)) * power_of_two((exponent - half).clamp(-1022, 1023))
    }
}

/// A number of magnitude in $[1, 2)$ and the exponent of the power of two to multiply it by; zero stays zero.
fn split(x: f64) -> (f64, i64) {
    if x == 0.0 {
        return (x, 0);
    }
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    (x * power_of_two(-exponent as i32), exponent)
}
