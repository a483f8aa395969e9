//! The vectors of all parameters on a device, and memory for activations.

use candle_core::{Error, Result};
use numformer_ops::device::{Accelerator, Element, Pool, Region};

use crate::Precision;

/// Vectors with one entry for each coefficient, in the order of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vectors {
    /// The trained weights, in single precision.
    pub(super) weights: Region,
    /// The weights that products read.
    pub(super) used: Region,
    pub(super) gradients: Region,
    pub(super) first_moment: Region,
    pub(super) second_moment: Region,
}

impl Vectors {
    pub(super) fn new(device: &mut Accelerator, len: usize, precision: Precision) -> Result<Self> {
        let weights = device.reserve(Element::F32, len)?;
        Ok(Self {
            weights,
            used: match precision {
                Precision::F32 => weights,
                Precision::Bf16 => device.reserve(Element::Bf16, len)?,
            },
            gradients: device.reserve(Element::F32, len)?,
            first_moment: device.reserve(Element::F32, len)?,
            second_moment: device.reserve(Element::F32, len)?,
        })
    }

    /// The copy of the weights that products read, if it is separate; it is updated with the weights.
    pub(super) fn copy(&self) -> Option<Region> {
        (self.used != self.weights).then_some(self.used)
    }
}

/// What a forward or backward pass uses, apart from activations.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) device: &'a mut Accelerator,
    pub(super) vectors: &'a Vectors,
}

/// Allocates memory for activations from a pool, or only counts how much is needed.
#[derive(Debug)]
pub(super) struct Take<'a> {
    source: Source<'a>,
    precision: Precision,
}

#[derive(Debug)]
enum Source<'a> {
    Pool(&'a mut Pool),
    /// Counts bytes, and returns this region in place of an allocated one.
    Count(&'a mut usize, Region),
}

impl<'a> Take<'a> {
    pub(super) fn from(pool: &'a mut Pool, precision: Precision) -> Self {
        Self { source: Source::Pool(pool), precision }
    }

    pub(super) fn counting(bytes: &'a mut usize, any: Region, precision: Precision) -> Self {
        Self { source: Source::Count(bytes, any), precision }
    }

    /// Activations in the precision of the device.
    pub(super) fn activations(&mut self, len: usize) -> Result<Region> {
        self.take(element(self.precision), len)
    }

    /// Numbers in single precision.
    pub(super) fn numbers(&mut self, len: usize) -> Result<Region> {
        self.take(Element::F32, len)
    }

    fn take(&mut self, element: Element, len: usize) -> Result<Region> {
        match &mut self.source {
            Source::Pool(pool) => {
                pool.take(element, len).ok_or_else(|| Error::Msg("the plan needs more memory than counted".to_owned()))
            }
            Source::Count(bytes, any) => {
                **bytes = bytes.saturating_add(Pool::bytes_of(element, len));
                Ok(*any)
            }
        }
    }
}

/// The element type of activations.
fn element(precision: Precision) -> Element {
    match precision {
        Precision::F32 => Element::F32,
        Precision::Bf16 => Element::Bf16,
    }
}
