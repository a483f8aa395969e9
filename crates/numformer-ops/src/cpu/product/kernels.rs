//! The innermost loops of products, for each instruction set.
//!
//! A kernel stores the product of some rows of the left operand and some panels of the right one, after what [`Sums`]
//! say, in its place or in a [`Tile`]. Both operands are counted in *units* of 32 bits along the axis that they
//! share: one `f32`, or a pair of bf16. So the same loops, over units, serve both types; they differ in the step that
//! multiplies two units. Where a level has no instructions for bf16, numbers are rounded to it, but are units of
//! `f32`.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod plain;

use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use std::ptr;

use super::operand::Type;
use crate::cpu::simd::Level;

/// Number of columns in a panel, and in a tile.
pub(super) const COLUMNS: usize = 32;

/// Number of columns that kernels take at once, at least.
pub(super) const VECTOR: usize = 16;

/// The most rows of a tile.
pub(super) const ROWS: usize = 32;

/// Panels have a whole number of blocks of so many units, the last filled up with zeros: what registers for tiles need. A
/// block is as long as a line of the cache.
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

    pub(super) fn entries_mut(&mut self) -> &mut [f32] {
        self.0.as_flattened_mut()
    }
}

/// Some lines of the left operand, and some panels of the right one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands<'a> {
    pub(super) left: &'a [u32],
    /// The distance between lines, and between the units of a line. One of them is 1.
    pub(super) left_strides: [usize; 2],
    pub(super) panel: &'a [u32],
    /// The distance between the units of one place along the shared axis and those of the next.
    pub(super) panel_stride: usize,
    /// The distance between a panel and the next.
    pub(super) panel_gap: usize,
    /// The number of units along the shared axis.
    pub(super) length: usize,
    /// The number of lines.
    pub(super) rows: usize,
    /// The number of columns that are needed: all of each panel but the last.
    pub(super) columns: usize,
}

impl Operands<'_> {
    /// # Panics
    /// When a slice is shorter than the sizes say. Kernels of vectors read 16 columns of the last panel, or 32.
    fn check(&self) {
        let Self { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, rows, columns } = *self;
        assert!(0 < rows && 0 < columns, "expected rows and columns");
        assert!(line == 1 || unit == 1, "expected adjacent lines or units");
        if length > 0 {
            let last = (rows - 1).strict_mul(line).strict_add((length - 1).strict_mul(unit));
            assert!(last < left.len(), "expected {rows} lines of {length} units");
            let before = (columns - 1) / COLUMNS;
            assert!(before == 0 || COLUMNS <= panel_gap, "expected panels beside each other");
            let last = (length - 1).strict_mul(panel_stride).strict_add(before.strict_mul(panel_gap));
            let last = last.strict_add((columns - before * COLUMNS).next_multiple_of(VECTOR));
            assert!(last <= panel.len(), "expected panels of {length} units for {columns} columns");
        }
    }

    /// Some rows and columns: from the first of a panel on.
    #[cfg(target_arch = "x86_64")]
    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        // Without a shared axis, there are no units.
        let left = self.left.get(rows.start * self.left_strides[0]..).unwrap_or_default();
        let panel = self.panel.get(columns.start / COLUMNS * self.panel_gap..).unwrap_or_default();
        Self { left, panel, rows: rows.len(), columns: columns.len(), ..self }
    }

    /// Whether the units of a line are adjacent.
    #[cfg(target_arch = "x86_64")]
    fn is_by_line(&self) -> bool {
        self.left_strides[1] == 1
    }
}

/// Where the sums of a block begin, what happens to them, and where they go: s becomes max(scale·s + bias, floor), or 0
/// where the mask is not positive.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    pub(super) to: &'a mut [f32],
    /// The distance between rows of `to`.
    pub(super) stride: usize,
    pub(super) begin: Begin<'a>,
    pub(super) scale: f32,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) floor: f32,
    /// A matrix and the distance between its rows.
    pub(super) mask: Option<(&'a [f32], usize)>,
}

/// What sums begin with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin<'a> {
    Zero,
    /// The entries that are there.
    Old,
    /// A matrix, with the distance between its rows.
    Matrix(&'a [f32], usize),
}

