//! The division of work among ranks.

use std::ops::Range;

use crate::communicator::Communicator;

/// The part of `len` pieces of work that belongs to this rank: consecutive pieces, in nearly equal numbers, in the order
/// of the ranks.
///
/// # Examples
/// ```
/// use numformer_distributed::{Solo, share};
///
/// assert_eq!(share(64, &Solo), 0..64);
/// ```
#[must_use]
pub fn share(len: usize, ranks: &(impl Communicator + ?Sized)) -> Range<usize> {
    let (rank, size) = (ranks.rank() as u128, ranks.size() as u128);
    // In 128 bits, the product cannot overflow.
    let begin = |rank: u128| (rank * len as u128 / size) as usize;
    begin(rank)..begin(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communicator_error::CommunicatorError;

    #[derive(Debug)]
    struct Rank(usize, usize);

    impl Communicator for Rank {
        fn rank(&self) -> usize {
            self.0
        }

        fn size(&self) -> usize {
            self.1
        }

        fn sum(&self, _values: &mut [f32]) -> Result<(), CommunicatorError> {
            Ok(())
        }

        fn broadcast(&self, _bytes: &mut Vec<u8>, _from: usize) -> Result<(), CommunicatorError> {
            Ok(())
        }
    }

    #[test]
    fn shares_are_all_the_work_in_nearly_equal_parts() {
        for size in 1..9 {
            for len in [0, 1, 7, 64, usize::MAX] {
                let shares: Vec<_> = (0..size).map(|rank| share(len, &Rank(rank, size))).collect();
                assert_eq!((shares[0].start, shares[size - 1].end), (0, len));
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lengths = shares.iter().map(|share| share.end - share.start);
                assert!(lengths.clone().max() <= lengths.min().map(|least| least.saturating_add(1)), "{len} {size}");
            }
        }
    }
}
