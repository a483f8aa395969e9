//! Parts of a device's memory.

use std::ops::Range;

use candle_core::{Result, bail};

/// The type of the entries in a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Numbers in single precision.
    F32,
    /// The upper halves of single-precision numbers: for activations where speed is worth rounding to 8 bits.
    Bf16,
    /// Numbers in double precision.
    F64,
    /// Ids and counts.
    U32,
}

impl Element {
    /// Number of bytes of one entry.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Adjacent entries in the memory of an [`Accelerator`](super::Accelerator). Only that accelerator can use them.
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

    /// The type of its entries.
    #[must_use]
    pub fn element(self) -> Element {
        self.element
    }

    /// Number of entries.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// A part of the region.
    ///
    /// # Errors
    /// When the range ends beyond the region.
    pub fn slice(self, range: Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.len {
            bail!("expected a range within the {} entries of a region, found {range:?}", self.len);
        }
        let address = self.address + (range.start * self.element.size()) as u64;
        Ok(Self { address, len: range.len(), ..self })
    }
}

/// Memory from which regions are taken one after another. It can be reused for plans that need it at different times.
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

    /// The next `len` entries, with their old contents; `None` if too little memory is left.
    pub fn take(&mut self, element: Element, len: usize) -> Option<Region> {
        let begin = self.used;
        let end = begin.checked_add(Self::checked_bytes_of(element, len)?)?;
        if end > self.bytes {
            return None;
        }
        self.used = end;
        Some(Region::new(self.owner, self.address + begin as u64, element, len))
    }

    /// Starts over: the same memory is handed out again.
    pub fn restart(&mut self) {
        self.used = 0;
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of bytes that [`take`](Self::take) needs for `len` entries, because each region begins at a multiple of
    /// 256 bytes.
    #[must_use]
    pub fn bytes_of(element: Element, len: usize) -> usize {
        Self::checked_bytes_of(element, len).unwrap_or(usize::MAX)
    }

    fn checked_bytes_of(element: Element, len: usize) -> Option<usize> {
        len.checked_mul(element.size())?.checked_next_multiple_of(256)
    }
}
