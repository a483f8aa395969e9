//! Whether an evaluation should continue.

use std::fmt;
use std::ops::ControlFlow;

use crate::evaluate_error::EvaluateError;

/// A check, during an evaluation, whether it should continue.
pub struct Watch<'a>(Option<&'a mut dyn FnMut() -> ControlFlow<()>>);

impl<'a> Watch<'a> {
    /// A watch that calls `ask`. A break ends the evaluation.
    pub fn new(ask: &'a mut dyn FnMut() -> ControlFlow<()>) -> Self {
        Self(Some(ask))
    }

    /// A watch for an evaluation that is never interrupted.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(None)
    }

    /// Asks whether to continue. Call this about once a second.
    ///
    /// # Errors
    /// When the evaluation should end: [`EvaluateError::Interrupted`].
    pub fn check(&mut self) -> Result<(), EvaluateError> {
        match self.0.as_mut().map(|ask| ask()) {
            Some(ControlFlow::Break(())) => Err(EvaluateError::Interrupted),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}
