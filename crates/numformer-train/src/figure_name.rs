//! The figures of an evaluation by name.

use std::fmt;
use std::str::FromStr;

use numformer_metrics::Tolerance;
use serde::{Deserialize, Serialize};

use crate::figures::Evaluation;
use crate::syntax::did_you_mean;

/// A figure of an [`Evaluation`] by its name: `cross_entropy`, `exact`, `decodable`, `coefficients`, or `within_5%` for the
/// share of answers within a tolerance (in the norm L1): 5, 2, 1 or 0.5 per cent.
///
/// # Examples
/// ```
/// use numformer_train::FigureName;
///
/// let within: FigureName = "within_0.5%".parse()?;
/// assert_eq!(within.to_string(), "within_0.5%");
/// assert!(within.is_better(0.9, 0.8));
/// assert!(FigureName::CrossEntropy.is_better(0.1, 0.2));
/// let error = "exakt".parse::<FigureName>().unwrap_err();
/// assert!(error.to_string().contains("did you mean `exact`?"));
/// # Ok::<(), numformer_train::FigureNameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FigureName {
    /// [`Evaluation::cross_entropy`]; the lower, the better, unlike all others.
    CrossEntropy,
    /// [`Evaluation::exact`].
    Exact,
    /// [`Evaluation::decodable`].
    Decodable,
    /// [`Evaluation::coefficients`].
    Coefficients,
    /// [`Evaluation::accuracy`] at a tolerance: its place in [`Tolerance::STANDARD`].
    Within(usize),
}

impl FigureName {
    /// All figures there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let within = (0..Tolerance::STANDARD.len()).map(Self::Within);
        [Self::CrossEntropy, Self::Exact, Self::Decodable, Self::Coefficients].into_iter().chain(within)
    }

    /// The figure; none if the evaluation has no such tolerance.
    #[must_use]
    pub fn of(self, evaluation: &Evaluation) -> Option<f64> {
        match self {
            Self::CrossEntropy => Some(evaluation.cross_entropy),
            Self::Exact => Some(evaluation.exact),
            Self::Decodable => Some(evaluation.decodable),
            Self::Coefficients => Some(evaluation.coefficients),
            Self::Within(place) => {
                let tolerance = Tolerance::STANDARD.get(place)?;
                evaluation.accuracy.iter().find(|(found, _)| found == tolerance).map(|(_, share)| *share)
            }
        }
    }

    /// Whether `value` is better than `other`.
    #[must_use]
    pub fn is_better(self, value: f64, other: f64) -> bool {
        if self == Self::CrossEntropy { value < other } else { value > other }
    }
}

impl fmt::Display for FigureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrossEntropy => f.write_str("cross_entropy"),
            Self::Exact => f.write_str("exact"),
            Self::Decodable => f.write_str("decodable"),
            Self::Coefficients => f.write_str("coefficients"),
            Self::Within(place) => match Tolerance::STANDARD.get(*place) {
                Some(tolerance) => write!(f, "within_{tolerance}"),
                None => f.write_str("within_?"),
            },
        }
    }
}

/// No figure has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure `{found}`{}; figures: {}", did_you_mean(found, known.iter().map(String::as_str)), known.join(", "))]
pub struct FigureNameError {
    /// Name found.
    pub found: String,
    /// Names there are.
    pub known: Vec<String>,
}

impl FromStr for FigureName {
    type Err = FigureNameError;

    fn from_str(name: &str) -> Result<Self, FigureNameError> {
        let found = Self::all().find(|figure| figure.to_string() == name);
        found.ok_or_else(|| FigureNameError {
            found: name.to_owned(),
            known: Self::all().map(|figure| figure.to_string()).collect(),
        })
    }
}

impl TryFrom<String> for FigureName {
    type Error = FigureNameError;

    fn try_from(name: String) -> Result<Self, FigureNameError> {
        name.parse()
    }
}

impl From<FigureName> for String {
    fn from(figure: FigureName) -> Self {
        figure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let names: Vec<String> = FigureName::all().map(|figure| figure.to_string()).collect();
        assert_eq!(
            names,
            [
                "cross_entropy",
                "exact",
                "decodable",
                "coefficients",
                "within_5%",
                "within_2%",
                "within_1%",
                "within_0.5%"
            ]
        );
        for figure in FigureName::all() {
            assert_eq!(figure.to_string().parse(), Ok(figure));
        }
    }

    #[test]
    fn every_figure_of_an_evaluation_is_found() {
        let json = r#"{"count":1,"accuracy":[[0.05,0.5],[0.02,0.4],[0.01,0.3],[0.005,0.2]],"exact":0.1,"decodable":0.9,
            "cross_entropy":0.7,"coefficients":0.6}"#;
        let evaluation: Evaluation = serde_json::from_str(json).expect("an evaluation");
        let found: Vec<f64> = FigureName::all().filter_map(|figure| figure.of(&evaluation)).collect();
        assert_eq!(found, [0.7, 0.1, 0.9, 0.6, 0.5, 0.4, 0.3, 0.2]);
    }
}
