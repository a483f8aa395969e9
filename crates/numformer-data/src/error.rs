//! Why a task is impossible, or one of its examples.

use numformer_encoding::{DecodeError, EncodeError, VocabularyError};
use numformer_problems::SolveError;

/// Why a task is impossible, or one of its examples.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The symbols of the encodings do not make a vocabulary.
    #[error("the encodings cannot share a vocabulary")]
    Vocabulary(#[from] VocabularyError),
    /// The problem has no answer for an input.
    #[error("the problem `{problem}` has no answer")]
    Solve {
        /// The name of the problem.
        problem: &'static str,
        /// Why there is none.
        #[source]
        source: SolveError,
    },
    /// An input or an answer cannot be written as tokens.
    #[error("the {matrix} of the problem `{problem}` cannot be written")]
    Encode {
        /// `input` or `answer`.
        matrix: &'static str,
        /// The name of the problem.
        problem: &'static str,
        /// Why it cannot.
        #[source]
        source: EncodeError,
    },
    /// The source tokens of a prediction to be judged are not a matrix.
    #[error("the source tokens cannot be read")]
    Decode(#[from] DecodeError),
}
