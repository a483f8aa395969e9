//! Operands as units, in the order in which kernels read them.

use std::cell::RefCell;

use super::kernels::{BLOCK, COLUMNS};
use super::operand::{Operand, Unit, as_units};
use super::transpose::transpose;
use crate::cpu::matrix::MatRef;
use crate::cpu::simd::{fetch, vectorized};

/// The most lines and units that are transposed at once, so that they stay in the innermost cache.
const STAGED: usize = 32;

/// The number of blocks of lines that are copied at once, so that whole lines of the cache are read: with 8, weight gradients
/// of 1,024 rows are a tenth faster than with 1.
const BLOCKS_TOGETHER: usize = 8;

/// While the entries of some lines are copied, those so many places further are fetched: processors do not foresee what lies in
/// other pages of memory. Gradients of weights of 1,024 and 2,048 outputs are 4 to 8% faster with it.
const AHEAD: usize = 8;

/// A transposed operand is read where it lies if the units of a line are at most so far apart, or the product has at most
/// so many columns. A copy brings together what lies in many pages of memory, and pays if many panels read it.
const NEAR: usize = 128;
const FEW_COLUMNS: usize = 4 * COLUMNS;

thread_local! {
    /// What is transposed next: a part is written before it is read.
    static STAGE: RefCell<[u32; STAGED * STAGED]> = const { RefCell::new([0; STAGED * STAGED]) };
}

/// An operand by its lines: the rows of a left operand, or the columns of a right one. Lines run along the axis that
/// the operands share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'a, S> {
    pub(super) entries: &'a [S],
    pub(super) lines: usize,
    pub(super) length: usize,
    /// The distance between lines, and between the entries of a line. One of them is 1.
    pub(super) line_stride: usize,
    pub(super) stride: usize,
}

/// Some units of some lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The first line, and the number of lines.
    pub(super) line: usize,
    pub(super) lines: usize,
    /// The first unit of each line, and the number of units. They may go past the end.
    pub(super) unit: usize,
    pub(super) units: usize,
}

impl Part {
    /// The parts that are transposed one after another, each with its place in this part.
    fn staged(self, most: usize) -> impl Iterator<Item = ([usize; 2], Self)> {
        (0..self.lines).step_by(most).flat_map(move |i| {
            (0..self.units).step_by(most).map(move |u| {
                let (lines, units) = (most.min(self.lines - i), most.min(self.units - u));
                ([i, u], Self { line: self.line + i, lines, unit: self.unit + u, units })
            })
        })
    }
}

impl<'a, S: Operand> Lines<'a, S> {
    pub(super) fn rows(left: MatRef<'a, S>) -> Self {
        let MatRef { data, rows, columns, row_stride, column_stride } = left;
        Self { entries: data, lines: rows, length: columns, line_stride: row_stride, stride: column_stride }
    }

    pub(super) fn columns(right: MatRef<'a, S>) -> Self {
        Self::rows(right.t())
    }

    /// Whether lines are adjacent: units of one place along all lines are copied faster than those of a line.
    pub(super) fn are_adjacent(&self) -> bool {
        self.line_stride == 1 && self.stride != 1
    }

