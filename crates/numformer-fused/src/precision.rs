//! The precision of products.

use std::fmt;

/// The precision of the products of a training step.
///
/// In both, the trained weights, their gradients, Adam's moments and all sums are in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision throughout; products on a GPU do not round to TF32.
    #[default]
    F32,
    /// The operands of products are rounded to bf16: activations, their gradients, and the weights that products read.
    /// Softmax, layer norms, residuals and the loss are computed in single precision; a GPU keeps activations in bf16
    /// between them, too.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
