//! `numformer verify`: judges predictions of any program.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use faer::Mat;
use numformer_experiment::{Catalogue, ProblemConfig};
use numformer_metrics::{Metric, Norm, Tolerance, coefficients_within};
use numformer_problems::{Instance, Problem, ReferenceComparison, SolveError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::filter::filter_lines;

/// Judge the predictions of any program: one line of JSON in, one out.
///
/// An input line holds matrices as lists of rows: `src`, the input; `tgt`, an exact answer; `hyp`, the prediction. An
/// output line has the relative errors of the prediction in three norms (l1, Frobenius, max), the square of the
/// Frobenius error, the share of its coefficients within 1% of the exact answer's, and the verdict: ok, wrong-shape
/// or malformed. `ok` means that the prediction could be judged; the errors say how good it is. An error beyond the
/// range of f64 is null.
///
/// A prediction with NaN, an infinity, or anything else that is not a finite number is malformed. Answers that are
/// not unique are judged by residuals, strictly: eigenvectors must also be orthonormal. `numformer problems` lists
/// the problems. A line whose src has no answer (not symmetric, not positive definite, singular, where that matters)
/// or whose tgt has the wrong shape is reported with its line number, and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Example:
  $ echo '{\"src\": [[1, 2]], \"tgt\": [[1], [2]], \"hyp\": [[1], [2.03]]}' | numformer verify --problem transpose --json
  {\"coefficients_within_1pct\":0.5,\"frobenius\":0.0134,\"l1\":0.01,\"max\":0.015,\"squared_frobenius\":0.00018,\"verdict\":\"ok\"}")]
pub(crate) struct Arguments {
    /// Name of the problem, or inversion-against-target for inversion judged against the exact inverse.
    #[arg(long, value_name = "NAME")]
    problem: String,
    /// Judge as the published program does, to compare with its figures; it finds no error in some wrong answers.
    /// Only for the problems that it has: those of the paper.
    #[arg(long)]
    reference: bool,
    /// Print JSON objects instead of columns.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Figures {
    l1: Option<f64>,
    frobenius: Option<f64>,
    squared_frobenius: Option<f64>,
    max: Option<f64>,
    coefficients_within_1pct: Option<f64>,
    verdict: &'static str,
}

impl Figures {
    fn without_errors(verdict: &'static str) -> Self {
        let [l1, frobenius, squared_frobenius, max, coefficients_within_1pct] = [None; 5];
        Self { l1, frobenius, squared_frobenius, max, coefficients_within_1pct, verdict }
    }
}

/// The problems of the published program.
const REFERENCE_PROBLEMS: [&str; 11] = [
    "transpose",
    "addition",
    "matrix-vector",
    "multiplication",
    "eigenvalues",
    "eigenvectors",
    "inversion",
    "inversion-against-target",
    "symmetric-inversion",
    "singular-values",
    "svd",
];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let problem = match arguments.problem.as_str() {
        "inversion-against-target" => {
            let judgement = Some(numformer_problems::InverseJudgement::Target);
            ProblemConfig { judgement, ..ProblemConfig::new("inversion") }
        }
        name => ProblemConfig::new(name),
    };
    let problem = Catalogue::standard().problem(&problem)?;
    ensure!(
        !arguments.reference || REFERENCE_PROBLEMS.contains(&arguments.problem.as_str()),
        "--reference: the published program has no {}, expected one of {}",
        arguments.problem,
        REFERENCE_PROBLEMS.join(", ")
    );
    filter_lines(arguments.json, |line| {
        let line: Value = serde_json::from_str(&with_nulls(line)).map_err(|error| {
            // The message of the parser counts lines by itself, and would always name the first.
            anyhow!("expected an object with src, tgt and hyp, found invalid JSON at column {}", error.column())
        })?;
        let judgement = judge(&*problem, &line, arguments.reference)?;
        let object = serde_json::to_value(&judgement)?;
        let columns = [
            ("l1", judgement.l1),
            ("frobenius", judgement.frobenius),
            ("squared_frobenius", judgement.squared_frobenius),
            ("max", judgement.max),
            ("coefficients_within_1pct", judgement.coefficients_within_1pct),
        ];
        let columns = columns.map(|(name, value)| format!("{name} {}", value.map_or("-".to_owned(), short)));
        Ok((format!("{:<12}{}", judgement.verdict, columns.join("  ")), object))
    })
}

