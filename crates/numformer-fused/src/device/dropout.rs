//! Dropout on a device, with the masks of the host.

use candle_core::Result;
use numformer_model::Dropout;
use numformer_ops::device::{DropoutCall, Region};

use super::sizes::Sizes;
use super::vectors::Pass;

/// Dropout at one place of the model. Its masks are those of [`Dropout`], bit for bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped(Dropout);

impl Dropped {
    /// Dropout at `rate`; `None` if nothing is dropped.
    pub(super) fn new(rate: f64, place: &str) -> Option<Self> {
        (rate > 0.0).then(|| Self(Dropout::new(rate, place)))
    }

    /// Drops entries of `x` `[batch, t, d]`, if the pass does.
    pub(super) fn apply(&self, pass: &mut Pass<'_>, sizes: Sizes, x: Region) -> Result<()> {
        match self.call(pass, sizes, x) {
            Some(call) => pass.device.dropout(x, &call),
            None => Ok(()),
        }
    }

    /// Like [`apply`](Self::apply), but leaves `x` as it is and writes to `y`.
    pub(super) fn apply_to(&self, pass: &mut Pass<'_>, sizes: Sizes, y: Region, x: Region) -> Result<()> {
        match self.call(pass, sizes, x) {
            Some(call) => pass.device.dropout_to(y, x, &call),
            None => Ok(()),
        }
    }

    fn call(&self, pass: &Pass<'_>, sizes: Sizes, x: Region) -> Option<DropoutCall> {
        let Sizes { batch, t, masks, .. } = sizes;
        let numbers = masks.filter(|_| pass.drops)?;
        let Self(dropout) = self;
        Some(DropoutCall {
            batch,
            width: t,
            d: x.len() / (batch * t).max(1),
            place: dropout.place(),
            dropped_below: dropout.dropped_below(),
            kept: dropout.kept(),
            numbers,
        })
    }
}
