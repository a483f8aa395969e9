//! What happens to the sums of a product on their way to memory.

use std::ops::Range;

use super::kernels::{Begin, COLUMNS, Sums, Tile, VECTOR};
use super::operand::{Operand, Type};
use crate::cpu::matrix::{MatMut, MatRef};
#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::Level;
use crate::cpu::simd::vectorized;

/// What happens to the sums of a product on their way to memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue<'a, M = f32> {
    /// The sums, times a factor, replace the old entries.
    Replace(f32),
    /// The sums are added to the old entries.
    Add,
    /// A vector is added to each row.
    Bias(&'a [f32]),
    /// A vector is added to each row, and what is negative becomes 0. What is not a number stays.
    BiasRelu(&'a [f32]),
    /// A vector is added to each row, and a matrix to all.
    BiasResidual(&'a [f32], MatRef<'a>),
    /// What is not positive in another matrix becomes 0: the gradient of a ReLU, given its output.
    Mask(MatRef<'a, M>),
}

impl<M: Operand> Epilogue<'_, M> {
    /// # Panics
    /// When a vector or a matrix has another size than the product, or the rows of a matrix are not contiguous.
    pub(super) fn check(&self, [rows, columns]: [usize; 2]) {
        let sizes = match self {
            Self::Replace(_) | Self::Add => return,
            Self::Bias(bias) | Self::BiasRelu(bias) => [rows, bias.len()],
            Self::BiasResidual(bias, residual) => {
                assert_eq!(bias.len(), residual.columns, "expected a bias for each column");
                assert_eq!(residual.column_stride, 1, "expected contiguous rows");
                [residual.rows, residual.columns]
            }
            Self::Mask(mask) => {
                assert_eq!(mask.column_stride, 1, "expected contiguous rows");
                [mask.rows, mask.columns]
            }
        };
        assert_eq!(sizes, [rows, columns], "expected the sizes of the product");
    }

    /// Whether kernels can do for whole vectors what the epilogue says, where the sums go.
    pub(super) fn is_in_place<O: Operand>(&self) -> bool {
        O::TYPE == Type::F32 && (M::TYPE == Type::F32 || !matches!(self, Self::Mask(_)))
    }

    /// The sums of a block of so many columns at their place in `dst`, if a kernel can do there what the epilogue says: all
    /// numbers are `f32`, and whole vectors.
    pub(super) fn in_place<'a, O: Operand>(
        &'a self,
        dst: &'a mut MatMut<'_, O>,
        place: Place,
        columns: usize,
    ) -> Option<Sums<'a>> {
        let Place { row, column, .. } = place;
        if !self.is_in_place::<O>() || !columns.is_multiple_of(VECTOR) {
            return None;
        }
        let stride = dst.stride;
        let sums = Sums::plain(O::exact_mut(&mut dst.data[row * stride + column..])?, stride);
        let bias = |bias: &'a [f32]| Some(&bias[column..]);
        Some(match self {
            Self::Replace(scale) => Sums { scale: *scale, ..sums },
            Self::Add => Sums { begin: Begin::Old, ..sums },
            Self::Bias(b) => Sums { bias: bias(b), ..sums },
            Self::BiasRelu(b) => Sums { bias: bias(b), floor: 0.0, ..sums },
            Self::BiasResidual(b, residual) => {
                let begin = Begin::Matrix(&residual.data[row * residual.row_stride + column..], residual.row_stride);
                Sums { bias: bias(b), begin, ..sums }
            }
            Self::Mask(mask) => {
                let mask = (M::exact(&mask.data[row * mask.row_stride + column..])?, mask.row_stride);
                Sums { mask: Some(mask), ..sums }
            }
        })
    }
}

/// The place of a block in a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) column: usize,
}

/// Some rows of a tile, with the place of the whole.
#[derive(Clone, Debug)]
pub(super) struct PlacedRows {
    place: Place,
    rows: Range<usize>,
}

impl Place {
    /// One of `parts` nearly equal parts of the rows.
    pub(super) fn part(self, part: usize, parts: usize) -> PlacedRows {
        let from = |part: usize| part * self.rows / parts;
        PlacedRows { place: self, rows: from(part)..from(part + 1) }
    }
}

/// Writes rows of a tile to their place in `dst`.
pub(super) fn finish<O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    tile: &Tile,
    rows: PlacedRows,
    epilogue: &Epilogue<'_, M>,
) {
    #[cfg(target_arch = "x86_64")]
    if O::TYPE == Type::Bf16 && Level::detect().has_avx512_bf16() {
        #[expect(unsafe_code, reason = "calls code for an instruction set")]
        // SAFETY: the level has the instructions, and `O` is bf16.
        return unsafe { finish_bf16(dst, tile, rows, epilogue) };
    }
    finish_in_loops(dst, tile, rows, epilogue);
}

