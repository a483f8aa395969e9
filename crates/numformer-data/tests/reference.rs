//! Verdicts on predicted tokens agree with those recorded from the reference program.

use std::sync::Arc;

use numformer_data::{Task, VocabularyKind};
use numformer_encoding::Positional;
use numformer_metrics::{Norm, Verdict};
use numformer_problems::{Transpose, UniformEntries};
use serde::Deserialize;

/// Sums of 25 terms in two orders differ by less than this.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

/// Tokens, and the errors in the L1 norm, the squared Frobenius norm and the max norm.
#[derive(Deserialize)]
struct Case {
    src: String,
    tgt: String,
    hyp: String,
    error: Option<[f64; 3]>,
}

/// The prediction that ends in `- 233`, without an exponent. The reference reads this as -233; a word has exactly one
/// exponent, so here the prediction is malformed.
const UNFINISHED: usize = 13;

#[test]
fn predictions_are_judged_like_the_reference() -> anyhow::Result<()> {
    let golden: Golden = serde_json::from_str(include_str!("transpose_p1000.json"))?;
    assert_eq!(golden.cases.len(), 15);
    let p1000 = Arc::new(Positional::p1000());
    let entries = Box::new(UniformEntries::new(5, 5, 10.0)?);
    let builder = Task::builder(p1000.clone(), p1000).with_problem(Transpose, 1.0, vec![entries]);
    // Predictions of a model may hold any symbol of the reference's vocabulary.
    let task = builder.with_vocabulary(VocabularyKind::Reference).build()?;
    for (index, Case { src, tgt, hyp, error }) in golden.cases.into_iter().enumerate() {
        let tokens = |text: &str| task.vocabulary().tokenize(text);
        let (src, tgt, hypothesis) = (tokens(&src)?, tokens(&tgt)?, tokens(&hyp)?);
        let verdicts = [Norm::L1, Norm::Frobenius, Norm::Max].map(|norm| task.judge(&src, &tgt, &hypothesis, norm));
        let Some([l1, squared_frobenius, max]) = error.filter(|_| index != UNFINISHED) else {
            assert_eq!(verdicts, [const { Ok(Verdict::Malformed) }; 3], "{hyp}");
            continue;
        };
        for (verdict, expected) in verdicts.into_iter().zip([l1, squared_frobenius.sqrt(), max]) {
            let found = verdict?.error().expect("a matrix of the right shape");
            assert!((found - expected).abs() <= ROUNDING * expected, "{found}, recorded {expected}: {hyp}");
        }
    }
    Ok(())
}
