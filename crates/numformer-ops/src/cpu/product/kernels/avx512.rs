//! Kernels of 14 rows and two vectors of columns, for AVX-512 with and without its instruction for bf16.

use std::arch::x86_64::*;

use super::{BLOCK, Kernel, Meanwhile, PanelRow, Rows, STRIDE, Tile};

pub(in super::super) const F32: Kernel = Kernel {
    rows: 14,
    reads: 1,
    stride: Some(STRIDE),
    units: 1,
    run_by_unit: Some(f32_units_by_unit),
    begin: None,
    end: None,
    run: f32_units,
};
pub(in super::super) const BF16: Kernel = Kernel {
    rows: 14,
    reads: 1,
    stride: Some(STRIDE),
    units: 1,
    run_by_unit: Some(bf16_units_by_unit),
    begin: None,
    end: None,
    run: bf16_units,
};
/// For bf16 without instructions for it: a pair is widened to two `f32`.
pub(in super::super) const WIDENED: Kernel = Kernel {
    rows: 14,
    reads: 1,
    stride: Some(STRIDE),
    units: 1,
    run_by_unit: Some(widened_units_by_unit),
    begin: None,
    end: None,
    run: widened_units,
};

/// The loops of a kernel, for each number of rows. They are written out by a macro because a compiler does not unroll a
/// loop over 14 rows, and would keep their sums in memory.
macro_rules! kernel {
    ($name:ident, $loops:ident, $features:literal, $step:ident, $row:expr, $unit:expr) => {
        fn $name(
            left: Rows<'_>,
            panel: &[PanelRow],
            add: bool,
            tile: &mut Tile,
            meanwhile: &mut Meanwhile<'_>,
        ) {
            meanwhile(0, 1);
            #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
            // SAFETY: `Kernel::new` chooses this kernel where its features were detected, and `Kernel::run` has checked
            // that the rows, at this stride, reach as far as the panel.
            unsafe {
                macro_rules! narrow_or_wide {
                    ($m:literal) => {
                        if left.columns > 16 { $loops::<$m, true> } else { $loops::<$m, false> }
                    };
                }
                let run = match left.rows {
                    1 => narrow_or_wide!(1),
                    2 => narrow_or_wide!(2),
                    3 => narrow_or_wide!(3),
                    4 => narrow_or_wide!(4),
                    5 => narrow_or_wide!(5),
                    6 => narrow_or_wide!(6),
                    7 => narrow_or_wide!(7),
                    8 => narrow_or_wide!(8),
                    9 => narrow_or_wide!(9),
                    10 => narrow_or_wide!(10),
                    11 => narrow_or_wide!(11),
                    12 => narrow_or_wide!(12),
                    13 => narrow_or_wide!(13),
                    _ => narrow_or_wide!(14),
                };
                run(left.units.as_ptr(), panel, add, tile);
            }
        }

        /// # Safety
        /// At `left`, there are `M` rows of as many units as `panel` has, `$row` apart; its units are `$unit` apart.
        #[target_feature(enable = $features)]
        #[expect(unsafe_code, reason = "reads through a pointer")]
        unsafe fn $loops<const M: usize, const WIDE: bool>(left: *const u32, panel: &[PanelRow], add: bool, tile: &mut Tile) {
            kernel!(@body $row, $unit, M, WIDE, left, panel, add, tile, $step, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        }
    };
    (@body $row:expr, $unit:expr, $m:ident, $wide:ident, $left:ident, $panel:ident, $add:ident, $tile:ident, $step:ident, $($i:literal)*) => {
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
        for (l, units) in $panel.iter().enumerate() {
            // SAFETY: the units of a panel are two vectors; the caller vouches for the rows.
            unsafe {
                let units = units.0.as_ptr();
                let columns = [_mm512_load_si512(units.cast()), _mm512_load_si512(units.add(16).cast())];
                $(if $i < $m {
                    let a = _mm512_set1_epi32(*$left.add($i * $row + l * $unit) as i32);
                    sums[$i][0] = $step(sums[$i][0], a, columns[0]);
                    if $wide {
                        sums[$i][1] = $step(sums[$i][1], a, columns[1]);
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

kernel!(f32_units, f32_loops, "avx512f", f32_step, STRIDE, 1);
kernel!(f32_units_by_unit, f32_loops_by_unit, "avx512f", f32_step, 1, BLOCK);
kernel!(bf16_units, bf16_loops, "avx512f,avx512bf16", bf16_step, STRIDE, 1);
kernel!(bf16_units_by_unit, bf16_loops_by_unit, "avx512f,avx512bf16", bf16_step, 1, BLOCK);
kernel!(widened_units, widened_loops, "avx512f", widened_step, STRIDE, 1);
kernel!(widened_units_by_unit, widened_loops_by_unit, "avx512f", widened_step, 1, BLOCK);

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
