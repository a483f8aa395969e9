//! What learners of several ranks do together, besides the sum of their gradients.

use std::ops::ControlFlow;

use numformer_data::Batch;
use numformer_distributed::{Communicator, CommunicatorError};

use numformer_ops::sum_of_squares;

use crate::learners::learner::Wish;
use crate::observers::observer::StopReason;
use crate::train_error::TrainError;

/// Number of updates between two checks that all ranks have the same weights.
const CHECKED_EVERY: u64 = 1000;

/// Number of gradients that are added up at once: 1 MiB, which stays in the cache of a core while it is scaled, sent and
/// squared.
const BUCKET: usize = 1 << 18;

/// Number of gradients that are left out together if they are zero on all ranks.
const BLOCK: usize = 512;

/// Number of target tokens that a model learns to predict: all but the first of each target.
pub(super) fn target_tokens(batch: &Batch) -> f64 {
    batch.tgt.lengths.iter().map(|length| f64::from(length.saturating_sub(1))).sum()
}

/// A number of tokens on all ranks. The sum is exact, as it is below 2²⁴.
pub(super) fn total(tokens: f64, ranks: &impl Communicator) -> Result<f64, CommunicatorError> {
    let mut total = [tokens as f32];
    ranks.sum(&mut total)?;
    Ok(f64::from(total[0]))
}

/// The sum of a number over all ranks.
pub(super) fn sum_of(number: f64, ranks: &impl Communicator) -> Result<f64, CommunicatorError> {
    // What rounding takes from a term has a sum of its own.
    let large = number as f32;
    let mut parts = [large, (number - f64::from(large)) as f32];
    ranks.sum(&mut parts)?;
    Ok(parts.into_iter().map(f64::from).sum())
}

/// Multiplies the gradients by a factor and replaces them by their sums over all ranks, in large buckets. Returns
/// the sum of their squares.
///
/// Blocks that are zero on all ranks are not sent: most rows of an embedding belong to symbols that a batch does not have.
pub(super) fn sum_gradients(
    gradients: &mut [f32],
    factor: f32,
    ranks: &impl Communicator,
) -> Result<f64, CommunicatorError> {
    let mut is_sent: Vec<f32> = gradients.chunks(BLOCK).map(|block| f32::from(u8::from(!is_zero(block)))).collect();
    ranks.sum(&mut is_sent)?;
    let mut squares = 0.0;
    // Whole buckets stay in their place; what is shorter is brought together.
    let (mut rest, mut pieces) = (gradients, Vec::new());
    for run in is_sent.chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)) {
        let (run_of_blocks, others) = rest.split_at_mut(rest.len().min(run.len() * BLOCK));
        rest = others;
        if run[0] > 0.0 {
            let mut buckets = run_of_blocks.chunks_exact_mut(BUCKET);
            for bucket in &mut buckets {
                bucket.iter_mut().for_each(|gradient| *gradient *= factor);
                ranks.sum(bucket)?;
                squares += sum_of_squares(bucket);
            }
            pieces.push(buckets.into_remainder());
        }
    }
    let mut pieces = pieces.into_iter().peekable();
    let mut bucket = Vec::with_capacity(BUCKET);
    while pieces.peek().is_some() {
        bucket.clear();
        let mut taken = Vec::new();
        while let Some(piece) = pieces.next_if(|piece| bucket.len() + piece.len() <= BUCKET) {
            bucket.extend(piece.iter().map(|gradient| gradient * factor));
            taken.push(piece);
        }
        ranks.sum(&mut bucket)?;
        squares += sum_of_squares(&bucket);
        let mut sums = &bucket[..];
        for piece in taken {
            let (own, others) = sums.split_at(piece.len());
            piece.copy_from_slice(own);
            sums = others;
        }
    }
    Ok(squares)
}

/// Whether all gradients are zero. The first of them usually says that they are not.
fn is_zero(block: &[f32]) -> bool {
    let (first, rest) = block.split_at(block.len().min(16));
    // Without the sign, a zero is the only number whose bits are all zero.
    let bits = |part: &[f32]| part.iter().fold(0, |bits, gradient| bits | gradient.to_bits() << 1);
    bits(first) == 0 && bits(rest) == 0
}

/// The step whose masks of dropout the first of the `count` batches of a step has; the others have those of the steps that
/// follow. No other batch of a run on so many ranks has the same, on this rank or on another.
pub(super) fn first_mask(first: u64, count: usize, ranks: &impl Communicator) -> u64 {
    let before = ranks.rank() as u64 * count as u64;
    first.wrapping_mul(ranks.size() as u64).wrapping_add(before)
}

/// What any rank asks for: an end for the reason of the first rank that has one, a checkpoint.
pub(super) fn agree(wish: Wish, ranks: &impl Communicator) -> Result<Wish, TrainError> {
    if ranks.size() == 1 {
        return Ok(wish);
    }
    let mut counts = [wish.flow.is_break(), wish.checkpoint].map(|is_asked| f32::from(u8::from(is_asked)));
    ranks.sum(&mut counts)?;
    let [ends, checkpoint] = counts.map(|count| count > 0.0);
    if !ends {
        return Ok(Wish { flow: ControlFlow::Continue(()), checkpoint });
    }
    let own = serde_json::to_vec(&wish.flow.break_value()).map_err(TrainError::other)?;
    let mut reasons = Vec::new();
    for (rank, reason) in ranks.gather(&own)?.iter().enumerate() {
        let unreadable = |error: serde_json::Error| CommunicatorError::Unreadable { rank, reason: error.to_string() };
        reasons.extend(serde_json::from_slice::<Option<StopReason>>(reason).map_err(unreadable)?);
    }
    let first = reasons.into_iter().next().unwrap_or(StopReason::Interrupted);
    Ok(Wish { flow: ControlFlow::Break(first), checkpoint })
}

