//! Kernels of 12 rows and two vectors of columns, or six rows and four vectors, for AVX-512 and its instruction for bf16.
//!
//! Four vectors take 10 loads for 24 multiplications of vectors, and two 14: that counts where another thread shares the
//! core. Steps of at most six rows are written out two by two.
//!
//! Panels of a call stay in the second cache, as for AVX2, and where the next sums go is fetched ahead.

use std::arch::x86_64::*;

use super::{COLUMNS, Ends, Kernel, Operands, Run, VECTOR, blocks};

/// The most rows of the loops.
const MOST_ROWS: usize = 12;

/// The most rows of loops over pairs of panels.
const ROWS_OF_PAIRS: usize = 6;

/// Bytes of panels that stay in the second cache. On an Intel Xeon of model 207, products of 624 rows and widths of 256 to 2,048
/// take up to 11% longer with as many as the first cache has room for.
const SECOND: usize = 1 << 18;

pub(in super::super) const F32: Kernel = Kernel { rows: MOST_ROWS, panel_bytes: SECOND, run: Run::Vectors(f32) };
pub(in super::super) const BF16: Kernel = Kernel { rows: MOST_ROWS, panel_bytes: SECOND, run: Run::Vectors(bf16) };

/// The loops of a kernel, for each number of rows and of vectors, and order of the left operand. They are written out by a
/// macro because a compiler does not unroll a loop over 12 rows, and would keep their sums in memory.
macro_rules! kernel {
    ($loops:ident, $of_vectors:ident, $choose:ident, $features:literal, $step:ident) => {
        /// # Safety
        /// The processor has these features. At `left`, there are `M` lines of `length` units: these are adjacent if
        /// `BY_LINE`, and else the lines are. At `panel` there are panels of `length` rows, as far apart as the strides say,
        /// and at all ends `M` rows; both have as many columns as operands, rounded up to `V` vectors, or one vector where the
        /// stride of columns is 0. The mask may be null.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads and writes through pointers")]
        unsafe fn $loops<const M: usize, const V: usize, const BY_LINE: bool>(operands: Operands<'_>, ends: Ends) {
            kernel!(@body M, V, BY_LINE, operands, ends, $step, 0 1 2 3 4 5 6 7 8 9 10 11);
        }

        /// The loops for so many vectors at once.
        ///
        /// # Safety
        /// As the loops, for the number of rows and the order that the operands have.
        #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
        unsafe fn $of_vectors<const V: usize>(operands: Operands<'_>, ends: Ends) {
            macro_rules! of_rows {
                ($m:literal) => {
                    if operands.is_by_line() { $loops::<$m, V, true> } else { $loops::<$m, V, false> }
                };
            }
            let run = match operands.rows {
                1 => of_rows!(1),
                2 => of_rows!(2),
                3 => of_rows!(3),
                4 => of_rows!(4),
                5 => of_rows!(5),
                // Four vectors of more rows do not fit into the registers.
                6 => of_rows!(6),
                _ if V == 4 => unreachable!("expected at most {ROWS_OF_PAIRS} rows"),
                7 => of_rows!(7),
                8 => of_rows!(8),
                9 => of_rows!(9),
                10 => of_rows!(10),
                11 => of_rows!(11),
                _ => of_rows!(12),
            };
            // SAFETY: the caller vouches for features, operands and ends.
            unsafe {
                run(operands, ends);
            }
        }

        /// # Safety
        /// As the loops, for all rows and columns of the operands.
        #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
        unsafe fn $choose(operands: Operands<'_>, ends: Ends) {
            let Operands { rows, columns, .. } = operands;
            let in_pairs = columns / (2 * COLUMNS) * (2 * COLUMNS);
            // A last panel of at most one vector has loops of its own.
            let in_panels = (columns + COLUMNS - VECTOR - 1) / COLUMNS * COLUMNS;
            // SAFETY: the caller vouches for features, operands and ends, of which these are parts.
            unsafe {
                if in_pairs > 0 {
                    for (row, rows) in blocks(rows, ROWS_OF_PAIRS) {
                        let part = operands.part(row..row + rows, 0..in_pairs);
                        $of_vectors::<4>(part, ends.skipping(row, 0));
                    }
                }
                if in_pairs < in_panels {
                    let part = operands.part(0..rows, in_pairs..in_panels.min(columns));
                    $of_vectors::<2>(part, ends.skipping(0, in_pairs));
                }
                if in_panels < columns {
                    let part = operands.part(0..rows, in_panels..columns);
                    $of_vectors::<1>(part, ends.skipping(0, in_panels));
                }
            }
        }
    };
    (@body $m:ident, $v:ident, $by_line:ident, $operands:ident, $ends:ident, $step:ident, $($i:literal)*) => {
        let Operands { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, columns, .. } = $operands;
        let [line, unit] = if $by_line { [line, 1] } else { [1, unit] };
        let Ends { to, to_stride, from, from_strides, scale, bias, bias_stride, floor, mask, mask_stride } = $ends;
        for column in (0..columns).step_by($v * VECTOR) {
            let to = to.wrapping_add(column);
            // The sums after these are mostly beside them, or under the first.
            let is_last = columns <= column + $v * VECTOR;
            let next = if is_last { to.wrapping_add($m * to_stride).wrapping_sub(column) } else { to.wrapping_add($v * VECTOR) };
            // Four lines share a register for their addresses.
            let left = left.as_ptr();
            let mut lines = [left, left.wrapping_add(4 * line), left.wrapping_add(8 * line)];
            let panel = panel.as_ptr().wrapping_add(column / COLUMNS * panel_gap);
            let mut panels = [panel, panel.wrapping_add(panel_gap)];
            let mut sums = [[_mm512_setzero_ps(); 4]; 12];
            // SAFETY: the caller vouches for operands and ends. What is fetched ahead may lie beyond them: that changes nothing
            // that the program could see.
            unsafe {
                $(if $i < $m {
                    let next = next.wrapping_add($i * to_stride);
                    kernel!(@each $v, W, _mm_prefetch::<_MM_HINT_ET0>(next.wrapping_add(VECTOR * W).cast()));
                })*
                // Sums that begin with 0 do so without being read.
                if from_strides != [0, 0] {
                    $(if $i < $m {
                        let from = from.add($i * from_strides[0] + column * from_strides[1]);
                        kernel!(@each $v, W, sums[$i][W] = _mm512_loadu_ps(from.add(VECTOR * W * from_strides[1])));
                    })*
                }
                macro_rules! step {
                    ($at:literal) => {
                        let rows = panels.map(|panel| panel.wrapping_add($at * panel_stride));
                        let mut row = [_mm512_setzero_si512(); 4];
                        kernel!(@each $v, W, row[W] = _mm512_loadu_si512(rows[W / 2].add(VECTOR * (W % 2)).cast()));
                        $(if $i < $m {
                            let a = lines[$i / 4].wrapping_add($i % 4 * line + $at * unit);
                            let a = _mm512_set1_epi32(*a as i32);
                            kernel!(@each $v, W, sums[$i][W] = $step(sums[$i][W], a, row[W]));
                        })*
                    };
                }
                // Steps of more rows are long enough as they are.
                let steps = if $m <= ROWS_OF_PAIRS { 2 } else { 1 };
                for _ in 0..length / steps {
                    step!(0);
                    if steps == 2 {
                        step!(1);
                    }
                    lines = lines.map(|line| line.wrapping_add(steps * unit));
                    panels = panels.map(|panel| panel.wrapping_add(steps * panel_stride));
                }
                if !length.is_multiple_of(steps) {
                    step!(0);
                }
                let (scale, floor) = (_mm512_set1_ps(scale), _mm512_set1_ps(floor));
                let bias = bias.wrapping_add(column * bias_stride);
                let mut biases = [_mm512_setzero_ps(); 4];
                kernel!(@each $v, W, biases[W] = _mm512_loadu_ps(bias.add(VECTOR * W * bias_stride)));
                $(if $i < $m {
                    kernel!(@each $v, W, {
                        // The maximum with what is not a number is the second operand.
                        let mut sum = _mm512_max_ps(floor, _mm512_fmadd_ps(sums[$i][W], scale, biases[W]));
                        if !mask.is_null() {
                            let mask = _mm512_loadu_ps(mask.add($i * mask_stride + column + VECTOR * W));
                            let is_kept = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask, _mm512_setzero_ps());
                            sum = _mm512_maskz_mov_ps(is_kept, sum);
                        }
                        _mm512_storeu_ps(to.add($i * to_stride + VECTOR * W), sum);
                    });
                })*
            }
        }
    };
    (@each $count:ident, $v:ident, $do:expr) => {
        { const $v: usize = 0; $do; }
        if $count > 1 { const $v: usize = 1; $do; }
        if $count > 2 { const $v: usize = 2; $do; }
        if $count > 3 { const $v: usize = 3; $do; }
    };
}

kernel!(f32_loops, f32_of_vectors, f32, "avx512f", f32_step);
kernel!(bf16_loops, bf16_of_vectors, bf16, "avx512f,avx512bf16", bf16_step);

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
