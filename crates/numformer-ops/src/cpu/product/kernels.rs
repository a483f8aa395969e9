//! The innermost loops of products, for each instruction set.
//!
//! A kernel adds the product of a few rows of the left operand and one panel of the right one to a [`Tile`]. Both
//! operands are counted in *units* of 32 bits along the axis that they share: one `f32`, or a pair of bf16. So the same
//! loops, over units, serve both types; they differ in the step that multiplies two units.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod plain;

use super::operand::Type;
use crate::cpu::simd::Level;

/// Number of columns in a panel, and in a tile.
pub(super) const COLUMNS: usize = 32;

/// Number of columns that kernels take at once, at least.
pub(super) const VECTOR: usize = 16;

/// The most rows of a tile.
pub(super) const ROWS: usize = 32;

/// The distance between rows of the left operand, in units, that most kernels are compiled for: with a constant
/// distance, one register holds the addresses of all rows. It is not a power of two, so that rows do not displace each
/// other in the cache.
pub(super) const STRIDE: usize = SPAN + 16;

/// The most units that such a kernel takes at once.
pub(super) const SPAN: usize = 512;

/// Panels have a whole number of blocks of so many units, the last filled up with zeros: what any kernel needs.
pub(super) const BLOCK: usize = 16;

/// The units of one panel at one place along the shared axis.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelRow(pub(super) [u32; COLUMNS]);

/// The sums of a few rows, for the columns of one panel.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Tile(pub(super) [[f32; COLUMNS]; ROWS]);

impl Tile {
    pub(super) fn zeros() -> Self {
        Self([[0.0; COLUMNS]; ROWS])
    }
}

/// A few lines of the left operand, and a panel of the right one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands<'a> {
    pub(super) left: &'a [u32],
    /// The distance between lines, each of adjacent units; or, by units, between the units of a line, where the same units
    /// of all lines are adjacent.
    pub(super) left_stride: usize,
    pub(super) panel: &'a [u32],
    /// The distance between the units of one place along the shared axis and those of the next.
    pub(super) panel_stride: usize,
    /// The number of units along the shared axis.
    pub(super) length: usize,
    /// The number of lines.
    pub(super) rows: usize,
    /// The number of columns of the panel that are needed.
    pub(super) columns: usize,
}

/// Work that a kernel calls between its own steps, in parts: the number of a part and that of all parts. It runs while
/// registers are busy.
pub(super) type Meanwhile<'a> = dyn FnMut(usize, usize) + 'a;

/// Loops that store sums in a tile, or add them to it.
type Loops = fn(Operands<'_>, bool, &mut Tile);

/// How a kernel runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    Loops(Loops),
    /// Sums begin at 0, and other work is done between the steps.
    Meanwhile(fn(Operands<'_>, &mut Tile, &mut Meanwhile<'_>)),
}

/// A kernel: its loops, and the sizes that they take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// The most rows of a call.
    pub(super) rows: usize,
    /// The rows that can be read are a multiple of this, even if fewer are asked for.
    pub(super) reads: usize,
    /// The distance between lines that the loops are compiled for; `None` if they take any.
    pub(super) stride: Option<usize>,
    /// The number of units must be a multiple of this.
    units: usize,
    begin: Option<fn()>,
    end: Option<fn()>,
    run: Run,
    /// The same for a left operand by units, with any distances.
    run_by_unit: Option<Loops>,
}

/// The time in which a thread may run a kernel.
#[derive(Debug)]
pub(super) struct Session<'a>(&'a Kernel);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(end) = self.0.end {
            end();
        }
    }
}

impl Kernel {
    /// A kernel of vectors.
    const fn of_vectors(rows: usize, by_line: Loops, by_unit: Loops) -> Self {
        Self {
            rows,
            reads: 1,
            stride: Some(STRIDE),
            units: 1,
            begin: None,
            end: None,
            run: Run::Loops(by_line),
            run_by_unit: Some(by_unit),
        }
    }

    /// The fastest kernel of `level` for operands of the given type.
    pub(super) fn new(level: Level, operands: Type) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if level.has_amx() && operands == Type::Bf16 {
                return amx::BF16;
            }
            if level.has_avx512() {
                return match operands {
                    Type::F32 => avx512::F32,
                    Type::Bf16 if level.has_avx512_bf16() => avx512::BF16,
                    Type::Bf16 => avx512::WIDENED,
                };
            }
            if level.has_avx2() {
                return match operands {
                    Type::F32 => avx2::F32,
                    Type::Bf16 => avx2::WIDENED,
                };
            }
        }
        let _ = level;
        match operands {
            Type::F32 => plain::F32,
            Type::Bf16 => plain::BF16,
        }
    }

    /// Whether the kernel reads left operands by units.
    pub(super) fn reads_by_unit(&self) -> bool {
        self.run_by_unit.is_some()
    }

    /// Prepares the processor's registers for calls on this thread.
    pub(super) fn begin(&self) -> Session<'_> {
        if let Some(begin) = self.begin {
            begin();
        }
        Session(self)
    }
}

impl Session<'_> {
    /// Divides `rows` rows into blocks for one call each: the first row of each, and its number of rows. Blocks are nearly
    /// equal, because a kernel of few rows waits for its own sums.
    pub(super) fn blocks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = rows.div_ceil(self.0.rows);
        (0..count).map(move |i| {
            let first = i * rows / count;
            (first, (i + 1) * rows / count - first)
        })
    }

    /// Stores the product of the operands in the first rows of `tile`, or adds it to them, and calls all parts of
    /// `meanwhile`. The panel has [`COLUMNS`] columns.
    pub(super) fn run(&self, operands: Operands<'_>, add: bool, tile: &mut Tile, meanwhile: &mut Meanwhile<'_>) {
        let kernel = self.0;
        let Operands { left, left_stride, panel, panel_stride, length, rows, columns } = operands;
        if length == 0 {
            if !add {
                tile.0.fill([0.0; COLUMNS]);
            }
            return meanwhile(0, 1);
        }
        // Unsafe code relies on these.
        assert!(0 < rows && rows <= kernel.rows && columns <= COLUMNS && length.is_multiple_of(kernel.units));
        assert!(kernel.stride.is_none_or(|stride| stride == left_stride) && panel_stride == COLUMNS);
        assert!((rows.next_multiple_of(kernel.reads) - 1) * left_stride + length <= left.len());
        assert!(length * COLUMNS <= panel.len());
        match kernel.run {
            Run::Loops(run) => {
                meanwhile(0, 1);
                run(operands, add, tile);
            }
            Run::Meanwhile(run) => {
                assert!(!add, "lines of any length are one span");
                run(operands, tile, meanwhile);
            }
        }
    }

    /// Stores the product of operands, the left one by units, in the first rows of `tile`. The panel has 16 columns, or
    /// [`COLUMNS`] if more are needed.
    pub(super) fn run_by_unit(&self, operands: Operands<'_>, tile: &mut Tile) {
        let kernel = self.0;
        let Operands { left, left_stride, panel, panel_stride, length, rows, columns } = operands;
        if length == 0 {
            return tile.0.fill([0.0; COLUMNS]);
        }
        // Unsafe code relies on these.
        assert!(0 < rows && rows <= kernel.rows && columns <= COLUMNS);
        assert!((length - 1) * left_stride + rows <= left.len());
        assert!((length - 1) * panel_stride + columns.next_multiple_of(VECTOR) <= panel.len());
        let run = kernel.run_by_unit.expect("the caller has asked whether there is such a kernel");
        run(operands, false, tile);
    }
}
