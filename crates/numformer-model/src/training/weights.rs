//! Weights, wherever they are.

use candle_core::Result;

use crate::parameters::Parameters;
use crate::training::flat::FlatLayout;

/// All weights of a model at some moment, in the memory of the host or on a device. An evaluation during training is
/// given them, and takes them to where it needs them.
pub trait Weights {
    /// Copies the weights to the variables of a model. If both are on the same device, they stay there.
    ///
    /// # Errors
    /// When the parameters are not those of the weights, or a device fails.
    fn show(&mut self, parameters: &Parameters) -> Result<()>;

    /// The weights in the memory of the host, in the order of their [`FlatLayout`].
    ///
    /// # Errors
    /// When a device fails.
    fn on_host(&mut self) -> Result<&[f32]>;
}

/// [`Weights`] in the memory of the host.
#[derive(Clone, Copy, Debug)]
pub struct HostWeights<'a> {
    layout: &'a FlatLayout,
    weights: &'a [f32],
}

impl<'a> HostWeights<'a> {
    /// These weights, in the order of `layout`.
    #[must_use]
    pub fn new(layout: &'a FlatLayout, weights: &'a [f32]) -> Self {
        Self { layout, weights }
    }
}

impl Weights for HostWeights<'_> {
    fn show(&mut self, parameters: &Parameters) -> Result<()> {
        self.layout.write(parameters, self.weights)
    }

    fn on_host(&mut self) -> Result<&[f32]> {
        Ok(self.weights)
    }
}
