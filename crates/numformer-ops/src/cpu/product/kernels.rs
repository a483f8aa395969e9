//! The innermost loops of products, for each instruction set.
//!
//! A kernel stores the product of a few rows of the left operand and one or two panels of the right one, after what
//! [`Sums`] say, in its place or in a [`Tile`]. Both operands are counted in *units* of 32 bits along the axis that they
//! share: one `f32`, or a pair of bf16. So the same loops, over units, serve both types; they differ in the step that
//! multiplies two units.

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

/// A few lines of the left operand, and one panel or two of the right one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operands<'a> {
    pub(super) left: &'a [u32],
    /// The distance between lines, and between the units of a line.
    pub(super) left_strides: [usize; 2],
    pub(super) panel: &'a [u32],
    /// The distance between the units of one place along the shared axis and those of the next.
    pub(super) panel_stride: usize,
    /// The distance between this panel and the next, whose columns may be needed, too.
    pub(super) panel_gap: usize,
    /// The number of units along the shared axis.
    pub(super) length: usize,
    /// The number of lines.
    pub(super) rows: usize,
    /// The number of columns that are needed: of one panel, or all of two.
    pub(super) columns: usize,
}

impl Operands<'_> {
    /// # Panics
    /// When a slice is shorter than the sizes say. Kernels of vectors read 16 columns, 32, or 64.
    fn check(&self) {
        let Self { left, left_strides: [line, unit], panel, panel_stride, panel_gap, length, rows, columns } = *self;
        assert!(0 < rows && 0 < columns && (columns <= COLUMNS || columns == 2 * COLUMNS), "expected one panel or two");
        if length > 0 {
            let last = (rows - 1).strict_mul(line).strict_add((length - 1).strict_mul(unit));
            assert!(last < left.len(), "expected {rows} lines of {length} units");
            let gap = if columns > COLUMNS { panel_gap } else { 0 };
            let last = (length - 1).strict_mul(panel_stride).strict_add(gap);
            let last = last.strict_add(columns.next_multiple_of(VECTOR).min(COLUMNS));
            assert!(last <= panel.len(), "expected a panel of {length} units");
        }
    }
}

/// Where the sums of a tile begin, what happens to them, and where they go: s becomes max(scale·s + bias, floor), or 0
/// where the mask is not positive.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    pub(super) to: &'a mut [f32],
    /// The distance between rows of `to`.
    pub(super) stride: usize,
    pub(super) begin: Begin<'a>,
    pub(super) scale: f32,
    pub(super) bias: &'a [f32],
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

/// A row of zeros.
static ZEROS: [f32; 2 * COLUMNS] = [0.0; 2 * COLUMNS];

impl<'a> Sums<'a> {
    /// Sums as they are.
    pub(super) fn plain(to: &'a mut [f32], stride: usize) -> Self {
        Self { to, stride, begin: Begin::Zero, scale: 1.0, bias: &ZEROS, floor: f32::NEG_INFINITY, mask: None }
    }

    /// What the sums of a row begin with.
    fn begin(&self, row: usize, columns: usize) -> &[f32] {
        match self.begin {
            Begin::Zero => &ZEROS[..columns],
            Begin::Old => &self.to[row * self.stride..][..columns],
            Begin::Matrix(matrix, stride) => &matrix[row * stride..][..columns],
        }
    }

    /// # Panics
    /// When a slice is shorter than `rows` rows of whole vectors.
    #[cfg(target_arch = "x86_64")]
    fn ends(self, rows: usize, columns: usize) -> Ends {
        let Self { to, stride: to_stride, begin, scale, bias, floor, mask } = self;
        let columns = columns.next_multiple_of(VECTOR);
        let check = |entries: &[f32], stride: usize| {
            let last = (rows - 1).strict_mul(stride).strict_add(columns);
            assert!(last <= entries.len(), "expected {rows} rows of {columns} entries");
        };
        check(to, to_stride);
        check(bias, 0);
        let to = to.as_mut_ptr();
        let (from, from_stride) = match begin {
            Begin::Zero => (ZEROS.as_ptr(), 0),
            Begin::Old => (to.cast_const(), to_stride),
            Begin::Matrix(matrix, stride) => {
                check(matrix, stride);
                (matrix.as_ptr(), stride)
            }
        };
        let (mask, mask_stride) = mask.map_or((std::ptr::null(), 0), |(mask, stride)| {
            check(mask, stride);
            (mask.as_ptr(), stride)
        });
        Ends { to, to_stride, from, from_stride, scale, bias: bias.as_ptr(), floor, mask, mask_stride }
    }
}

/// [`Sums`] as kernels of vectors take them. The mask may be null.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    to: *mut f32,
    to_stride: usize,
    from: *const f32,
    from_stride: usize,
    scale: f32,
    bias: *const f32,
    floor: f32,
    mask: *const f32,
    mask_stride: usize,
}

#[cfg(target_arch = "x86_64")]
impl Ends {
    /// The same without the first `column` columns.
    fn skipping(self, column: usize) -> Self {
        let mask = if self.mask.is_null() { self.mask } else { self.mask.wrapping_add(column) };
        let (to, from) = (self.to.wrapping_add(column), self.from.wrapping_add(column));
        Self { to, from, bias: self.bias.wrapping_add(column), mask, ..self }
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

/// A kernel: its loops, and the sizes that they take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// The most rows of a call with one panel.
    rows: usize,
    /// The most rows of a call with two panels, or 0.
    rows_of_two: usize,
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

impl Kernel {
    const fn plain(rows: usize, run: fn(Operands<'_>, Sums<'_>)) -> Self {
        Self { rows, rows_of_two: 0, run: Run::Plain(run) }
    }

    #[cfg(target_arch = "x86_64")]
    const fn of_vectors([rows, rows_of_two]: [usize; 2], run: unsafe fn(Operands<'_>, Ends)) -> Self {
        Self { rows, rows_of_two, run: Run::Vectors(run) }
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
    /// The most rows of a call with so many columns: 0 if there is no such call.
    pub(super) fn rows(&self, columns: usize) -> usize {
        if columns > COLUMNS { self.0.rows_of_two } else { self.0.rows }
    }

    /// Divides `rows` rows into blocks for one call each with so many columns: the first row of each, and its number of
    /// rows. Blocks are nearly equal, because a kernel of few rows waits for its own sums.
    pub(super) fn blocks(&self, rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = rows.div_ceil(self.rows(columns));
        (0..count).map(move |i| {
            let first = i * rows / count;
            (first, (i + 1) * rows / count - first)
        })
    }

    /// Stores the product of the operands, after what `sums` say.
    pub(super) fn run(&self, operands: Operands<'_>, sums: Sums<'_>) {
        operands.check();
        let most = self.rows(operands.columns);
        assert!(operands.rows <= most, "expected at most {most} rows");
        match self.0.run {
            Run::Plain(run) => run(operands, sums),
            #[cfg(target_arch = "x86_64")]
            Run::Vectors(run) => {
                let ends = sums.ends(operands.rows, operands.columns);
                #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
                // SAFETY: `Kernel::new` chooses this kernel where its features were detected. The operands and the ends reach
                // as far as their sizes say, as checked above and by `Sums::ends`.
                unsafe {
                    run(operands, ends);
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
