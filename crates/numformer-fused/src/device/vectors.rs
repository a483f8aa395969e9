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
    /// Empty if nothing is trained.
    pub(super) gradients: Region,
}

impl Vectors {
    /// Vectors for training.
    pub(super) fn new(device: &mut Accelerator, len: usize, precision: Precision) -> Result<Self> {
        Ok(Self { gradients: device.reserve(Element::F32, len)?, ..Self::for_use(device, len, precision)? })
    }

    /// Vectors for a model that is not trained.
    pub(super) fn for_use(device: &mut Accelerator, len: usize, precision: Precision) -> Result<Self> {
        let weights = device.reserve(Element::F32, len)?;
        Ok(Self {
            weights,
            used: match precision {
                Precision::F32 => weights,
                Precision::Bf16 => device.reserve(Element::Bf16, len)?,
            },
            gradients: weights.slice(0..0)?,
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
    /// Whether dropout acts.
    pub(super) drops: bool,
}

/// Memory for activations. All plans share it, because only one is at work at a time.
#[derive(Debug)]
pub(super) struct Activations {
    pool: Pool,
    precision: Precision,
    /// A region of the device, to stand for others while memory is counted.
    any: Region,
}

impl Activations {
    pub(super) fn new(device: &mut Accelerator, vectors: &Vectors, precision: Precision) -> Result<Self> {
        Ok(Self { pool: device.reserve_pool(0)?, precision, any: vectors.weights })
    }

    /// Plans the memory of some work.
    pub(super) fn plan<T>(&mut self, device: &mut Accelerator, plan: impl Fn(&mut Take<'_>) -> Result<T>) -> Result<T> {
        let mut bytes = 0;
        plan(&mut Take { source: Source::Count(&mut bytes, self.any), precision: self.precision })?;
        if self.pool.bytes() < bytes {
            // The old pool stays, because recordings use it. The pool grows in large steps, so all old pools together
            // take at most twice the memory of the newest.
            let wanted = bytes.max(self.pool.bytes() / 2 * 3);
            self.pool = device.reserve_pool(wanted).or_else(|_| device.reserve_pool(bytes))?;
        }
        self.pool.restart();
        plan(&mut Take { source: Source::Pool(&mut self.pool), precision: self.precision })
    }
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

impl Take<'_> {
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
