//! A number of an evaluation that knows whether more is better.

use serde::{Deserialize, Serialize};

/// A number that an evaluation found.
///
/// In JSON it is a number, or `{"less_is_better": 0.25}`.
///
/// # Examples
/// ```
/// use numformer_evaluate::Figure;
///
/// assert!(Figure::more_is_better(0.9).is_better_than(0.8));
/// assert!(Figure::less_is_better(0.1).is_better_than(0.2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Which of two numbers is better.
    pub better: Better,
}

/// Which of two numbers is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger number is better, as for an accuracy.
    More,
    /// The smaller number is better, as for a loss.
    Less,
}

impl Figure {
    /// A number of which more is better, such as an accuracy.
    #[must_use]
    pub fn more_is_better(value: f64) -> Self {
        Self { value, better: Better::More }
    }

    /// A number of which less is better, such as a loss.
    #[must_use]
    pub fn less_is_better(value: f64) -> Self {
        Self { value, better: Better::Less }
    }

    /// Whether the number is better than `other`. NaN is never better.
    #[must_use]
    pub fn is_better_than(self, other: f64) -> bool {
        match self.better {
            Better::More => self.value > other,
            Better::Less => self.value < other,
        }
    }

    /// Whether the number equals `goal` or is better.
    #[must_use]
    pub fn reaches(self, goal: f64) -> bool {
        match self.better {
            Better::More => self.value >= goal,
            Better::Less => self.value <= goal,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    More(f64),
    Less { less_is_better: f64 },
}

impl From<Written> for Figure {
    fn from(written: Written) -> Self {
        match written {
            Written::More(value) => Self::more_is_better(value),
            Written::Less { less_is_better } => Self::less_is_better(less_is_better),
        }
    }
}

impl From<Figure> for Written {
    fn from(Figure { value, better }: Figure) -> Self {
        match better {
            Better::More => Self::More(value),
            Better::Less => Self::Less { less_is_better: value },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_they_are_written() {
        for (figure, json) in
            [(Figure::more_is_better(0.5), "0.5"), (Figure::less_is_better(0.25), r#"{"less_is_better":0.25}"#)]
        {
            assert_eq!(serde_json::to_string(&figure).expect("plain data"), json);
            assert_eq!(serde_json::from_str::<Figure>(json).expect("a figure"), figure);
        }
    }

    #[test]
    fn what_is_not_a_number_is_never_better() {
        for figure in [Figure::more_is_better(f64::NAN), Figure::less_is_better(f64::NAN)] {
            assert!(!figure.is_better_than(0.0) && !figure.reaches(0.0));
        }
        assert!(Figure::more_is_better(0.5).reaches(0.5) && !Figure::more_is_better(0.4).reaches(0.5));
        assert!(Figure::less_is_better(0.5).reaches(0.5) && !Figure::less_is_better(0.6).reaches(0.5));
    }
}
