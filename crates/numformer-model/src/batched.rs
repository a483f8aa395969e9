//! Batches whose rows can be selected and reordered.

use candle_core::{Result, Tensor};

/// Data with one row for each sequence of a batch.
///
/// # Examples
/// Generation continues with the sequences that have not ended:
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_model::Batched;
///
/// let states = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
/// assert_eq!(states.select(&[2, 0])?.to_vec1::<f32>()?, [3.0, 1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Batched: Sized {
    /// A copy of the given rows, in that order; a row may be selected several times.
    ///
    /// # Errors
    /// When a row does not exist.
    fn select(&self, rows: &[u32]) -> Result<Self>;
}

impl<T: Batched> Batched for Option<T> {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.as_ref().map(|batched| batched.select(rows)).transpose()
    }
}

impl<T: Batched> Batched for Vec<T> {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.iter().map(|batched| batched.select(rows)).collect()
    }
}

/// Selects along the first axis.
impl Batched for Tensor {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.contiguous()?.index_select(&Tensor::new(rows, self.device())?, 0)
    }
}
