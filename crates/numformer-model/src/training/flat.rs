//! Parameters and gradients as flat vectors, for optimizers, checkpoints and reductions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::config::ConfigError;
use crate::model::Model;
use crate::model_config::ModelConfig;
use crate::parameter_counts::ParameterCounts;
use crate::parameters::Parameters;

/// The place of one parameter in a flat vector.
#[derive(Clone, Debug)]
pub struct Slot {
    name: String,
    shape: Shape,
    range: Range<usize>,
}

impl Slot {
    /// The parameter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter's shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The range of its coefficients, row-major.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    fn var(&self, parameters: &Parameters) -> Result<Var> {
        parameters.get(&self.name).ok_or_else(|| Error::Msg(format!("no parameter `{}`", self.name)))
    }
}

/// The order of all parameters in one flat vector: by name, each row-major.
///
/// With this layout, an optimizer is one pass over slices, and a reduction over processes is one call.
#[derive(Clone, Debug)]
pub struct FlatLayout {
    slots: Vec<Slot>,
}

impl FlatLayout {
    /// The layout of `parameters`, all of which must already exist: build the model first.
    ///
    /// # Errors
    /// When there are no parameters yet.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let layout = Self::of_shapes(parameters.to_vec().into_iter().map(|(name, var)| (name, var.shape().clone())));
        if layout.is_empty() {
            return Err(Error::Msg("expected the parameters of a model, found none: build the model first".to_owned()));
        }
        Ok(layout)
    }

    /// The layout of the parameters of a model with this configuration, without memory for them.
    ///
    /// # Errors
    /// When the configuration is impossible, or it is not known how the model is built.
    ///
    /// # Examples
    /// ```
    /// use numformer_model::{Cell, FlatLayout, RecurrentConfig};
    ///
    /// let config = RecurrentConfig::new(Cell::Gru, 20, 8, 1).into();
    /// let layout = FlatLayout::of(&config)?;
    /// assert_eq!(layout.slots()[0].name(), "decoder.embedding.norm.bias");
    /// assert_eq!(layout.len() as u64, config.parameter_counts().total());
    /// # Ok::<(), numformer_model::ConfigError>(())
    /// ```
    pub fn of(config: &ModelConfig) -> std::result::Result<Self, ConfigError> {
        config.validate()?;
        let shapes = Shapes::default();
        let builder = VarBuilder::from_backend(Box::new(shapes.clone()), DType::F32, Device::Cpu);
        // Only the model knows which parameters exist, so it is built on tensors that are all a single broadcast zero.
        Model::new(config, &builder).map_err(|error| ConfigError::NotBuilt { reason: error.to_string() })?;
        let shapes = std::mem::take(&mut *shapes.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Self::of_shapes(shapes))
    }

    /// The layout of parameters with these names and shapes, in this order.
    ///
    /// # Examples
    /// ```
    /// use numformer_model::FlatLayout;
    ///
    /// let layout = FlatLayout::of_shapes([("weight".to_owned(), (2, 3).into()), ("bias".to_owned(), 2.into())]);
    /// assert_eq!((layout.len(), layout.slots()[1].range()), (8, 6..8));
    /// ```
    #[must_use]
    pub fn of_shapes(shapes: impl IntoIterator<Item = (String, Shape)>) -> Self {
        let mut end = 0;
        let slots = shapes
            .into_iter()
            .map(|(name, shape)| {
                let begin = end;
                end += shape.elem_count();
                Slot { name, shape, range: begin..end }
            })
            .collect();
        Self { slots }
    }

    /// The parameters, in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Total number of coefficients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    /// Whether there are no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Reads the values of all parameters.
    ///
    /// # Errors
    /// When `values` differs in length from the layout, a parameter is missing, or a device fails.
    pub fn read(&self, parameters: &Parameters, values: &mut [f32]) -> Result<()> {
        self.check_len(values.len())?;
        for slot in &self.slots {
            copy(slot.var(parameters)?.as_tensor(), &mut values[slot.range()])?;
        }
        Ok(())
    }

    /// Sets all parameters; every model built on them sees the new values.
    ///
    /// # Errors
    /// As [`FlatLayout::read`].
    pub fn write(&self, parameters: &Parameters, values: &[f32]) -> Result<()> {
        self.check_len(values.len())?;
        for slot in &self.slots {
            let var = slot.var(parameters)?;
            var.set(&Tensor::from_slice(&values[slot.range()], slot.shape(), var.device())?)?;
        }
        Ok(())
    }

    /// Reads the gradients of all parameters.
    ///
    /// # Errors
    /// When a parameter has no gradient (because an operation dropped it), or as [`FlatLayout::read`].
    pub fn read_gradients(&self, parameters: &Parameters, store: &GradStore, gradients: &mut [f32]) -> Result<()> {
        self.check_len(gradients.len())?;
        for slot in &self.slots {
            let gradient = store
                .get(slot.var(parameters)?.as_tensor())
                .ok_or_else(|| Error::Msg(format!("parameter `{}` received no gradient", slot.name)))?;
            copy(gradient, &mut gradients[slot.range()])?;
        }
        Ok(())
    }

    fn check_len(&self, found: usize) -> Result<()> {
        if found == self.len() {
            return Ok(());
        }
        Err(Error::Msg(format!("expected {} coefficients, as many as the parameters have, found {found}", self.len())))
    }
}

