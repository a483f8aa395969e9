//! The end of a training step: its report, the clipping of gradients, and the optimizer.

use candle_core::{Result, bail};

use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};

use super::arguments::{arguments, size};
use super::optimizer::{OptimizerKind, StepNumbers};

/// Maximum number of blocks, of 256 threads each, that sum the squares of the gradients: four for each of the 132
/// processors of the largest device. Fewer are used where a block would get less than four entries per thread.
const SQUARE_BLOCKS: usize = 528;

/// Maximum number of blocks of the optimizer, of 256 threads each: eight for each of the 132 processors of the largest
/// device.
const OPTIMIZER_BLOCKS: usize = 1056;

impl Accelerator {
    /// Ends a step: reports the mean loss and the norm of the gradients in `outcomes` `[slots, 2]`, clips the
    /// gradients, and takes a step of the optimizer. `numbers` holds [`StepNumbers`], `state` two words that begin as
    /// zeros. Once the loss or the norm is not finite, this step and all later ones leave the weights unchanged.
    ///
    /// `memory` holds the vectors of the optimizer, each as long as the weights: the first and the second moment of
    /// Adam, or the velocity of stochastic gradient descent. `copy` receives the new weights in bf16. `squares` is
    /// scratch space of [`SQUARES`](Self::SQUARES) entries.
    ///
    /// # Errors
    /// When the sizes disagree, the optimizer has another number of vectors, or the device fails.
    pub fn end_step(
        &mut self,
        kind: OptimizerKind,
        [weights, gradients]: [Region; 2],
        memory: &[Region],
        copy: Option<Region>,
        losses: Region,
        [numbers, state, outcomes, squares]: [Region; 4],
    ) -> Result<()> {
        const OP: &str = "end_step";
        let n = weights.len();
        for (name, region) in [("weights", weights), ("gradients", gradients)] {
            self.check(OP, name, region, Element::F32, n)?;
        }
        if memory.len() != kind.vectors() {
            bail!("{OP}: expected {} vectors of memory for {kind:?}, found {}", kind.vectors(), memory.len());
        }
        for region in memory {
            self.check(OP, "memory", *region, Element::F32, n)?;
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
        let mut of_update = arguments([
            weights.address().into(),
            copy.map_or(Argument::NULL, |copy| copy.address().into()),
            gradients.address().into(),
        ]);
        of_update.extend(memory.iter().map(|region| Argument::from(region.address())));
        of_update.extend([state, numbers].map(|region| Argument::from(region.address())));
        if let OptimizerKind::Sgd { nesterov } = kind {
            of_update.push(u32::from(nesterov).into());
        }
        of_update.push(n.into());
        let update = Launch {
            kernel: match kind {
                OptimizerKind::Adam => "adam",
                OptimizerKind::Sgd { .. } => "sgd",
            }
            .to_owned(),
            grid: [n.div_ceil(256).min(OPTIMIZER_BLOCKS as u32), 1, 1],
            block: [256, 1],
            arguments: of_update,
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
