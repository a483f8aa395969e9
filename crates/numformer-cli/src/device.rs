//! Where to compute.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use candle_core::Device;
use clap::Args;
use numformer_experiment::{Catalogue, Moment, StoredRun};
use numformer_ops::device::cuda;

use crate::launcher;

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    /// An NVIDIA GPU: by its number, or the one of this process among those on its machine.
    Cuda(Option<usize>),
}

impl DeviceName {
    /// Opens the device.
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => Ok(cuda(number.unwrap_or_else(launcher::gpu))?),
        }
    }
}

/// The option that says where to compute with a stored model.
#[derive(Args)]
pub(crate) struct DeviceArguments {
    /// Where to compute: cpu, or cuda:N, the NVIDIA GPU with that number (cuda is cuda:0).
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

impl DeviceArguments {
    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Device> {
        self.device.open()
    }

    /// Which device it is.
    pub(crate) fn name(&self) -> DeviceName {
        self.device
    }

    /// Reads a run, with its model on the device.
    pub(crate) fn run(&self, dir: &Path, moment: Moment) -> Result<StoredRun> {
        // A path that is no run is told before a device is opened.
        let device = if dir.join("experiment.toml").is_file() { self.open()? } else { Device::Cpu };
        Ok(StoredRun::load_on(dir, moment, &Catalogue::standard(), &device)?)
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let number = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(None)),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        number
            .map(|number| Self::Cuda(Some(number)))
            .ok_or_else(|| "expected cpu, cuda, or cuda:N with the number of a GPU".to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (name, device) in
            [("cpu", DeviceName::Cpu), ("cuda", DeviceName::Cuda(None)), ("cuda:3", DeviceName::Cuda(Some(3)))]
        {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda0", ""] {
            assert!(wrong.parse::<DeviceName>().expect_err(wrong).contains("expected cpu"));
        }
    }
}