/// What kernels of vectors read, again and again, where there is no bias and, with AVX2, where sums begin with 0.
#[cfg(target_arch = "x86_64")]
static ZEROS: [f32; VECTOR] = [0.0; VECTOR];

impl<'a> Sums<'a> {
    /// Sums as they are.
    pub(super) fn plain(to: &'a mut [f32], stride: usize) -> Self {
        Self { to, stride, begin: Begin::Zero, scale: 1.0, bias: None, floor: f32::NEG_INFINITY, mask: None }
    }

    /// What the sums begin with, at some columns of a row.
    fn begin(&self, row: usize, columns: Range<usize>) -> Option<&[f32]> {
        match self.begin {
            Begin::Zero => None,
            Begin::Old => Some(&self.to[row * self.stride..][columns]),
            Begin::Matrix(matrix, stride) => Some(&matrix[row * stride..][columns]),
        }
    }

    /// # Panics
    /// When a slice is shorter than `rows` rows of whole vectors.
    #[cfg(target_arch = "x86_64")]
    fn ends(self, rows: usize, columns: usize) -> Ends {
        let Self { to, stride: to_stride, begin, scale, bias, floor, mask } = self;
        let columns = columns.next_multiple_of(VECTOR);
        let checked = |entries: &[f32], stride: usize| {
            let last = (rows - 1).strict_mul(stride).strict_add(columns);
            assert!(last <= entries.len(), "expected {rows} rows of {columns} entries");
            entries.as_ptr()
        };
        checked(to, to_stride);
        let to = to.as_mut_ptr();
        let (from, from_strides) = match begin {
            Begin::Zero => (ZEROS.as_ptr(), [0, 0]),
            Begin::Old => (to.cast_const(), [to_stride, 1]),
            Begin::Matrix(matrix, stride) => (checked(matrix, stride), [stride, 1]),
        };
        let (bias, bias_stride) = bias.map_or((ZEROS.as_ptr(), 0), |bias| (checked(bias, 0), 1));
        let (mask, mask_stride) = mask.map_or((ptr::null(), 0), |(mask, stride)| (checked(mask, stride), stride));
        Ends { to, to_stride, from, from_strides, scale, bias, bias_stride, floor, mask, mask_stride }
    }
}

/// [`Sums`] as kernels of vectors take them. The mask may be null. Vectors are as far apart as the strides of columns say,
/// which are 1, or 0 where one vector of zeros stands for all.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    to: *mut f32,
    to_stride: usize,
    from: *const f32,
    from_strides: [usize; 2],
    scale: f32,
    bias: *const f32,
    bias_stride: usize,
    floor: f32,
    mask: *const f32,
    mask_stride: usize,
}

#[cfg(target_arch = "x86_64")]
impl Ends {
    /// The same without the first rows and columns.
    fn skipping(self, row: usize, column: usize) -> Self {
        let Self { to, to_stride, from, from_strides, bias, bias_stride, mask, mask_stride, .. } = self;
        let to = to.wrapping_add(row * to_stride + column);
        let from = from.wrapping_add(row * from_strides[0] + column * from_strides[1]);
        let bias = bias.wrapping_add(column * bias_stride);
        let mask = if mask.is_null() { mask } else { mask.wrapping_add(row * mask_stride + column) };
        Self { to, from, bias, mask, ..self }
    }
}

/// Work that a kernel with tiles calls between its own steps, in parts: the number of a part and that of all parts. It runs
/// while registers are busy.
pub(super) type Meanwhile<'a> = dyn FnMut(usize, usize) + 'a;

/// How a kernel runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    /// In plain Rust.
    Plain(fn(Operands<'_>, Sums<'_>)),
    /// With vectors.
    #[cfg(target_arch = "x86_64")]
    Vectors(unsafe fn(Operands<'_>, Ends)),
    /// With registers for tiles, and other work between the steps.
    #[cfg(target_arch = "x86_64")]
    Tiles(fn(Operands<'_>, &mut Tile, &mut Meanwhile<'_>)),
}

/// A kernel: its loops, the most rows that these take at once, and the most bytes of panels by which all rows are multiplied
/// before the next panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    rows: usize,
    panel_bytes: usize,
    run: Run,
}

