//! Experiments that come with the crate.

use std::fmt;
use std::str::FromStr;

/// An embedded experiment: a commented TOML file.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Name, as given to `numformer train`.
    pub name: &'static str,
    /// The suite that it belongs to.
    pub suite: Suite,
    /// The file.
    pub toml: &'static str,
}

/// Presets that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// What two CPU cores learn in minutes.
    Cpu,
    /// The paper's sizes, in models that two CPU cores train.
    Desk,
    /// Published configurations.
    Paper,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Desk => "desk",
            Self::Paper => "paper",
        })
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "desk" => Ok(Self::Desk),
            "paper" => Ok(Self::Paper),
            _ => Err(UnknownSuite { found: name.to_owned() }),
        }
    }
}

/// The error for an unknown suite name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a suite, cpu, desk or paper, found `{found}`")]
pub struct UnknownSuite {
    /// The name.
    pub found: String,
}

macro_rules! presets {
    ($($suite:ident $dir:literal: $($name:literal)*;)*) => {
        &[$($(Preset {
            name: $name,
            suite: Suite::$suite,
            toml: include_str!(concat!("../presets/", $dir, "/", $name, ".toml")),
        },)*)*]
    };
}

/// All presets, suite by suite.
pub const PRESETS: &[Preset] = presets! {
    Cpu "cpu":
        "transpose-3x3"
        "transpose-5x5"
        "addition-2x2"
        "matrix-vector-2x2"
        "multiplication-2x2"
        "eigenvalues-2x2"
        "eigenvalues-2x2-laplace"
        "eigenvalues-2x2-noise"
        "eigenvectors-2x2"
        "inversion-2x2"
        "singular-values-2x2"
        "svd-2x2";
    Desk "desk":
        "desk-transpose-5x5"
        "desk-transpose-10x10"
        "desk-addition-5x5"
        "desk-addition-10x10"
        "desk-matrix-vector-5x5"
        "desk-multiplication-5x5"
        "desk-eigenvalues-5x5";
    Paper "paper":
        "paper-transpose-5x5-p10"
        "paper-transpose-5x5-p1000"
        "paper-transpose-5x5-b1999"
        "paper-transpose-5x5-fp15"
        "paper-transpose-10x10"
        "paper-transpose-5-15"
        "paper-addition-10x10"
        "paper-matrix-vector-5x5"
        "paper-multiplication-5x5"
        "paper-multiplication-5x5-1-6"
        "paper-multiplication-5x5-4-4"
        "paper-eigenvalues-5x5"
        "paper-eigenvalues-5x5-p10"
        "paper-eigenvalues-5x5-p1000"
        "paper-eigenvalues-5x5-b1999"
        "paper-eigenvalues-8x8"
        "paper-eigenvalues-10x10"
        "paper-eigenvalues-5-10"
        "paper-eigenvalues-5-15"
        "paper-eigenvalues-5-20"
        "paper-eigenvectors-5x5-p10"
        "paper-eigenvectors-5x5-p1000"
        "paper-eigenvectors-5x5-fp15"
        "paper-eigenvectors-5x5"
        "paper-inversion-5x5"
        "paper-singular-values-5x5"
        "paper-svd-4x4"
        "paper-spectrum-wigner"
        "paper-spectrum-positive"
        "paper-spectrum-uniform-spectrum"
        "paper-spectrum-gaussian-spectrum"
        "paper-spectrum-laplace"
        "paper-spectrum-abs-laplace"
        "paper-spectrum-marchenko-pastur"
        "paper-noise-0.005"
        "paper-noise-0.01"
        "paper-noise-0.02"
        "paper-noise-0.05"
        "paper-co-training-eigen"
        "paper-co-training-basic"
        "paper-lstm-addition-5x5"
        "paper-gru-addition-5x5"
        "paper-universal-multiplication-5x5";
};

/// The preset with the given name, if there is one.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The names of all presets.
#[must_use]
pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}
