//! A job of one process.

use crate::communicator::Communicator;
use crate::communicator_error::CommunicatorError;

/// The only rank of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Solo;

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _values: &mut [f32]) -> Result<(), CommunicatorError> {
        Ok(())
    }

    fn broadcast(&self, _bytes: &mut Vec<u8>, _from: usize) -> Result<(), CommunicatorError> {
        Ok(())
    }
}
