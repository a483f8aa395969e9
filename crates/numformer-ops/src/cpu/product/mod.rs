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
#[cfg(target_arch = "x86_64")]
pub(crate) use self::operand::Type;
pub use self::panels::Panels;

use std::cell::RefCell;
use std::mem;

use self::epilogue::{Place, finish};
use self::kernels::{BLOCK, COLUMNS, Kernel, PanelRow, Rows, SPAN, Session, Tile};
use self::lines::{Lines, Part};
use self::operand::as_units;
use super::matrix::{MatMut, MatRef};
use super::simd::Level;

/// Bytes of panels that are multiplied by each block of rows in turn, so that they stay in the innermost cache.
const INNERMOST: usize = 1 << 15;

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
    dst: MatMut<'_, O>,
    left: MatRef<'_, L>,
    right: MatRef<'_, R>,
    epilogue: &Epilogue<'_>,
) {
    let mut panels = Panels::<E>::reusing(RIGHT.take());
    panels.pack(right);
    multiply_packed(dst, left, &panels, epilogue);
    RIGHT.set(panels.into_rows());
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
    let [inner, columns] = right.sizes();
    assert!(
        left.rows == dst.rows && columns == dst.columns && left.columns == inner,
        "{}×{} product of {}×{} and {inner}×{columns}",
        dst.rows,
        dst.columns,
        left.rows,
        left.columns,
    );
    epilogue.check([dst.rows, dst.columns]);
    let kernel = Kernel::new(Level::detect(), E::TYPE);
    let session = kernel.begin();
    let lines = Lines::rows(left);
    let layout = Layout::new(&kernel, lines.units::<E>());
    let mut room = Room::take();
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
    if kernel.reads_by_unit() && lines.are_adjacent() && lines.length > 0 {
        let layout = layout.by_unit(&kernel);
        let copy = layout.of(memory);
        while next < left.rows {
            let rows = layout.rows.min(left.rows - next);
            let blocks = copy.chunks_exact_mut(layout.units * BLOCK);
            for ((row, _), copy) in session.blocks(rows).zip(blocks) {
                let line = next + row;
                // Rows of the next block do no harm, and whole vectors are copied faster.
                let part = Part { line, lines: BLOCK.min(left.rows - line), unit: 0, units: layout.units };
                lines.write_by_unit::<E>(copy, BLOCK, part);
            }
            multiply_by_unit(&mut dst, &session, copy, [next, rows], right, &mut tiles[0], epilogue);
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
                    let panel = &panel[span * layout.span..panel.len().min((span + 1) * layout.span)];
                    let begin = (span * layout.rows + row) * layout.stride;
                    // Without a shared axis, there are no units.
                    let units = &units[begin.min(units.len())..];
                    let left = Rows { units, rows: count, stride: layout.stride, columns };
                    if span + 1 < spans {
                        session.run(left, panel, span > 0, tile, &mut |_, _| ());
                    } else {
                        session.run(left, panel, span > 0, tile, &mut finish_previous);
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

/// The product of some rows, copied by units in blocks, and all panels.
fn multiply_by_unit<E: Operand, O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    session: &Session<'_>,
    units: &[u32],
    [first, rows]: [usize; 2],
    right: &Panels<E>,
    tile: &mut Tile,
    epilogue: &Epilogue<'_, M>,
) {
    for at in 0..right.count() {
        let columns = COLUMNS.min(dst.columns - at * COLUMNS);
        for (block, (row, count)) in session.blocks(rows).enumerate() {
            let left = Rows { units: &units[block * right.height() * BLOCK..], rows: count, stride: BLOCK, columns };
            session.run_by_unit(left, right.panel(at), tile);
            let place = Place { row: first + row, rows: count, column: at * COLUMNS };
            finish(dst, tile, place.part(0, 1), epilogue);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests;
