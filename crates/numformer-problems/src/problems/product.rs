//! Products.

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use crate::solvers::small::reshape;
use crate::{Magnitudes, Problem, SolveError, require_finite, require_representable};

/// How a product uses its left factor.
///
/// Configuration files call these `transposed` and `plain`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftFactor {
    /// AᵀB, which the program of the paper's authors computes. It is posed on factors of every shape.
    #[default]
    Transposed,
    /// AB, which the paper describes. Factors that stand side by side have the same number of rows, so A is square.
    Plain,
}

/// The product of two matrices: `[A | B]` ↦ AᵀB or AB.
///
/// With `left` [transposed](LeftFactor::Transposed), the input is r × 2c and the answer is c × c. With `left`
/// [plain](LeftFactor::Plain), the input is n × 2n and the answer is n × n. A candidate is compared with the target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{LeftFactor, Multiplication, Problem};
///
/// let input = mat![[1.0, 2.0, 1.0, 0.0], [3.0, 4.0, 1.0, 1.0]];
/// assert_eq!(Multiplication::default().solve(input.as_ref())?, mat![[4.0, 3.0], [6.0, 4.0]]);
/// let plain = Multiplication { left: LeftFactor::Plain };
/// assert_eq!(plain.solve(input.as_ref())?, mat![[3.0, 2.0], [7.0, 4.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.3. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Multiplication {
    /// Whether AᵀB or AB is asked for.
    pub left: LeftFactor,
}

impl Problem for Multiplication {
    fn name(&self) -> &'static str {
        "multiplication"
    }

    fn task_letter(&self) -> &'static str {
        "M"
    }

    fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        (rows, 2 * columns)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        match self.left {
            LeftFactor::Transposed if columns % 2 == 0 => Ok((columns / 2, columns / 2)),
            LeftFactor::Plain if columns == 2 * rows => Ok((rows, rows)),
            LeftFactor::Transposed => {
                Err(SolveError::Shape { expected: "an even number of columns", found: (rows, columns) })
            }
            LeftFactor::Plain => {
                Err(SolveError::Shape { expected: "twice as many columns as rows", found: (rows, columns) })
            }
        }
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest.map(|bound| rows as f64 * bound * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (rows, columns) = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, (rows, columns));
        let (a, b) = input.split_at_col(input.ncols() / 2);
        multiply(self.left, a, b, output);
        require_representable(output.as_ref())
    }
}

/// A matrix times a vector: `[A | v]` ↦ Aᵀv or Av.
///
/// With `left` [transposed](LeftFactor::Transposed), the input is r × (c + 1) and the answer is c × 1. With `left`
/// [plain](LeftFactor::Plain), the input is n × (n + 1) and the answer is n × 1. A candidate is compared with the
/// target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{LeftFactor, MatrixVector, Problem};
///
/// let input = mat![[1.0, 2.0, 1.0], [3.0, 4.0, 10.0]];
/// assert_eq!(MatrixVector::default().solve(input.as_ref())?, mat![[31.0], [42.0]]);
/// let plain = MatrixVector { left: LeftFactor::Plain };
/// assert_eq!(plain.solve(input.as_ref())?, mat![[21.0], [43.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.3. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixVector {
    /// Whether Aᵀv or Av is asked for.
    pub left: LeftFactor,
}

impl Problem for MatrixVector {
    fn name(&self) -> &'static str {
        "matrix-vector"
    }

    fn task_letter(&self) -> &'static str {
        "D"
    }

    fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        (rows, columns + 1)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        match self.left {
            LeftFactor::Transposed if columns > 0 => Ok((columns - 1, 1)),
            LeftFactor::Plain if columns == rows + 1 => Ok((rows, 1)),
            LeftFactor::Transposed => {
                Err(SolveError::Shape { expected: "at least one column", found: (rows, columns) })
            }
            LeftFactor::Plain => {
                Err(SolveError::Shape { expected: "one column more than rows", found: (rows, columns) })
            }
        }
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest.map(|bound| rows as f64 * bound * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let (a, v) = input.split_at_col(input.ncols() - 1);
        multiply(self.left, a, v, output);
        require_representable(output.as_ref())
    }
}