/// Whether to check the weights, now that there are this many updates instead of `before`.
pub(super) fn is_check_due(before: u64, updates: u64, ranks: &impl Communicator) -> bool {
    ranks.size() > 1 && before / CHECKED_EVERY != updates / CHECKED_EVERY
}

/// Checks that all ranks have the same weights. Those of processors of different kinds may drift apart, since each rank
/// updates its own.
pub(super) fn check_weights(updates: u64, weights: &[f32], ranks: &impl Communicator) -> Result<(), CommunicatorError> {
    let checksum = weights.iter().fold(0, |checksum, weight| crc32c::crc32c_append(checksum, &weight.to_le_bytes()));
    ranks.check_same(&[(&format!("checksum of the weights after {updates} updates"), format!("{checksum:08x}"))])
}

/// How gradients are computed, and on how many ranks.
pub(super) fn how(how: &str, ranks: &impl Communicator) -> String {
    match ranks.size() {
        1 => how.to_owned(),
        size => format!("{how}, on {size} ranks"),
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::on_ranks;

    use super::*;

    #[test]
    fn every_batch_has_masks_of_its_own() {
        let (size, steps, count) = (3, 5, 2);
        let all = on_ranks(size, |ranks| {
            let of_step = |step: u64| first_mask(step * count, count as usize, &ranks)..;
            (0..steps).flat_map(|step| of_step(step).take(count as usize)).collect::<Vec<_>>()
        });
        let mut all = all.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, size as u64 * steps * count);
        // Those of a run without ranks, as they always were.
        assert_eq!(first_mask(7, 4, &numformer_distributed::Solo), 7);
    }

    #[test]
    fn weights_that_drift_apart_are_found() {
        let is_due = |before, updates| on_ranks(2, |ranks| is_check_due(before, updates, &ranks));
        assert_eq!(
            (is_due(998, 999), is_due(999, 1000), is_due(900, 2100)),
            (vec![false; 2], vec![true; 2], vec![true; 2])
        );
        assert!(!is_check_due(999, 1000, &numformer_distributed::Solo));
        let check = |drift: f32| {
            on_ranks(2, |ranks| {
                let last = if ranks.rank() == 1 { 0.5 + drift } else { 0.5 };
                check_weights(1000, &[1.0, last], &ranks).map_err(|error| error.to_string())
            })
        };
        assert_eq!(check(0.0), [Ok(()), Ok(())]);
        let found = check(f32::EPSILON);
        let message = found[1].as_ref().expect_err("they differ");
        assert!(message.contains("checksum of the weights after 1000 updates"), "{message}");
        assert!(found[0].is_err());
    }

    #[test]
    fn sums_are_those_of_all_gradients_wherever_the_zeros_are() {
        // Runs of more than two buckets, of single blocks, and of what is left at the end.
        let len = 3 * BUCKET + 7 * BLOCK + 100;
        let is_zero = |at: usize| {
            (2 * BUCKET + BLOCK..2 * BUCKET + 3 * BLOCK).contains(&at) || at / BLOCK == 3 * BUCKET / BLOCK + 2
        };
        let gradient = |rank: usize, at: usize| if is_zero(at) { 0.0 } else { (at % 61 + 7 * rank) as f32 - 30.0 };
        let sums = on_ranks(3, |ranks| {
            let mut own: Vec<f32> = (0..len).map(|at| gradient(ranks.rank(), at)).collect();
            let squares = sum_gradients(&mut own, 0.5, &ranks).expect("all are there");
            (own, squares)
        });
        let expected: Vec<f32> = (0..len).map(|at| (0..3).map(|rank| 0.5 * gradient(rank, at)).sum()).collect();
        let squares: f64 = expected.iter().map(|sum| f64::from(*sum).powi(2)).sum();
        for (own, found) in sums {
            assert!(own == expected);
            assert!((found - squares).abs() < 1e-9 * squares, "{found} {squares}");
        }
    }

    #[test]
    fn only_what_is_zero_on_all_ranks_is_left_out() {
        let len = 3 * BLOCK + 5;
        let gradients = |rank: usize| {
            let mut gradients = vec![0.0; len];
            // The last entry of a block, one of another rank in the next, and the short block at the end.
            gradients[BLOCK - 1] = if rank == 0 { 2.0 } else { 0.0 };
            gradients[BLOCK + 7] = if rank == 1 { -4.0 } else { -0.0 };
            gradients[len - 1] = 1.0 + rank as f32;
            gradients
        };
        let sums = on_ranks(2, |ranks| {
            let mut own = gradients(ranks.rank());
            let squares = sum_gradients(&mut own, 0.5, &ranks).expect("all are there");
            (own, squares)
        });
        let mut expected = vec![0.0; len];
        (expected[BLOCK - 1], expected[BLOCK + 7], expected[len - 1]) = (1.0, -2.0, 1.5);
        assert!(sums.iter().all(|rank| *rank == (expected.clone(), 1.0 + 4.0 + 2.25)));
    }
}
