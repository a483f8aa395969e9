//! Named weights: created from a seed or from stored values, shared by the models built on them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;
use rand_distr::Normal;

/// The trainable tensors of a model, by name, in the order of their names.
///
/// A model requests its tensors through a [`VarBuilder`]. Random parameters are created at the first request, each from
/// the seed and its own name. Their values therefore depend neither on the order of construction nor on other layers.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Parameters, StackConfig, Transformer, TransformerConfig};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let parameters = Parameters::random(7, &Device::Cpu);
/// let model = Transformer::init(&config, &parameters)?;
/// assert_eq!(parameters.names()[0], "decoder.embedding.norm.bias");
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    origin: Origin,
    device: Device,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    Random { seed: u64 },
    Stored,
}

impl Parameters {
    /// Parameters drawn from `seed` when a model requests them.
    #[must_use]
    pub fn random(seed: u64, device: &Device) -> Self {
        Self { vars: Arc::default(), origin: Origin::Random { seed }, device: device.clone() }
    }

    /// Parameters with given values. A model that requests another name gets an error.
    ///
    /// # Errors
    /// When a tensor cannot be moved to `device`.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>, device: &Device) -> Result<Self> {
        let vars = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor.to_device(device)?)?)))
            .collect::<Result<_>>()?;
        Ok(Self { vars: Arc::new(Mutex::new(vars)), origin: Origin::Stored, device: device.clone() })
    }

    /// Reads parameters from a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    ///
    /// # Examples
    /// ```
    /// use candle_core::Device;
    /// use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("model.safetensors");
    /// let config = RecurrentConfig::new(Cell::Gru, 20, 8, 1);
    /// let parameters = Parameters::random(0, &Device::Cpu);
    /// Recurrent::init(&config, &parameters)?;
    /// parameters.save(&path)?;
    /// let model = Recurrent::new(&config, &Parameters::load(&path, &Device::Cpu)?.frozen())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_tensors(candle_core::safetensors::load(path, device)?, device)
    }

    /// Writes the parameters to a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let tensors = self.to_vec().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        let tensors: HashMap<String, Tensor> = tensors.collect();
        candle_core::safetensors::save(&tensors, path)
    }

    /// The device that holds the parameters.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Gives a model these parameters as variables, which gradients reach.
    #[must_use]
    pub fn trainable(&self) -> VarBuilder<'static> {
        self.builder(Tracking::On)
    }

    /// Gives a model the values of these parameters without gradients. The storage is shared, so the model sees every
    /// later update. It computes without recording anything.
    #[must_use]
    pub fn frozen(&self) -> VarBuilder<'static> {
        self.builder(Tracking::Off)
    }

    fn builder(&self, tracking: Tracking) -> VarBuilder<'static> {
        let backend = Backend { parameters: self.clone(), tracking };
        VarBuilder::from_backend(Box::new(backend), DType::F32, self.device.clone())
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// All parameters with their names, sorted by name.
    #[must_use]
    pub fn to_vec(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// The parameter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Total number of coefficients.
    #[must_use]
    pub fn element_count(&self) -> usize {
        self.lock().values().map(|var| var.elem_count()).sum()
    }

    /// Sets the vectors of the padding token to zero, in the embeddings of both halves of a model.
    ///
    /// # Errors
    /// When the embeddings do not exist.
    pub(crate) fn zero_padding_vectors(&self, padding_id: u32) -> Result<()> {
        for half in ["encoder", "decoder"] {
            self.zero_row(&format!("{half}.embedding.tokens.weight"), padding_id as usize)?;
        }
        Ok(())
    }

    /// Sets one row of a matrix to zero.
    ///
    /// # Errors
    /// When the matrix or the row does not exist.
    fn zero_row(&self, name: &str, row: usize) -> Result<()> {
        let var = self.get(name).ok_or_else(|| missing(name))?;
        let mask: Vec<f32> = (0..var.dim(0)?).map(|i| if i == row { 0.0 } else { 1.0 }).collect();
        let mask = Tensor::from_vec(mask, (var.dim(0)?, 1), &self.device)?.to_dtype(var.dtype())?;
        var.set(&var.as_detached_tensor().broadcast_mul(&mask)?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // Entries are only ever inserted into the map, so a panic elsewhere leaves it consistent.
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug)]
enum Tracking {
    On,
    Off,
}

struct Backend {
    parameters: Parameters,
    tracking: Tracking,
}

impl Backend {
    fn view(&self, var: &Var) -> Tensor {
        match self.tracking {
            Tracking::On => var.as_tensor().clone(),
            Tracking::Off => var.as_detached_tensor(),
        }
    }
}

impl SimpleBackend for Backend {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut vars = self.parameters.lock();
        if let Some(var) = vars.get(name) {
            if var.shape() != &shape {
                return Err(Error::Msg(format!(
                    "parameter `{name}`: expected shape {shape:?}, found {:?}",
                    var.shape()
                )));
            }
            return Ok(self.view(var));
        }
        let Origin::Random { seed } = self.parameters.origin else {
            return Err(missing(name));
        };
        let values = draw(seed, name, init, &shape)?;
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)?;
        let tensor = self.view(&var);
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        let vars = self.parameters.lock();
        Ok(self.view(vars.get(name).ok_or_else(|| missing(name))?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.parameters.lock().contains_key(name)
    }
}

fn missing(name: &str) -> Error {
    Error::Msg(format!("no parameter `{name}`"))
}

/// Draws one tensor. candle's own CPU generator cannot be seeded, so the values are drawn here.
fn draw(seed: u64, name: &str, init: Init, shape: &Shape) -> Result<Vec<f32>> {
    let count = shape.elem_count();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(name));
    match init {
        Init::Const(value) => Ok(vec![value as f32; count]),
        Init::Uniform { lo, up } => {
            let law = Uniform::new_inclusive(lo as f32, up as f32).map_err(Error::wrap)?;
            Ok(law.sample_iter(rng).take(count).collect())
        }
        Init::Randn { mean, stdev } => {
            let law = Normal::new(mean, stdev).map_err(Error::wrap)?;
            Ok(law.sample_iter(rng).take(count).map(|x| x as f32).collect())
        }
        // He et al. (2015): a standard deviation of gain/√fan, which candle's layers request by default.
        Init::Kaiming { dist, fan, non_linearity } => {
            let deviation = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let bound = 3f64.sqrt() * deviation;
            match dist {
                NormalOrUniform::Normal => draw(seed, name, Init::Randn { mean: 0.0, stdev: deviation }, shape),
                NormalOrUniform::Uniform => draw(seed, name, Init::Uniform { lo: -bound, up: bound }, shape),
            }
        }
    }
}

