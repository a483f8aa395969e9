//! Why a task or one of its examples is impossible.

use std::error::Error;
use std::ops::Deref;
use std::sync::Arc;

use numformer_encoding::{DecodeError, EncodeError, GrammarError, VocabularyError};
use numformer_problems::{LawError, Problem, SolveError};

/// Why a task or one of its examples is impossible.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task has no problem.
    #[error("expected a problem, found none")]
    NoProblem,
    /// A problem has no law of random matrices.
    #[error("expected a law of random matrices for the problem `{problem}`, found none")]
    NoLaw {
        /// The name of the problem.
        problem: &'static str,
    },
    /// Two problems have the same letter.
    #[error("expected distinct task letters for problems, found `{letter}` for {} and {}", problems[0], problems[1])]
    SameLetter {
        /// The letter.
        letter: &'static str,
        /// The names of the problems.
        problems: [&'static str; 2],
    },
    /// Two problems have the same name, so their figures cannot be told apart.
    #[error("expected problems with different names, found two named `{problem}`; rename the custom one")]
    SameName {
        /// The name.
        problem: &'static str,
    },
    /// Several problems look alike to the model.
    #[error("expected task letters to tell {} problems apart ({}), found none", problems.len(), problems.join(", "))]
    NoTaskLetters {
        /// Their names.
        problems: Vec<&'static str>,
    },
    /// A problem cannot be chosen with this weight.
    #[error("expected a positive, finite weight for the problem `{problem}`, found {found}")]
    Weight {
        /// The name of the problem.
        problem: &'static str,
        /// Its weight.
        found: f64,
    },
    /// The noise is not a standard deviation.
    #[error("expected noise with a finite, nonnegative standard deviation, found {found}")]
    Noise {
        /// The standard deviation.
        found: f64,
    },
    /// The letter of a problem cannot be a symbol, is a symbol already, or is not in a given vocabulary.
    #[error("expected a task letter that the vocabulary can hold, found `{letter}` for the problem `{problem}`")]
    TaskLetter {
        /// The letter, or the name of the problem if it has no letter of its own.
        letter: &'static str,
        /// The name of the problem.
        problem: &'static str,
        /// Why it is not suitable.
        #[source]
        source: VocabularyError,
    },
    /// What a law says about its entries is impossible.
    #[error("the law {law} of the problem `{problem}` is inconsistent")]
    Law {
        /// The name of the law, or what it is.
        law: String,
        /// The name of the problem.
        problem: &'static str,
        /// What is wrong with what it says.
        #[source]
        source: Box<LawError>,
    },
    /// The symbols of the encodings do not make a vocabulary.
    #[error("the encodings cannot share a vocabulary")]
    Vocabulary(#[source] VocabularyError),
    /// The problem has no answer for an input.
    #[error("the problem `{problem}` has no answer")]
    Solve {
        /// The name of the problem.
        problem: &'static str,
        /// Why there is none.
        #[source]
        source: SolveError,
    },
    /// The solver of a problem contradicts the shape that the problem states.
    #[error(
        "the solver of the problem `{problem}` must give {}x{} answers, as output_shape says, found {}x{}",
        expected.0, expected.1, found.0, found.1
    )]
    AnswerShape {
        /// The name of the problem.
        problem: &'static str,
        /// Rows and columns that `output_shape` states.
        expected: (usize, usize),
        /// Rows and columns of the answer.
        found: (usize, usize),
    },
    /// The solver of a problem gives NaN or an infinity where it should give a [`SolveError`].
    #[error(
        "the solver of the problem `{problem}` must give finite answers or an error, found {value} in row {row}, \
         column {column}"
    )]
    AnswerNotFinite {
        /// The name of the problem.
        problem: &'static str,
        /// The row, from 1.
        row: usize,
        /// The column, from 1.
        column: usize,
        /// The entry.
        value: f64,
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
    /// None of the matrices drawn makes an example.
    #[error("none of the {draws} matrices drawn gave an example; change their law or the encoding")]
    NoExample {
        /// How many were drawn.
        draws: u32,
        /// What is wrong with the last.
        #[source]
        source: Box<TaskError>,
    },
    /// The problem is not posed on most matrices of a law. The matrices that it is posed on have another law, which
    /// nobody chose.
    #[error(
        "the law {law} does not suit the problem `{problem}`: {solved} of {drawn} matrices have an answer; choose a \
         law whose matrices the problem is posed on"
    )]
    UnsuitableLaw {
        /// The name of the law, or what it is.
        law: String,
        /// The name of the problem.
        problem: &'static str,
        /// How many of the matrices have an answer.
        solved: u32,
        /// How many matrices were drawn.
        drawn: u32,
        /// Why the last of the others has none.
        #[source]
        source: SolveError,
    },
    /// Source tokens are not a matrix.
    #[error("the source cannot be read")]
    Source(#[source] DecodeError),
    /// Target tokens are not a matrix.
    #[error("the target cannot be read")]
    Target(#[source] DecodeError),
    /// A target is not of the shape of an answer to its source.
    #[error("expected a target of shape {}x{}, found {}x{}", expected.0, expected.1, found.0, found.1)]
    TargetShape {
        /// Rows and columns of an answer.
        expected: (usize, usize),
        /// Rows and columns of the target.
        found: (usize, usize),
    },
    /// The encoding of answers does not say which tokens may follow which.
    #[error("expected an output encoding with a grammar, found {encoding}")]
    NoGrammar {
        /// The encoding.
        encoding: String,
    },
    /// An answer cannot be written within the limits.
    #[error("the answer cannot be written")]
    AnswerGrammar(#[source] GrammarError),
    /// A custom [`BatchSource`](crate::BatchSource) failed, for a reason of its own.
    #[error("the source of the batches failed")]
    Other(#[source] OtherError),
}

impl TaskError {
    /// The error of a custom [`BatchSource`](crate::BatchSource): `error` is its [source](Error::source).
    ///
    /// # Examples
    /// ```
    /// use std::error::Error;
    /// use std::io;
    /// use numformer_data::TaskError;
    ///
    /// let error = TaskError::other(io::Error::from(io::ErrorKind::ConnectionReset));
    /// let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    /// assert_eq!(cause.unwrap().kind(), io::ErrorKind::ConnectionReset);
    /// ```
    #[must_use]
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(OtherError(Arc::from(error.into())))
    }
}

/// Why a problem has no answer.
pub(crate) fn no_answer(problem: &impl Problem, source: SolveError) -> TaskError {
    TaskError::Solve { problem: problem.name(), source }
}

/// Why the input or the answer of a problem cannot be written.
pub(crate) fn unwritable(problem: &impl Problem, matrix: &'static str, source: EncodeError) -> TaskError {
    TaskError::Encode { matrix, problem: problem.name(), source }
}

/// Why a solver's answer cannot be written.
pub(crate) fn unwritable_solution(problem: &impl Problem, source: EncodeError) -> TaskError {
    match source {
        EncodeError::Coefficient { row, column, value, .. } if !value.is_finite() => {
            TaskError::AnswerNotFinite { problem: problem.name(), row, column, value }
        }
        source => unwritable(problem, "answer", source),
    }
}

/// An error of any type. Copies share it, and it equals only its copies.
#[derive(Clone, Debug)]
pub struct OtherError(Arc<dyn Error + Send + Sync>);

impl Deref for OtherError {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for OtherError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_any_type_are_carried_and_equal_to_their_copies() {
        let error = TaskError::other("no line 5");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("no line 5"));
        assert_eq!(error, error.clone());
        assert_ne!(error, TaskError::other("no line 5"));
    }
}
