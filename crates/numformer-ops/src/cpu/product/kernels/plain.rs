//! The kernel for every processor, and the reference of the others.

use super::{COLUMNS, Kernel, Operands, Run, Sums};

/// Bytes of panels that stay in the first cache.
const FIRST: usize = 1 << 15;

pub(in super::super) const F32: Kernel = Kernel { rows: 4, panel_bytes: FIRST, run: Run::Plain(f32) };

fn f32(operands: Operands<'_>, sums: Sums<'_>) {
    let Operands { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, rows, columns } = operands;
    for first in (0..columns).step_by(COLUMNS) {
        // Without a shared axis, there are no units.
        let panel = panel.get(first / COLUMNS * panel_gap..).unwrap_or_default();
        let columns = first..columns.min(first + COLUMNS);
        for i in 0..rows {
            let mut row = [0.0; COLUMNS];
            let row = &mut row[..columns.len()];
            if let Some(begin) = sums.begin(i, columns.clone()) {
                row.copy_from_slice(begin);
            }
            for l in 0..length {
                let a = f32::from_bits(left[i * line + l * unit]);
                for (sum, b) in row.iter_mut().zip(&panel[l * panel_stride..][..columns.len()]) {
                    *sum = multiply_add(a, f32::from_bits(*b), *sum);
                }
            }
            for (j, sum) in columns.clone().zip(row.iter_mut()) {
                let biased = multiply_add(*sum, sums.scale, sums.bias.map_or(0.0, |bias| bias[j]));
                // This form lets through what is not a number.
                let rectified = if biased < sums.floor { sums.floor } else { biased };
                let is_kept = sums.mask.is_none_or(|(mask, stride)| mask[i * stride + j] > 0.0);
                *sum = if is_kept { rectified } else { 0.0 };
            }
            sums.to[i * sums.stride..][columns.clone()].copy_from_slice(row);
        }
    }
}

/// a·b + c, rounded once where the processor has an instruction for that: elsewhere, it would be a function call for
/// each entry.
#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
