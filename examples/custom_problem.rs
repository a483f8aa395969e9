//! A custom problem, generated, learned and judged: the elementwise maximum of two matrices.
//!
//! Run: `cargo run --release --example custom_problem`
//!
//! Expected output: two examples as tokens, the progress of a small model, its figures on 1,000 unseen matrices (more
//! than 90% within 5%, after some ten seconds) and one of them in full. The exit code is 1 if there are fewer. Next:
//! `custom_encoding` for another way to write numbers; `quickstart` for a run that is saved.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Result, ensure};
use faer::{Mat, MatRef};
use numformer::data::Split;
use numformer::experiment::{ArchitectureConfig, Catalogue, Experiment, Run, TrainConfig};
use numformer::model::StackConfig;
use numformer::problems::{Magnitudes, Problem, SolveError, require_finite};
use numformer::train::Progress;

/// `[A | B]` to the matrix of `max(a, b)`, from `r×2c` to `r×c`.
#[derive(Debug)]
struct Maximum;

// Required are name, output_shape and solve_into. By default a candidate is judged by its relative error against the
// target; a problem with several right answers overrides `error` with a residual.
impl Problem for Maximum {
    /// The name in reports.
    fn name(&self) -> &'static str {
        "maximum"
    }

    /// The shape of `[A | B]` for an experiment's `rows` and `cols`, which are those of `A`.
    fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        (rows, 2 * columns)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        if columns % 2 != 0 {
            return Err(SolveError::Shape { expected: "an even number of columns", found: (rows, columns) });
        }
        Ok((rows, columns / 2))
    }

    /// Optional. This keeps symbols of numbers that never occur out of the vocabulary.
    fn output_magnitudes(&self, _: (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (rows, columns) = self.output_shape(input.shape())?;
        require_finite(input)?;
        *output = Mat::from_fn(rows, columns, |i, j| input[(i, j)].max(input[(i, j + columns)]));
        Ok(())
    }
}

fn main() -> Result<()> {
    // The name in experiments, a line about it, and how to make one.
    let catalogue = Catalogue::standard().with_problem(
        "maximum",
        "[A | B] to the larger of each two entries, r×2c to r×c",
        |_| Ok(Box::new(Maximum)),
    );
    let mut experiment = Experiment::new("maximum", "uniform", 1).encoded("p10", "p10");
    experiment.matrices.cols = Some(2.into());
    experiment.model = ArchitectureConfig::symmetric(StackConfig::new(64, 4, 1));
    experiment.train = TrainConfig::new(1_000, 2e-3);
    (experiment.evaluate.every, experiment.evaluate.examples) = (250, 250);
    let mut run = Run::with_catalogue(experiment, &catalogue)?.with_observer(Progress::stderr());
    for index in 0..2 {
        let example = run.task().example(0, Split::Test, index)?;
        let show = |tokens| run.task().vocabulary().render(tokens);
        println!("{}\n  -> {}", show(&example.src), show(&example.tgt));
    }
    run.run()?;
    let evaluation = run.evaluate(Split::Test, 1_000)?;
    println!("{evaluation:#}\n\n{}", run.solve(Split::Test, 1)?[0]);
    let (tolerance, share) = evaluation.accuracy[0];
    ensure!(share > 0.9, "expected more than 90% of the answers within {tolerance}, found {:.1}%", 100.0 * share);
    Ok(())
}
