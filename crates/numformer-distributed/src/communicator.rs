//! What ranks do together.

use std::fmt::Debug;
use std::sync::Arc;

use crate::communicator_error::CommunicatorError;

/// Connects the processes of a job. Every method that returns a `Result` is *collective*: it returns once all ranks have
/// called it, so all ranks must call the same ones in the same order, and with vectors of the same length.
///
/// An implementation should give sums the same bits on all ranks, and in each job with this number of ranks.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Replaces each value by its sum over all ranks.
    ///
    /// # Errors
    /// When another rank does not take part.
    fn sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError>;

    /// Replaces the bytes by those of rank `from`.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CommunicatorError>;

    /// Whether it is so on any rank.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn any(&self, is_so: bool) -> Result<bool, CommunicatorError> {
        let mut count = [f32::from(u8::from(is_so))];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }

    /// The bytes of all ranks, in their order.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        let from = |rank| {
            let mut bytes = if rank == self.rank() { own.to_vec() } else { Vec::new() };
            self.broadcast(&mut bytes, rank)?;
            Ok(bytes)
        };
        (0..self.size()).map(from).collect()
    }

    /// Checks that named values are the same on all ranks.
    ///
    /// # Errors
    /// On each rank that differs from rank 0, [`CommunicatorError::Different`] with the first difference; on all others,
    /// [`CommunicatorError::OtherRank`] with the first rank that differs. As [`sum`](Self::sum).
    fn check_same(&self, values: &[(&str, String)]) -> Result<(), CommunicatorError> {
        let rank = self.rank();
        let mut differs = None;
        for (name, found) in values {
            let mut expected = found.clone().into_bytes();
            self.broadcast(&mut expected, 0)?;
            if expected != found.as_bytes() && differs.is_none() {
                let (what, found) = ((*name).to_owned(), found.clone());
                let expected = String::from_utf8_lossy(&expected).into_owned();
                differs = Some(CommunicatorError::Different { rank, what, expected, found });
            }
        }
        let message = differs.as_ref().map(ToString::to_string).unwrap_or_default();
        let messages = self.gather(message.as_bytes())?;
        match (differs, messages.iter().position(|message| !message.is_empty())) {
            (Some(error), _) => Err(error),
            (None, Some(other)) => {
                let message = String::from_utf8_lossy(&messages[other]).into_owned();
                Err(CommunicatorError::OtherRank { rank: other, message })
            }
            (None, None) => Ok(()),
        }
    }
}

/// A communicator can be passed by reference, boxed or shared.
macro_rules! impl_for_pointer {
    ($($pointer:ty),*) => {$(
        impl<C: Communicator + ?Sized> Communicator for $pointer {
            fn rank(&self) -> usize {
                (**self).rank()
            }

            fn size(&self) -> usize {
                (**self).size()
            }

            fn sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
                (**self).sum(values)
            }

            fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CommunicatorError> {
                (**self).broadcast(bytes, from)
            }
        }
    )*};
}

impl_for_pointer!(&C, Box<C>, Arc<C>);