vectorized! {
    fn finish_in_loops[O: Operand, M: Operand](
        dst: &mut MatMut<'_, O>,
        tile: &Tile,
        rows: PlacedRows,
        epilogue: &Epilogue<'_, M>,
    ) {
        write_all(dst, tile, rows, epilogue, |entries: &mut [O; COLUMNS], x: &[f32; COLUMNS]| {
            for (entry, x) in entries.iter_mut().zip(x) {
                *entry = O::round(*x);
            }
        });
    }
}

/// [`finish`] with the processor's own instruction for rounding.
///
/// # Safety
/// The processor has these features, and `O` is bf16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma")]
#[expect(unsafe_code, reason = "for an instruction set, and writes through a pointer")]
unsafe fn finish_bf16<O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    tile: &Tile,
    rows: PlacedRows,
    epilogue: &Epilogue<'_, M>,
) {
    use std::arch::x86_64::{__m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_storeu_si512};

    write_all(dst, tile, rows, epilogue, |entries: &mut [O; COLUMNS], x: &[f32; COLUMNS]| {
        // SAFETY: there are two vectors of `f32`, and one of bf16 in `entries`, by the contract of this function. The types
        // that are transmuted have the same size, and every bit pattern is a value of both.
        unsafe {
            let [low, high] = [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))];
            let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(entries.as_mut_ptr().cast(), rounded);
        }
    });
}

#[inline(always)]
fn write_all<O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    tile: &Tile,
    rows: PlacedRows,
    epilogue: &Epilogue<'_, M>,
    round: impl Fn(&mut [O; COLUMNS], &[f32; COLUMNS]),
) {
    const NONE: Option<MatRef<'_>> = None;
    match *epilogue {
        Epilogue::Replace(scale) => write(dst, tile, rows, None, NONE, |x, _, _, _| scale * x, round),
        Epilogue::Add => write(dst, tile, rows, None, NONE, |x, _, _, old| x + old, round),
        Epilogue::Bias(bias) => write(dst, tile, rows, Some(bias), NONE, |x, bias, _, _| x + bias, round),
        Epilogue::BiasRelu(bias) => {
            // This form lets NaN through.
            let relu = |x: f32| if x <= 0.0 { 0.0 } else { x };
            write(dst, tile, rows, Some(bias), NONE, |x, bias, _, _| relu(x + bias), round);
        }
        Epilogue::BiasResidual(bias, residual) => {
            let sum = |x: f32, bias: f32, residual: f32, _| x + bias + residual;
            write(dst, tile, rows, Some(bias), Some(residual), sum, round);
        }
        Epilogue::Mask(mask) => {
            let masked = |x: f32, _, mask: f32, _| if mask > 0.0 { x } else { 0.0 };
            write(dst, tile, rows, None, Some(mask), masked, round);
        }
    }
}

/// Writes what `entry` makes of each sum, its bias, its entry in `other`, and the old entry.
#[inline(always)]
fn write<O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    tile: &Tile,
    rows: PlacedRows,
    bias: Option<&[f32]>,
    other: Option<MatRef<'_, M>>,
    entry: impl Fn(f32, f32, f32, f32) -> f32,
    round: impl Fn(&mut [O; COLUMNS], &[f32; COLUMNS]),
) {
    let PlacedRows { place: Place { row, column, .. }, rows } = rows;
    let width = COLUMNS.min(dst.columns - column);
    let bias = bias.map_or([0.0; COLUMNS], |bias| padded(&bias[column..][..width]));
    for i in rows {
        let sums = &tile.0[i];
        let entries = &mut dst.data[(row + i) * dst.stride + column..][..width];
        let other = other.map(|other| other.part_of_row(row + i, column, width));
        // Loops of a known length have no remainder.
        if let Some(entries) = entries.as_mut_array() {
            match other.and_then(<[M]>::as_array) {
                Some(other) => write_row(entries, sums, &bias, other, &entry, &round),
                None => write_row(entries, sums, &bias, &[M::default(); COLUMNS], &entry, &round),
            }
        } else {
            let mut whole = padded(entries);
            write_row(&mut whole, sums, &bias, &other.map_or([M::default(); COLUMNS], padded), &entry, &round);
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
    round: &impl Fn(&mut [O; COLUMNS], &[f32; COLUMNS]),
) {
    let mut x = [0.0; COLUMNS];
    for j in 0..COLUMNS {
        x[j] = entry(sums[j], bias[j], other[j].widen(), entries[j].widen());
    }
    round(entries, &x);
}

/// A part of a row, with zeros up to the width of a tile.
#[inline(always)]
fn padded<T: Operand>(entries: &[T]) -> [T; COLUMNS] {
    let mut padded = [T::default(); COLUMNS];
    padded[..entries.len()].copy_from_slice(entries);
    padded
}
