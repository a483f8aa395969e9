//! What rounding leaves of exact answers: the accuracy of a perfect model, which reads and writes rounded numbers.
//!
//! Run: `cargo run --release --example rounding`
//!
//! Expected output: a table of problems on 5x5 matrices (4x4 for the SVD), with the per cent of 2,000 perfect answers that
//! are within 5, 2 and 1%, by the number of digits; within seconds. Next: `custom_encoding` for other ways to write
//! numbers.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Result, ensure};
use faer::MatRef;
use numformer::data::{Split, Task};
use numformer::encoding::{DenseMatrix, Positional};
use numformer::metrics::Norm;
use numformer::problems::{
    Eigenvalues, Eigenvectors, Instance, InverseJudgement, Inversion, Law, Problem, SingularValues, Svd,
    UniformEntries, Wigner,
};

const MATRICES: u64 = 2_000;
const TOLERANCES: [f64; 3] = [0.05, 0.02, 0.01];

fn view(matrix: &DenseMatrix) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(&matrix.coefficients, matrix.rows, matrix.cols)
}

/// The shares of perfect answers within the tolerances.
fn perfect(task: &Task) -> Result<[f64; 3]> {
    let mut within = [0_u32; 3];
    for index in 0..MATRICES {
        let posed = task.example(0, Split::Test, index)?;
        let (problem, input) = task.read_src(&posed.src)?;
        let target = task.read_tgt(&posed.src, &posed.tgt)?;
        // The answer to the matrix that the tokens say, rounded as the target was.
        let answered = task.example_of(0, &input)?;
        let answer = task.read_tgt(&answered.src, &answered.tgt)?;
        let instance = Instance { input: view(&input), target: view(&target) };
        let error = problem.error(instance, view(&answer), Norm::L1)?;
        within.iter_mut().zip(TOLERANCES).for_each(|(count, tolerance)| *count += u32::from(error < tolerance));
    }
    Ok(within.map(|count| f64::from(count) / MATRICES as f64))
}

fn main() -> Result<()> {
    let digits = |precision| Positional::new(10, precision, -100..=100).map(Arc::new);
    let [two, three] = [digits(2)?, digits(3)?];
    let uniform = |n| Ok::<_, anyhow::Error>(Box::new(UniformEntries::new(n, n, 10.0)?) as Box<dyn Law>);
    let wigner = || Ok::<_, anyhow::Error>(Box::new(Wigner::new(5, 10.0)?) as Box<dyn Law>);
    let target = Inversion { judgement: InverseJudgement::Target };
    println!("{:>42}  {:>6} {:>6} {:>6}", "digits in, out", "5%", "2%", "1%");
    for (input, output, name) in [(&two, &two, "2, 2"), (&three, &two, "3, 2"), (&three, &three, "3, 3")] {
        let problems: [(&str, Box<dyn Problem>, _); 6] = [
            ("eigenvalues", Box::new(Eigenvalues), wigner()?),
            ("eigenvectors, by the residual", Box::new(Eigenvectors::default()), wigner()?),
            ("singular values", Box::new(SingularValues), uniform(5)?),
            ("SVD 4x4, by the residual", Box::new(Svd::default()), uniform(4)?),
            ("inversion, by the residual", Box::new(Inversion::default()), uniform(5)?),
            ("inversion, by the target", Box::new(target), uniform(5)?),
        ];
        for (problem_name, problem, law) in problems {
            let [within_5, within_2, within_1] =
                perfect(&Task::new(problem, law, input.clone(), output.clone())?)?.map(|share| 100.0 * share);
            println!("{problem_name:>32}  {name:>8}  {within_5:6.1} {within_2:6.1} {within_1:6.1}");
            let is_sensitive = problem_name.starts_with("inversion");
            ensure!(is_sensitive || within_5 > 99.0, "all problems but inversion forgive rounding, at 5%");
        }
    }
    Ok(())
}
