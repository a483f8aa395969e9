//! Sums, over ranks, of vectors on their devices.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Error, Result};
use numformer_distributed::Communicator;

use super::accelerator::Accelerator;
use super::region::Region;

/// Adds up vectors on the devices of several ranks. All ranks must call it in the same order.
pub trait DeviceSum: Debug + Send + Sync {
    /// Replaces each entry of a region of `F32` by its sum over all ranks, after all earlier work of the device. The host
    /// need not wait for it.
    ///
    /// # Errors
    /// When another rank does not take part, the region is of another type, or the device fails.
    fn sum(&self, device: &mut Accelerator, region: Region) -> Result<()>;

    /// Waits for all work of the device, with the sums in it.
    ///
    /// # Errors
    /// When another rank does not take part in time.
    fn wait(&self) -> Result<()> {
        Ok(())
    }
}

/// Sums by way of the host: a vector crosses the bus twice, and the host waits for it. It works with every communicator.
#[derive(Clone, Debug)]
pub struct HostSum(Arc<dyn Communicator>);

impl HostSum {
    /// Sums over the ranks of `communicator`.
    #[must_use]
    pub fn new(communicator: Arc<dyn Communicator>) -> Self {
        Self(communicator)
    }
}

impl DeviceSum for HostSum {
    fn sum(&self, device: &mut Accelerator, region: Region) -> Result<()> {
        let mut values = device.read(region)?;
        self.0.sum(&mut values).map_err(Error::wrap)?;
        device.write(region, &values)
    }
}
