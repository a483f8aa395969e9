//! Memory that is reused from step to step.

use std::ops::{Deref, DerefMut, Range};

/// Bytes in a line of the cache. Products read operands fastest if their rows begin with a line.
const LINE: usize = 64;

/// A buffer for the entries of a matrix, which begin with a line of the cache. It grows to the largest size requested, and
/// smaller sizes reuse it.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    entries: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), start: 0, len: 0 }
    }
}

impl<T: Copy + Default> Buffer<T> {
    /// `len` entries, with the values that their previous user left.
    pub(super) fn sized(&mut self, len: usize) -> &mut [T] {
        let room = LINE / size_of::<T>();
        if self.entries.len() < len + room {
            self.entries.resize(len + room, T::default());
            self.start = self.entries.as_ptr().align_offset(LINE).min(room);
        }
        self.len = len;
        self
    }

    /// `len` zeros.
    pub(super) fn zeros(&mut self, len: usize) -> &mut [T] {
        self.sized(len).fill(T::default());
        self
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.entries[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.entries[self.start..self.start + self.len]
    }
}

/// Sequences one after another, without padding: the data of a microbatch.
///
/// Attention is the only operation that mixes tokens, so nothing needs a mask.
#[derive(Debug, Default)]
pub(super) struct Packed {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

impl Packed {
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.ends.clear();
    }

    pub(super) fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }

    /// All ids.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The range of each sequence among the ids.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end)
    }
}

/// The range of entries that hold the given rows of a matrix with `width` columns.
pub(super) fn rows(range: &Range<usize>, width: usize) -> Range<usize> {
    range.start * width..range.end * width
}
