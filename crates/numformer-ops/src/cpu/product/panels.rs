//! The right operand of a product, packed.

use std::marker::PhantomData;

use super::kernels::{BLOCK, COLUMNS, PanelRow};
use super::lines::{Lines, Part};
use super::operand::{Operand, Type, Unit, Widened};
use crate::cpu::matrix::MatRef;
use crate::cpu::simd::Level;

/// The right operand of a product, in panels of 32 columns: for each place along the shared axis, the entries of these
/// columns are adjacent. A weight is packed once for many products.
///
/// # Examples
/// ```
/// use numformer_ops::Activation;
/// use numformer_ops::kernels::{Panels, linear_rows};
///
/// let weight = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0]; // three outputs of two inputs each
/// let mut weight_t = Panels::<f32>::default();
/// weight_t.pack_transpose(&weight, 2);
///
/// let mut y = [0f32; 3];
/// linear_rows(&mut y, &[1f32, -1.0], &weight_t, &[0.0, 0.5, 2.0], Activation::Relu);
/// assert_eq!(y, [0.0, 0.0, 1.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Panels<E> {
    rows: Vec<PanelRow>,
    /// The number of rows and columns of the matrix.
    sizes: [usize; 2],
    /// Whether units are [`Widened`].
    are_widened: bool,
    operand: PhantomData<E>,
}

impl<E> Default for Panels<E> {
    fn default() -> Self {
        Self { rows: Vec::new(), sizes: [0; 2], are_widened: false, operand: PhantomData }
    }
}

impl<E: Operand> Panels<E> {
    /// Packs a row-major matrix of `columns` columns, in place of what was packed before. How bf16 is packed depends on this
    /// thread's [`Level`], which products by it follow where they must.
    pub fn pack_rows<S: Operand>(&mut self, matrix: &[S], columns: usize) {
        self.pack(MatRef::filling(matrix, columns));
    }

    /// [`Panels::pack_rows`] of the transpose of a row-major matrix of `columns` columns.
    pub fn pack_transpose<S: Operand>(&mut self, matrix: &[S], columns: usize) {
        self.pack(MatRef::filling(matrix, columns).t());
    }

    /// Packs `right`, in place of what was packed before: bf16 as `f32` if the level of this thread has no instructions for it.
    pub(crate) fn pack<S: Operand>(&mut self, right: MatRef<'_, S>) {
        self.are_widened = E::TYPE == Type::Bf16 && !Level::detect().has_bf16();
        if self.are_widened { self.pack_units::<Widened, S>(right) } else { self.pack_units::<E, S>(right) }
    }

    fn pack_units<U: Unit, S: Operand>(&mut self, right: MatRef<'_, S>) {
        let lines = Lines::columns(right);
        self.sizes = [lines.length, lines.lines];
        let height = self.height();
        // What the memory held is never read, except in columns past the last, whose sums are not used.
        let len = lines.lines.div_ceil(COLUMNS) * height;
        self.rows.resize(self.rows.len().max(len), PanelRow([0; COLUMNS]));
        for (panel, rows) in self.rows[..len].chunks_exact_mut(height.max(1)).enumerate() {
            let line = panel * COLUMNS;
            let part = Part { line, lines: COLUMNS.min(lines.lines - line), unit: 0, units: height };
            lines.write_by_unit::<U>(units_mut(rows), COLUMNS, part);
        }
    }

    /// Whether the numbers are bf16 as `f32`.
    pub(super) fn are_widened(&self) -> bool {
        self.are_widened
    }

    /// The number of rows and columns of the matrix.
    pub(crate) fn sizes(&self) -> [usize; 2] {
        self.sizes
    }

    /// Nothing packed yet, with memory that another had.
    pub(super) fn reusing(rows: Vec<PanelRow>) -> Self {
        Self { rows, ..Self::default() }
    }

    pub(super) fn into_rows(self) -> Vec<PanelRow> {
        self.rows
    }

    /// Number of units in a panel: a whole number of blocks.
    fn height(&self) -> usize {
        let in_unit = if self.are_widened { Widened::IN_UNIT } else { E::IN_UNIT };
        self.sizes[0].div_ceil(in_unit).next_multiple_of(BLOCK)
    }

    /// Number of panels.
    fn count(&self) -> usize {
        self.sizes[1].div_ceil(COLUMNS)
    }

    /// A panel, and all after it.
    pub(super) fn panel(&self, panel: usize) -> Panel<'_> {
        let units = units(&self.rows[panel * self.height()..self.count() * self.height()]);
        Panel { units, stride: COLUMNS, gap: self.height() * COLUMNS }
    }
}

/// A panel, and all after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel<'a> {
    pub(super) units: &'a [u32],
    /// The distance between the units of one place along the shared axis and those of the next.
    pub(super) stride: usize,
    /// The distance between the panel and the next.
    pub(super) gap: usize,
}

/// The units of panel rows, one row after another.
fn units(rows: &[PanelRow]) -> &[u32] {
    #[expect(unsafe_code, reason = "the standard library has no safe cast of slices")]
    // SAFETY: a row is an array of units without padding, and the slices have the same memory.
    unsafe {
        std::slice::from_raw_parts(rows.as_ptr().cast(), rows.len() * COLUMNS)
    }
}

/// [`units`], mutably.
fn units_mut(rows: &mut [PanelRow]) -> &mut [u32] {
    #[expect(unsafe_code, reason = "the standard library has no safe cast of slices")]
    // SAFETY: as in `units`; the first slice is borrowed as long as the second.
    unsafe {
        std::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), rows.len() * COLUMNS)
    }
}
