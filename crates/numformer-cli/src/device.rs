//! Where tensors live.

use std::fmt;
use std::str::FromStr;

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    Cpu,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            _ if name.starts_with("cuda") => {
                Err(format!("expected cpu, found `{name}`: this version computes on the CPU only"))
            }
            _ => Err("expected cpu".to_owned()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_had_is_named() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        let error = "cuda:0".parse::<DeviceName>().expect_err("not yet");
        assert!(error.contains("`cuda:0`") && error.contains("CPU only"), "{error}");
    }
}
