//! The numbers of a step: those of its optimizer and of its report.

use crate::operations::adam::AdamStep;

/// The parameters of one step of stochastic gradient descent with momentum, the same for every weight: v ← μv + g, and
/// θ ← θ − decay·θ − lr·v, or θ ← θ − decay·θ − lr·(g + μv) in Nesterov's form.
///
/// # Reference
/// Sutskever, Martens, Dahl, Hinton (2013), *On the importance of initialization and momentum in deep learning*, with
/// the learning rate outside the velocity. <https://proceedings.mlr.press/v28/sutskever13.html>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f32,
    /// Share of its velocity that a weight keeps, μ.
    pub momentum: f32,
    /// Whether to treat the gradient as if it were taken one step of momentum ahead.
    pub nesterov: bool,
    /// Fraction of each parameter subtracted besides the step: learning rate times weight decay, or 0 without decay.
    pub decay: f32,
}

/// The parameters of one step of an optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerStep {
    /// Adam; the device computes [`gradient_scale`](AdamStep::gradient_scale) itself.
    Adam(AdamStep),
    /// Stochastic gradient descent.
    Sgd(SgdStep),
}

impl OptimizerStep {
    /// What a recording must know of it.
    #[must_use]
    pub fn kind(&self) -> OptimizerKind {
        match self {
            Self::Adam(_) => OptimizerKind::Adam,
            Self::Sgd(SgdStep { nesterov, .. }) => OptimizerKind::Sgd { nesterov: *nesterov },
        }
    }
}

/// The part of an [`OptimizerStep`] that is the same for all steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerKind {
    /// Adam.
    Adam,
    /// Stochastic gradient descent.
    Sgd {
        /// Whether it is in Nesterov's form.
        nesterov: bool,
    },
}

impl OptimizerKind {
    /// Number of vectors, each as long as the weights, that it keeps from step to step: the first and the second
    /// moment, or the velocity. They begin as zeros.
    #[must_use]
    pub fn vectors(self) -> usize {
        match self {
            Self::Adam => 2,
            Self::Sgd { .. } => 1,
        }
    }
}

/// The numbers of one step of an optimizer and of its report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The numbers of the optimizer.
    pub optimizer: OptimizerStep,
    /// Gradients with a larger norm are scaled down to this norm.
    pub clip_norm: f32,
    /// Where the loss and the norm are reported.
    pub slot: u32,
    /// 1 over the number of target tokens.
    pub share: f32,
}

impl StepNumbers {
    /// Number of words in [`to_words`](Self::to_words).
    pub const WORDS: usize = 10;

    /// The index of [`share`](Self::share) among the words.
    pub const SHARE: usize = 9;

    /// The numbers where gradients are computed but nothing is updated yet.
    #[must_use]
    pub fn none(share: f32) -> Self {
        let adam = AdamStep { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, gradient_scale: 1.0, decay: 0.0 };
        Self { optimizer: OptimizerStep::Adam(adam), clip_norm: f32::INFINITY, slot: 0, share }
    }

    /// The numbers in the layout that the kernels read.
    #[must_use]
    pub fn to_words(self) -> [u32; Self::WORDS] {
        let Self { optimizer, clip_norm, slot, share } = self;
        let (lr, betas, eps, decay) = match optimizer {
            OptimizerStep::Adam(AdamStep { lr, beta1, beta2, eps, decay, .. }) => {
                (lr, [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(|beta| beta as f32), eps, decay)
            }
            // The momentum takes the place of β₁.
            OptimizerStep::Sgd(SgdStep { lr, momentum, decay, .. }) => (lr, [momentum, 0.0, 0.0, 0.0], 0.0, decay),
        };
        let [beta1, rest1, beta2, rest2] = betas.map(f32::to_bits);
        let [lr, eps, decay, clip_norm, share] = [lr, eps, decay, clip_norm, share].map(f32::to_bits);
        [lr, beta1, rest1, beta2, rest2, eps, decay, clip_norm, slot, share]
    }
}
