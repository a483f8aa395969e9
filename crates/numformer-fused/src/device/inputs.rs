//! The inputs of a step: a batch, and the numbers of the optimizer, in one piece of memory that is written at once.

use candle_core::{Error, Result};
use numformer_model::{Mode, TokenRows, TransformerConfig};
use numformer_ops::device::{Accelerator, DropoutCall, Element, Region, StepNumbers};

/// As a target: the row does not count.
const NO_TARGET: u32 = u32::MAX;

/// Widths are rounded up to a multiple of this number of tokens, so that there are fewer shapes: each shape is planned
/// and recorded once.
const WIDTHS: usize = 8;

/// `width`, rounded up, for a model with at most `longest` positions.
pub(super) fn rounded(width: usize, longest: usize) -> usize {
    width.max(1).next_multiple_of(WIDTHS).min(longest.max(width))
}

/// The sizes of a batch on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) batch: usize,
    /// Number of tokens of a source, and of the decoder's input.
    pub(super) src: usize,
    pub(super) tgt: usize,
}

impl Shape {
    /// The shape of a batch. `longest` is the maximum number of positions of the model.
    pub(super) fn of(src: TokenRows<'_>, tgt: TokenRows<'_>, longest: usize) -> Self {
        Self { batch: src.lengths.len(), src: rounded(src.width, longest), tgt: rounded(tgt.width - 1, longest) }
    }

    /// The shape of a batch that the model can learn from.
    pub(super) fn checked(config: &TransformerConfig, src: TokenRows<'_>, tgt: TokenRows<'_>) -> Result<Self> {
        TokenRows::check_pair(src, tgt, config.vocab_size, config.max_positions)?;
        if src.lengths.is_empty() {
            return Err(Error::Msg("expected at least one example".to_owned()));
        }
        Ok(Self::of(src, tgt, config.max_positions))
    }

    fn words(self) -> usize {
        let Self { batch, src, tgt } = self;
        StepNumbers::WORDS + 2 * DropoutCall::NUMBERS + batch * (2 * src + 1 + 3 * tgt + 1)
    }
}

/// The tokens of one half of the model on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// `[batch, width]`, padded.
    pub(super) ids: Region,
    /// Number of valid ids of each row, `[batch]`.
    pub(super) lengths: Region,
    pub(super) width: usize,
    /// The rows `0..batch · width` in the order of their ids.
    pub(super) order: Region,
    /// The position of each row, and the rows in the order of their positions.
    pub(super) positions: Region,
    pub(super) positions_order: Region,
    /// What the masks of dropout depend on.
    pub(super) masks: Region,
}

/// The memory that holds the inputs of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    pub(super) batch: usize,
    pub(super) src: Rows,
    pub(super) tgt: Rows,
    /// The token to predict in each row.
    pub(super) targets: Region,
    pub(super) numbers: Region,
    /// One of the numbers of the step: 1 over the number of targets.
    pub(super) share: Region,
    shape: Shape,
    whole: Region,
}

impl Inputs {
    pub(super) fn reserve(device: &mut Accelerator, shape: Shape) -> Result<Self> {
        let whole = device.reserve(Element::U32, shape.words())?;
        let Shape { batch, src, tgt } = shape;
        let mut at = 0;
        let mut next = |len: usize| {
            at += len;
            whole.slice(at - len..at)
        };
        let numbers = next(StepNumbers::WORDS)?;
        let mut positions = |width: usize| -> Result<[Region; 2]> {
            let rows = batch * width;
            let [of_rows, order] = [device.reserve(Element::U32, rows)?, device.reserve(Element::U32, rows)?];
            let [batch, width] = [batch as u32, width as u32];
            device.write_ids(of_rows, &(0..batch).flat_map(|_| 0..width).collect::<Vec<_>>())?;
            let by_position = (0..width).flat_map(|position| (0..batch).map(move |row| row * width + position));
            device.write_ids(order, &by_position.collect::<Vec<_>>())?;
            Ok([of_rows, order])
        };
        let mut rows = |width: usize| -> Result<Rows> {
            let [ids, lengths, order] = [next(batch * width)?, next(batch)?, next(batch * width)?];
            let [positions, positions_order] = positions(width)?;
            let masks = next(DropoutCall::NUMBERS)?;
            Ok(Rows { ids, lengths, width, order, positions, positions_order, masks })
        };
        let [src, tgt_rows] = [rows(src)?, rows(tgt)?];
        let targets = next(batch * tgt)?;
        let share = numbers.slice(StepNumbers::SHARE..StepNumbers::SHARE + 1)?;
        Ok(Self { batch, src, tgt: tgt_rows, targets, numbers, share, shape, whole })
    }

