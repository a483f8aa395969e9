//! The cache of a model that has none of its own.

use candle_core::{Result, Tensor};

use crate::batched::Batched;
use crate::padded::Padded;
use crate::seq2seq::check_cached;

/// The tokens so far: the [`Cache`](crate::Seq2Seq::Cache) of a model that computes the whole sequence anew for each token.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_model::{Padded, Prefix};
///
/// let mut prefix = Prefix::default();
/// for (token, length) in [(7u32, 1), (8, 2)] {
///     let tgt = Padded::full(Tensor::new(&[[token]], &Device::Cpu)?);
///     let whole = prefix.extended(&tgt)?; // of its states, `decode` returns the last
///     assert_eq!(whole.ids().dims(), [1, length]);
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Prefix(Option<Tensor>);

impl Prefix {
    /// Appends `tgt` `[b, t]` to what was there, and returns the whole, `[b, n + t]`.
    ///
    /// # Errors
    /// When `tgt` is padded, or has another number of rows than what was there.
    pub fn extended(&mut self, tgt: &Padded) -> Result<Padded> {
        check_cached(tgt)?;
        let whole = match &self.0 {
            None => tgt.ids().clone(),
            Some(before) => Tensor::cat(&[before, tgt.ids()], 1)?,
        };
        self.0 = Some(whole.clone());
        Ok(Padded::full(whole))
    }
}

impl Batched for Prefix {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.0.select(rows).map(Self)
    }
}
