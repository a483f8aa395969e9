//! Training or use.

/// What a model is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To be trained: dropout is on, and what it drops is a function of the seed, the step and the place in the model.
    Train {
        /// Seed of the run.
        seed: u64,
        /// Optimizer updates taken so far.
        step: u64,
    },
    /// To be used or judged: nothing is dropped.
    Evaluate,
}
