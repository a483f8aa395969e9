//! Why a task is impossible, or one of its examples.

use numformer_encoding::{DecodeError, EncodeError, GrammarError, VocabularyError};
use numformer_problems::SolveError;

/// Why a task is impossible, or one of its examples.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task computes nothing.
    #[error("expected a problem, found none")]
    NoProblem,
    /// A problem is posed on nothing.
    #[error("expected a law of random matrices for the problem `{problem}`, found none")]
    NoEnsemble {
        /// The name of the problem.
        problem: &'static str,
    },
    /// Two problems have one letter.
    #[error("expected a task letter for each problem, found `{letter}` for {} and {}", problems[0], problems[1])]
    SameLetter {
        /// The letter.
        letter: &'static str,
        /// The names of the problems.
        problems: [&'static str; 2],
    },
    /// Two problems have one name, by which figures are told apart.
    #[error("expected problems of different names, found two named `{problem}`; give one's own problem another name")]
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
    #[error("expected a positive, finite weight of the problem `{problem}`, found {found}")]
    Weight {
        /// The name of the problem.
        problem: &'static str,
        /// Its weight.
        found: f64,
    },
    /// The noise is not a standard deviation.
    #[error("expected noise of finite standard deviation, zero or more, found {found}")]
    Noise {
        /// The standard deviation.
        found: f64,
    },
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
    /// None of the matrices drawn will do.
    #[error("none of {draws} matrices drawn makes an example; change their law or the encoding")]
    NoExample {
        /// How many were drawn.
        draws: u32,
        /// What is wrong with the last.
        #[source]
        source: Box<TaskError>,
    },
    /// The problem is not posed on most matrices of a law: those it is posed on are of another law, which nobody chose.
    #[error(
        "the law {law} does not suit the problem `{problem}`: of {drawn} matrices {solved} have an answer; choose a law of \
         matrices that the problem is posed on"
    )]
    UnsuitableLaw {
        /// The name of the law, or what it is.
        law: String,
        /// The name of the problem.
        problem: &'static str,
        /// How many matrices have an answer.
        solved: u32,
        /// Of how many.
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
    #[error("expected an encoding of answers with a grammar, found {encoding}")]
    NoGrammar {
        /// The encoding.
        encoding: String,
    },
    /// An answer cannot be written within the limits.
    #[error("the answer cannot be written")]
    AnswerGrammar(#[source] GrammarError),
}