/// The number with four significant digits.
fn short(x: f64) -> String {
    format!("{x:.3e}")
}

/// Replaces NaN, infinities and numbers too large for `f64` by null. JSON does not allow them, but other programs write
/// them.
fn with_nulls(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut is_string = false;
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = match next {
            '\\' if is_string => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
            _ if !is_string && is_word(next) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => next.len_utf8(),
        };
        is_string ^= next == '"';
        let (word, after) = rest.split_at(length);
        let is_finite = is_string || word.parse::<f64>().map_or(true, f64::is_finite);
        text.push_str(if is_finite { word } else { "null" });
        rest = after;
    }
    text
}

fn judge(problem: &dyn Problem, line: &Value, reference: bool) -> Result<Figures> {
    let given =
        |key| line.get(key).with_context(|| format!("expected an object with src, tgt and hyp, found no {key}"));
    let src = matrix(given("src")?).context("src")?;
    let tgt = matrix(given("tgt")?).context("tgt")?;
    let hyp = given("hyp")?;
    let expected = problem.output_shape(src.shape()).context("src")?;
    let (rows, columns) = tgt.shape();
    ensure!((rows, columns) == expected, "tgt: expected shape {}x{}, found {rows}x{columns}", expected.0, expected.1);
    match problem.solve(src.as_ref()) {
        // There is an answer, and another solver may find it more accurately.
        Ok(_) | Err(SolveError::IllConditioned { .. } | SolveError::Inaccurate { .. } | SolveError::NotConverged) => {}
        Err(error) => return Err(error).context("src"),
    }
    let Ok(hyp) = matrix(hyp) else { return Ok(Figures::without_errors("malformed")) };
    if hyp.shape() != expected {
        return Ok(Figures::without_errors("wrong-shape"));
    }
    let instance = Instance { input: src.as_ref(), target: tgt.as_ref() };
    let (errors, within) = if reference {
        let comparison = ReferenceComparison::of(problem, instance, hyp.as_ref()).context("src")?;
        (NORMS.map(|norm| comparison.error(norm)), comparison.share_within(0.01))
    } else {
        let mut errors = [0.0; 3];
        for (error, norm) in errors.iter_mut().zip(NORMS) {
            *error = problem.error(instance, hyp.as_ref(), norm).context("src")?;
        }
        let within = coefficients_within(hyp.as_ref(), tgt.as_ref(), Tolerance::relative(0.01));
        (errors, within.value().unwrap_or(1.0))
    };
    let finite = |x: f64| x.is_finite().then_some(x);
    let [l1, frobenius, max] = errors.map(finite);
    Ok(Figures {
        l1,
        frobenius,
        squared_frobenius: finite(errors[1] * errors[1]),
        max,
        coefficients_within_1pct: finite(within),
        verdict: "ok",
    })
}

const NORMS: [Norm; 3] = [Norm::L1, Norm::Frobenius, Norm::Max];

/// The matrix that is written as a list of rows.
fn matrix(rows: &Value) -> Result<Mat<f64>> {
    let rows = Vec::<Vec<f64>>::deserialize(rows).map_err(|_| anyhow!("expected a list of rows of finite numbers"))?;
    let columns = rows.first().map_or(0, Vec::len);
    ensure!(columns > 0, "expected a matrix of at least one row and one column, found an empty one");
    for (row, index) in rows.iter().zip(1..) {
        ensure!(
            row.len() == columns,
            "expected {columns} numbers in row {index}, as in the first, found {}",
            row.len()
        );
    }
    Ok(Mat::from_fn(rows.len(), columns, |i, j| rows[i][j]))
}
