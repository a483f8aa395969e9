//! Products of matrices: of `f32` or bf16, with sums in `f32`.
//!
//! The right operand is packed in [`Panels`], or read where it lies for few rows. The left one is read where it lies, or
//! copied some rows at a time. A [kernel](kernels) of the processor's widest instruction set multiplies some rows and some
//! panels after others, and an [`Epilogue`] adds a bias and the like on the way to memory: in the registers of a kernel of
//! vectors, if panels or all vectors are whole and the product is of `f32`; elsewhere through a tile.
//!
//! # Bits
//! Each entry is a sum in the order of the shared axis, so that it depends neither on the entries of other rows and columns
//! nor on threads. With kernels of vectors, old entries and a residual are what the sum begins with where registers
//! finish it; elsewhere, they are added to it. With `f32` operands, kernels that have fused multiply-adds agree in every bit.
//! With bf16, where products are exact, all kernels do whose instructions are not made for bf16; those take their sums in an
//! order of their own, and denormal numbers as 0.

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
use self::kernels::{BLOCK, COLUMNS, Kernel, Operands, PanelRow, ROWS, Session, Sums, Tile, VECTOR, blocks};
use self::lines::{Lines, Part};
use self::operand::{Unit, Widened, as_units};
use self::panels::Panel;
use super::matrix::{MatMut, MatRef};
use super::simd::Level;

/// The most units of the left operand that are copied at once: 1 MB. With a quarter of it, gradients of weights of 256 to 2,048
/// inputs or outputs, with 624 examples, are 2 to 8% slower with AVX-512 on an Intel Xeon of model 207, whose second cache has
/// room for twice as much.
const COPIED: usize = 1 << 18;

/// A right operand is read where it lies for a product of at most so many rows: for more, it pays to pack it.
const FEW_ROWS: usize = 64;

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
    let is_exact = [E::TYPE, L::TYPE, R::TYPE] == [Type::F32; 3];
    if is_exact && right.column_stride == 1 && right.columns.is_multiple_of(VECTOR) && left.rows <= FEW_ROWS {
        let units = as_units(right.data).expect("a unit is as large as an f32");
        assert_agree([dst.rows, dst.columns], left, [right.rows, right.columns]);
        let panel = |at: usize| {
            let units = &units[(at * COLUMNS).min(units.len())..];
            Panel { units, stride: right.row_stride, gap: COLUMNS }
        };
        return multiply_panels::<E, _, _, _>(&mut dst, left, panel, epilogue);
    }
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
    assert_agree([dst.rows, dst.columns], left, right.sizes());
    let panel = |at| right.panel(at);
    if right.are_widened() {
        multiply_panels::<Widened, _, _, _>(&mut dst, left, panel, epilogue);
    } else {
        multiply_panels::<E, _, _, _>(&mut dst, left, panel, epilogue);
    }
}

