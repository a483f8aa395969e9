//! A model whose type is known only at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use candle_core::{Error, Result, Tensor};

use crate::batched::Batched;
use crate::hypothesis::Hypothesis;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::Seq2Seq;

/// A model of any type behind a pointer, for programs that learn only at run time which model they use.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{AnyModel, Cell, Padded, Parameters, Recurrent, RecurrentConfig, greedy};
///
/// let config = RecurrentConfig::new(Cell::Gru, 20, 8, 1);
/// let parameters = Parameters::random(0, &Device::Cpu);
/// Recurrent::init(&config, &parameters)?;
/// let model = AnyModel::new(Recurrent::new(&config, &parameters.frozen())?);
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// assert_eq!(greedy(&model, &src, 8)?.len(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct AnyModel(Arc<dyn Erased>);

impl AnyModel {
    /// Hides the type of a model.
    pub fn new<M>(model: M) -> Self
    where
        M: Seq2Seq<Memory: Kept, Cache: Kept> + Send + Sync + 'static,
    {
        Self(Arc::new(model))
    }
}

impl fmt::Debug for AnyModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyModel").finish_non_exhaustive()
    }
}

/// What the models behind an [`AnyModel`] keep of a batch must be `Send` and `Sync`; every such type is `Kept`.
pub trait Kept: Batched + Send + Sync + 'static {}

impl<T: Batched + Send + Sync + 'static> Kept for T {}

/// The memory or the cache of an [`AnyModel`]; empty until the model makes it.
#[derive(Default)]
pub struct AnyKept(Option<Box<dyn Rows>>);

impl AnyKept {
    fn new(kept: impl Kept) -> Self {
        Self(Some(Box::new(kept)))
    }
}

impl fmt::Debug for AnyKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyKept").finish_non_exhaustive()
    }
}

impl Batched for AnyKept {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.0.as_ref().map(|kept| kept.selected(rows)).transpose().map(Self)
    }
}

/// [`Batched`] behind a pointer.
trait Rows: Any + Send + Sync {
    fn selected(&self, rows: &[u32]) -> Result<Box<dyn Rows>>;
}

impl<T: Kept> Rows for T {
    fn selected(&self, rows: &[u32]) -> Result<Box<dyn Rows>> {
        Ok(Box::new(self.select(rows)?))
    }
}

/// [`Seq2Seq`] behind a pointer. Provided methods are passed on as well, since a model may define its own.
trait Erased: Send + Sync {
    fn encode(&self, src: &Padded, mode: Mode) -> Result<AnyKept>;
    fn decode(&self, memory: &AnyKept, tgt: &Padded, cache: Option<&mut AnyKept>, mode: Mode) -> Result<Tensor>;
    fn projection(&self) -> &Projection;
    fn delimiter_id(&self) -> u32;
    fn padding_id(&self) -> u32;
    fn max_positions(&self) -> Option<usize>;
    fn greedy_answers(&self, src: &Padded, max_len: usize) -> Result<Option<Vec<Hypothesis>>>;
    fn logits(&self, states: &Tensor) -> Result<Tensor>;
    fn smoothed_loss(&self, src: &Padded, tgt: &Padded, mode: Mode, smoothing: f64) -> Result<Tensor>;
    fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>>;
}

impl<M: Seq2Seq<Memory: Kept, Cache: Kept> + Send + Sync> Erased for M {
    fn encode(&self, src: &Padded, mode: Mode) -> Result<AnyKept> {
        Seq2Seq::encode(self, src, mode).map(AnyKept::new)
    }

    fn decode(&self, memory: &AnyKept, tgt: &Padded, cache: Option<&mut AnyKept>, mode: Mode) -> Result<Tensor> {
        let other = |what: &str| Error::Msg(format!("expected a {what} of this model, found one of another"));
        let memory = memory.0.as_deref().and_then(|memory| (memory as &dyn Any).downcast_ref::<M::Memory>());
        let memory = memory.ok_or_else(|| other("memory"))?;
        let cache = match cache {
            None => None,
            Some(AnyKept(kept)) => {
                let kept = kept.get_or_insert_with(|| Box::new(M::Cache::default()));
                let cache = (&mut **kept as &mut dyn Any).downcast_mut::<M::Cache>();
                Some(cache.ok_or_else(|| other("cache"))?)
            }
        };
        Seq2Seq::decode(self, memory, tgt, cache, mode)
    }