/// The time in which a thread may run a kernel.
#[derive(Debug)]
pub(super) struct Session<'a>(&'a Kernel);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.0.has_tiles() {
            amx::release();
        }
    }
}

/// Divides `rows` rows into blocks of at most so many: the first row of each, and its number of rows. Blocks are nearly equal,
/// because a kernel of few rows waits for its own sums.
pub(super) fn blocks(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most.max(1));
    (0..count).map(move |i| {
        let first = i * rows / count;
        (first, (i + 1) * rows / count - first)
    })
}

impl Kernel {
    /// The fastest kernel of `level` for operands of the given type. Pairs of bf16 are packed only where the processor has
    /// instructions for them, which are used even if `level` leaves them out by now.
    pub(super) fn new(level: Level, operands: Type) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let level = if operands == Type::Bf16 && !level.has_bf16() { Level::widest() } else { level };
            match operands {
                Type::F32 if level.has_avx512() => return avx512::F32,
                Type::F32 if level.has_avx2() => return avx2::F32,
                Type::Bf16 if level.has_amx() => return amx::BF16,
                Type::Bf16 if level.has_avx512_bf16() => return avx512::BF16,
                _ => {}
            }
        }
        let _ = level;
        assert!(operands == Type::F32, "expected instructions for bf16");
        plain::F32
    }

    /// Whether the kernel has registers for tiles: then it reads [`ROWS`] lines even if fewer are asked for, each of
    /// adjacent units, a whole number of blocks.
    pub(super) fn has_tiles(&self) -> bool {
        match self.run {
            #[cfg(target_arch = "x86_64")]
            Run::Tiles(_) => true,
            _ => false,
        }
    }

    /// Prepares the processor's registers for calls on this thread.
    pub(super) fn begin(&self) -> Session<'_> {
        #[cfg(target_arch = "x86_64")]
        if self.has_tiles() {
            amx::configure();
        }
        Session(self)
    }
}

impl Session<'_> {
    /// The most rows that the loops take at once.
    pub(super) fn rows(&self) -> usize {
        self.0.rows
    }

    /// The number of panels of so many units by which all rows are multiplied before the next ones: at least one.
    pub(super) fn panels(&self, length: usize) -> usize {
        (self.0.panel_bytes / (length.max(1) * size_of::<PanelRow>())).max(1)
    }

    /// Stores the product of the operands, after what `sums` say.
    pub(super) fn run(&self, operands: Operands<'_>, sums: Sums<'_>) {
        operands.check();
        match self.0.run {
            Run::Plain(run) => run(operands, sums),
            #[cfg(target_arch = "x86_64")]
            Run::Vectors(run) => {
                let Operands { rows, columns, .. } = operands;
                let ends = sums.ends(rows, columns);
                for (row, rows) in blocks(rows, self.rows()) {
                    #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
                    // SAFETY: `Kernel::new` chooses this kernel where its features were detected. There are rows, at most as
                    // many as the kernel has loops for, and one stride of the left operand is 1; the operands and the ends
                    // reach as far as their sizes say: all this was checked above and by `Sums::ends`.
                    unsafe {
                        run(operands.part(row..row + rows, 0..columns), ends.skipping(row, 0));
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Run::Tiles(_) => unreachable!("callers ask whether there are tiles"),
        }
    }

    /// Stores the product of the operands in `tile`, of whose rows only as many as there are lines have a meaning, and
    /// calls all parts of `meanwhile`.
    pub(super) fn run_in_tiles(&self, operands: Operands<'_>, tile: &mut Tile, meanwhile: &mut Meanwhile<'_>) {
        let Operands { left_strides, panel_stride, length, .. } = operands;
        if length == 0 {
            tile.0.fill([0.0; COLUMNS]);
            return meanwhile(0, 1);
        }
        // Unsafe code relies on what is checked.
        Operands { rows: ROWS, columns: COLUMNS, ..operands }.check();
        assert!(
            left_strides[1] == 1 && panel_stride == COLUMNS && length.is_multiple_of(BLOCK),
            "expected whole blocks"
        );
        match self.0.run {
            #[cfg(target_arch = "x86_64")]
            Run::Tiles(run) => run(operands, tile, meanwhile),
            _ => unreachable!("callers ask whether there are tiles"),
        }
    }
}