/// The 64-bit FNV-1a hash. It is small and, unlike std's hasher, the same on every platform and in every release.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(parameters: &Parameters, name: &str) -> Vec<f32> {
        let init = Init::Uniform { lo: -0.5, up: 0.5 };
        let tensor = parameters.trainable().get_with_hints(1000, name, init);
        tensor.expect("created").to_vec1().expect("a vector")
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let (a, b) = (Parameters::random(1, &Device::Cpu), Parameters::random(1, &Device::Cpu));
        let x = uniform(&a, "x");
        uniform(&b, "y");
        assert_eq!(x, uniform(&b, "x"));
        assert_ne!(x, uniform(&b, "y"));
        assert_ne!(x, uniform(&Parameters::random(2, &Device::Cpu), "x"));
    }

    #[test]
    fn values_are_stable() {
        // A change here changes every published run: announce it as value-breaking.
        let x = uniform(&Parameters::random(0, &Device::Cpu), "x");
        assert_eq!(x[..3], STABLE);
    }
    const STABLE: [f32; 3] = [0.257_700_1, -0.208_250_37, 0.069_472_134];

    #[test]
    fn uniform_start_fills_its_range() {
        let x = uniform(&Parameters::random(3, &Device::Cpu), "x");
        let mean = x.iter().sum::<f32>() / 1000.0;
        // Standard error of the mean: 1/√12/√1000 = 0.009.
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!(x.iter().all(|v| v.abs() <= 0.5));
        assert!(x.iter().any(|v| *v > 0.48) && x.iter().any(|v| *v < -0.48));
    }

    /// The layers of candle-nn request it, so models built from them can be trained, too.
    #[test]
    fn layers_of_candle_start_as_they_ask() {
        let parameters = Parameters::random(0, &Device::Cpu);
        candle_nn::linear(200, 100, parameters.trainable()).expect("a layer");
        let weight = parameters.get("weight").expect("created").flatten_all().expect("flat");
        let weight = weight.to_vec1::<f32>().expect("a vector");
        let variance = weight.iter().map(|x| f64::from(x * x)).sum::<f64>() / weight.len() as f64;
        // The variance for a ReLU is 2/fan-in; the standard error with 20,000 values is 1%.
        assert!((variance * 100.0 - 1.0).abs() < 0.04, "{variance}");
    }

    #[test]
    fn stored_parameters_name_what_is_missing_or_misshaped() {
        let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).expect("zeros");
        let stored = Parameters::from_tensors([("w".to_owned(), tensor)], &Device::Cpu);
        let builder = stored.expect("stored").trainable();
        assert!(builder.get((2, 3), "w").is_ok());
        let error = builder.get((3, 2), "w").expect_err("wrong shape").to_string();
        assert!(error.contains("`w`: expected shape [3, 2], found [2, 3]"), "{error}");
        let error = builder.get(1, "b").expect_err("missing").to_string();
        assert!(error.contains("no parameter `b`"), "{error}");
    }

    #[test]
    fn frozen_views_follow_updates() {
        let parameters = Parameters::random(0, &Device::Cpu);
        let init = Init::Const(1.0);
        let tracked = parameters.trainable().get_with_hints(2, "w", init).expect("w");
        let frozen = parameters.frozen().get_with_hints(2, "w", init).expect("w");
        assert!(tracked.is_variable() && !frozen.track_op());
        let var = parameters.get("w").expect("w");
        var.set(&Tensor::new(&[3f32, 4.0], &Device::Cpu).expect("pair")).expect("same shape");
        assert_eq!(frozen.to_vec1::<f32>().expect("pair"), [3.0, 4.0]);
    }

    #[test]
    fn zero_row_clears_one_row_only() {
        let parameters = Parameters::random(0, &Device::Cpu);
        let init = Init::Const(2.0);
        parameters.trainable().get_with_hints((3, 2), "w", init).expect("w");
        parameters.zero_row("w", 1).expect("row 1 exists");
        let rows: Vec<Vec<f32>> = parameters.get("w").expect("w").to_vec2().expect("matrix");
        assert_eq!(rows, [[2.0, 2.0], [0.0, 0.0], [2.0, 2.0]]);
    }
}
