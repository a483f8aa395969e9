//! The shape of a matrix as a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Rows and columns, written `5x10`; ordered by rows, then by columns.
///
/// # Examples
/// ```
/// use numformer_evaluate::Shape;
///
/// let shape = Shape { rows: 5, cols: 10 };
/// assert_eq!(shape.to_string(), "5x10");
/// assert_eq!("5x10".parse(), Ok(shape));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shape {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

/// The text is not a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a shape such as 5x10, found `{found}`")]
pub struct ShapeError {
    /// The text.
    pub found: String,
}

impl From<(usize, usize)> for Shape {
    fn from((rows, cols): (usize, usize)) -> Self {
        Self { rows, cols }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.rows, self.cols))
    }
}

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let shape = text.split_once('x').and_then(|(rows, cols)| Some((rows.parse().ok()?, cols.parse().ok()?)));
        shape.map(Self::from).ok_or_else(|| ShapeError { found: text.to_owned() })
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        shape.to_string()
    }
}

impl TryFrom<String> for Shape {
    type Error = ShapeError;

    fn try_from(text: String) -> Result<Self, ShapeError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_shape_is_named() {
        for text in ["", "5", "x5", "5x", "5x-1", "axb", "1x2x3"] {
            let error = text.parse::<Shape>().expect_err(text);
            assert_eq!(error.to_string(), format!("expected a shape such as 5x10, found `{text}`"));
        }
    }

    #[test]
    fn shapes_are_ordered_by_size_not_by_spelling() {
        assert!(Shape::from((5, 10)) < Shape::from((10, 5)) && Shape::from((5, 5)) < Shape::from((5, 10)));
    }
}
