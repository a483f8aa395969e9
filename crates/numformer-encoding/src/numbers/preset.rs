//! The published encodings, by name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Balanced, Floating, NumberEncoding, Positional};

/// An encoding of the paper, as configuration files and the command line name it.
///
/// # Examples
/// ```
/// use numformer_encoding::Preset;
///
/// let preset: Preset = "p1000".parse()?;
/// assert_eq!(preset, Preset::P1000);
/// assert_eq!(preset.encoding().max_word_len(), 3);
/// # Ok::<(), numformer_encoding::UnknownEncoding>(())
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// [`Positional::p10`]: sign, three digits, exponent.
    P10,
    /// [`Positional::p1000`]: sign, significand, exponent.
    P1000,
    /// [`Balanced::b1999`]: signed significand, exponent.
    B1999,
    /// [`Floating::fp15`]: one token.
    Fp15,
}

impl Preset {
    /// All presets, those with the longest words first.
    pub const ALL: [Self; 4] = [Self::P10, Self::P1000, Self::B1999, Self::Fp15];

    /// The encoding.
    pub fn encoding(self) -> Arc<dyn NumberEncoding> {
        match self {
            Self::P10 => Arc::new(Positional::p10()),
            Self::P1000 => Arc::new(Positional::p1000()),
            Self::B1999 => Arc::new(Balanced::b1999()),
            Self::Fp15 => Arc::new(Floating::fp15()),
        }
    }

    /// The name in configuration files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::P10 => "p10",
            Self::P1000 => "p1000",
            Self::B1999 => "b1999",
            Self::Fp15 => "fp15",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let preset = Self::ALL.into_iter().find(|preset| preset.name() == name);
        preset.ok_or_else(|| UnknownEncoding { found: name.to_owned() })
    }
}

/// A name that no published encoding has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an encoding ({}, positional(...), balanced(...), floating(...)), found `{found}`",
    Preset::ALL.map(Preset::name).join(", ")
)]
pub struct UnknownEncoding {
    /// The name.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            let json = serde_json::to_string(&preset).expect("a string");
            assert_eq!(json, format!("\"{preset}\""));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "p100".parse::<Preset>().expect_err("not a published encoding");
        assert_eq!(
            error.to_string(),
            "expected an encoding (p10, p1000, b1999, fp15, positional(...), balanced(...), floating(...)), found `p100`"
        );
    }
}
