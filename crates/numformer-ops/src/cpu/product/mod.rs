//! Products of matrices: of `f32` or bf16, with sums in `f32`.
//!
//! The right operand is packed in [`Panels`]. The left one is read where it lies, or copied a few rows at a time. A
//! [kernel](kernels) of the processor's widest instruction set computes a tile of the product after another, and an
//! [`Epilogue`] adds a bias and the like on the way to memory.
//!
//! # Bits
//! Each entry is a sum in the order of the shared axis, so that it depends neither on the other rows and columns nor on
//! threads. With `f32` operands, kernels that have fused multiply-adds agree in every bit. With bf16, where products are
//! exact, all kernels do whose instructions are not made for bf16; those take their sums in an order of their own, and
//! denormal numbers as 0.

mod epilogue;
mod kernels;
mod lines;
mod operand;
mod panels;
mod transpose;

pub(crate) use self::epilogue::Epilogue;
#[cfg(target_arch = "x86_64")]
pub(crate) use self::kernels::amx::with_tiles;
pub(crate) use self::kernels::plain::multiply_add;
pub use self::operand::Operand;
pub(crate) use self::operand::Type;
pub use self::panels::Panels;

use std::cell::RefCell;
use std::mem;

use self::epilogue::{Place, finish};
use self::kernels::{BLOCK, COLUMNS, Kernel, Operands, PanelRow, SPAN, Session, Tile, VECTOR};
use self::lines::{Lines, Part};
use self::operand::as_units;
use super::matrix::{MatMut, MatRef};
use super::simd::Level;

/// Bytes of panels that are multiplied by each block of rows in turn, so that they stay in the innermost cache.
const INNERMOST: usize = 1 << 15;

/// A transposed operand is read where it lies if the units of a line are at most so far apart, or there are at most so many
/// columns. A copy brings together what lies in many pages of memory, and pays if many panels read it.
const NEAR: usize = 128;
const FEW: usize = 4 * COLUMNS;

thread_local! {
    /// Memory for products while they are computed: to allocate and clear it would take longer than a small product.
    static RIGHT: RefCell<Vec<PanelRow>> = const { RefCell::new(Vec::new()) };
    static ROOM: RefCell<Option<Box<Room>>> = const { RefCell::new(None) };
}

/// Memory for a product.
#[derive(Debug)]
struct Room {
    /// Rows of the left operand.
    left: Vec<u32>,
    /// A tile that is computed, and one that is written meanwhile.
    tiles: [Tile; 2],
}

impl Room {
    /// The memory of this thread.
    fn take() -> Box<Self> {
        let zeros = || Box::new(Self { left: Vec::new(), tiles: [Tile::zeros(), Tile::zeros()] });
        ROOM.take().unwrap_or_else(zeros)
    }
}

/// Stores the product of `left` and `right` as operands of type `E`, after what the epilogue does to it, on the calling
/// thread alone.
///
/// # Panics
/// When the shapes disagree.
pub(crate) fn multiply<E: Operand, L: Operand, R: Operand, O: Operand>(
    mut dst: MatMut<'_, O>,
    left: MatRef<'_, L>,
    right: MatRef<'_, R>,
    epilogue: &Epilogue<'_>,
) {
    if multiply_in_place::<E, _, _, _>(&mut dst, left, right, epilogue) {
        return;
    }
    let mut panels = Panels::<E>::reusing(RIGHT.take());
    panels.pack(right);
    multiply_packed(dst, left, &panels, epilogue);
    RIGHT.set(panels.into_rows());
}

/// [`multiply`] without packing anything, as far as a kernel can read both operands where they lie: the transpose of a
/// row-major matrix, and a row-major one of whole vectors.
fn multiply_in_place<E: Operand, L: Operand, R: Operand, O: Operand>(
    dst: &mut MatMut<'_, O>,
    left: MatRef<'_, L>,
    right: MatRef<'_, R>,
    epilogue: &Epilogue<'_>,
) -> bool {
    let kernel = Kernel::new(Level::detect(), E::TYPE);
    let is_transposed = left.row_stride == 1 && right.column_stride == 1;
    let is_exact = [E::TYPE, L::TYPE, R::TYPE] == [Type::F32; 3];
    if !is_exact || !is_transposed || !kernel.reads_by_unit() || !right.columns.is_multiple_of(VECTOR) {
        return false;
    }
    let Some(right_units) = as_units(right.data) else { return false };
    assert_agree([dst.rows, dst.columns], left, [right.rows, right.columns]);
    epilogue.check([dst.rows, dst.columns]);
    let mut room = Room::take();
    let session = kernel.begin();
    let panel = |at: usize| (&right_units[(at * COLUMNS).min(right_units.len())..], right.row_stride);
    multiply_transposed::<L, E, _, _>(dst, &kernel, &session, Lines::rows(left), panel, &mut room, epilogue);
    ROOM.set(Some(room));
    true
}

