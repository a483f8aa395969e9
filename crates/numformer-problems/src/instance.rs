//! What a candidate is judged by.

use faer::MatRef;

/// What a candidate is judged by: the input it is an answer to, and the exact answer.
///
/// Both are as the tokens say, after rounding, since the model saw nothing else.
#[derive(Copy, Clone, Debug)]
pub struct Instance<'a> {
    /// The matrix the problem is posed on.
    pub input: MatRef<'a, f64>,
    /// An answer to it.
    pub target: MatRef<'a, f64>,
}
