//! One example: matrices and tokens.

use faer::Mat;
use numformer_encoding::TokenId;

/// One example, as matrices and as tokens.
///
/// The answer is exact for the input without noise. Both are rounded when they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The matrix the problem is posed on, with its noise.
    pub input: Mat<f64>,
    /// The answer.
    pub output: Mat<f64>,
    /// Which of the task's problems it is an example of.
    pub problem: usize,
    /// Which of the task's [laws](crate::Task::laws) the input was drawn from; `None` if the law has no name.
    pub law: Option<usize>,
    /// The number of matrices that were drawn before this one but had no answer, or none that can be written.
    pub rejected: u32,
    /// The tokens of the input, between two delimiters.
    pub src: Vec<TokenId>,
    /// The tokens of the answer, between two delimiters.
    pub tgt: Vec<TokenId>,
}

/// Empty matrices and no tokens: a buffer to be filled by [`Task::example_into`](crate::Task::example_into).
impl Default for Example {
    fn default() -> Self {
        Self {
            input: Mat::new(),
            output: Mat::new(),
            problem: 0,
            law: None,
            rejected: 0,
            src: Vec::new(),
            tgt: Vec::new(),
        }
    }
}
