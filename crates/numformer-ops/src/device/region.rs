//! Parts of a device's memory.

use std::ops::Range;

use candle_core::{Result, bail};

/// What memory of a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Numbers in single precision.
    F32,
    /// The upper halves of such numbers: activations, where speed is worth their rounding to 8 bits.
    Bf16,
    /// Numbers in double precision.
    F64,
    /// Ids and counts.
    U32,
}

impl Element {
    /// Bytes of one.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Entries next to each other in the memory of an [`Accelerator`](super::Accelerator), which alone can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    owner: u64,
    address: u64,
    element: Element,
    len: usize,
}

impl Region {
    pub(super) fn new(owner: u64, address: u64, element: Element, len: usize) -> Self {
        Self { owner, address, element, len }
    }

    pub(super) fn owner(self) -> u64 {
        self.owner
    }

    pub(super) fn address(self) -> u64 {
        self.address
    }

    /// What it holds.
    #[must_use]
    pub fn element(self) -> Element {
        self.element
    }

    /// Number of entries.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// A part of it.
    ///
    /// # Errors
    /// When it ends before the range does.
    pub fn slice(self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.len {
            bail!("expected a range within the {} entries of a region, found {range:?}", self.len);
        }
        let address = self.address + (range.start * self.element.size()) as u64;
        Ok(Self { address, len: range.len(), ..self })
    }
}

/// Memory from which regions are taken one after another, again and again: what different plans need at different times.
#[derive(Debug)]
pub struct Pool {
    owner: u64,
    address: u64,
    bytes: usize,
    used: usize,
}

impl Pool {
    pub(super) fn new(owner: u64, address: u64, bytes: usize) -> Self {
        Self { owner, address, bytes, used: 0 }
    }

    /// The next `len` entries; none if there is not so much left. They hold what was there before.
    pub fn take(&mut self, element: Element, len: usize) -> Option<Region> {
        let begin = self.used;
        let end = begin.checked_add(Self::checked_bytes_of(element, len)?)?;
        if end > self.bytes {
            return None;
        }
        self.used = end;
        Some(Region::new(self.owner, self.address + begin as u64, element, len))
    }

    /// Begins again: what is taken from now on is the same memory.
    pub fn restart(&mut self) {
        self.used = 0;
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What [`take`](Self::take) needs for so many entries: each region begins at a multiple of 256 bytes.
    #[must_use]
    pub fn bytes_of(element: Element, len: usize) -> usize {
        Self::checked_bytes_of(element, len).unwrap_or(usize::MAX)
    }

    fn checked_bytes_of(element: Element, len: usize) -> Option<usize> {
        len.checked_mul(element.size())?.checked_next_multiple_of(256)
    }
}
