//! Buffers that outlive the operation that asked for them.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers waiting to be reused.
///
/// A training step needs the same sizes again and again. Fresh memory from the system costs several times as much as
/// writing to it.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Maximum number of buffers kept; a step has fewer alive at once.
const KEPT: usize = 64;

/// Maximum number of entries kept in all buffers: 1 GiB. A larger model returns the rest to the system.
const KEPT_NUMBERS: usize = 1 << 28;

/// A slice whose memory returns to the pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    buffer: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// A buffer of `len` numbers, with the values that its previous user left.
    pub(crate) fn take(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<f32>| (len..=len.max(512).saturating_mul(2)).contains(&buffer.len());
        let mut buffer = match pool.iter().rposition(fits) {
            Some(at) => pool.swap_remove(at),
            None => {
                drop(pool);
                vec![0.0; len]
            }
        };
        if cfg!(test) {
            // A test then fails if an operation relies on the old values.
            buffer.fill(f32::NAN);
        }
        Self { buffer, len }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.push(mem::take(&mut self.buffer));
        let mut numbers: usize = pool.iter().map(Vec::len).sum();
        while pool.len() > KEPT || numbers > KEPT_NUMBERS {
            numbers -= pool.remove(0).len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_asked_for_and_is_used_again() {
        // An odd length that no other test requests.
        let len = 1_234_567;
        let mut first = Scratch::take(len);
        first[len - 1] = 3.0;
        let address = first.as_ptr();
        drop(first);
        let second = Scratch::take(len - 1);
        assert_eq!(second.len(), len - 1);
        assert_eq!(second.as_ptr(), address);
    }
}