    /// The units where they lie, if they need no conversion, for a product of so many columns.
    pub(super) fn in_place<E: Unit>(&self, columns: usize) -> Option<&'a [u32]> {
        let is_far = self.are_adjacent() && self.stride > NEAR && columns > FEW_COLUMNS;
        if is_far { None } else { self.as_whole_units::<E>() }
    }

    /// The units, if they need no conversion: lines of whole ones.
    fn as_whole_units<E: Unit>(&self) -> Option<&'a [u32]> {
        let are_whole = [self.length, self.line_stride].iter().all(|size| size.is_multiple_of(E::IN_UNIT));
        if E::is_filled_by::<S>() && (E::IN_UNIT == 1 || self.stride == 1 && are_whole) {
            as_units(self.entries)
        } else {
            None
        }
    }

    /// The units where they lie, if each line is a whole number of blocks and begins with a line of the cache.
    pub(super) fn in_blocks<E: Unit>(&self) -> Option<&'a [u32]> {
        let are_blocks = [self.length, self.line_stride].iter().all(|size| size.is_multiple_of(E::IN_UNIT * BLOCK));
        let units = self.as_whole_units::<E>().filter(|units| units.as_ptr().align_offset(64) == 0);
        if self.stride == 1 && are_blocks { units } else { None }
    }

    /// Number of units in a line of operands of type `E`.
    pub(super) fn units<E: Unit>(&self) -> usize {
        self.length.div_ceil(E::IN_UNIT)
    }

    /// Writes a part by lines: the units of a line are adjacent, and lines are `stride` apart. Units past the end of a
    /// line are 0.
    pub(super) fn write_by_line<E: Unit>(&self, to: &mut [u32], stride: usize, part: Part) {
        if self.stride == 1 {
            return copy_lines(to, stride, *self, part, E::default());
        }
        STAGE.with_borrow_mut(|staged| {
            for ([i, u], part) in part.staged(STAGED) {
                interleave_lines(staged, STAGED, *self, part, E::default());
                transpose(&mut to[i * stride + u..], stride, staged, STAGED, [part.units, part.lines]);
            }
        });
    }

    /// Writes blocks of lines by units: each block begins with one of `firsts`, and has `room` lines, as far as there are so
    /// many. Blocks are `apart` units apart. Lines are adjacent, so that those of a few blocks share lines of the cache.
    pub(super) fn write_blocks_by_unit<E: Unit>(
        &self,
        to: &mut [u32],
        [apart, room]: [usize; 2],
        mut firsts: impl Iterator<Item = usize>,
    ) {
        for to in to.chunks_mut(BLOCKS_TOGETHER * apart) {
            let mut some = [0; BLOCKS_TOGETHER];
            let mut count = 0;
            for first in firsts.by_ref().take(BLOCKS_TOGETHER) {
                some[count] = first;
                count += 1;
            }
            if count == 0 {
                return;
            }
            interleave_blocks(to, [apart, room], *self, &some[..count], E::default());
        }
    }

    /// Writes a part by units: the same units of all lines are adjacent, and units are `stride` apart. Units past the end
    /// of a line are 0.
    pub(super) fn write_by_unit<E: Unit>(&self, to: &mut [u32], stride: usize, part: Part) {
        if self.stride != 1 || self.line_stride == 1 {
            return interleave_lines(to, stride, *self, part, E::default());
        }
        if let Some(from) = self.as_whole_units::<E>() {
            let whole = self.units::<E>().saturating_sub(part.unit).min(part.units);
            let from_stride = self.line_stride / E::IN_UNIT;
            let begin = (part.line * from_stride + part.unit).min(from.len());
            transpose(to, stride, &from[begin..], from_stride, [part.lines, whole]);
            for u in whole..part.units {
                to[u * stride..][..part.lines].fill(0);
            }
            return;
        }
        STAGE.with_borrow_mut(|staged| {
            for ([i, u], part) in part.staged(STAGED) {
                copy_lines(staged, STAGED, *self, part, E::default());
                transpose(&mut to[u * stride + i..], stride, staged, STAGED, [part.lines, part.units]);
            }
        });
    }
}

vectorized! {
    /// [`Lines::write_by_line`] where the entries of a line are adjacent. The last argument only says of what type the
    /// units are.
    fn copy_lines[S: Operand, E: Unit](
        to: &mut [u32],
        stride: usize,
        from: Lines<'_, S>,
        part: Part,
        _units: E,
    ) {
        let Part { line: first, lines, unit, units } = part;
        let begin = unit * E::IN_UNIT;
        let length = from.length.saturating_sub(begin).min(units * E::IN_UNIT);
        for line in 0..lines {
            let entries = &from.entries[(first + line) * from.line_stride + begin..][..length];
            let to = &mut to[line * stride..][..units];
            let whole = length / E::IN_UNIT;
            E::write_units(&mut to[..whole], &entries[..whole * E::IN_UNIT]);
            to[whole..].fill(0);
            if whole * E::IN_UNIT < length {
                to[whole] = E::unit(E::of(entries[length - 1]), E::default());
            }
        }
    }
}

vectorized! {
    /// [`Lines::write_blocks_by_unit`] for a few blocks. The last argument only says of what type the units are.
    fn interleave_blocks[S: Operand, E: Unit](
        to: &mut [u32],
        sizes: [usize; 2],
        from: Lines<'_, S>,
        firsts: &[usize],
        _units: E,
    ) {
        // Numbers of lines that the compiler knows take a few instructions.
        match sizes {
            [apart, 4] => interleave_blocks_of::<S, E, 4>(to, apart, from, firsts),
            [apart, 8] => interleave_blocks_of::<S, E, 8>(to, apart, from, firsts),
            [apart, 16] => interleave_blocks_of::<S, E, 16>(to, apart, from, firsts),
            _ => panic!("expected room for 4, 8 or 16 lines"),
        }
    }
}