/// [`multiply`] by a matrix that is packed.
///
/// # Panics
/// When the shapes disagree.
pub(crate) fn multiply_packed<S: Operand, E: Operand, O: Operand, M: Operand>(
    mut dst: MatMut<'_, O>,
    left: MatRef<'_, S>,
    right: &Panels<E>,
    epilogue: &Epilogue<'_, M>,
) {
    assert_agree([dst.rows, dst.columns], left, right.sizes());
    epilogue.check([dst.rows, dst.columns]);
    let kernel = Kernel::new(Level::detect(), E::TYPE);
    let session = kernel.begin();
    let lines = Lines::rows(left);
    let layout = Layout::new(&kernel, lines.units::<E>());
    let mut room = Room::take();
    if kernel.reads_by_unit() && lines.are_adjacent() {
        let panel = |at: usize| (right.panel(at), COLUMNS);
        multiply_transposed::<S, E, _, _>(&mut dst, &kernel, &session, lines, panel, room.as_mut(), epilogue);
        ROOM.set(Some(room));
        return;
    }
    let Room { left: memory, tiles } = &mut *room;
    let mut next = 0;
    if let Some(units) = direct::<S, E>(&kernel, lines) {
        let layout = Layout { stride: lines.line_stride / E::IN_UNIT, ..layout };
        let whole = left.rows / kernel.reads * kernel.reads;
        while next < whole {
            let rows = layout.rows.min(whole - next);
            let units = &units[next * layout.stride..];
            multiply_rows(&mut dst, &session, layout, units, [next, rows], right, tiles, epilogue);
            next += rows;
        }
    }
    if next < left.rows {
        let copy = layout.of(memory);
        while next < left.rows {
            let rows = layout.rows.min(left.rows - next);
            for (span, copy) in copy.chunks_exact_mut(layout.rows * layout.stride).enumerate() {
                let unit = span * layout.span;
                let part = Part { line: next, lines: rows, unit, units: layout.span.min(layout.units - unit) };
                lines.write_by_line::<E>(copy, layout.stride, part);
            }
            multiply_rows(&mut dst, &session, layout, copy, [next, rows], right, tiles, epilogue);
            next += rows;
        }
    }
    ROOM.set(Some(room));
}

/// # Panics
/// When a product of these operands does not have so many rows and columns.
fn assert_agree<S>([rows, columns]: [usize; 2], left: MatRef<'_, S>, right: [usize; 2]) {
    assert!(
        [left.rows, right[1]] == [rows, columns] && left.columns == right[0],
        "{rows}×{columns} product of {}×{} and {}×{}",
        left.rows,
        left.columns,
        right[0],
        right[1],
    );
}

/// The units of the left operand where they lie, if the kernel can read them there: from the beginning of lines of the
/// cache, and as many as a panel has.
fn direct<'a, S: Operand, E: Operand>(kernel: &Kernel, lines: Lines<'a, S>) -> Option<&'a [u32]> {
    let is_whole = [lines.length, lines.line_stride].iter().all(|size| size.is_multiple_of(E::IN_UNIT * BLOCK));
    if S::TYPE == E::TYPE && kernel.stride.is_none() && lines.stride == 1 && is_whole {
        as_units(lines.entries).filter(|units| units.as_ptr().align_offset(64) == 0)
    } else {
        None
    }
}

/// How rows of the left operand lie in memory: in spans of units, and each span by rows.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The most rows at once: few enough to stay in the cache.
    rows: usize,
    /// The number of units in a row.
    units: usize,
    /// The most units in a span.
    span: usize,
    /// The distance between rows of a span.
    stride: usize,
    /// The number of units of a copy.
    len: usize,
}

impl Layout {
    /// The most units in a copy.
    const MOST: usize = 1 << 17;

    fn new(kernel: &Kernel, units: usize) -> Self {
        let units = units.next_multiple_of(BLOCK);
        let (span, stride) = match kernel.stride {
            Some(stride) => (SPAN, stride),
            None => (units.max(1), units + BLOCK),
        };
        let spans = units.div_ceil(span);
        let rows = Self::MOST / (spans.max(1) * stride);
        let rows = (rows / kernel.rows).max(1) * kernel.rows;
        Self { rows, units, span, stride, len: spans * rows * stride }
    }

    /// Rows by units instead: in blocks of as many rows as the kernel takes, one after another, without spans.
    fn by_unit(self, kernel: &Kernel) -> Self {
        let of_block = self.units.max(1) * BLOCK;
        let blocks = (Self::MOST / of_block).max(1);
        Self { rows: blocks * kernel.rows, span: self.units.max(1), stride: BLOCK, len: blocks * of_block, ..self }
    }

    fn spans(self) -> usize {
        self.units.div_ceil(self.span)
    }

    /// The copy within `memory`, at the beginning of a line of the cache.
    fn of(self, memory: &mut Vec<u32>) -> &mut [u32] {
        memory.resize(memory.len().max(self.len + BLOCK), 0);
        let skipped = memory.as_ptr().align_offset(64).min(BLOCK);
        &mut memory[skipped..skipped + self.len]
    }
}

