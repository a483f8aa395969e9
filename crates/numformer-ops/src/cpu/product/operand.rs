//! The types of the operands of products.

use std::fmt::Debug;

use half::bf16;

/// A number that products take as an operand: `f32` or [`bf16`].
pub trait Operand: Sealed + Copy + Debug + Default + PartialEq + Send + Sync + 'static {
    /// The nearest number of this type; of two equally near, the one with an even significand.
    fn round(x: f32) -> Self;

    /// The same number as an `f32`.
    fn widen(self) -> f32;

    /// Length of the operands that stand for `len` entries of `f32`, if these are kept too: 0 if they are operands already.
    fn rounded_len(len: usize) -> usize;

    /// Writes `exact`, rounded, to `rounded`, unless this type needs no rounding and `rounded` is empty.
    ///
    /// # Panics
    /// When `rounded` has another length than [`rounded_len`](Self::rounded_len) says.
    fn round_all(rounded: &mut [Self], exact: &[f32]);

    /// The operands that stand for `exact`: themselves, or what [`round_all`](Self::round_all) wrote.
    fn either<'a>(exact: &'a [f32], rounded: &'a [Self]) -> &'a [Self];
}

/// The type of the operands of a product. Sums are `f32` for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `f32`
    F32,
    /// [`bf16`]
    Bf16,
}

/// What products need to know of an operand. This module does not show it, so there are no other operands.
pub trait Sealed: Unit {
    /// The same number as bf16, rounded if need be.
    fn to_bf16(self) -> bf16;
    /// The same entries as `f32`, if they are.
    fn exact(entries: &[Self]) -> Option<&[f32]>;
    /// [`exact`](Self::exact), mutably.
    fn exact_mut(entries: &mut [Self]) -> Option<&mut [f32]>;
}

/// A number as kernels read it, in a unit of 32 bits, alone or in a pair.
pub trait Unit: Copy + Default {
    /// The type of the numbers in a unit.
    const TYPE: Type;
    /// Number of numbers in a unit.
    const IN_UNIT: usize = match Self::TYPE {
        Type::F32 => 1,
        Type::Bf16 => 2,
    };
    /// Whether entries of type `S` fill units as they are.
    fn is_filled_by<S: Operand>() -> bool {
        S::TYPE == Self::TYPE
    }
    /// `x`, rounded if need be.
    fn of<S: Operand>(x: S) -> Self;
    /// The unit of one number, or of the pair that begins with it.
    fn unit(first: Self, second: Self) -> u32;
    /// Writes as many units as `entries` fill.
    fn write_units<S: Operand>(units: &mut [u32], entries: &[S]);
}

/// A number of bf16 as an `f32`, where there are no instructions for bf16.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widened(f32);

impl Unit for Widened {
    const TYPE: Type = Type::F32;

    fn is_filled_by<S: Operand>() -> bool {
        false
    }

    #[inline(always)]
    fn of<S: Operand>(x: S) -> Self {
        Self(x.to_bf16().widen())
    }

    #[inline(always)]
    fn unit(first: Self, _second: Self) -> u32 {
        first.0.to_bits()
    }

    #[inline(always)]
    fn write_units<S: Operand>(units: &mut [u32], entries: &[S]) {
        for (unit, entry) in units.iter_mut().zip(entries) {
            *unit = Self::of(*entry).0.to_bits();
        }
    }
}

impl Operand for f32 {
    #[inline(always)]
    fn round(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn rounded_len(_len: usize) -> usize {
        0
    }

    #[inline(always)]
    fn round_all(_rounded: &mut [Self], _exact: &[f32]) {}

    #[inline(always)]
    fn either<'a>(exact: &'a [f32], _rounded: &'a [Self]) -> &'a [Self] {
        exact
    }
}

impl Unit for f32 {
    const TYPE: Type = Type::F32;

    #[inline(always)]
    fn of<S: Operand>(x: S) -> Self {
        x.widen()
    }

    #[inline(always)]
    fn unit(first: Self, _second: Self) -> u32 {
        first.to_bits()
    }

