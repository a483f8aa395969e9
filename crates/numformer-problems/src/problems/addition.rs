//! Addition.

use faer::{Mat, MatRef};

use crate::{Magnitudes, Problem, SolveError, require_finite, require_representable};

/// Addition: `[A | B]` ↦ A + B, from r × 2c to r × c.
///
/// It is posed on matrices with an even number of columns: the left half is A, and the right half is B. A candidate is
/// compared with the target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Addition, Problem};
///
/// let answer = Addition.solve(mat![[1.0, 2.0, 10.0, 20.0], [3.0, 4.0, 30.0, 40.0]].as_ref())?;
/// assert_eq!(answer, mat![[11.0, 22.0], [33.0, 44.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.2. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Addition;

impl Problem for Addition {
    fn name(&self) -> &'static str {
        "addition"
    }

    fn task_letter(&self) -> &'static str {
        "A"
    }

    fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        (rows, 2 * columns)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        if columns % 2 != 0 {
            return Err(SolveError::Shape { expected: "an even number of columns", found: (rows, columns) });
        }
        Ok((rows, columns / 2))
    }

    fn output_magnitudes(&self, _: (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest.map(|bound| 2.0 * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (rows, columns) = self.output_shape(input.shape())?;
        require_finite(input)?;
        output.resize_with(rows, columns, |_, _| 0.0);
        for j in 0..columns {
            for i in 0..rows {
                output[(i, j)] = input[(i, j)] + input[(i, j + columns)];
            }
        }
        require_representable(output.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_metrics::Norm;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::Instance;

    /// Two matrices of one shape side by side.
    fn pairs() -> impl Strategy<Value = Mat<f64>> {
        (0..8usize, 0..8usize).prop_flat_map(|(rows, columns)| {
            prop::collection::vec(-10.0..10.0, rows * 2 * columns)
                .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, 2 * columns, |i, j| x[i * 2 * columns + j]))
        })
    }

    #[test]
    fn operands_stand_side_by_side() {
        assert_eq!(Addition.input_shape((3, 2)), (3, 4));
        assert_eq!(Addition.output_shape((3, 4)), Ok((3, 2)));
        let error = Addition.output_shape((3, 5)).unwrap_err();
        assert_eq!(error, SolveError::Shape { expected: "an even number of columns", found: (3, 5) });
    }

    #[test]
    fn a_buffer_of_any_shape_is_replaced() {
        for shape in [(0, 0), (1, 7), (7, 1), (2, 1)] {
            let mut output = Mat::full(shape.0, shape.1, f64::NAN);
            Addition.solve_into(mat![[1.0, 2.0], [3.0, 5.0]].as_ref(), &mut output).unwrap();
            assert_eq!(output, mat![[3.0], [8.0]]);
        }
    }

    #[test]
    fn there_is_no_sum_of_infinity_nor_one_that_overflows() {
        let error = Addition.solve(mat![[1.0, f64::INFINITY]].as_ref()).unwrap_err();
        assert_eq!(error, SolveError::NotFinite { row: 0, column: 1, value: f64::INFINITY });
        assert_eq!(Addition.solve(mat![[f64::MAX, f64::MAX]].as_ref()), Err(SolveError::Overflow));
    }

    #[test]
    fn a_zero_answer_is_wrong() {
        let (input, target, zero) = (mat![[1.0, 2.0]], mat![[3.0]], mat![[0.0]]);
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert_eq!(Addition.error(instance, zero.as_ref(), Norm::L1), Ok(1.0));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn addition_commutes(input in pairs()) {
            let columns = input.ncols() / 2;
            let swapped = Mat::from_fn(input.nrows(), input.ncols(), |i, j| input[(i, (j + columns) % (2 * columns))]);
            prop_assert_eq!(Addition.solve(swapped.as_ref()), Addition.solve(input.as_ref()));
        }

        #[test]
        fn subtracting_one_operand_gives_the_other(input in pairs()) {
            let answer = Addition.solve(input.as_ref()).unwrap();
            prop_assert_eq!(Ok(answer.shape()), Addition.output_shape(input.shape()));
            let bound = Addition.output_magnitudes(input.shape(), Magnitudes::at_most(10.0)).largest.unwrap();
            for i in 0..answer.nrows() {
                for j in 0..answer.ncols() {
                    let rest = answer[(i, j)] - input[(i, j)];
                    prop_assert!((rest - input[(i, j + answer.ncols())]).abs() <= 20.0 * f64::EPSILON);
                    prop_assert!(answer[(i, j)].abs() <= bound);
                }
            }
        }
    }
}
