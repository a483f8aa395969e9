//! Kernels for every processor, and the reference of the others.

use super::{Kernel, Operands, Run, Tile};

pub(in super::super) const F32: Kernel =
    Kernel { stride: None, run: Run::Loops(f32_by_line), ..Kernel::of_vectors(4, f32_by_line, f32_by_unit) };
pub(in super::super) const BF16: Kernel =
    Kernel { stride: None, run: Run::Loops(bf16_by_line), ..Kernel::of_vectors(4, bf16_by_line, bf16_by_unit) };

fn f32_by_line(operands: Operands<'_>, add: bool, tile: &mut Tile) {
    run(operands, [operands.left_stride, 1], add, tile, f32_step);
}

fn f32_by_unit(operands: Operands<'_>, add: bool, tile: &mut Tile) {
    run(operands, [1, operands.left_stride], add, tile, f32_step);
}

fn bf16_by_line(operands: Operands<'_>, add: bool, tile: &mut Tile) {
    run(operands, [operands.left_stride, 1], add, tile, bf16_step);
}

fn bf16_by_unit(operands: Operands<'_>, add: bool, tile: &mut Tile) {
    run(operands, [1, operands.left_stride], add, tile, bf16_step);
}

#[inline(always)]
fn f32_step(sum: f32, a: u32, b: u32) -> f32 {
    multiply_add(f32::from_bits(a), f32::from_bits(b), sum)
}

#[inline(always)]
fn bf16_step(sum: f32, a: u32, b: u32) -> f32 {
    let [a, b] = [a, b].map(|unit| [unit << 16, unit & 0xffff_0000].map(f32::from_bits));
    multiply_add(a[1], b[1], multiply_add(a[0], b[0], sum))
}

/// The loops, given the distances between the lines of the left operand and between its units.
#[inline(always)]
fn run(
    operands: Operands<'_>,
    [line, unit]: [usize; 2],
    add: bool,
    tile: &mut Tile,
    step: impl Fn(f32, u32, u32) -> f32,
) {
    let Operands { left, panel, panel_stride, length, rows, columns, .. } = operands;
    for (i, sums) in tile.0.iter_mut().take(rows).enumerate() {
        if !add {
            sums.fill(0.0);
        }
        for l in 0..length {
            let a = left[i * line + l * unit];
            for (sum, b) in sums.iter_mut().zip(&panel[l * panel_stride..][..columns]) {
                *sum = step(*sum, a, *b);
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