    #[inline(always)]
    fn write_units<S: Operand>(units: &mut [u32], entries: &[S]) {
        for (unit, entry) in units.iter_mut().zip(entries) {
            *unit = entry.widen().to_bits();
        }
    }
}

impl Sealed for f32 {
    #[inline(always)]
    fn to_bf16(self) -> bf16 {
        bf16::round(self)
    }

    fn exact(entries: &[Self]) -> Option<&[f32]> {
        Some(entries)
    }

    fn exact_mut(entries: &mut [Self]) -> Option<&mut [f32]> {
        Some(entries)
    }
}

impl Operand for bf16 {
    #[inline(always)]
    fn round(x: f32) -> Self {
        let bits = x.to_bits();
        // Adding almost half of the last place, and the last bit, carries where rounding goes up.
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // What is not a number keeps a bit that says so.
        let rounded = if x.is_nan() { bits >> 16 | 0x40 } else { nearest };
        Self::from_bits(rounded as u16)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn rounded_len(len: usize) -> usize {
        len
    }

    #[inline(always)]
    fn round_all(rounded: &mut [Self], exact: &[f32]) {
        assert_eq!(rounded.len(), exact.len(), "expected as many operands as entries");
        for (rounded, exact) in rounded.iter_mut().zip(exact) {
            *rounded = Self::round(*exact);
        }
    }

    #[inline(always)]
    fn either<'a>(_exact: &'a [f32], rounded: &'a [Self]) -> &'a [Self] {
        rounded
    }
}

impl Unit for bf16 {
    const TYPE: Type = Type::Bf16;

    #[inline(always)]
    fn of<S: Operand>(x: S) -> Self {
        x.to_bf16()
    }

    #[inline(always)]
    fn unit(first: Self, second: Self) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }

    #[inline(always)]
    fn write_units<S: Operand>(units: &mut [u32], entries: &[S]) {
        #[cfg(target_endian = "little")]
        // Entry by entry, this is a loop over vectors; pair by pair, it would not be.
        for (to, entry) in halves_mut(units).iter_mut().zip(entries) {
            *to = entry.to_bf16();
        }
        #[cfg(not(target_endian = "little"))]
        for (unit, pair) in units.iter_mut().zip(entries.chunks_exact(2)) {
            *unit = Self::unit(pair[0].to_bf16(), pair[1].to_bf16());
        }
    }
}

impl Sealed for bf16 {
    #[inline(always)]
    fn to_bf16(self) -> bf16 {
        self
    }

    fn exact(_entries: &[Self]) -> Option<&[f32]> {
        None
    }

    fn exact_mut(_entries: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

/// Units as pairs of bf16, the first in the lower half.
#[cfg(target_endian = "little")]
#[inline(always)]
fn halves_mut(units: &mut [u32]) -> &mut [bf16] {
    #[expect(unsafe_code, reason = "the standard library has no safe cast of slices")]
    // SAFETY: a unit is as large as two bf16 and aligned as well as they are; all bits are valid for both; the slices
    // have the same memory, and the first is borrowed as long as the second.
    unsafe {
        std::slice::from_raw_parts_mut(units.as_mut_ptr().cast(), 2 * units.len())
    }
}

/// Pairs of bf16 as units, if they begin where a unit may.
pub(super) fn as_units<E: Operand>(entries: &[E]) -> Option<&[u32]> {
    #[expect(unsafe_code, reason = "the standard library has no safe cast of slices")]
    // SAFETY: operands are `f32` and bf16 alone, which have no padding; all bits are valid for a unit.
    let (before, units, _) = unsafe { entries.align_to::<u32>() };
    before.is_empty().then_some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_keeps_what_is_not_a_number() {
        let mut bits = 0u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = f32::from_bits(bits);
            let (found, expected) = (bf16::round(x), bf16::from_f32(x));
            assert!(found.to_bits() == expected.to_bits() || (x.is_nan() && found.is_nan()), "{x:e}");
        }
        for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 8.0] {
            assert_eq!(bf16::round(x).to_bits(), bf16::from_f32(x).to_bits());
        }
        assert!(bf16::round(f32::MAX).widen().is_infinite());
        // The bits that are cut off may be all that says it is not a number.
        assert!(bf16::round(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