    /// Writes a batch, the numbers of a step, and what the masks of dropout depend on.
    pub(super) fn write(
        &self,
        device: &mut Accelerator,
        [src, tgt]: [TokenRows<'_>; 2],
        padding: u32,
        numbers: StepNumbers,
        mode: Mode,
    ) -> Result<()> {
        device.write_ids(self.whole, &self.shape.words_of([src, tgt], padding, numbers, mode))
    }
}

impl Shape {
    /// The words of [`Inputs::write`]: all that the host does for a batch.
    pub(super) fn words_of(
        self,
        [src, tgt]: [TokenRows<'_>; 2],
        padding: u32,
        numbers: StepNumbers,
        mode: Mode,
    ) -> Vec<u32> {
        let Self { batch, src: src_width, tgt: tgt_width } = self;
        let mut words = Vec::with_capacity(self.words());
        words.extend(numbers.to_words());
        // Masks are those of the batch as the host pads it.
        let [src_masks, tgt_masks] = [src.width, tgt.width - 1].map(|width| mask_words(mode, width));
        // The decoder reads all but the last token of a target, and predicts all but the first.
        let read = (0..batch).map(|at| tgt.row(at).split_last().map_or(&[][..], |(_, read)| read));
        let halves: [(usize, Vec<&[u32]>, _); 2] = [
            (src_width, (0..batch).map(|at| src.row(at)).collect(), src_masks),
            (tgt_width, read.collect(), tgt_masks),
        ];
        for (width, rows, masks) in halves {
            let begin = words.len();
            for (at, row) in rows.iter().enumerate() {
                words.extend_from_slice(row);
                words.resize(begin + (at + 1) * width, padding);
            }
            words.extend(rows.iter().map(|row| row.len() as u32));
            let order = order(&words[begin..begin + batch * width]);
            words.extend(order);
            words.extend(masks);
        }
        for at in 0..batch {
            let end = words.len() + tgt_width;
            words.extend(tgt.row(at).iter().skip(1));
            words.resize(end, NO_TARGET);
        }
        words
    }
}

/// The words of a batch in the memory of a device: ids, lengths and targets, the order of the ids, and room for the
/// numbers of a step. [`DeviceStep`](crate::DeviceStep) makes them for each step and uploads them in one copy; this
/// function shows how fast the host does it.
///
/// # Errors
/// When the batch does not fit the model, or has no examples.
pub fn batch_words(config: &TransformerConfig, src: TokenRows<'_>, tgt: TokenRows<'_>) -> Result<Vec<u32>> {
    let shape = Shape::checked(config, src, tgt)?;
    Ok(shape.words_of([src, tgt], config.padding_id, StepNumbers::none(1.0), Mode::Evaluate))
}

/// What the masks of dropout depend on; without training there are none.
fn mask_words(mode: Mode, width: usize) -> [u32; DropoutCall::NUMBERS] {
    let (seed, step) = match mode {
        Mode::Train { seed, step } => (seed, step),
        Mode::Evaluate => (0, 0),
    };
    DropoutCall::to_words(seed, step, width as u32)
}

/// The number of tokens to predict.
pub(super) fn predicted(tgt: TokenRows<'_>) -> u64 {
    tgt.lengths.iter().map(|length| u64::from(length.saturating_sub(1))).sum()
}

/// The indices of `ids`, ordered so that equal ids are adjacent, and otherwise in their original order.
fn order(ids: &[u32]) -> Vec<u32> {
    // By counting, which is fast: a batch has thousands of ids, and a step takes a thousandth of a second.
    let largest = ids.iter().max().map_or(0, |id| *id as usize);
    let mut starts = vec![0u32; largest + 2];
    for id in ids {
        starts[*id as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut order = vec![0; ids.len()];
    for (at, id) in ids.iter().enumerate() {
        let place = &mut starts[*id as usize];
        order[*place as usize] = at as u32;
        *place += 1;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ids_come_together_in_their_order() {
        assert_eq!(order(&[5, 0, 5, 2, 0]), [1, 4, 3, 0, 2]);
        assert_eq!(order(&[]), [] as [u32; 0]);
    }

    #[test]
    fn shapes_are_rounded_up_to_what_the_model_has() {
        let ids = [0; 30];
        let of = |width: usize| TokenRows { ids: &ids[..width], lengths: &[1], width };
        assert_eq!(Shape::of(of(9), of(10), 20), Shape { batch: 1, src: 16, tgt: 16 });
        assert_eq!(Shape::of(of(17), of(20), 20), Shape { batch: 1, src: 20, tgt: 20 });
        assert_eq!(Shape::of(of(0), of(2), 20), Shape { batch: 1, src: 8, tgt: 8 });
    }

    #[test]
    fn all_but_the_first_token_of_a_target_are_predicted() {
        let tgt = TokenRows { ids: &[0; 12], lengths: &[4, 0, 2], width: 4 };
        assert_eq!(predicted(tgt), 4);
    }
}
