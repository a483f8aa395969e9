//! Matrices and answers have the statistics that were recorded from samples of the reference program.

use std::fmt::Write;
use std::ops::Range;

use faer::{Mat, Side};
use numformer_problems::{
    Eigenvalues, Eigenvectors, Entries, GaussianEntries, Inversion, Law, MatrixVector, Problem, SolveError, Spectrum,
    Svd, SymmetricInversion, SymmetricSpectrum, Transpose, UniformEntries,
};
use numformer_testkit::golden;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// The amplitude of the recorded samples.
const AMPLITUDE: f64 = 10.0;

/// The number of batches of matrices that are drawn for each row. Their spread gives the standard errors.
const BATCHES: usize = 50;
const BATCH: usize = 40;

/// The largest difference allowed, in standard errors. The probability that any of 4,500 normal deviates is this large
/// is 0.003. The deviates here have slightly heavier tails, since their standard errors are estimated from 50 batches.
const STANDARD_ERRORS: f64 = 5.0;

/// Numbers are recorded with six digits.
const ROUNDING: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    problem: String,
    /// `None` for independent entries.
    law: Option<Spectrum>,
    entries: Entries,
    shape: (usize, usize),
    /// The number of matrices.
    n: usize,
    /// How many were rejected.
    none: usize,
    coefficients: Summary,
    /// The eigenvalues of symmetric matrices, and the largest and smallest of each matrix.
    eigenvalues: Option<[Summary; 3]>,
    /// The coefficients of the answers.
    answers: Summary,
    /// The coefficients of the eigenvectors in the answers.
    eigenvectors: Option<Summary>,
    /// The largest and the smallest singular value of each matrix.
    singular_values: Option<[Summary; 2]>,
}

#[derive(Deserialize)]
struct Summary {
    min: f64,
    max: f64,
    /// Mean, standard deviation, the quantiles, skewness and kurtosis (3 for a normal law).
    statistics: [f64; 11],
}

const NAMES: [&str; 11] =
    ["mean", "standard deviation", "1%", "5%", "25%", "50%", "75%", "95%", "99%", "skewness", "kurtosis"];

const ALL: Range<usize> = 0..NAMES.len();

/// All but skewness and kurtosis, for laws with exponential tails and for the extreme eigenvalues. There, these two
/// depend on a few of the farthest values, and batches do not show their standard errors.
const OF_LONG_TAILS: Range<usize> = 0..9;

/// Only the quantiles, for inverses, which have no variance.
const OF_HEAVY_TAILS: Range<usize> = 2..9;

/// The quantile at 99%. For answers to the SVD, it is a quantile of singular values, so the signs of the vectors, which
/// are arbitrary, do not affect it.
const OF_LARGE_VALUES: Range<usize> = 8..9;

/// How many batches may have a value beyond the recorded extremes, which come from more matrices. Fewer than one such
/// batch is expected.
const BEYOND_EXTREMES: usize = 6;

const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

impl Summary {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let moment = |power| values.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
        let std = moment(2).sqrt();
        let quantile = |p: f64| {
            let position = p * (n - 1.0);
            let (below, above) = (values[position.floor() as usize], values[position.ceil() as usize]);
            below + position.fract() * (above - below)
        };
        let [q1, q2, q3, q4, q5, q6, q7] = QUANTILES.map(quantile);
        let statistics = [mean, std, q1, q2, q3, q4, q5, q6, q7, moment(3) / std.powi(3), moment(4) / std.powi(4)];
        Self { min: values[0], max: values[values.len() - 1], statistics }
    }

    /// E x⁴, from the moments about the mean.
    fn fourth_moment(&self) -> f64 {
        let [mean, std, .., skewness, kurtosis] = self.statistics;
        kurtosis * std.powi(4) + 4.0 * mean * skewness * std.powi(3) + 6.0 * (mean * std).powi(2) + mean.powi(4)
    }
}

