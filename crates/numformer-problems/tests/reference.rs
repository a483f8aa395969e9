//! The errors of transposed matrices agree with those recorded from the reference program.

use faer::Mat;
use numformer_metrics::Norm;
use numformer_problems::{Instance, Problem, Transpose};
use serde::Deserialize;

/// Sums of 25 terms in two orders differ by less.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// Matrices as lists of rows; the errors in the norm max, in L1, and the square of that in Frobenius.
#[derive(Deserialize)]
struct Case {
    src: Vec<Vec<f64>>,
    tgt: Vec<Vec<f64>>,
    hyp: Vec<Vec<f64>>,
    error: [f64; 3],
}

#[test]
fn transpose_is_judged_like_the_reference() -> anyhow::Result<()> {
    let golden: Golden = serde_json::from_str(include_str!("transpose.json"))?;
    assert_eq!(golden.cases.len(), 10);
    for Case { src, tgt, hyp, error } in golden.cases {
        let [src, tgt, hyp] = [src, tgt, hyp].map(|rows| Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j]));
        assert_eq!(Transpose.solve(src.as_ref())?, tgt);
        let [max, l1, squared_frobenius] = error;
        for (norm, expected) in [(Norm::Max, max), (Norm::L1, l1), (Norm::Frobenius, squared_frobenius.sqrt())] {
            let instance = Instance { input: src.as_ref(), target: tgt.as_ref() };
            let found = Transpose.error(instance, hyp.as_ref(), norm)?;
            assert!((found - expected).abs() <= ROUNDING * expected, "{norm}: {found}, recorded {expected}");
        }
    }
    Ok(())
}
