//! Kernels of 14 rows and two vectors of columns, for AVX-512 with and without its instruction for bf16.

use std::arch::x86_64::*;

use super::{Kernel, Operands, STRIDE, Tile};

pub(in super::super) const F32: Kernel = Kernel::of_vectors(14, f32_by_line, f32_by_unit);
pub(in super::super) const BF16: Kernel = Kernel::of_vectors(14, bf16_by_line, bf16_by_unit);
/// For bf16 without instructions for it: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel::of_vectors(14, widened_by_line, widened_by_unit);

/// The loops of a kernel, for each number of rows. They are written out by a macro because a compiler does not unroll a
/// loop over 14 rows, and would keep their sums in memory. The order says how the left operand lies: `by_line`, or
/// `by_unit`.
macro_rules! kernel {
    ($loops:ident, $choose:ident, $features:literal, $step:ident, $order:ident) => {
        /// # Safety
        /// The processor has these features. At `left`, there are `M` lines of `length` units, and at `panel` as many rows of
        /// 16 units, or of 32 if it is wide, as far apart as the strides say.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads through pointers")]
        unsafe fn $loops<const M: usize, const WIDE: bool>(operands: Operands<'_>, add: bool, tile: &mut Tile) {
            kernel!(@body $order, M, WIDE, operands, add, tile, $step, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        }

        fn $choose(operands: Operands<'_>, add: bool, tile: &mut Tile) {
            macro_rules! of_rows {
                ($m:literal) => {
                    if operands.columns > 16 { $loops::<$m, true> } else { $loops::<$m, false> }
                };
            }
            let run = match operands.rows {
                1 => of_rows!(1),
                2 => of_rows!(2),
                3 => of_rows!(3),
                4 => of_rows!(4),
                5 => of_rows!(5),
                6 => of_rows!(6),
                7 => of_rows!(7),
                8 => of_rows!(8),
                9 => of_rows!(9),
                10 => of_rows!(10),
                11 => of_rows!(11),
                12 => of_rows!(12),
                13 => of_rows!(13),
                _ => of_rows!(14),
            };
            #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
            // SAFETY: `Kernel::new` chooses this kernel where its features were detected, and `Session` has checked that
            // both operands reach as far as their lengths say.
            unsafe {
                run(operands, add, tile);
            }
        }
    };
    (@left by_line, $left:ident, $stride:ident, $i:literal, $l:ident) => {
        $left.add($i * STRIDE + $l)
    };
    (@left by_unit, $left:ident, $stride:ident, $i:literal, $l:ident) => {
        $left.add($i + $l * $stride)
    };
    (@body $order:ident, $m:ident, $wide:ident, $operands:ident, $add:ident, $tile:ident, $step:ident, $($i:literal)*) => {
        let Operands { left, left_stride: _left_stride, panel, panel_stride, length, .. } = $operands;
        let (left, panel) = (left.as_ptr(), panel.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); 2]; 14];
        if $add {
            // SAFETY: the tile has more rows than the kernel, each of two vectors.
            unsafe {
                $(if $i < $m {
                    let row = $tile.0[$i].as_ptr();
                    sums[$i] = [_mm512_load_ps(row), _mm512_load_ps(row.add(16))];
                })*
            }
        }
        for l in 0..length {
            // SAFETY: the caller vouches for both operands.
            unsafe {
                let units = panel.add(l * panel_stride);
                let low = _mm512_loadu_si512(units.cast());
                let high = if $wide { _mm512_loadu_si512(units.add(16).cast()) } else { low };
                $(if $i < $m {
                    let a = _mm512_set1_epi32(*kernel!(@left $order, left, _left_stride, $i, l) as i32);
                    sums[$i][0] = $step(sums[$i][0], a, low);
                    if $wide {
                        sums[$i][1] = $step(sums[$i][1], a, high);
                    }
                })*
            }
        }
        // SAFETY: as above.
        unsafe {
            $(if $i < $m {
                let row = $tile.0[$i].as_mut_ptr();
                _mm512_store_ps(row, sums[$i][0]);
                _mm512_store_ps(row.add(16), sums[$i][1]);
            })*
        }
    };
}

kernel!(f32_lines, f32_by_line, "avx512f", f32_step, by_line);
kernel!(f32_units, f32_by_unit, "avx512f", f32_step, by_unit);
kernel!(bf16_lines, bf16_by_line, "avx512f,avx512bf16", bf16_step, by_line);
kernel!(bf16_units, bf16_by_unit, "avx512f,avx512bf16", bf16_step, by_unit);
kernel!(widened_lines, widened_by_line, "avx512f", widened_step, by_line);
kernel!(widened_units, widened_by_unit, "avx512f", widened_step, by_unit);

#[target_feature(enable = "avx512f")]
#[inline]
fn f32_step(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn bf16_step(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    #[expect(unsafe_code, reason = "vectors of bf16 have no conversions")]
    // SAFETY: the types have the same size, and every bit pattern is a value of them.
    let [a, b]: [__m512bh; 2] = unsafe { std::mem::transmute([a, b]) };
    _mm512_dpbf16_ps(sum, a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widened_step(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let sum = f32_step(sum, _mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b));
    f32_step(sum, _mm512_and_si512(a, high), _mm512_and_si512(b, high))
}
