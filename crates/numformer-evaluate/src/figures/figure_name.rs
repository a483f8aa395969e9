//! The figures of an evaluation by name.

use std::fmt;
use std::str::FromStr;

use numformer_metrics::Tolerance;
use serde::{Deserialize, Serialize};

use crate::figures::Evaluation;
use crate::figures::figure::Figure;
use crate::text::did_you_mean;

/// A figure of an [`Evaluation`] by its name: `cross_entropy`, `exact`, `decodable`, `coefficients`, or `within_5%` for
/// the share of answers within a tolerance (in the norm L1): 5, 2, 1 or 0.5 per cent. Any other name is that of a
/// custom metric.
///
/// # Examples
/// ```
/// use numformer_evaluate::FigureName;
///
/// let within: FigureName = "within_0.5%".parse()?;
/// assert_eq!(within.to_string(), "within_0.5%");
/// assert_eq!(FigureName::from("within 3 units"), FigureName::Custom("within 3 units".to_owned()));
/// let error = "exakt".parse::<FigureName>().unwrap_err();
/// assert!(error.to_string().contains("did you mean `exact`?"));
/// # Ok::<(), numformer_evaluate::FigureNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FigureName {
    /// [`Evaluation::cross_entropy`]. Lower is better, unlike for the other built-in figures.
    CrossEntropy,
    /// [`Evaluation::exact`].
    Exact,
    /// [`Evaluation::decodable`].
    Decodable,
    /// [`Evaluation::coefficients`].
    Coefficients,
    /// [`Evaluation::accuracy`] at a tolerance, given by its index in [`Tolerance::STANDARD`].
    Within(usize),
    /// One of [`Evaluation::custom`], by its name.
    Custom(String),
}

impl FigureName {
    /// All figures that every evaluation has.
    pub fn standard() -> impl Iterator<Item = Self> {
        let within = (0..Tolerance::STANDARD.len()).map(Self::Within);
        [Self::CrossEntropy, Self::Exact, Self::Decodable, Self::Coefficients].into_iter().chain(within)
    }

    /// The figure; `None` if the evaluation lacks it.
    #[must_use]
    pub fn of(&self, evaluation: &Evaluation) -> Option<Figure> {
        let share = match self {
            Self::CrossEntropy => return Some(Figure::less_is_better(evaluation.cross_entropy)),
            Self::Custom(name) => return evaluation.custom.get(name).copied(),
            Self::Exact => evaluation.exact,
            Self::Decodable => evaluation.decodable,
            Self::Coefficients => evaluation.coefficients,
            Self::Within(place) => {
                let tolerance = Tolerance::STANDARD.get(*place)?;
                evaluation.accuracy.iter().find(|(found, _)| found == tolerance)?.1
            }
        };
        Some(Figure::more_is_better(share))
    }
}

impl fmt::Display for FigureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrossEntropy => f.write_str("cross_entropy"),
            Self::Custom(name) => f.write_str(name),
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

/// The error for a name that no standard figure has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure `{found}`{}; figures: {}", did_you_mean(found, known.iter().map(String::as_str)), known.join(", "))]
pub struct FigureNameError {
    /// Name found.
    pub found: String,
    /// The known names.
    pub known: Vec<String>,
}

impl FromStr for FigureName {
    type Err = FigureNameError;

    /// Reads the name of a [standard](FigureName::standard) figure; `From` takes any name.
    fn from_str(name: &str) -> Result<Self, FigureNameError> {
        let found = Self::standard().find(|figure| figure.to_string() == name);
        found.ok_or_else(|| FigureNameError {
            found: name.to_owned(),
            known: Self::standard().map(|figure| figure.to_string()).collect(),
        })
    }
}

impl From<&str> for FigureName {
    fn from(name: &str) -> Self {
        name.parse().unwrap_or_else(|_| Self::Custom(name.to_owned()))
    }
}

impl From<String> for FigureName {
    fn from(name: String) -> Self {
        name.as_str().into()
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
        let names: Vec<String> = FigureName::standard().map(|figure| figure.to_string()).collect();
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
        for figure in FigureName::standard() {
            assert_eq!(figure.to_string().parse(), Ok(figure));
        }
    }

    #[test]
    fn every_figure_of_an_evaluation_is_found() {
        let json = r#"{"count":1,"accuracy":[[0.05,0.5],[0.02,0.4],[0.01,0.3],[0.005,0.2]],"exact":0.1,"decodable":0.9,
            "cross_entropy":0.7,"coefficients":0.6}"#;
        let evaluation: Evaluation = serde_json::from_str(json).expect("an evaluation");
        let figures = FigureName::standard().filter_map(|figure| figure.of(&evaluation));
        let found: Vec<f64> = figures.map(|figure| figure.value).collect();
        assert_eq!(found, [0.7, 0.1, 0.9, 0.6, 0.5, 0.4, 0.3, 0.2]);
    }
}
