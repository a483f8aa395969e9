//! The cache of a model that keeps nothing but the tokens so far.

use candle_core::{Result, Tensor};

use crate::batched::Batched;
use crate::padded::Padded;
use crate::seq2seq::check_cached;

/// The tokens so far: the [`Cache`](crate::Seq2Seq::Cache) of a model that recomputes the whole sequence for each
/// token.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_model::{Padded, Prefix};
///
/// let mut prefix = Prefix::default();
/// for (token, length) in [(7u32, 1), (8, 2)] {
///     let tgt = Padded::full(Tensor::new(&[[token]], &Device::Cpu)?);
///     let whole = prefix.extended(&tgt)?; // `decode` returns the last of its states
///     assert_eq!(whole.ids().dims(), [1, length]);
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Prefix(Option<Tensor>);

impl Prefix {
    /// Appends `tgt` `[b, t]` to the tokens so far, and returns the whole sequence, `[b, n + t]`.
    ///
    /// # Errors
    /// When `tgt` is padded, or its number of rows differs from that of the tokens so far.
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
