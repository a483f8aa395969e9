//! Kernels of six rows and two vectors of columns, for AVX2.

use std::arch::x86_64::*;

use super::{Kernel, Operands, STRIDE, Tile};

pub(in super::super) const F32: Kernel = Kernel::of_vectors(6, f32_by_line, f32_by_unit);
/// For bf16: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel::of_vectors(6, widened_by_line, widened_by_unit);

/// The loops of a kernel, for each number of rows, written out as those for AVX-512. They take the columns of a panel
/// in two halves.
macro_rules! kernel {
    ($loops:ident, $choose:ident, $step:ident, $order:ident) => {
        /// # Safety
        /// The processor has these features. At `left`, there are `M` lines of `length` units, and at `panel` as many rows of
        /// 16 units from `half` on, as far apart as the strides say.
        #[target_feature(enable = "avx2,fma")]
        #[expect(unsafe_code, reason = "reads through pointers")]
        unsafe fn $loops<const M: usize>(operands: Operands<'_>, half: usize, add: bool, tile: &mut Tile) {
            kernel!(@body $order, M, operands, half, add, tile, $step, 0 1 2 3 4 5);
        }

        fn $choose(operands: Operands<'_>, add: bool, tile: &mut Tile) {
            let run = match operands.rows {
                1 => $loops::<1>,
                2 => $loops::<2>,
                3 => $loops::<3>,
                4 => $loops::<4>,
                5 => $loops::<5>,
                _ => $loops::<6>,
            };
            for half in (0..operands.columns).step_by(16) {
                #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
                // SAFETY: `Kernel::new` chooses this kernel where AVX2 and FMA were detected, and `Session` has checked that
                // both operands reach as far as their lengths say.
                unsafe {
                    run(operands, half, add, tile);
                }
            }
        }
    };
    (@left by_line, $left:ident, $stride:ident, $i:literal, $l:ident) => {
        $left.add($i * STRIDE + $l)
    };
    (@left by_unit, $left:ident, $stride:ident, $i:literal, $l:ident) => {
        $left.add($i + $l * $stride)
    };
    (@body $order:ident, $m:ident, $operands:ident, $half:ident, $add:ident, $tile:ident, $step:ident, $($i:literal)*) => {
        let Operands { left, left_stride: _left_stride, panel, panel_stride, length, .. } = $operands;
        let (left, panel) = (left.as_ptr(), panel.as_ptr());
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        if $add {
            // SAFETY: the tile has more rows than the kernel, each of two halves of two vectors.
            unsafe {
                $(if $i < $m {
                    let row = $tile.0[$i][$half..].as_ptr();
                    sums[$i] = [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8))];
                })*
            }
        }
        for l in 0..length {
            // SAFETY: the caller vouches for both operands.
            unsafe {
                let units = panel.add(l * panel_stride + $half);
                let columns = [_mm256_loadu_si256(units.cast()), _mm256_loadu_si256(units.add(8).cast())];
                $(if $i < $m {
                    let a = _mm256_set1_epi32(*kernel!(@left $order, left, _left_stride, $i, l) as i32);
                    sums[$i] = [$step(sums[$i][0], a, columns[0]), $step(sums[$i][1], a, columns[1])];
                })*
            }
        }
        // SAFETY: as above.
        unsafe {
            $(if $i < $m {
                let row = $tile.0[$i][$half..].as_mut_ptr();
                _mm256_storeu_ps(row, sums[$i][0]);
                _mm256_storeu_ps(row.add(8), sums[$i][1]);
            })*
        }
    };
}

kernel!(f32_lines, f32_by_line, f32_step, by_line);
kernel!(f32_units, f32_by_unit, f32_step, by_unit);
kernel!(widened_lines, widened_by_line, widened_step, by_line);
kernel!(widened_units, widened_by_unit, widened_step, by_unit);

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
