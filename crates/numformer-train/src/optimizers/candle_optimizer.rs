//! Our optimizers behind candle's interface.

use std::fmt;

use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor, Var};
use numformer_model::FlatLayout;

use crate::optimizers::optimizer::{Optimizer, Update};
use crate::optimizers::optimizer_config::OptimizerConfig;

/// One of our optimizers, for candle's variables. It has the methods of [`candle_nn::Optimizer`], so it works wherever
/// candle's own optimizers do. A [`Trainer`](crate::Trainer) takes an [`Optimizer`] directly, because its weights are
/// already one vector. [`Muon`](crate::Muon) is refused: it needs the names of the weights.
///
/// # Examples
/// ```
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
/// use numformer_train::{CandleOptimizer, CandleOptimizerConfig, OptimizerConfig, SgdConfig};
///
/// let x = Var::new(&[3f32, -4.0], &Device::Cpu)?;
/// let optimizer = OptimizerConfig::Sgd(SgdConfig::default());
/// let config = CandleOptimizerConfig { optimizer, lr: 0.25, weight_decay: 0.0 };
/// let mut descent = CandleOptimizer::new(vec![x.clone()], config)?;
/// descent.backward_step(&x.sqr()?.sum_all()?)?;
/// assert_eq!(x.to_vec1::<f32>()?, [1.5, -2.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct CandleOptimizer {
    vars: Vec<Var>,
    updates: u64,
    lr: f64,
    weight_decay: f64,
    /// One per variable: candle may have gradients for only some of them.
    optimizers: Vec<Box<dyn Optimizer>>,
}

/// The configuration of a [`CandleOptimizer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CandleOptimizerConfig {
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Learning rate, until a new one is set.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl candle_nn::Optimizer for CandleOptimizer {
    type Config = CandleOptimizerConfig;

    fn new(vars: Vec<Var>, config: CandleOptimizerConfig) -> Result<Self> {
        let CandleOptimizerConfig { optimizer, lr, weight_decay } = config;
        if let OptimizerConfig::Muon(_) = optimizer {
            // A variable has no name, and Muon would take tables of embeddings for weights of maps.
            return Err(Error::Msg("Muon needs the names of the weights: use a `HostLearner`".to_owned()));
        }
        let vars: Vec<Var> = vars.into_iter().filter(|var| var.dtype().is_float()).collect();
        let begun = vars.iter().map(|var| {
            let mut of_var = optimizer.build();
            of_var.begin(&FlatLayout::of_shapes([(String::new(), var.shape().clone())]));
            of_var
        });
        Ok(Self { optimizers: begun.collect(), vars, updates: 0, lr, weight_decay })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.updates += 1;
        let update = Update { weight_decay: self.weight_decay, ..Update::at(self.updates, self.lr) };
        for (var, optimizer) in self.vars.iter().zip(&mut self.optimizers) {
            let Some(gradient) = gradients.get(var) else { continue };
            let mut weights = var.flatten_all()?.to_vec1::<f32>()?;
            optimizer.update(update, &mut weights, &gradient.flatten_all()?.to_vec1::<f32>()?);
            var.set(&Tensor::from_vec(weights, var.shape(), var.device())?)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

impl fmt::Debug for CandleOptimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vars, updates, lr, weight_decay, .. } = self;
        let mut shown = f.debug_struct("CandleOptimizer");
        shown.field("vars", vars).field("updates", updates).field("lr", lr).field("weight_decay", weight_decay);
        shown.finish_non_exhaustive()
    }
}