fn copy(tensor: &Tensor, target: &mut [f32]) -> Result<()> {
    if tensor.device().is_cpu() && tensor.is_contiguous() {
        let (storage, layout) = tensor.storage_and_layout();
        if let candle_core::Storage::Cpu(storage) = &*storage {
            let begin = layout.start_offset();
            let values = &storage.as_slice::<f32>()?[begin..begin + target.len()];
            target.copy_from_slice(values);
            return Ok(());
        }
    }
    target.copy_from_slice(&tensor.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

/// Records the shapes of the parameters that a model requests.
#[derive(Clone, Default)]
struct Shapes(Arc<Mutex<BTreeMap<String, Shape>>>);

impl SimpleBackend for Shapes {
    fn get(&self, shape: Shape, name: &str, _init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let zeros = Tensor::zeros((), dtype, device)?.broadcast_as(&shape)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), shape);
        Ok(zeros)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("expected a shape with the parameter `{name}`, found none")))
    }

    fn contains_tensor(&self, _name: &str) -> bool {
        true
    }
}

impl ModelConfig {
    /// Number of trainable coefficients of a model of this configuration, which must be
    /// [valid](ModelConfig::validate); none if it is not known how the model is built.
    #[must_use]
    pub fn parameter_counts(&self) -> ParameterCounts {
        match self {
            Self::Transformer(config) => config.parameter_counts(),
            Self::Recurrent(config) => config.parameter_counts(),
            Self::Custom(_) => {
                let other = FlatLayout::of(self).map_or(0, |layout| layout.len() as u64);
                ParameterCounts { other, ..ParameterCounts::default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cell, RecurrentConfig, StackConfig, TransformerConfig};

    fn two() -> (Parameters, FlatLayout) {
        let b = Tensor::new(&[1f32, 2.0], &Device::Cpu).expect("b");
        let a = Tensor::new(&[[3f32, 4.0, 5.0]], &Device::Cpu).expect("a");
        let named = [("b".to_owned(), b), ("a".to_owned(), a)];
        let parameters = Parameters::from_tensors(named, &Device::Cpu).expect("stored");
        let layout = FlatLayout::new(&parameters).expect("parameters");
        (parameters, layout)
    }

    #[test]
    fn read_goes_by_name_and_write_inverts_it() {
        let (parameters, layout) = two();
        let mut values = vec![0.0; layout.len()];
        layout.read(&parameters, &mut values).expect("five coefficients");
        assert_eq!(values, [3.0, 4.0, 5.0, 1.0, 2.0]);
        layout.write(&parameters, &[9.0, 8.0, 7.0, 6.0, 5.0]).expect("five coefficients");
        let b = parameters.get("b").expect("b").to_vec1::<f32>().expect("b");
        assert_eq!(b, [6.0, 5.0]);
        assert!(layout.write(&parameters, &[0.0]).is_err());
    }

    #[test]
    fn the_layout_of_a_configuration_is_that_of_its_model() {
        let mut config = TransformerConfig::new(13, 10, StackConfig::new(12, 3, 2), StackConfig::new(8, 2, 3));
        config.decoder.d_ff = Some(20);
        config.copy_gate = true;
        let configs: [ModelConfig; 3] = [
            config.into(),
            RecurrentConfig::new(Cell::Lstm, 13, 6, 2).into(),
            RecurrentConfig::new(Cell::Gru, 13, 6, 1).into(),
        ];
        for config in configs {
            let parameters = Parameters::random(0, &Device::Cpu);
            Model::new(&config, &parameters.trainable()).expect("a model");
            let layouts = [FlatLayout::new(&parameters).expect("built"), FlatLayout::of(&config).expect("possible")];
            let [expected, found] = layouts.map(|layout| {
                layout.slots.into_iter().map(|slot| (slot.name, slot.shape, slot.range)).collect::<Vec<_>>()
            });
            assert_eq!(found, expected);
        }
        // Far more than fits into memory.
        let sizes = StackConfig { d_ff: Some(1 << 16), ..StackConfig::new(1 << 16, 1, 2) };
        let layout = FlatLayout::of(&TransformerConfig::new(1 << 20, 8, sizes.clone(), sizes).into());
        assert!(layout.expect("possible").len() > 1 << 36);
    }

    #[test]
    fn there_is_no_layout_before_there_is_a_model() {
        let error = FlatLayout::new(&Parameters::random(0, &Device::Cpu)).expect_err("no model").to_string();
        assert!(error.contains("build the model first"), "{error}");
    }

    #[test]
    fn gradients_take_the_same_places() {
        let (parameters, layout) = two();
        let (a, b) = (parameters.get("a").expect("a"), parameters.get("b").expect("b"));
        // d/da Σ a² = 2a, d/db Σ 3b = 3
        let loss = (a.sqr().and_then(|x| x.sum_all())).and_then(|x| x + b.affine(3.0, 0.0)?.sum_all()?).expect("loss");
        let mut gradients = vec![0.0; 5];
        let store = loss.backward().expect("gradients");
        layout.read_gradients(&parameters, &store, &mut gradients).expect("both");
        assert_eq!(gradients, [6.0, 8.0, 10.0, 3.0, 3.0]);
    }

    #[test]
    fn a_dropped_gradient_is_an_error_that_names_the_parameter() {
        let (parameters, layout) = two();
        let loss = parameters.get("a").expect("a").sum_all().expect("loss");
        let store = loss.backward().expect("gradients");
        let error = layout.read_gradients(&parameters, &store, &mut [0.0; 5]).expect_err("b is not used");
        assert!(error.to_string().contains("`b` received no gradient"));
    }
}