/// [`interleave_blocks`] of so many lines.
#[inline(always)]
fn interleave_blocks_of<S: Operand, E: Unit, const LINES: usize>(
    to: &mut [u32],
    apart: usize,
    from: Lines<'_, S>,
    firsts: &[usize],
) {
    let none = [S::default(); LINES];
    let span = firsts[0]..firsts[firsts.len() - 1] + LINES;
    for u in 0..from.length.div_ceil(E::IN_UNIT) {
        let (at, next) = (u * E::IN_UNIT, (u + 1) * E::IN_UNIT - 1);
        for ahead in at + AHEAD..at + AHEAD + E::IN_UNIT {
            fetch(from.entries, ahead * from.stride + span.start..ahead * from.stride + span.end);
        }
        let row = &from.entries[at * from.stride..];
        // The last unit may be half empty.
        let next = if next < from.length { Some(&from.entries[next * from.stride..]) } else { None };
        for (first, to) in firsts.iter().zip(to.chunks_mut(apart)) {
            let to = &mut to[u * LINES..];
            let a = row[*first..].first_chunk::<LINES>();
            let b = next.map_or(Some(&none), |next| next[*first..].first_chunk::<LINES>());
            if let (Some(a), Some(b), Some(to)) = (a, b, to.first_chunk_mut::<LINES>()) {
                // What is copied past a block's last line is never read. Entries are taken before units are written: only
                // then do compilers know that one does not change the other, and use vectors.
                let (a, b) = (*a, *b);
                write_pairs::<S, E>(to, &a, &b);
            } else {
                let width = LINES.min(from.lines - first);
                let b = next.map_or(&none[..width], |next| &next[*first..][..width]);
                write_pairs::<S, E>(&mut to[..width], &row[*first..][..width], b);
            }
        }
    }
}

vectorized! {
    /// [`Lines::write_by_unit`] where lines are adjacent, or anything else. The last argument only says of what type the
    /// units are.
    fn interleave_lines[S: Operand, E: Unit](
        to: &mut [u32],
        stride: usize,
        from: Lines<'_, S>,
        part: Part,
        _units: E,
    ) {
        let Part { line: first, lines, unit, units } = part;
        let mut done = 0;
        if from.line_stride == 1 {
            // Panels, whose width the compiler knows, take a few instructions.
            done = (from.length / E::IN_UNIT).saturating_sub(unit).min(units);
            let entries = &from.entries[(unit * E::IN_UNIT * from.stride).min(from.entries.len())..];
            let from = (&entries[first.min(entries.len())..], from.stride);
            match lines {
                32 => interleave_rows::<S, E>(to, stride, from, done, 32),
                lines => interleave_rows::<S, E>(to, stride, from, done, lines),
            }
        }
        for u in done..units {
            let at = (unit + u) * E::IN_UNIT;
            for (line, to) in to[u * stride..][..lines].iter_mut().enumerate() {
                let begin = (first + line) * from.line_stride;
                let entry = |at: usize| {
                    if at < from.length { E::of(from.entries[begin + at * from.stride]) } else { E::default() }
                };
                *to = E::unit(entry(at), entry(at + E::IN_UNIT - 1));
            }
        }
    }
}

/// Writes `units` rows of the first `width` lines, which are adjacent.
#[inline(always)]
fn interleave_rows<S: Operand, E: Unit>(
    to: &mut [u32],
    stride: usize,
    (from, from_stride): (&[S], usize),
    units: usize,
    width: usize,
) {
    for u in 0..units {
        let row = |at: usize| &from[(u * E::IN_UNIT + at) * from_stride..][..width];
        write_pairs::<S, E>(&mut to[u * stride..][..width], row(0), row(E::IN_UNIT - 1));
    }
}

/// The units of entries at one place along the lines, and at the next if a unit has two.
#[inline(always)]
fn write_pairs<S: Operand, E: Unit>(to: &mut [u32], a: &[S], b: &[S]) {
    for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
        *to = E::unit(E::of(*a), E::of(*b));
    }
}
