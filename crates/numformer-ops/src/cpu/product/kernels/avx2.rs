//! Kernels of six rows and two vectors of columns, for AVX2.

use std::arch::x86_64::*;

use super::{Ends, Kernel, Operands};

pub(in super::super) const F32: Kernel = Kernel::of_vectors([6, 0], f32);
/// For bf16: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel::of_vectors([6, 0], widened);

/// The loops of a kernel, for each number of rows, written out as those for AVX-512. They take the columns of a panel
/// in two halves.
macro_rules! kernel {
    ($loops:ident, $choose:ident, $step:ident) => {
        /// # Safety
        /// The processor has these features. At `left`, there are `M` lines of `length` units, and at `panel` as many rows of
        /// 16 units, as far apart as the strides say; and at all ends `M` rows of as many entries.
        #[target_feature(enable = "avx2,fma")]
        #[expect(unsafe_code, reason = "reads and writes through pointers")]
        unsafe fn $loops<const M: usize>(operands: Operands<'_>, ends: Ends) {
            kernel!(@body M, operands, ends, $step, 0 1 2 3 4 5);
        }

        /// # Safety
        /// As the loops, for the numbers of rows and columns that the operands have.
        #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
        unsafe fn $choose(operands: Operands<'_>, ends: Ends) {
            let run = match operands.rows {
                1 => $loops::<1>,
                2 => $loops::<2>,
                3 => $loops::<3>,
                4 => $loops::<4>,
                5 => $loops::<5>,
                _ => $loops::<6>,
            };
            for half in (0..operands.columns).step_by(16) {
                // Without a shared axis, there are no units.
                let panel = operands.panel.get(half..).unwrap_or_default();
                let operands = Operands { panel, ..operands };
                // SAFETY: the caller vouches for features, operands and ends.
                unsafe {
                    run(operands, ends.skipping(half));
                }
            }
        }
    };
    (@body $m:ident, $operands:ident, $ends:ident, $step:ident, $($i:literal)*) => {
        let Operands { left, left_strides: [line, unit], panel, panel_stride, length, .. } = $operands;
        let Ends { to, to_stride, from, from_stride, scale, bias, floor, mask, mask_stride } = $ends;
        // Four lines share a register for their addresses.
        let left = left.as_ptr();
        let mut lines = [left, left.wrapping_add(4 * line)];
        let mut panel = panel.as_ptr();
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        // SAFETY: the caller vouches for operands and ends.
        unsafe {
            $(if $i < $m {
                let from = from.add($i * from_stride);
                sums[$i] = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
                _mm_prefetch::<_MM_HINT_T0>(to.add($i * to_stride).cast());
            })*
            for _ in 0..length {
                let columns = [_mm256_loadu_si256(panel.cast()), _mm256_loadu_si256(panel.add(8).cast())];
                $(if $i < $m {
                    let a = _mm256_set1_epi32(*lines[$i / 4].add($i % 4 * line) as i32);
                    sums[$i] = [$step(sums[$i][0], a, columns[0]), $step(sums[$i][1], a, columns[1])];
                })*
                lines = lines.map(|line| line.wrapping_add(unit));
                panel = panel.wrapping_add(panel_stride);
            }
            let (scale, floor) = (_mm256_set1_ps(scale), _mm256_set1_ps(floor));
            let bias = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
            $(if $i < $m {
                for part in 0..2 {
                    // The maximum with what is not a number is the second operand.
                    let mut sum = _mm256_max_ps(floor, _mm256_fmadd_ps(sums[$i][part], scale, bias[part]));
                    if !mask.is_null() {
                        let mask = _mm256_loadu_ps(mask.add($i * mask_stride + 8 * part));
                        sum = _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(mask, _mm256_setzero_ps()), sum);
                    }
                    _mm256_storeu_ps(to.add($i * to_stride + 8 * part), sum);
                }
            })*
        }
    };
}

kernel!(f32_loops, f32, f32_step);
kernel!(widened_loops, widened, widened_step);

#[target_feature(enable = "avx2,fma")]
#[inline]
fn f32_step(sum: __m256, a: __m256i, b: __m256i) -> __m256 {
    _mm256_fmadd_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), sum)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn widened_step(sum: __m256, a: __m256i, b: __m256i) -> __m256 {
    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let sum = f32_step(sum, _mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b));
    f32_step(sum, _mm256_and_si256(a, high), _mm256_and_si256(b, high))
}
