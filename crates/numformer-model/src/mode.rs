//! The mode of a model run: training or evaluation.

/// The purpose for which a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: dropout is on, and its masks are functions of the seed, the step and the place in the model.
    Train {
        /// Seed of the run.
        seed: u64,
        /// Number of optimizer updates taken so far.
        step: u64,
    },
    /// Use or evaluation: nothing is dropped.
    Evaluate,
}