/// The standard error of the difference of a statistic between all batches drawn here and the recorded matrices.
fn standard_error(of_batches: impl Iterator<Item = f64> + Clone, recorded_matrices: usize) -> f64 {
    let mean = of_batches.clone().sum::<f64>() / BATCHES as f64;
    let variance = of_batches.map(|x| (x - mean).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
    // The variance of a statistic is inversely proportional to the number of matrices.
    let matrices = 1.0 / (BATCHES * BATCH) as f64 + 1.0 / recorded_matrices as f64;
    (variance * BATCH as f64 * matrices).sqrt()
}

/// What differs between the statistics of values in batches of matrices and the recorded ones.
fn differences(batches: &[Vec<f64>], recorded: &Summary, recorded_matrices: usize, which: Range<usize>) -> Vec<String> {
    let mut differences = Vec::new();
    let found = Summary::new(batches.concat());
    let by_batch: Vec<_> = batches.iter().map(|batch| Summary::new(batch.clone()).statistics).collect();
    for k in which {
        let name = NAMES[k];
        let standard_error = standard_error(by_batch.iter().map(|statistics| statistics[k]), recorded_matrices);
        let (found, expected) = (found.statistics[k], recorded.statistics[k]);
        if (found - expected).abs() > STANDARD_ERRORS * standard_error + ROUNDING * expected.abs() {
            differences.push(format!("{name} {found}, recorded {expected}, standard error {standard_error}"));
        }
    }
    let beyond = |batch: &&Vec<f64>| batch.iter().any(|&x| x < recorded.min || x > recorded.max);
    let beyond = batches.iter().filter(beyond).count();
    if beyond > BEYOND_EXTREMES {
        differences.push(format!("{beyond} batches beyond {} and {}", recorded.min, recorded.max));
    }
    differences
}

/// Compares the extremes. Those of exponential tails differ by 10 to 20% between samples, and the batches here hold
/// fewer matrices.
fn extreme_differences(batches: &[Vec<f64>], recorded: &Summary) -> Vec<String> {
    let found = Summary::new(batches.concat());
    let size = recorded.max.abs().max(recorded.min.abs());
    [(found.min, recorded.min), (found.max, recorded.max)]
        .into_iter()
        .filter(|(found, expected)| (found - expected).abs() > 0.45 * size)
        .map(|(found, expected)| format!("extreme {found}, recorded {expected}"))
        .collect()
}

/// An input and its answer.
type Solved = (Mat<f64>, Mat<f64>);

fn problem(name: &str) -> Box<dyn Problem> {
    let problems: [Box<dyn Problem>; 7] = [
        Box::new(Transpose),
        Box::new(MatrixVector::default()),
        Box::new(Inversion::default()),
        Box::new(SymmetricInversion::default()),
        Box::new(Eigenvalues),
        Box::new(Eigenvectors::default()),
        Box::new(Svd::default()),
    ];
    problems.into_iter().find(|problem| problem.name() == name).expect("a problem of the recorded data")
}

fn law(row: &Row) -> anyhow::Result<Box<dyn Law>> {
    let (rows, columns) = row.shape;
    Ok(match (row.law, row.entries) {
        (Some(spectrum), entries) => {
            Box::new(SymmetricSpectrum::new(rows, AMPLITUDE, spectrum)?.with_entries(entries)?)
        }
        (None, Entries::Uniform) => Box::new(UniformEntries::new(rows, columns, AMPLITUDE)?),
        (None, Entries::Gaussian) => Box::new(GaussianEntries::new(rows, columns, AMPLITUDE / 3.0_f64.sqrt())?),
    })
}

fn require_recorded_statistics(dimension: usize) -> anyhow::Result<()> {
    let rows = golden::<Golden>("ensembles.json").rows.into_iter().filter(|row| row.shape.0 == dimension);
    let mut count = 0;
    let mut failures = String::new();
    for row in rows {
        let law = law(&row)?;
        assert_eq!(law.max_shape(), row.shape);
        let mut check = |what: &str, differences: Vec<String>| {
            for difference in differences {
                let _ = writeln!(failures, "{law:?}, {what}: {difference}");
            }
        };

        let has_exponential_tails = matches!(row.law, Some(Spectrum::Laplace | Spectrum::AbsLaplace));
        let which = if has_exponential_tails { OF_LONG_TAILS } else { ALL };

        let extreme = row.coefficients.max.max(-row.coefficients.min);
        let bound = law.bound().expect("these laws have one");
        let beyond = (extreme > bound).then(|| format!("{extreme} was recorded, beyond {bound}"));
        check("bound", beyond.into_iter().collect());

        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let problem = problem(&row.problem);
        let mut rejected = 0;
        let batches: Vec<Vec<Solved>> = (0..BATCHES)
            .map(|_| {
                let mut batch = Vec::with_capacity(BATCH);
                while batch.len() < BATCH {
                    let input = law.sample(&mut rng);
                    match problem.solve(input.as_ref()) {
                        Ok(answer) => batch.push((input, answer)),
                        Err(SolveError::IllConditioned { .. }) => rejected += 1,
                        Err(error) => panic!("{}: {error}", row.problem),
                    }
                }
                batch
            })
            .collect();
        // At most one of the 20,000 recorded matrices was rejected.
        assert!(row.none <= 1 && rejected <= 2, "{}: {rejected} of {} rejected", row.problem, BATCHES * BATCH);
        let per_batch = |f: &dyn Fn(&Solved) -> Vec<f64>| -> Vec<Vec<f64>> {
            batches.iter().map(|batch| batch.iter().flat_map(f).collect()).collect()
        };
        let entries = |a: &Mat<f64>| a.col_iter().flat_map(|column| column.iter().copied()).collect::<Vec<f64>>();
        let coefficients = per_batch(&|(input, _)| entries(input));
        check("coefficients", differences(&coefficients, &row.coefficients, row.n, which.clone()));
        check("coefficients", extreme_differences(&coefficients, &row.coefficients));
        let answers = per_batch(&|(_, answer)| entries(answer));
        let of_answers = match row.problem.as_str() {
            "inversion" | "symmetric-inversion" => OF_HEAVY_TAILS,
            "svd" => OF_LARGE_VALUES,
            // The eigenvalues in the answers are compared separately, and their vectors are compared below.
            "eigenvectors" => 0..0,
            _ => which.clone(),
        };
        check("answers", differences(&answers, &row.answers, row.n, of_answers));
        if let Some(recorded) = &row.eigenvectors {
            // Even moments do not depend on signs; the second is 1 / n for any orthonormal vectors.
            let fourth_moment = |x: &[f64]| x.iter().map(|x| x.powi(4)).sum::<f64>() / x.len() as f64;
            let vectors = per_batch(&|(_, answer)| entries(&answer.subrows(1, dimension).to_owned()));
            let standard_error = standard_error(vectors.iter().map(|batch| fourth_moment(batch)), row.n);
            let (found, expected) = (fourth_moment(&vectors.concat()), recorded.fourth_moment());
            let differs = (found - expected).abs() > STANDARD_ERRORS * standard_error + ROUNDING * expected;
            let difference = differs.then(|| format!("fourth moment {found}, recorded {expected}"));
            check("eigenvectors", difference.into_iter().collect());
        }
        if let Some([largest, smallest]) = &row.singular_values {
            let kth = |k: usize| per_batch(&move |(_, answer): &Solved| vec![answer[(0, k)]]);
            check("largest singular values", differences(&kth(0), largest, row.n, OF_LONG_TAILS));
            check("smallest singular values", differences(&kth(dimension - 1), smallest, row.n, OF_LONG_TAILS));
        }
        if let Some([all, largest, smallest]) = &row.eigenvalues {
            let spectra = per_batch(&|(a, _)| a.self_adjoint_eigenvalues(Side::Lower).expect("a finite matrix"));
            let kth = |k: usize| -> Vec<Vec<f64>> {
                let of_batch = |batch: &Vec<f64>| batch.chunks_exact(dimension).map(|spectrum| spectrum[k]).collect();
                spectra.iter().map(of_batch).collect()
            };
            check("eigenvalues", differences(&spectra, all, row.n, which));
            check("eigenvalues", extreme_differences(&spectra, all));
            check("largest eigenvalues", differences(&kth(dimension - 1), largest, row.n, OF_LONG_TAILS));
            check("smallest eigenvalues", differences(&kth(0), smallest, row.n, OF_LONG_TAILS));
        }
        count += 1;
    }
    assert_eq!(
        count, 28,
        "seven spectra, three of them with three problems, and four problems with independent entries, of two laws of entries"
    );
    assert!(failures.is_empty(), "{failures}");
    Ok(())
}

#[test]
fn dimension_5() -> anyhow::Result<()> {
    require_recorded_statistics(5)
}

#[test]
fn dimension_8() -> anyhow::Result<()> {
    require_recorded_statistics(8)
}

#[test]
fn dimension_10() -> anyhow::Result<()> {
    require_recorded_statistics(10)
}

#[test]
fn dimension_20() -> anyhow::Result<()> {
    require_recorded_statistics(20)
}