/// The product of some rows, whose units lie as `layout` says, and all panels.
#[expect(clippy::too_many_arguments, reason = "the loops of one function, called at two places")]
fn multiply_rows<E: Operand, O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    session: &Session<'_>,
    layout: Layout,
    units: &[u32],
    [first, rows]: [usize; 2],
    right: &Panels<E>,
    tiles: &mut [Tile; 2],
    epilogue: &Epilogue<'_, M>,
) {
    let together = (INNERMOST / (right.height().max(1) * size_of::<PanelRow>())).max(1);
    let spans = layout.spans().max(1);
    // A tile is written while the next is computed, which need not wait for it.
    let [mut tile, mut previous] = tiles.each_mut();
    let mut pending: Option<Place> = None;
    for begin in (0..right.count()).step_by(together) {
        for (row, count) in session.blocks(rows) {
            for at in begin..right.count().min(begin + together) {
                let panel = right.panel(at);
                let columns = COLUMNS.min(dst.columns - at * COLUMNS);
                let mut finish_previous = |part: usize, parts: usize| {
                    if let Some(place) = pending {
                        finish(dst, previous, place.part(part, parts), epilogue);
                    }
                };
                for span in 0..spans {
                    let units_before = span * layout.span;
                    let length = layout.span.min(layout.units - units_before);
                    let begin = (span * layout.rows + row) * layout.stride;
                    let operands = Operands {
                        // Without a shared axis, there are no units.
                        left: &units[begin.min(units.len())..],
                        left_stride: layout.stride,
                        panel: &panel[units_before * COLUMNS..],
                        panel_stride: COLUMNS,
                        length,
                        rows: count,
                        columns,
                    };
                    if span + 1 < spans {
                        session.run(operands, span > 0, tile, &mut |_, _| ());
                    } else {
                        session.run(operands, span > 0, tile, &mut finish_previous);
                    }
                }
                pending = Some(Place { row: first + row, rows: count, column: at * COLUMNS });
                mem::swap(&mut tile, &mut previous);
            }
        }
    }
    if let Some(place) = pending {
        finish(dst, previous, place.part(0, 1), epilogue);
    }
}

/// The product of lines that are adjacent, read where they lie or copied by units, and all panels.
fn multiply_transposed<'p, S: Operand, E: Operand, O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    kernel: &Kernel,
    session: &Session<'_>,
    lines: Lines<'_, S>,
    panel: impl Fn(usize) -> (&'p [u32], usize),
    room: &mut Room,
    epilogue: &Epilogue<'_, M>,
) {
    let length = lines.units::<E>();
    let Room { left: memory, tiles: [tile, _] } = room;
    if S::TYPE == Type::F32
        && E::TYPE == Type::F32
        && (lines.stride <= NEAR || dst.columns <= FEW)
        && let Some(units) = as_units(lines.entries)
    {
        let line = |_, row: usize| (&units[row.min(units.len())..], lines.stride);
        return multiply_by_unit(dst, session, line, panel, [0, lines.lines], length, tile, epilogue);
    }
    let layout = Layout::new(kernel, length).by_unit(kernel);
    let copy = layout.of(memory);
    let of_block = layout.units.max(1) * BLOCK;
    for first in (0..lines.lines).step_by(layout.rows) {
        let rows = layout.rows.min(lines.lines - first);
        for ((row, _), copy) in session.blocks(rows).zip(copy.chunks_exact_mut(of_block)) {
            let line = first + row;
            // Rows of the next block do no harm, and whole vectors are copied faster.
            let part = Part { line, lines: BLOCK.min(lines.lines - line), unit: 0, units: layout.units };
            lines.write_by_unit::<E>(copy, BLOCK, part);
        }
        let line = |block: usize, _| (&copy[block * of_block..], BLOCK);
        multiply_by_unit(dst, session, line, &panel, [first, rows], length, tile, epilogue);
    }
}

/// The product of some rows, by units, and all panels. `line` gives the units of a block of rows from its number and its
/// first row on, and the distance between the units of a line; `panel` those of a panel, and their distance.
#[expect(clippy::too_many_arguments, reason = "the loops of one function, called at three places")]
fn multiply_by_unit<'l, 'p, O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    session: &Session<'_>,
    line: impl Fn(usize, usize) -> (&'l [u32], usize),
    panel: impl Fn(usize) -> (&'p [u32], usize),
    [first, rows]: [usize; 2],
    length: usize,
    tile: &mut Tile,
    epilogue: &Epilogue<'_, M>,
) {
    for at in 0..dst.columns.div_ceil(COLUMNS) {
        let columns = COLUMNS.min(dst.columns - at * COLUMNS);
        let (panel, panel_stride) = panel(at);
        for (block, (row, rows)) in session.blocks(rows).enumerate() {
            let (left, left_stride) = line(block, row);
            session.run_by_unit(Operands { left, left_stride, panel, panel_stride, length, rows, columns }, tile);
            finish(dst, tile, Place { row: first + row, rows, column: at * COLUMNS }.part(0, 1), epilogue);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests;
