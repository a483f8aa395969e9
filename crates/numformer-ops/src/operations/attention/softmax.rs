//! The softmax of rows of scores, and its gradient.

use super::Visible;
use crate::cpu::exp::exp;
use crate::cpu::product::Operand;
use crate::cpu::simd::{LANES, join_lanes, vectorized};

vectorized! {
    /// Writes the softmax of each row of scores to `probabilities`; entries that are not visible become 0. The scores are
    /// overwritten.
    ///
    /// Rows are a few vectors long. Sums over whole vectors are twice as fast here as loops over entries, which
    /// compilers unroll past the end of such rows. The last loop, which rounds, goes over entries: over whole vectors,
    /// compilers take it apart by lanes.
    pub(super) fn softmax_rows[E: Operand](
        probabilities: &mut [E],
        scores: &mut [f32],
        stride: usize,
        visible: Visible,
    ) {
        let rows = scores.chunks_exact_mut(stride).zip(probabilities.chunks_exact_mut(stride));
        for (i, (row, probabilities)) in rows.enumerate() {
            let seen = visible.by(i);
            let (probabilities, hidden) = probabilities.split_at_mut(seen.next_multiple_of(LANES));
            hidden.fill(E::default());
            let (row, _) = row[..probabilities.len()].as_chunks_mut::<LANES>();
            let (probabilities, _) = probabilities.as_chunks_mut::<LANES>();
            // The last vector may be only partly visible.
            hide_lanes(row, seen, f32::NEG_INFINITY);

            let mut highest = [f32::NEG_INFINITY; LANES];
            for scores in &*row {
                for (highest, score) in highest.iter_mut().zip(scores) {
                    *highest = larger(*highest, *score);
                }
            }
            let highest = join_lanes(highest, larger);

            let mut totals = [0.0; LANES];
            for scores in &mut *row {
                for (total, score) in totals.iter_mut().zip(scores) {
                    *score = exp(*score - highest);
                    *total += *score;
                }
            }
            hide_lanes(row, seen, 0.0);

            let scale = join_lanes(totals, |a, b| a + b).recip();
            let probabilities = probabilities.as_flattened_mut();
            for (weight, probability) in row.as_flattened().iter().zip(probabilities) {
                *probability = E::round(weight * scale);
            }
        }
    }
}

/// The maximum by one comparison, where `f32::max` would take several instructions. A NaN in `b` is ignored.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Bits of lanes to keep, and of as many to hide.
const KEPT: [u32; 2 * LANES] = {
    let mut bits = [0; 2 * LANES];
    let (kept, _) = bits.split_at_mut(LANES);
    kept.copy_from_slice(&[u32::MAX; LANES]);
    bits
};

/// Sets to `value` the lanes of the last vector at and beyond entry `seen`. It masks bits, because compilers turn
/// conditions on lanes into branches.
#[inline(always)]
fn hide_lanes(vectors: &mut [[f32; LANES]], seen: usize, value: f32) {
    let hidden = seen.next_multiple_of(LANES) - seen;
    if let (Some(last), Some(kept)) = (vectors.last_mut(), KEPT[hidden..].first_chunk::<LANES>()) {
        for (entry, kept) in last.iter_mut().zip(kept) {
            *entry = f32::from_bits(entry.to_bits() & kept | value.to_bits() & !kept);
        }
    }
}

vectorized! {
    /// Turns gradients of the probabilities, which are zero beyond the valid keys, into gradients of the scores.
    /// `rounded` gets them as operands, if these are not `f32`.
    pub(super) fn softmax_rows_backward[E: Operand](
        gradients: &mut [f32],
        rounded: &mut [E],
        probabilities: &[E],
        stride: usize,
    ) {
        let rows = gradients.chunks_exact_mut(stride).zip(rounded.chunks_exact_mut(stride));
        for ((gradient, rounded), p) in rows.zip(probabilities.chunks_exact(stride)) {
            let mut lanes = [0.0; LANES];
            let (gradient, _) = gradient.as_chunks_mut::<LANES>();
            let (p, _) = p.as_chunks::<LANES>();
            for (gradient, p) in gradient.iter().zip(p) {
                for ((lane, gradient), p) in lanes.iter_mut().zip(gradient).zip(p) {
                    *lane = gradient.mul_add(p.widen(), *lane);
                }
            }
            let mean = join_lanes(lanes, |a, b| a + b);
            let gradient = gradient.as_flattened_mut();
            for (gradient, p) in gradient.iter_mut().zip(p.as_flattened()) {
                // Beyond the valid keys, there is nothing to pass on, not even what is not a number.
                *gradient = if p.widen() == 0.0 { 0.0 } else { p.widen() * (*gradient - mean) };
            }
            E::round_all(rounded, gradient);
        }
    }
}
