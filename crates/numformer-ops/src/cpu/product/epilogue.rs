//! What happens to the sums of a product on their way to memory.

use super::kernels::{COLUMNS, Tile};
use super::operand::Operand;
use crate::cpu::matrix::{MatMut, MatRef};
use crate::cpu::simd::vectorized;

/// What happens to the sums of a product on their way to memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue<'a, M = f32> {
    /// The sums, times a factor, replace the old entries.
    Replace(f32),
    /// The sums, times a factor, are added to the old entries.
    Add(f32),
    /// A vector is added to each row.
    Bias(&'a [f32]),
    /// A vector is added to each row, and what is negative becomes 0. What is not a number stays.
    BiasRelu(&'a [f32]),
    /// A vector is added to each row, and a matrix to all.
    BiasResidual(&'a [f32], MatRef<'a>),
    /// What is not positive in another matrix becomes 0: the gradient of a ReLU, given its output.
    Mask(MatRef<'a, M>),
}

/// The place of a tile in a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) column: usize,
}

vectorized! {
    /// Writes a tile to its place in `dst`.
    pub(super) fn finish[O: Operand, M: Operand](
        dst: &mut MatMut<'_, O>,
        tile: &Tile,
        place: Place,
        epilogue: &Epilogue<'_, M>,
    ) {
        const NONE: Option<MatRef<'_>> = None;
        match *epilogue {
            Epilogue::Replace(scale) => write(dst, tile, place, None, NONE, |x, _, _, _| scale * x),
            Epilogue::Add(scale) => write(dst, tile, place, None, NONE, |x, _, _, old| scale.mul_add(x, old)),
            Epilogue::Bias(bias) => write(dst, tile, place, Some(bias), NONE, |x, bias, _, _| x + bias),
            Epilogue::BiasRelu(bias) => write(dst, tile, place, Some(bias), NONE, |x, bias, _, _| {
                // This form lets NaN through.
                if x + bias <= 0.0 { 0.0 } else { x + bias }
            }),
            Epilogue::BiasResidual(bias, residual) => {
                write(dst, tile, place, Some(bias), Some(residual), |x, bias, residual, _| x + bias + residual);
            }
            Epilogue::Mask(mask) => {
                write(dst, tile, place, None, Some(mask), |x, _, mask, _| if mask > 0.0 { x } else { 0.0 });
            }
        }
    }
}

/// Writes what `entry` makes of each sum, its bias, its entry in `other`, and the old entry.
#[inline(always)]
fn write<O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    tile: &Tile,
    place: Place,
    bias: Option<&[f32]>,
    other: Option<MatRef<'_, M>>,
    entry: impl Fn(f32, f32, f32, f32) -> f32,
) {
    let Place { row, rows, column } = place;
    let width = COLUMNS.min(dst.columns - column);
    let bias = bias.map_or([0.0; COLUMNS], |bias| padded(&bias[column..][..width]));
    for (i, sums) in tile.0[..rows].iter().enumerate() {
        let entries = &mut dst.data[(row + i) * dst.stride + column..][..width];
        let other = other.map(|other| other.part_of_row(row + i, column, width));
        // Loops of a known length have no remainder.
        if let Some(entries) = entries.as_mut_array() {
            match other.and_then(<[M]>::as_array) {
                Some(other) => write_row(entries, sums, &bias, other, &entry),
                None => write_row(entries, sums, &bias, &[M::default(); COLUMNS], &entry),
            }
        } else {
            let mut whole = padded(entries);
            write_row(&mut whole, sums, &bias, &other.map_or([M::default(); COLUMNS], padded), &entry);
            entries.copy_from_slice(&whole[..width]);
        }
    }
}

#[inline(always)]
fn write_row<O: Operand, M: Operand>(
    entries: &mut [O; COLUMNS],
    sums: &[f32; COLUMNS],
    bias: &[f32; COLUMNS],
    other: &[M; COLUMNS],
    entry: &impl Fn(f32, f32, f32, f32) -> f32,
) {
    for j in 0..COLUMNS {
        entries[j] = O::round(entry(sums[j], bias[j], other[j].widen(), entries[j].widen()));
    }
}

/// A part of a row, with zeros up to the width of a tile.
#[inline(always)]
fn padded<T: Operand>(entries: &[T]) -> [T; COLUMNS] {
    let mut padded = [T::default(); COLUMNS];
    padded[..entries.len()].copy_from_slice(entries);
    padded
}
