//! Random orders.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The numbers below `len`, in an order that is a function of the key.
pub(crate) fn shuffled(len: usize, key: [u64; 3]) -> Vec<usize> {
    // The last word keeps the stream apart from those of examples, whose key ends in zeros.
    let mut seed = [0; 32];
    seed[24..].copy_from_slice(b"shuffled");
    for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut ChaCha8Rng::from_seed(seed));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stable() {
        assert_eq!(shuffled(8, [1, 2, 3]), [0, 4, 1, 6, 3, 5, 2, 7]);
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let order = shuffled(100, [1, 2, 3]);
        for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0], [2, 1, 3]] {
            assert_ne!(shuffled(100, other), order);
        }
    }
}
