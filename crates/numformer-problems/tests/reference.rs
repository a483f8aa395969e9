//! Answers and errors agree with those recorded from the program of the paper's authors.

use std::collections::BTreeMap;

use faer::{Mat, MatRef};
use numformer_metrics::Norm;
use numformer_problems::{
    Addition, Eigenvalues, Eigenvectors, Instance, InverseJudgement, Inversion, MatrixVector, Multiplication, Problem,
    ReferenceComparison, SingularValues, Svd, SymmetricInversion, Transpose,
};
use serde::Deserialize;

/// The tolerance for errors, which are sums of a few dozen terms, and for well-conditioned answers.
const TOLERANCE: f64 = 1e-9;

/// Errors this small are rounding errors of the recorded answers: they differ between any two ways to compute them.
const ROUNDING: f64 = 1e-13;

#[derive(Deserialize)]
struct Golden {
    /// Where the data comes from.
    #[expect(dead_code, reason = "for readers of the file")]
    about: String,
    #[serde(flatten)]
    cases: BTreeMap<String, Vec<Case>>,
}

/// Matrices as lists of rows; the errors max, L1, squared Frobenius, and the share of coefficients within 1%.
#[derive(Deserialize)]
struct Case {
    perturbation: u8,
    src: Vec<Vec<f64>>,
    tgt: Vec<Vec<f64>>,
    hyp: Vec<Vec<f64>>,
    error: Vec<f64>,
}

fn problems() -> Vec<(&'static str, Box<dyn Problem>)> {
    let mut problems: Vec<(&'static str, Box<dyn Problem>)> =
        vec![("inversion-against-target", Box::new(Inversion { judgement: InverseJudgement::Target }))];
    let named: [Box<dyn Problem>; 10] = [
        Box::new(Transpose),
        Box::new(Addition),
        Box::new(MatrixVector::default()),
        Box::new(Multiplication::default()),
        Box::new(Eigenvalues),
        Box::new(Eigenvectors::default()),
        Box::new(Inversion::default()),
        Box::new(SymmetricInversion::default()),
        Box::new(SingularValues),
        Box::new(Svd::default()),
    ];
    problems.extend(named.into_iter().map(|problem| (problem.name(), problem)));
    problems
}

fn for_each_case(mut check: impl FnMut(&dyn Problem, &str, &Case, [MatRef<'_, f64>; 3])) {
    let golden: Golden = serde_json::from_str(include_str!("reference.json")).expect("the recorded data");
    let problems = problems();
    assert_eq!(golden.cases.len(), problems.len());
    for (name, problem) in &problems {
        let cases = &golden.cases[*name];
        assert_eq!(cases.len(), if name == &"inversion-against-target" { 5 } else { 25 }, "{name}");
        for case in cases {
            let [src, tgt, hyp] =
                [&case.src, &case.tgt, &case.hyp].map(|x| Mat::from_fn(x.len(), x[0].len(), |i, j| x[i][j]));
            check(problem, name, case, [src.as_ref(), tgt.as_ref(), hyp.as_ref()]);
        }
    }
}

#[track_caller]
fn assert_agrees(found: f64, expected: f64, context: &str) {
    let is_close = (found - expected).abs() <= TOLERANCE * expected.abs() || found.max(expected) < ROUNDING;
    assert!(is_close, "{context}: {found:e}, recorded {expected:e}");
}

#[test]
fn candidates_are_compared_as_by_the_reference() {
    for_each_case(|problem, name, case, [input, target, candidate]| {
        let context = format!("{name}, perturbation {}", case.perturbation);
        let comparison = ReferenceComparison::of(problem, Instance { input, target }, candidate).expect("finite input");
        assert_agrees(comparison.error(Norm::Max), case.error[0], &context);
        assert_agrees(comparison.error(Norm::L1), case.error[1], &context);
        assert_agrees(comparison.squared_frobenius(), case.error[2], &context);
        if let Some(&share) = case.error.get(3) {
            assert_agrees(comparison.share_within(0.01), share, &context);
        }
    });
}

#[test]
fn answers_are_those_of_the_reference() {
    for_each_case(|problem, name, case, [input, target, _]| {
        let answer = problem.solve(input).expect("a well-conditioned matrix");
        assert_eq!(answer.shape(), target.shape(), "{name}");
        for j in 0..target.ncols() {
            // Each eigenvector, and each pair of singular vectors, may have either sign.
            let is_flipped = matches!(name, "eigenvectors" | "svd") && answer[(1, j)] * target[(1, j)] < 0.0;
            for i in 0..target.nrows() {
                let found = if is_flipped && i > 0 { -answer[(i, j)] } else { answer[(i, j)] };
                let difference = (found - target[(i, j)]).abs();
                assert!(difference <= 1e-10 * target[(i, j)].abs().max(1.0), "{name}: {found}, {}", case.tgt[i][j]);
            }
        }
    });
}

/// Errors agree with the recorded ones where the reference has the same measure. For eigenvectors and the SVD, it does
/// not.
#[test]
fn errors_are_those_of_the_reference_but_for_eigenvectors_and_svd() {
    for_each_case(|problem, name, case, [input, target, candidate]| {
        let error = |norm| problem.error(Instance { input, target }, candidate, norm).expect("finite input");
        if matches!(name, "eigenvectors" | "svd") {
            match case.perturbation {
                0 => assert!(error(Norm::L1) < 1e-13 && error(Norm::Max) < 1e-13),
                // The reference finds no error in a zero answer.
                4 => assert!(case.error[1] == 0.0 && (error(Norm::L1) - 1.0).abs() < 1e-14),
                _ => assert!(error(Norm::L1) > 0.001, "{name}, perturbation {}", case.perturbation),
            }
            return;
        }
        let context = format!("{name}, perturbation {}", case.perturbation);
        assert_agrees(error(Norm::Max), case.error[0], &context);
        assert_agrees(error(Norm::L1), case.error[1], &context);
        assert_agrees(error(Norm::Frobenius).powi(2), case.error[2], &context);
    });
}
