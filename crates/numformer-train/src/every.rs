//! How often something is done.

/// How often something is done in a run: after every so many steps.
///
/// # Examples
/// ```
/// use numformer_train::every;
///
/// assert!(every(500).is_due(1_500) && !every(500).is_due(1_600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every(u64);

/// After every so many steps; 0 is taken for 1.
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

    /// Whether it is done after so many steps in all.
    #[must_use]
    pub fn is_due(self, step: u64) -> bool {
        step.is_multiple_of(self.0)
    }

    /// The steps from `step` on until it is done next: at least one.
    pub(crate) fn rest(self, step: u64) -> u64 {
        self.0 - step % self.0
    }

    /// The last step before `step` after which it was done: 0 is the beginning.
    pub(crate) fn before(self, step: u64) -> u64 {
        step.saturating_sub(1) / self.0 * self.0
    }
}
