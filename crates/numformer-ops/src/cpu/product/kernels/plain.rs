//! Kernels for every processor, and the reference of the others.

use super::{Kernel, Meanwhile, PanelRow, Rows, Tile};

pub(in super::super) const F32: Kernel =
    Kernel { rows: 4, reads: 1, stride: None, units: 1, run_by_unit: None, begin: None, end: None, run: f32_units };
pub(in super::super) const BF16: Kernel =
    Kernel { rows: 4, reads: 1, stride: None, units: 1, run_by_unit: None, begin: None, end: None, run: bf16_units };

fn f32_units(left: Rows<'_>, panel: &[PanelRow], add: bool, tile: &mut Tile, meanwhile: &mut Meanwhile<'_>) {
    meanwhile(0, 1);
    run(left, panel, add, tile, |sum, a, b| multiply_add(f32::from_bits(a), f32::from_bits(b), sum));
}

fn bf16_units(left: Rows<'_>, panel: &[PanelRow], add: bool, tile: &mut Tile, meanwhile: &mut Meanwhile<'_>) {
    meanwhile(0, 1);
    run(left, panel, add, tile, |sum, a, b| {
        let [a, b] = [a, b].map(|unit| [unit << 16, unit & 0xffff_0000].map(f32::from_bits));
        multiply_add(a[1], b[1], multiply_add(a[0], b[0], sum))
    });
}

#[inline(always)]
fn run(left: Rows<'_>, panel: &[PanelRow], add: bool, tile: &mut Tile, step: impl Fn(f32, u32, u32) -> f32) {
    for (i, sums) in tile.0.iter_mut().take(left.rows).enumerate() {
        if !add {
            sums.fill(0.0);
        }
        for (a, units) in left.units[i * left.stride..].iter().zip(panel) {
            for (sum, b) in sums.iter_mut().zip(&units.0) {
                *sum = step(*sum, *a, *b);
            }
        }
    }
}

/// a·b + c, rounded once where the processor has an instruction for that: elsewhere, it would be a function call for
/// each entry.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