    fn projection(&self) -> &Projection {
        Seq2Seq::projection(self)
    }

    fn delimiter_id(&self) -> u32 {
        Seq2Seq::delimiter_id(self)
    }

    fn padding_id(&self) -> u32 {
        Seq2Seq::padding_id(self)
    }

    fn max_positions(&self) -> Option<usize> {
        Seq2Seq::max_positions(self)
    }

    fn greedy_answers(&self, src: &Padded, max_len: usize) -> Result<Option<Vec<Hypothesis>>> {
        Seq2Seq::greedy_answers(self, src, max_len)
    }

    fn logits(&self, states: &Tensor) -> Result<Tensor> {
        Seq2Seq::logits(self, states)
    }

    fn smoothed_loss(&self, src: &Padded, tgt: &Padded, mode: Mode, smoothing: f64) -> Result<Tensor> {
        Seq2Seq::smoothed_loss(self, src, tgt, mode, smoothing)
    }

    fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>> {
        Seq2Seq::losses(self, src, tgt)
    }
}

impl Seq2Seq for AnyModel {
    type Memory = AnyKept;
    type Cache = AnyKept;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<AnyKept> {
        self.0.encode(src, mode)
    }

    fn decode(&self, memory: &AnyKept, tgt: &Padded, cache: Option<&mut AnyKept>, mode: Mode) -> Result<Tensor> {
        self.0.decode(memory, tgt, cache, mode)
    }

    fn projection(&self) -> &Projection {
        self.0.projection()
    }

    fn delimiter_id(&self) -> u32 {
        self.0.delimiter_id()
    }

    fn padding_id(&self) -> u32 {
        self.0.padding_id()
    }

    fn max_positions(&self) -> Option<usize> {
        self.0.max_positions()
    }

    fn greedy_answers(&self, src: &Padded, max_len: usize) -> Result<Option<Vec<Hypothesis>>> {
        self.0.greedy_answers(src, max_len)
    }

    fn logits(&self, states: &Tensor) -> Result<Tensor> {
        self.0.logits(states)
    }

    fn smoothed_loss(&self, src: &Padded, tgt: &Padded, mode: Mode, smoothing: f64) -> Result<Tensor> {
        self.0.smoothed_loss(src, tgt, mode, smoothing)
    }

    fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>> {
        self.0.losses(src, tgt)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use crate::{
        AnyModel, Beam, Cell, Kept, Mode, Padded, Parameters, Recurrent, RecurrentConfig, Seq2Seq, StackConfig,
        Transformer, TransformerConfig, beam, greedy,
    };

    fn batch() -> Padded {
        Padded::new(&[0, 5, 6, 0, 0, 7, 0, 1], &[4, 3], 4, &Device::Cpu).expect("two rows")
    }

    fn check(model: impl Seq2Seq<Memory: Kept, Cache: Kept> + Clone + Send + Sync + 'static) {
        let any = AnyModel::new(model.clone());
        assert_eq!(greedy(&any, &batch(), 6).expect("answers"), greedy(&model, &batch(), 6).expect("answers"));
        let [found, expected] = [
            beam(&any, &batch(), 6, &Beam::new(3)).expect("answers"),
            beam(&model, &batch(), 6, &Beam::new(3)).expect("answers"),
        ];
        assert_eq!(found, expected);
        assert_eq!(any.losses(&batch(), &batch()).expect("losses"), model.losses(&batch(), &batch()).expect("losses"));
    }

    #[test]
    fn a_model_behind_a_pointer_is_the_same_model() {
        let parameters = Parameters::random(1, &Device::Cpu);
        let config = RecurrentConfig::new(Cell::Lstm, 9, 6, 2);
        Recurrent::init(&config, &parameters).expect("a model");
        let recurrent = Recurrent::new(&config, &parameters.frozen()).expect("the same");
        check(recurrent.clone());
        let parameters = Parameters::random(1, &Device::Cpu);
        let config = TransformerConfig::new(9, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
        Transformer::init(&config, &parameters).expect("a model");
        let transformer = Transformer::new(&config, &parameters.frozen()).expect("the same");
        check(transformer.clone());

        let memory = AnyModel::new(transformer).encode(&batch(), Mode::Evaluate).expect("a memory");
        let error = AnyModel::new(recurrent).decode(&memory, &batch(), None, Mode::Evaluate).expect_err("another's");
        assert!(error.to_string().contains("expected a memory of this model"), "{error}");
    }
}
