//! The end of a training step: its report, the clipping of gradients, and Adam.

use candle_core::Result;

use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};
use crate::operations::adam::AdamStep;

use super::arguments::{arguments, size};

/// Maximum number of blocks, of 256 threads each, that sum the squares of the gradients: four for each of the 132
/// processors of the largest device. Fewer are used where a block would get less than four entries per thread.
const SQUARE_BLOCKS: usize = 528;

/// Maximum number of blocks of the optimizer, of 256 threads each: eight for each of the 132 processors of the largest
/// device.
const ADAM_BLOCKS: usize = 1056;

/// The numbers of one step of Adam and of its report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The numbers of Adam; the device computes `gradient_scale` itself.
    pub adam: AdamStep,
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

    /// The numbers in the layout that the kernels read.
    #[must_use]
    pub fn to_words(self) -> [u32; Self::WORDS] {
        let Self { adam: AdamStep { lr, beta1, beta2, eps, decay, .. }, clip_norm, slot, share } = self;
        let [beta1, rest1, beta2, rest2] = [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(|beta| (beta as f32).to_bits());
        let [lr, eps, decay, clip_norm, share] = [lr, eps, decay, clip_norm, share].map(f32::to_bits);
        [lr, beta1, rest1, beta2, rest2, eps, decay, clip_norm, slot, share]
    }
}

impl Accelerator {
    /// Ends a step: reports the mean loss and the norm of the gradients in `outcomes` `[slots, 2]`, clips the
    /// gradients, and takes a step of Adam. `numbers` holds [`StepNumbers`], `state` two words that begin as zeros.
    /// Once the loss or the norm is not finite, this step and all later ones leave the weights unchanged.
    ///
    /// `copy` receives the new weights in bf16.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn end_step(
        &mut self,
        [weights, first, second]: [Region; 3],
        copy: Option<Region>,
        gradients: Region,
        losses: Region,
        [numbers, state, outcomes]: [Region; 3],
        squares: Region,
    ) -> Result<()> {
        const OP: &str = "end_step";
        let n = weights.len();
        let vectors =
            [("weights", weights), ("first moment", first), ("second moment", second), ("gradients", gradients)];
        for (name, region) in vectors {
            self.check(OP, name, region, Element::F32, n)?;
        }
        if let Some(copy) = copy {
            self.check(OP, "copy", copy, Element::Bf16, n)?;
        }
        self.check(OP, "losses", losses, Element::F32, losses.len())?;
        self.check(OP, "numbers", numbers, Element::U32, StepNumbers::WORDS)?;
        self.check(OP, "state", state, Element::U32, 2)?;
        self.check(OP, "outcomes", outcomes, Element::F32, outcomes.len() / 2 * 2)?;
        self.check(OP, "squares", squares, Element::F64, Self::SQUARES)?;
        let n = size(OP, n)?;
        let blocks = n.div_ceil(1024).clamp(1, SQUARE_BLOCKS as u32);
        let of_squares = Launch {
            kernel: "square_partials".to_owned(),
            grid: [blocks, 1, 1],
            block: [256, 1],
            arguments: arguments([squares.address().into(), gradients.address().into(), n.into()]),
        };
        let judgement = Launch {
            kernel: "judge_step".to_owned(),
            grid: [1, 1, 1],
            block: [1024, 1],
            arguments: arguments([
                outcomes.address().into(),
                state.address().into(),
                numbers.address().into(),
                losses.address().into(),
                size(OP, losses.len())?.into(),
                squares.address().into(),
                blocks.into(),
                size(OP, outcomes.len() / 2)?.into(),
            ]),
        };
        let update = Launch {
            kernel: "adam".to_owned(),
            grid: [n.div_ceil(256).min(ADAM_BLOCKS as u32), 1, 1],
            block: [256, 1],
            arguments: arguments([
                weights.address().into(),
                copy.map_or(Argument::NULL, |copy| copy.address().into()),
                gradients.address().into(),
                first.address().into(),
                second.address().into(),
                state.address().into(),
                numbers.address().into(),
                n.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernels; all vectors have `n` entries, and a slot beyond the outcomes is
        // ignored.
        unsafe {
            self.launch(&of_squares)?;
            self.launch(&judgement)?;
            self.launch(&update)
        }
    }

    /// Number of `F64` entries that [`end_step`](Self::end_step) needs for the squares of the gradients.
    pub const SQUARES: usize = SQUARE_BLOCKS;
}
