//! The laws have the statistics that were recorded from samples of the reference program.

use std::fmt::Write;

use faer::{Mat, Side};
use numformer_problems::{Ensemble, Entries, GaussianEntries, Spectrum, SymmetricSpectrum, UniformEntries};
use numformer_testkit::golden;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// That of the recorded samples.
const AMPLITUDE: f64 = 10.0;

/// Matrices that are drawn for each row, in batches whose spread gives the standard errors.
const BATCHES: usize = 50;
const BATCH: usize = 40;

/// Largest difference in standard errors. Of 3,000 normal deviates, one is as large with probability 0.002; those here
/// have slightly heavier tails, since their standard errors are estimated from 50 batches.
const STANDARD_ERRORS: f64 = 5.0;

/// Numbers are recorded with six digits.
const ROUNDING: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    /// None: independent entries.
    law: Option<Spectrum>,
    entries: Entries,
    shape: (usize, usize),
    /// The number of matrices.
    n: usize,
    coefficients: Summary,
    /// Those of symmetric matrices, and the largest and smallest of each matrix.
    eigenvalues: Option<[Summary; 3]>,
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

/// Without skewness and kurtosis, for laws with exponential tails and for the extreme eigenvalues: there they hang on a
/// few of the farthest values, and their standard errors are not to be had from batches.
const OF_LONG_TAILS: &[&str] = NAMES.split_at(9).0;

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
}

/// What differs between the statistics of values in batches of matrices and the recorded ones.
fn differences(batches: &[Vec<f64>], recorded: &Summary, recorded_matrices: usize, names: &[&str]) -> Vec<String> {
    let mut differences = Vec::new();
    let found = Summary::new(batches.concat());
    let by_batch: Vec<_> = batches.iter().map(|batch| Summary::new(batch.clone()).statistics).collect();
    for (k, name) in names.iter().enumerate() {
        let column = by_batch.iter().map(|statistics| statistics[k]);
        let mean = column.clone().sum::<f64>() / BATCHES as f64;
        let variance = column.map(|x| (x - mean).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
        // The variance of a statistic is inversely proportional to the number of matrices.
        let matrices = 1.0 / (BATCHES * BATCH) as f64 + 1.0 / recorded_matrices as f64;
        let standard_error = (variance * BATCH as f64 * matrices).sqrt();
        let (found, expected) = (found.statistics[k], recorded.statistics[k]);
        if (found - expected).abs() > STANDARD_ERRORS * standard_error + ROUNDING * expected.abs() {
            differences.push(format!("{name} {found}, recorded {expected}, standard error {standard_error}"));
        }
    }
    // Extremes of the heaviest tails, exponential ones, differ between samples by 10 to 20%.
    for (found, expected) in [(found.min, recorded.min), (found.max, recorded.max)] {
        if (found - expected).abs() > 0.6 * recorded.max.abs().max(recorded.min.abs()) {
            differences.push(format!("extreme {found}, recorded {expected}"));
        }
    }
    differences
}

fn law(row: &Row) -> anyhow::Result<Box<dyn Ensemble>> {
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
        let names = if has_exponential_tails { OF_LONG_TAILS } else { &NAMES };

        let extreme = row.coefficients.max.max(-row.coefficients.min);
        let bound = law.bound().expect("these laws have one");
        let beyond = (extreme > bound).then(|| format!("{extreme} was recorded, beyond {bound}"));
        check("bound", beyond.into_iter().collect());

        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let batches: Vec<Vec<Mat<f64>>> =
            (0..BATCHES).map(|_| (0..BATCH).map(|_| law.sample(&mut rng)).collect()).collect();
        let per_batch = |f: fn(&Mat<f64>) -> Vec<f64>| -> Vec<Vec<f64>> {
            batches.iter().map(|batch| batch.iter().flat_map(f).collect()).collect()
        };
        let coefficients = per_batch(|a| a.col_iter().flat_map(|column| column.iter().copied()).collect());
        check("coefficients", differences(&coefficients, &row.coefficients, row.n, names));
        if let Some([all, largest, smallest]) = &row.eigenvalues {
            let spectra = per_batch(|a| a.self_adjoint_eigenvalues(Side::Lower).expect("a finite matrix"));
            let kth = |k: usize| -> Vec<Vec<f64>> {
                let of_batch = |batch: &Vec<f64>| batch.chunks_exact(dimension).map(|spectrum| spectrum[k]).collect();
                spectra.iter().map(of_batch).collect()
            };
            check("eigenvalues", differences(&spectra, all, row.n, names));
            check("largest eigenvalues", differences(&kth(dimension - 1), largest, row.n, OF_LONG_TAILS));
            check("smallest eigenvalues", differences(&kth(0), smallest, row.n, OF_LONG_TAILS));
        }
        count += 1;
    }
    assert_eq!(count, 18, "seven spectra and two shapes of independent entries, with two laws of entries each");
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
