//! How often something is done.

/// An interval in steps: how often a run does something.
///
/// # Examples
/// ```
/// use numformer_train::every;
///
/// assert!(every(500).is_due(1_500) && !every(500).is_due(1_600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every(u64);

/// An interval of `steps` steps. 0 counts as 1.
#[must_use]
pub fn every(steps: u64) -> Every {
    Every(steps.max(1))
}

impl Every {
    /// The number of steps.
    #[must_use]
    pub fn steps(self) -> u64 {
        self.0
    }

    /// Whether the action is due after `step` steps in total.
    #[must_use]
    pub fn is_due(self, step: u64) -> bool {
        step.is_multiple_of(self.0)
    }

    /// Number of steps from `step` until the action is next due: at least one.
    pub(crate) fn rest(self, step: u64) -> u64 {
        self.0 - step % self.0
    }

    /// The last step before `step` at which the action was due; 0 is the beginning.
    pub(crate) fn before(self, step: u64) -> u64 {
        step.saturating_sub(1) / self.0 * self.0
    }
}
