//! Output buffers that are cleared by the tasks that fill them.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A buffer without contents, to be filled chunk by chunk.
///
/// `vec![0.0; len]` writes all of a large buffer on one thread before the other threads may begin. Here each task
/// clears its own chunk, which is then in its cache.
#[derive(Debug)]
pub(crate) struct Fresh {
    buffer: Vec<f32>,
    len: usize,
    cleared: AtomicUsize,
}

impl Fresh {
    pub(crate) fn new(len: usize) -> Self {
        Self { buffer: Vec::with_capacity(len), len, cleared: AtomicUsize::new(0) }
    }

    /// Splits the buffer into chunks of `size` entries; the last may be shorter.
    pub(crate) fn chunks(&mut self, size: usize) -> impl ExactSizeIterator<Item = Chunk<'_>> + Send {
        self.cleared = AtomicUsize::new(0);
        let cleared = &self.cleared;
        self.buffer.spare_capacity_mut()[..self.len].chunks_mut(size).map(move |entries| Chunk { entries, cleared })
    }

    /// The contents.
    ///
    /// # Panics
    /// When a chunk was not cleared.
    pub(crate) fn finish(mut self) -> Vec<f32> {
        assert_eq!(self.cleared.into_inner(), self.len, "every chunk of an output is cleared");
        #[expect(unsafe_code, reason = "the entries were written through the spare capacity")]
        // SAFETY: the chunks of one call to `chunks` are disjoint, each counts its entries once, when it has written
        // them, and the counts add up to `len`. So all of the first `len` entries are written.
        unsafe {
            self.buffer.set_len(self.len);
        }
        self.buffer
    }
}

/// A part of a [`Fresh`] buffer.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    entries: &'a mut [MaybeUninit<f32>],
    cleared: &'a AtomicUsize,
}

impl<'a> Chunk<'a> {
    /// Writes zeros and returns the entries.
    pub(crate) fn clear(self) -> &'a mut [f32] {
        self.entries.fill(MaybeUninit::new(0.0));
        // The threads are joined before `finish` reads the count, so no order is needed here.
        self.cleared.fetch_add(self.entries.len(), Ordering::Relaxed);
        #[expect(unsafe_code, reason = "the entries were written above")]
        // SAFETY: `fill` wrote every entry.
        unsafe {
            self.entries.assume_init_mut()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::parallel;

    #[test]
    fn chunks_fill_the_buffer_in_place() {
        for len in [0, 1, 7, 1000] {
            let mut fresh = Fresh::new(len);
            parallel::for_each(fresh.chunks(16).enumerate(), |(i, chunk)| {
                let entries = chunk.clear();
                assert!(entries.iter().all(|x| *x == 0.0));
                entries.fill(i as f32);
            });
            assert!(fresh.finish().into_iter().eq((0..len).map(|i| (i / 16) as f32)));
        }
    }

    #[test]
    #[should_panic(expected = "every chunk of an output is cleared")]
    fn a_chunk_left_out_is_noticed() {
        let mut fresh = Fresh::new(20);
        let mut chunks = fresh.chunks(16);
        chunks.next().expect("the first of two").clear();
        drop(chunks);
        fresh.finish();
    }

    #[test]
    #[should_panic(expected = "every chunk of an output is cleared")]
    fn clearing_one_half_twice_is_noticed() {
        let mut fresh = Fresh::new(32);
        for _ in 0..2 {
            fresh.chunks(16).next().expect("the first of two").clear();
        }
        fresh.finish();
    }
}
