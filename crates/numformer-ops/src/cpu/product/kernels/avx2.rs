//! Kernels of six rows and two vectors of columns, for AVX2.

use std::arch::x86_64::*;

use super::{BLOCK, Kernel, Meanwhile, PanelRow, Rows, STRIDE, Tile};

pub(in super::super) const F32: Kernel = Kernel {
    rows: 6,
    reads: 1,
    stride: Some(STRIDE),
    units: 1,
    run_by_unit: Some(f32_units_by_unit),
    begin: None,
    end: None,
    run: f32_units,
};
/// For bf16: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel {
    rows: 6,
    reads: 1,
    stride: Some(STRIDE),
    units: 1,
    run_by_unit: Some(widened_units_by_unit),
    begin: None,
    end: None,
    run: widened_units,
};

/// The loops of a kernel, for each number of rows, written out as those for AVX-512. They take the columns of a panel
/// in two halves.
macro_rules! kernel {
    ($name:ident, $loops:ident, $step:ident, $row:expr, $unit:expr) => {
        fn $name(
            left: Rows<'_>,
            panel: &[PanelRow],
            add: bool,
            tile: &mut Tile,
            meanwhile: &mut Meanwhile<'_>,
        ) {
            meanwhile(0, 1);
            #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
            // SAFETY: `Kernel::new` chooses this kernel where AVX2 and FMA were detected, and `Kernel::run` has checked
            // that the rows, at this stride, reach as far as the panel.
            unsafe {
                let run = match left.rows {
                    1 => $loops::<1>,
                    2 => $loops::<2>,
                    3 => $loops::<3>,
                    4 => $loops::<4>,
                    5 => $loops::<5>,
                    _ => $loops::<6>,
                };
                for half in (0..left.columns).step_by(16) {
                    run(left.units.as_ptr(), panel, half, add, tile);
                }
            }
        }

        /// # Safety
        /// At `left`, there are `M` rows of as many units as `panel` has, `$row` apart; its units are `$unit` apart. `half` is 0 or 16.
        #[target_feature(enable = "avx2,fma")]
        #[expect(unsafe_code, reason = "reads through a pointer")]
        unsafe fn $loops<const M: usize>(
            left: *const u32,
            panel: &[PanelRow],
            half: usize,
            add: bool,
            tile: &mut Tile,
        ) {
            kernel!(@body $row, $unit, M, left, panel, half, add, tile, $step, 0 1 2 3 4 5);
        }
    };
    (@body $row:expr, $unit:expr, $m:ident, $left:ident, $panel:ident, $half:ident, $add:ident, $tile:ident, $step:ident, $($i:literal)*) => {
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
        for (l, units) in $panel.iter().enumerate() {
            // SAFETY: the units of a panel are two halves of two vectors; the caller vouches for the rows.
            unsafe {
                let units = units.0.as_ptr().add($half);
                let columns = [_mm256_loadu_si256(units.cast()), _mm256_loadu_si256(units.add(8).cast())];
                $(if $i < $m {
                    let a = _mm256_set1_epi32(*$left.add($i * $row + l * $unit) as i32);
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

kernel!(f32_units, f32_loops, f32_step, STRIDE, 1);
kernel!(f32_units_by_unit, f32_loops_by_unit, f32_step, 1, BLOCK);
kernel!(widened_units, widened_loops, widened_step, STRIDE, 1);
kernel!(widened_units_by_unit, widened_loops_by_unit, widened_step, 1, BLOCK);

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
