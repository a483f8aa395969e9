//! Kernels of 12 rows and two vectors of columns, or six rows and four vectors, for AVX-512 with and without its
//! instruction for bf16.
//!
//! Four vectors take 10 loads for 24 multiplications of vectors, and two 14: that counts where another thread shares the
//! core.

use std::arch::x86_64::*;

use super::{COLUMNS, Ends, Kernel, Operands, VECTOR};

pub(in super::super) const F32: Kernel = Kernel::of_vectors([12, 6], f32);
pub(in super::super) const BF16: Kernel = Kernel::of_vectors([12, 6], bf16);
/// For bf16 without instructions for it: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel::of_vectors([12, 6], widened);

/// The loops of a kernel, for each number of rows and of vectors. They are written out by a macro because a compiler does
/// not unroll a loop over 12 rows, and would keep their sums in memory.
macro_rules! kernel {
    ($loops:ident, $choose:ident, $features:literal, $step:ident) => {
        /// # Safety
        /// The processor has these features. At `left`, there are `M` lines of `length` units, and at `panel` as many rows of
        /// `V` vectors, as far apart as the strides say; and at all ends `M` rows of `V` vectors.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads and writes through pointers")]
        unsafe fn $loops<const M: usize, const V: usize>(operands: Operands<'_>, ends: Ends) {
            kernel!(@body M, V, operands, ends, $step, 0 1 2 3 4 5 6 7 8 9 10 11);
        }

        /// # Safety
        /// As the loops, for the numbers of rows and columns that the operands have.
        #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
        unsafe fn $choose(operands: Operands<'_>, ends: Ends) {
            macro_rules! of_rows {
                ($m:literal) => {
                    if operands.columns > VECTOR { $loops::<$m, 2> } else { $loops::<$m, 1> }
                };
            }
            let run = match (operands.rows, operands.columns > COLUMNS) {
                (1, true) => $loops::<1, 4>,
                (2, true) => $loops::<2, 4>,
                (3, true) => $loops::<3, 4>,
                (4, true) => $loops::<4, 4>,
                (5, true) => $loops::<5, 4>,
                (_, true) => $loops::<6, 4>,
                (1, false) => of_rows!(1),
                (2, false) => of_rows!(2),
                (3, false) => of_rows!(3),
                (4, false) => of_rows!(4),
                (5, false) => of_rows!(5),
                (6, false) => of_rows!(6),
                (7, false) => of_rows!(7),
                (8, false) => of_rows!(8),
                (9, false) => of_rows!(9),
                (10, false) => of_rows!(10),
                (11, false) => of_rows!(11),
                (_, false) => of_rows!(12),
            };
            // SAFETY: the caller vouches for features, operands and ends.
            unsafe {
                run(operands, ends);
            }
        }
    };
    (@body $m:ident, $v:ident, $operands:ident, $ends:ident, $step:ident, $($i:literal)*) => {
        let Operands { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, .. } = $operands;
        let Ends { to, to_stride, from, from_stride, scale, bias, floor, mask, mask_stride } = $ends;
        // Four lines share a register for their addresses.
        let left = left.as_ptr();
        let mut lines = [left, left.wrapping_add(4 * line), left.wrapping_add(8 * line)];
        let mut panels = [panel.as_ptr(), panel.as_ptr().wrapping_add(panel_gap)];
        let mut sums = [[_mm512_setzero_ps(); 4]; 12];
        // SAFETY: the caller vouches for operands and ends.
        unsafe {
            $(if $i < $m {
                kernel!(@each $v, W, sums[$i][W] = _mm512_loadu_ps(from.add($i * from_stride + VECTOR * W)));
            })*
            macro_rules! step {
                () => {
                    let mut columns = [_mm512_setzero_si512(); 4];
                    kernel!(@each $v, W, columns[W] = _mm512_loadu_si512(panels[W / 2].add(VECTOR * (W % 2)).cast()));
                    $(if $i < $m {
                        let a = _mm512_set1_epi32(*lines[$i / 4].add($i % 4 * line) as i32);
                        kernel!(@each $v, W, sums[$i][W] = $step(sums[$i][W], a, columns[W]));
                    })*
                    lines = lines.map(|line| line.wrapping_add(unit));
                    panels = panels.map(|panel| panel.wrapping_add(panel_stride));
                };
            }
            // The memory for a row of sums is fetched in each of the first steps.
            let fetched = length.min($m);
            for i in 0..fetched {
                let row = to.wrapping_add(i * to_stride);
                kernel!(@each $v, W, _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(VECTOR * W).cast()));
                step!();
            }
            for _ in fetched..length {
                step!();
            }
            let (scale, floor) = (_mm512_set1_ps(scale), _mm512_set1_ps(floor));
            let mut biases = [_mm512_setzero_ps(); 4];
            kernel!(@each $v, W, biases[W] = _mm512_loadu_ps(bias.add(VECTOR * W)));
            $(if $i < $m {
                kernel!(@each $v, W, {
                    // The maximum with what is not a number is the second operand.
                    let mut sum = _mm512_max_ps(floor, _mm512_fmadd_ps(sums[$i][W], scale, biases[W]));
                    if !mask.is_null() {
                        let mask = _mm512_loadu_ps(mask.add($i * mask_stride + VECTOR * W));
                        sum = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask, _mm512_setzero_ps()), sum);
                    }
                    _mm512_storeu_ps(to.add($i * to_stride + VECTOR * W), sum);
                });
            })*
        }
    };
    (@each $count:ident, $v:ident, $do:expr) => {
        { const $v: usize = 0; $do; }
        if $count > 1 { const $v: usize = 1; $do; }
        if $count > 2 { const $v: usize = 2; $do; }
        if $count > 3 { const $v: usize = 3; $do; }
    };
}

kernel!(f32_loops, f32, "avx512f", f32_step);
kernel!(bf16_loops, bf16, "avx512f,avx512bf16", bf16_step);
kernel!(widened_loops, widened, "avx512f", widened_step);

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
