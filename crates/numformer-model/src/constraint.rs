//! What may be written.

use std::ops::Range;
use std::slice;

use candle_core::Result;

/// Says which tokens may follow in an answer, so that no others are written.
///
/// The model knows ids only: what they mean, and so which answers are well-formed, is for others to say.
///
/// # Examples
/// Answers of one token, whatever the source:
/// ```
/// use std::ops::Range;
/// use candle_core::{Device, Result};
/// use numformer_model::{
///     Constraint, Decoding, Padded, Parameters, StackConfig, Transformer, TransformerConfig, generate,
/// };
///
/// struct OneToken;
///
/// impl Constraint for OneToken {
///     /// The tokens written.
///     type State = usize;
///     fn start(&self, _row: usize, _max_len: usize) -> Result<usize> {
///         Ok(0)
///     }
///     fn allowed<'a>(&'a self, state: &'a usize) -> &'a [Range<u32>] {
///         if *state == 0 { &[2..20] } else { &[0..1] }
///     }
///     fn advance(&self, state: &mut usize, _token: u32) {
///         *state += 1;
///     }
/// }
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let model = Transformer::init(&config, &Parameters::random(0, &Device::Cpu))?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// let answers = generate(&model, &src, 0, 8, &Decoding::Greedy, &OneToken)?;
/// assert!(answers[0][0].ids.len() == 1 && answers[0][0].ids[0] >= 2);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Constraint {
    /// How far an answer has been written.
    type State: Clone;

    /// Before the first token of the answer to the source in `row` of the batch. The answer may have at most `max_len`
    /// tokens, both delimiters included: a constraint that leaves room lets it end in time.
    ///
    /// # Errors
    /// When nothing can be written as an answer to that source.
    fn start(&self, row: usize, max_len: usize) -> Result<Self::State>;

    /// The ids that may follow: ranges, ascending, without overlap. The delimiter ends the answer.
    fn allowed<'a>(&'a self, state: &'a Self::State) -> &'a [Range<u32>];

    /// Goes on to after `token`, which was allowed.
    fn advance(&self, state: &mut Self::State, token: u32);
}

/// No constraint: any token may follow any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unconstrained;

impl Constraint for Unconstrained {
    type State = ();

    fn start(&self, _row: usize, _max_len: usize) -> Result<()> {
        Ok(())
    }

    fn allowed<'a>(&'a self, (): &'a ()) -> &'a [Range<u32>] {
        const ALL: &Range<u32> = &(0..u32::MAX);
        slice::from_ref(ALL)
    }

    fn advance(&self, (): &mut (), _token: u32) {}
}
