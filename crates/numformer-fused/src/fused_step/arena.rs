//! Memory that is reused from step to step.

use std::ops::{Deref, DerefMut, Range};

/// A buffer for the entries of a matrix. It grows to the largest size requested, and smaller sizes reuse it.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    entries: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` entries, with the values that their previous user left.
    pub(super) fn sized(&mut self, len: usize) -> &mut [f32] {
        if self.entries.len() < len {
            self.entries.resize(len, 0.0);
        }
        self.len = len;
        self
    }

    /// `len` zeros.
    pub(super) fn zeros(&mut self, len: usize) -> &mut [f32] {
        self.sized(len).fill(0.0);
        self
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.entries[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.entries[..self.len]
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
