//! The names and the arguments of kernels.

use candle_core::{Result, bail};

use crate::device::executor::Argument;
use crate::device::region::Element;

/// The name of a kernel for an element type.
pub(super) fn named(kernel: &str, element: Element) -> Result<String> {
    match element {
        Element::F32 => Ok(format!("{kernel}_f32")),
        Element::Bf16 => Ok(format!("{kernel}_bf16")),
        Element::F64 | Element::U32 => bail!("{kernel}: expected regions of F32 or Bf16, found {element:?}"),
    }
}

/// A size in the type that kernels take.
pub(super) fn size(op: &str, n: usize) -> Result<u32> {
    // One bit less than a u32 has, so that the sum of two sizes does not overflow.
    match u32::try_from(n) {
        Ok(n) if n <= u32::MAX / 2 => Ok(n),
        _ => bail!("{op}: expected a size below 2^31, found {n}"),
    }
}

/// The arguments of a kernel.
pub(super) fn arguments<const N: usize>(arguments: [Argument; N]) -> Vec<Argument> {
    arguments.into()
}
