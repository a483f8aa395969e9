//! The kernel of six rows and two vectors of columns, for AVX2.
//!
//! Steps are written out four by four, with the distances that a compiler can put into addresses: that takes 22
//! instructions a step, or 24 where it fetches lines ahead, instead of 25, which counts on a core that something else shares.
//!
//! Panels of a call stay in the second cache: they are read there one after another, as processors foresee. What they do
//! not foresee, they are told: the next lines, and where the next sums go. Beside calls of two panels without it,
//! in one process and in turn, that makes forward products and gradients of inputs of layers of 256 with 624 rows 3 to 5%
//! faster, and gradients of weights up to 2% slower.

use std::arch::x86_64::*;

use super::{COLUMNS, Ends, Kernel, Operands, Run, VECTOR};

/// Bytes of panels that stay in the second cache. With twice as many, gradients of weights lose 2%.
const SECOND: usize = 1 << 17;

pub(in super::super) const F32: Kernel = Kernel { rows: 6, panel_bytes: SECOND, run: Run::Vectors(f32) };

/// # Safety
/// As [`loops`], for the number of rows and the order that the operands have.
#[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
unsafe fn f32(operands: Operands<'_>, ends: Ends) {
    macro_rules! of_rows {
        ($m:literal) => {
            if operands.is_by_line() { loops::<$m, true> } else { loops::<$m, false> }
        };
    }
    let run = match operands.rows {
        1 => of_rows!(1),
        2 => of_rows!(2),
        3 => of_rows!(3),
        4 => of_rows!(4),
        5 => of_rows!(5),
        _ => of_rows!(6),
    };
    // SAFETY: the caller vouches for features, operands and ends.
    unsafe {
        run(operands, ends);
    }
}

/// Does something with each of `M` rows. A compiler does not unroll a loop over rows, and would keep their sums in memory.
macro_rules! each_row {
    ($m:ident, $i:ident, $do:expr) => {
        each_row!(@ $m, $i, $do, 0 1 2 3 4 5)
    };
    (@ $m:ident, $i:ident, $do:expr, $($row:literal)*) => {
        $(if $row < $m {
            const $i: usize = $row;
            $do;
        })*
    };
}

/// The loops of the kernel. They take the columns of a panel in two halves.
///
/// # Safety
/// The processor has these features. At `left`, there are `M` lines of `length` units: these are adjacent if `BY_LINE`, and
/// else the lines are. At `panel` there are panels of `length` rows, as far apart as the strides say, and at all ends `M` rows;
/// both have as many columns as operands, rounded up to whole vectors, or one vector where the stride of columns is 0. The
/// mask may be null.
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "reads and writes through pointers")]
unsafe fn loops<const M: usize, const BY_LINE: bool>(operands: Operands<'_>, ends: Ends) {
    let Operands { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, columns, .. } = operands;
    let [line, unit] = if BY_LINE { [line, 1] } else { [1, unit] };
    let Ends { to, to_stride, from, from_strides, scale, bias, bias_stride, floor, mask, mask_stride } = ends;
    let (scale, floor) = (_mm256_set1_ps(scale), _mm256_set1_ps(floor));
    // The lines of the next call begin where these end, unless there are gaps between lines: then, what is fetched is not
    // needed, but fetching it is harmless.
    let mut ahead = left.as_ptr().wrapping_add(M * line);
    for column in (0..columns).step_by(VECTOR) {
        let to = to.wrapping_add(column);
        // The sums after these are beside them, or under the first.
        let is_last = columns <= column + VECTOR;
        let next = if is_last { to.wrapping_add(M * to_stride).wrapping_sub(column) } else { to.wrapping_add(VECTOR) };
        // Four steps read a quarter of a line of the cache from each of `M` lines, and fetch a whole one ahead: after two
        // columns of vectors, the next lines have been fetched.
        let ahead_step = if column < 2 * VECTOR { 16 } else { 0 };
        let from = from.wrapping_add(column * from_strides[1]);
        let mut panel = panel.as_ptr().cast::<f32>().wrapping_add(column / COLUMNS * panel_gap + column % COLUMNS);
        // Three lines share a register for their addresses.
        let left = left.as_ptr().cast::<f32>();
        let mut lines = [left, left.wrapping_add(3 * line)];
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        // SAFETY: the caller vouches for operands and ends.
        unsafe {
            each_row!(M, I, {
                let from = from.add(I * from_strides[0]);
                sums[I] = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(I * to_stride).cast());
            });
            macro_rules! step {
                ($at:literal) => {
                    let row = panel.wrapping_add($at * panel_stride);
                    let row = [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8))];
                    each_row!(M, I, {
                        let a = _mm256_broadcast_ss(&*lines[I / 3].wrapping_add(I % 3 * line + $at * unit));
                        sums[I] = [_mm256_fmadd_ps(a, row[0], sums[I][0]), _mm256_fmadd_ps(a, row[1], sums[I][1])];
                    });
                };
            }
            for _ in 0..length / 4 {
                step!(0);
                step!(1);
                step!(2);
                step!(3);
                lines = lines.map(|line| line.wrapping_add(4 * unit));
                panel = panel.wrapping_add(4 * panel_stride);
                // Where lines are adjacent, they are mostly a copy, which is in a cache.
                if BY_LINE {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    ahead = ahead.wrapping_add(ahead_step);
                }
            }
            for _ in 0..length % 4 {
                step!(0);
                lines = lines.map(|line| line.wrapping_add(unit));
                panel = panel.wrapping_add(panel_stride);
            }
            let bias = bias.wrapping_add(column * bias_stride);
            let bias = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
            each_row!(M, I, {
                for part in 0..2 {
                    // The maximum with what is not a number is the second operand.
                    let mut sum = _mm256_max_ps(floor, _mm256_fmadd_ps(sums[I][part], scale, bias[part]));
                    if !mask.is_null() {
                        let mask = _mm256_loadu_ps(mask.add(I * mask_stride + column + 8 * part));
                        sum = _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(mask, _mm256_setzero_ps()), sum);
                    }
                    _mm256_storeu_ps(to.add(I * to_stride + 8 * part), sum);
                }
            });
        }
    }
}