/// Writes the product into a matrix of its shape. The terms of a sum are added in their order.
fn multiply(left: LeftFactor, a: MatRef<'_, f64>, b: MatRef<'_, f64>, output: &mut Mat<f64>) {
    let a = match left {
        LeftFactor::Transposed => a.transpose(),
        LeftFactor::Plain => a,
    };
    for (j, factor) in b.col_iter().enumerate() {
        for (i, row) in a.row_iter().enumerate() {
            output[(i, j)] = row.iter().zip(factor.iter()).map(|(x, y)| x * y).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_metrics::{Norm, norm};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::{Determinant, Instance};

    const PLAIN: Multiplication = Multiplication { left: LeftFactor::Plain };
    const TRANSPOSED: Multiplication = Multiplication { left: LeftFactor::Transposed };

    /// Allowed rounding error of a sum of at most eight products of numbers up to 10.
    const ROUNDING: f64 = 8.0 * 100.0 * 8.0 * f64::EPSILON;

    fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
        prop::collection::vec(-10.0..10.0, rows * columns)
            .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
    }

    fn side_by_side(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
        let columns = a.ncols();
        Mat::from_fn(a.nrows(), columns + b.ncols(), |i, j| if j < columns { a[(i, j)] } else { b[(i, j - columns)] })
    }

    fn pairs() -> impl Strategy<Value = (Mat<f64>, Mat<f64>)> {
        (0..8usize, 0..8usize).prop_flat_map(|(rows, columns)| (matrix(rows, columns), matrix(rows, columns)))
    }

    #[test]
    fn shapes_follow_the_left_factor() {
        assert_eq!(TRANSPOSED.input_shape((3, 2)), (3, 4));
        assert_eq!(TRANSPOSED.output_shape((3, 4)), Ok((2, 2)));
        assert_eq!(PLAIN.output_shape((3, 6)), Ok((3, 3)));
        let odd = SolveError::Shape { expected: "an even number of columns", found: (3, 5) };
        assert_eq!(TRANSPOSED.output_shape((3, 5)), Err(odd));
        let rectangular = SolveError::Shape { expected: "twice as many columns as rows", found: (3, 4) };
        assert_eq!(PLAIN.solve(Mat::zeros(3, 4).as_ref()), Err(rectangular));

        let transposed = MatrixVector::default();
        let plain = MatrixVector { left: LeftFactor::Plain };
        assert_eq!(transposed.input_shape((3, 2)), (3, 3));
        assert_eq!((transposed.output_shape((3, 3)), plain.output_shape((3, 4))), (Ok((2, 1)), Ok((3, 1))));
        assert!(transposed.output_shape((3, 0)).is_err() && plain.output_shape((3, 3)).is_err());
    }

    #[test]
    fn a_buffer_of_any_shape_is_replaced() {
        for shape in [(0, 0), (1, 7), (7, 1), (2, 2)] {
            let mut output = Mat::full(shape.0, shape.1, f64::NAN);
            TRANSPOSED.solve_into(mat![[1.0, 2.0, 1.0, 0.0], [3.0, 4.0, 1.0, 1.0]].as_ref(), &mut output).unwrap();
            assert_eq!(output, mat![[4.0, 3.0], [6.0, 4.0]]);
        }
    }

    #[test]
    fn products_beyond_the_range_are_an_error() {
        let huge = mat![[1e200, 1e200]];
        assert_eq!(TRANSPOSED.solve(huge.as_ref()), Err(SolveError::Overflow));
        assert_eq!(MatrixVector::default().solve(huge.as_ref()), Err(SolveError::Overflow));
        assert!(matches!(TRANSPOSED.solve(mat![[f64::NAN, 1.0]].as_ref()), Err(SolveError::NotFinite { .. })));
    }

    #[test]
    fn a_zero_answer_is_wrong() {
        let input = mat![[1.0, 2.0, 1.0, 0.0], [3.0, 4.0, 1.0, 1.0]];
        let target = TRANSPOSED.solve(input.as_ref()).unwrap();
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert_eq!(TRANSPOSED.error(instance, Mat::zeros(2, 2).as_ref(), Norm::L1), Ok(1.0));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_are_the_products_of_faer((a, b) in pairs()) {
            let input = side_by_side(&a, &b);
            let answer = TRANSPOSED.solve(input.as_ref()).unwrap();
            prop_assert_eq!(Ok(answer.shape()), TRANSPOSED.output_shape(input.shape()));
            prop_assert!(norm((&answer - a.transpose() * &b).as_ref(), Norm::Max) <= ROUNDING);
            let bound = TRANSPOSED.output_magnitudes(input.shape(), Magnitudes::at_most(10.0)).largest.unwrap();
            prop_assert!(norm(answer.as_ref(), Norm::Max) <= bound);
        }

        #[test]
        fn transposing_the_left_factor_exchanges_the_conventions(n in 0..8usize, seed in matrix(8, 16)) {
            let input = Mat::from_fn(n, 2 * n, |i, j| seed[(i, j)]);
            let exchanged = Mat::from_fn(n, 2 * n, |i, j| if j < n { input[(j, i)] } else { input[(i, j)] });
            prop_assert_eq!(PLAIN.solve(input.as_ref()), TRANSPOSED.solve(exchanged.as_ref()));
        }

        #[test]
        fn a_matrix_times_a_vector_is_a_column_of_a_product((a, b) in pairs()) {
            if a.ncols() == 0 {
                return Ok(());
            }
            let product = TRANSPOSED.solve(side_by_side(&a, &b).as_ref()).unwrap();
            let column = Mat::from_fn(b.nrows(), 1, |i, _| b[(i, 0)]);
            let answer = MatrixVector::default().solve(side_by_side(&a, &column).as_ref()).unwrap();
            prop_assert_eq!(answer, Mat::from_fn(product.nrows(), 1, |i, _| product[(i, 0)]));
        }

        #[test]
        fn the_determinant_of_a_product_is_that_of_its_factors((a, b) in (matrix(4, 4), matrix(4, 4))) {
            let product = PLAIN.solve(side_by_side(&a, &b).as_ref()).unwrap();
            let [of_product, of_a, of_b] = [&product, &a, &b].map(|x| Determinant.solve(x.as_ref()).unwrap()[(0, 0)]);
            // The tolerance comes from Hadamard's bound on the sizes involved.
            prop_assert!((of_product - of_a * of_b).abs() <= 1e3 * f64::EPSILON * 800_f64.powi(4));
        }
    }
}
