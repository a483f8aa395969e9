//! Where to compute.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use numformer_ops::device::Accelerator;

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device; `None` stands for the CPU.
    pub(crate) fn open(self) -> Result<Option<Accelerator>> {
        match self {
            Self::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => Ok(Some(Accelerator::cuda(number)?)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => {
                anyhow::bail!("{self} cannot be opened: this program was built for the CPU only (see docs/gpu.md)")
            }
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let number = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| "expected cpu, cuda, or cuda:N with the number of a GPU".to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (name, device) in [("cpu", DeviceName::Cpu), ("cuda", DeviceName::Cuda(0)), ("cuda:3", DeviceName::Cuda(3))]
        {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["gpu", "cuda:", "cuda:-1", "cuda0", ""] {
            assert!(wrong.parse::<DeviceName>().expect_err(wrong).contains("expected cpu"));
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_cannot_be_had_is_named() {
        let error = DeviceName::Cuda(1).open().expect_err("not in this build").to_string();
        assert!(error.starts_with("cuda:1 cannot be opened") && !error.contains('\n'), "{error}");
    }
}
