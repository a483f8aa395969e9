//! Constraints on the tokens of an answer.

use std::ops::Range;
use std::slice;

use candle_core::Result;

/// Defines which tokens may follow in an answer; no others are written.
///
/// The model only knows ids. Implementations define what ids mean, and so which answers are well-formed.
///
/// # Examples
/// Answers of exactly one token, for any source:
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
///     /// Number of tokens written.
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
/// let ids = &answers[0][0].hypothesis.ids;
/// assert!(ids.len() == 1 && ids[0] >= 2);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Constraint {
    /// The state of an answer as far as it has been written.
    type State: Clone;

    /// The state before the first token of the answer to the source in `row` of the batch. The answer may have at most
    /// `max_len` tokens, both delimiters included. A constraint that takes this limit into account lets the answer end
    /// in time.
    ///
    /// # Errors
    /// When no answer to that source can be written.
    fn start(&self, row: usize, max_len: usize) -> Result<Self::State>;

    /// The ids that may follow, as ascending ranges without overlap. The delimiter ends the answer.
    fn allowed<'a>(&'a self, state: &'a Self::State) -> &'a [Range<u32>];

    /// Advances the state past `token`, which was allowed.
    fn advance(&self, state: &mut Self::State, token: u32);

    /// Whether every token is allowed everywhere, so that a model may write in a way of its own.
    fn allows_all(&self) -> bool {
        false
    }
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

    fn allows_all(&self) -> bool {
        true
    }
}
