//! Kernels for every processor, and the reference of the others.

use super::{COLUMNS, Kernel, Operands, Sums};

pub(in super::super) const F32: Kernel = Kernel::plain(4, f32);
pub(in super::super) const BF16: Kernel = Kernel::plain(4, bf16);

fn f32(operands: Operands<'_>, sums: Sums<'_>) {
    run(operands, sums, |sum, a, b| multiply_add(f32::from_bits(a), f32::from_bits(b), sum));
}

fn bf16(operands: Operands<'_>, sums: Sums<'_>) {
    run(operands, sums, |sum, a, b| {
        let [a, b] = [a, b].map(|unit| [unit << 16, unit & 0xffff_0000].map(f32::from_bits));
        multiply_add(a[1], b[1], multiply_add(a[0], b[0], sum))
    });
}

#[inline(always)]
fn run(operands: Operands<'_>, sums: Sums<'_>, step: impl Fn(f32, u32, u32) -> f32) {
    let Operands { left, left_strides: [line, unit], panel, panel_stride, length, rows, columns, .. } = operands;
    for i in 0..rows {
        let mut row = [0.0; COLUMNS];
        row[..columns].copy_from_slice(sums.begin(i, columns));
        for l in 0..length {
            let a = left[i * line + l * unit];
            for (sum, b) in row.iter_mut().zip(&panel[l * panel_stride..][..columns]) {
                *sum = step(*sum, a, *b);
            }
        }
        for (j, sum) in row[..columns].iter_mut().enumerate() {
            let biased = multiply_add(*sum, sums.scale, sums.bias[j]);
            // This form lets through what is not a number.
            let rectified = if biased < sums.floor { sums.floor } else { biased };
            let is_kept = sums.mask.is_none_or(|(mask, stride)| mask[i * stride + j] > 0.0);
            *sum = if is_kept { rectified } else { 0.0 };
        }
        sums.to[i * sums.stride..][..columns].copy_from_slice(&row[..columns]);
    }
}

/// a·b + c, rounded once where the processor has an instruction for that: elsewhere, it would be a function call for
/// each entry.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