/// The product of `left` and panels.
fn multiply_panels<'p, E: Unit, S: Operand, O: Operand, M: Operand>(
    dst: &mut MatMut<'_, O>,
    left: MatRef<'_, S>,
    panel: impl Fn(usize) -> Panel<'p>,
    epilogue: &Epilogue<'_, M>,
) {
    epilogue.check([dst.rows, dst.columns]);
    let kernel = Kernel::new(Level::detect(), E::TYPE);
    let session = kernel.begin();
    let lines = Lines::rows(left);
    let mut room = Room::take();
    let mut product = Product { dst, session: &session, panel, length: lines.units::<E>(), epilogue };
    if kernel.has_tiles() {
        product.in_tiles::<E, _>(lines, &mut room);
    } else {
        product.in_vectors::<E, _>(lines, &mut room);
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

/// Rows of the left operand as kernels of vectors read them, in blocks of at most so many.
#[derive(Clone, Copy, Debug)]
struct Left<'a> {
    units: &'a [u32],
    /// The distance between the lines of a block, and between the units of a line.
    strides: [usize; 2],
    /// The most rows of a block.
    of_block: usize,
    /// The distance between blocks, if there are several.
    apart: usize,
}

/// What the loops of a product share.
struct Product<'a, 'd, O, M, P> {
    dst: &'a mut MatMut<'d, O>,
    session: &'a Session<'a>,
    panel: P,
    /// The number of units along the shared axis.
    length: usize,
    epilogue: &'a Epilogue<'a, M>,
}

impl<'p, O: Operand, M: Operand, P: Fn(usize) -> Panel<'p>> Product<'_, '_, O, M, P> {
    /// The product of lines and all panels in vectors.
    fn in_vectors<E: Unit, S: Operand>(&mut self, lines: Lines<'_, S>, room: &mut Room) {
        let Room { left: memory, tiles: [tile, _] } = room;
        if let Some(units) = lines.in_place::<E>(self.dst.columns) {
            let strides = [lines.line_stride, lines.stride].map(|stride| stride.div_ceil(E::IN_UNIT));
            let left = Left { units, strides, of_block: lines.lines, apart: 0 };
            return self.rows_in_vectors(left, [0, lines.lines], tile);
        }
        // An odd number of lines of the cache, so that rows, or blocks, do not displace each other there.
        let odd = |units: usize| (units.div_ceil(BLOCK) | 1) * BLOCK;
        // The copy has the order of the memory.
        if lines.are_adjacent() {
            let of_block = self.session.rows();
            // Whole vectors are copied faster.
            let padded = of_block.next_power_of_two();
            let apart = odd(padded * self.length);
            let most = (COPIED / apart).max(1) * of_block;
            for first in (0..lines.lines).step_by(most) {
                let rows = most.min(lines.lines - first);
                let copy = aligned(memory, rows.div_ceil(of_block) * apart);
                let firsts = blocks(rows, of_block).map(|(row, _)| first + row);
                lines.write_blocks_by_unit::<E>(copy, [apart, padded], firsts);
                let left = Left { units: copy, strides: [1, padded], of_block, apart };
                self.rows_in_vectors(left, [first, rows], tile);
            }
        } else {
            let stride = odd(self.length);
            let most = (COPIED / stride).max(1);
            for first in (0..lines.lines).step_by(most) {
                let rows = most.min(lines.lines - first);
                let copy = aligned(memory, rows * stride);
                let part = Part { line: first, lines: rows, unit: 0, units: self.length };
                lines.write_by_line::<E>(copy, stride, part);
                let left = Left { units: copy, strides: [stride, 1], of_block: rows, apart: 0 };
                self.rows_in_vectors(left, [first, rows], tile);
            }
        }
    }

    /// The product of some rows and all panels in vectors.
    fn rows_in_vectors(&mut self, left: Left<'_>, [first, rows]: [usize; 2], tile: &mut Tile) {
        let Left { units, strides, of_block, apart } = left;
        let columns = self.dst.columns;
        // Registers finish whole vectors. If the last is not whole, the sums of its panel go through a tile.
        let in_registers = if !self.epilogue.is_in_place::<O>() {
            0
        } else if columns.is_multiple_of(VECTOR) {
            columns
        } else {
            columns / COLUMNS * COLUMNS
        };
        // A kernel may take panels in pairs.
        let together = self.session.panels(self.length).next_multiple_of(2) * COLUMNS;
        for begin in (0..columns).step_by(together) {
            let end = columns.min(begin + together);
            for (block, (row, rows)) in blocks(rows, of_block).enumerate() {
                let units = &units[block * apart..];
                let place = Place { row: first + row, rows, column: begin };
                let done = end.min(in_registers.max(begin));
                if begin < done {
                    self.block_in_registers((units, strides), place, done - begin);
                }
                if done < end {
                    self.block_in_tiles((units, strides), Place { column: done, ..place }, end - done, tile);
                }
            }
        }
    }

    /// The operands for a block of rows and so many columns.
    fn operands<'l>(&self, left: (&'l [u32], [usize; 2]), block: Place, columns: usize) -> Operands<'l>
    where
        'p: 'l,
    {
        let (left, left_strides) = left;
        let Panel { units: panel, stride: panel_stride, gap: panel_gap } = (self.panel)(block.column / COLUMNS);
        let (length, rows) = (self.length, block.rows);
        Operands { left, left_strides, panel, panel_stride, panel_gap, length, rows, columns }
    }

    /// The product of a block of rows and so many columns, finished in registers.
    fn block_in_registers(&mut self, left: (&[u32], [usize; 2]), block: Place, columns: usize) {
        let operands = self.operands(left, block, columns);
        let sums = self.epilogue.in_place(self.dst, block, columns).expect("whole vectors of f32");
        self.session.run(operands, sums);
    }

    /// The product of a block of rows and so many columns, finished on the way from `tile`, a few rows and a panel at a time.
    fn block_in_tiles(
        &mut self,
        (units, strides): (&[u32], [usize; 2]),
        block: Place,
        columns: usize,
        tile: &mut Tile,
    ) {
        for (row, rows) in blocks(block.rows, self.session.rows()) {
            // Without a shared axis, there are no units.
            let left = (&units[(row * strides[0]).min(units.len())..], strides);
            for column in (0..columns).step_by(COLUMNS) {
                let place = Place { row: block.row + row, rows, column: block.column + column };
                self.block_in_tile(left, place, COLUMNS.min(columns - column), tile);
            }
        }
    }

    /// The product of a few rows and the columns of one panel, finished on the way from `tile`.
    fn block_in_tile(&mut self, left: (&[u32], [usize; 2]), block: Place, columns: usize, tile: &mut Tile) {
        let operands = self.operands(left, block, columns);
        self.session.run(operands, Sums::plain(tile.entries_mut(), COLUMNS));
        finish(self.dst, tile, block.part(0, 1), self.epilogue);
    }

    /// The product of lines and all panels in registers for tiles.
    fn in_tiles<E: Unit, S: Operand>(&mut self, lines: Lines<'_, S>, room: &mut Room) {
        let Room { left: memory, tiles } = room;
        // Panels have whole blocks.
        self.length = self.length.next_multiple_of(BLOCK);
        let mut next = 0;
        if let Some(units) = lines.in_blocks::<E>() {
            next = lines.lines / ROWS * ROWS;
            self.rows_in_tiles(units, lines.line_stride / E::IN_UNIT, [0, next], tiles);
        }
        let stride = self.length + BLOCK;
        let most = ((COPIED / stride / ROWS).max(1) * ROWS).min((lines.lines - next).next_multiple_of(ROWS));
        let copy = aligned(memory, most * stride);
        while next < lines.lines {
            let rows = most.min(lines.lines - next);
            lines.write_by_line::<E>(copy, stride, Part { line: next, lines: rows, unit: 0, units: self.length });
            self.rows_in_tiles(copy, stride, [next, rows], tiles);
            next += rows;
        }
    }

    /// The product of some rows and all panels in registers for tiles. The rows are adjacent units, as far apart as the
    /// stride says.
    fn rows_in_tiles(&mut self, units: &[u32], stride: usize, [first, rows]: [usize; 2], tiles: &mut [Tile; 2]) {
        let (count, together) = (self.dst.columns.div_ceil(COLUMNS), self.session.panels(self.length));
        // A tile is written while the next is computed, which need not wait for it.
        let [mut tile, mut previous] = tiles.each_mut();
        let mut pending: Option<Place> = None;
        for begin in (0..count).step_by(together) {
            for (row, rows) in blocks(rows, self.session.rows()) {
                for at in begin..count.min(begin + together) {
                    let block = Place { row: first + row, rows, column: at * COLUMNS };
                    // Without a shared axis, there are no units.
                    let left = &units[(row * stride).min(units.len())..];
                    let operands = self.operands((left, [stride, 1]), block, COLUMNS);
                    self.session.run_in_tiles(operands, tile, &mut |part, parts| {
                        if let Some(place) = pending {
                            finish(self.dst, previous, place.part(part, parts), self.epilogue);
                        }
                    });
                    pending = Some(block);
                    mem::swap(&mut tile, &mut previous);
                }
            }
        }
        if let Some(place) = pending {
            finish(self.dst, previous, place.part(0, 1), self.epilogue);
        }
    }
}

/// Some units of `memory`, from the beginning of a line of the cache on.
fn aligned(memory: &mut Vec<u32>, units: usize) -> &mut [u32] {
    memory.resize(memory.len().max(units + BLOCK), 0);
    let skipped = memory.as_ptr().align_offset(64).min(BLOCK);
    &mut memory[skipped..skipped + units]
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are exact")]
mod tests;
