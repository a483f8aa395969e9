//! The standard transformer in use on a device. The device chooses the next token, and the host reads only the answers.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Error, Result, Tensor};
use numformer_model::{
    AnyModel, End, Hypothesis, Mode, Model, ModelConfig, Padded, Parameters, Projection, Seq2Seq, TokenRows,
    Transformer, TransformerConfig,
};
use numformer_ops::device::{Accelerator, Element};

use super::generation::{Generation, GenerationShape};
use super::inputs::rounded;
use super::places::{DevicePlaces, variable};
use super::sizes::Sizes;
use super::stacks::Model as Layers;
use super::step::{DeviceStep, checked_layout};
use super::vectors::{Activations, Pass, Vectors};
use crate::Precision;

/// Number of positions between two checks whether all sequences have ended.
const LOOK_EVERY: usize = 8;

/// The standard transformer in use on a device: greedy decoding is recorded for each shape and then replayed, token by
/// token, without the host. All else is computed by candle on the device, as for any model.
///
/// # Examples
/// ```no_run
/// use numformer_fused::{DeviceModel, Precision};
/// use numformer_model::{Padded, Parameters, StackConfig, Transformer, TransformerConfig, greedy};
/// use numformer_ops::device::{Accelerator, cuda};
///
/// let device = cuda(0)?;
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let parameters = Parameters::random(0, &device);
/// Transformer::init(&config, &parameters)?;
/// let model = DeviceModel::new(&config, &parameters, Accelerator::new(&device)?, Precision::Bf16)?;
/// assert_eq!(greedy(&model, &Padded::new(&[0, 5, 6, 0], &[4], 4, &device)?, 8)?.len(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceModel {
    model: Transformer,
    parameters: Parameters,
    decoder: Arc<Mutex<GreedyDecoder>>,
}

impl DeviceModel {
    /// The transformer that `config` describes, on the device that holds `parameters`. It sees every later change of
    /// them.
    ///
    /// # Errors
    /// When the configuration is impossible or has a feature that
    /// [`DeviceStep::missing`](crate::DeviceStep::missing) names, `parameters` do not match the model or are on another
    /// device, or the device does not have enough memory.
    pub fn new(
        config: &TransformerConfig,
        parameters: &Parameters,
        device: Accelerator,
        precision: Precision,
    ) -> Result<Self> {
        let model = Transformer::new(config, &parameters.frozen())?;
        let decoder = GreedyDecoder::new(config, parameters, device, precision)?;
        Ok(Self { model, parameters: parameters.clone(), decoder: Arc::new(Mutex::new(decoder)) })
    }
}

/// The model that `config` describes, as it writes answers on the device that holds `parameters`: a [`DeviceModel`], on
/// the accelerator that `open` opens, if it is a transformer that the fused step has all features of, and otherwise the
/// model as candle computes it there.
///
/// # Errors
/// As [`DeviceModel::new`], but no feature is missing.
pub fn device_model(
    config: &ModelConfig,
    parameters: &Parameters,
    precision: Precision,
    open: impl FnOnce() -> Result<Accelerator>,
) -> Result<Model> {
    match config {
        ModelConfig::Transformer(transformer) if DeviceStep::missing(config).is_none() => {
            Ok(AnyModel::new(DeviceModel::new(transformer, parameters, open()?, precision)?).into())
        }
        _ => Model::new(config, &parameters.frozen()),
    }
}

impl Seq2Seq for DeviceModel {
    type Memory = <Transformer as Seq2Seq>::Memory;
    type Cache = <Transformer as Seq2Seq>::Cache;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<Self::Memory> {
        self.model.encode(src, mode)
    }

    fn decode(
        &self,
        memory: &Self::Memory,
        tgt: &Padded,
        cache: Option<&mut Self::Cache>,
        mode: Mode,
    ) -> Result<Tensor> {
        self.model.decode(memory, tgt, cache, mode)
    }

    fn projection(&self) -> &Projection {
        self.model.projection()
    }

    fn delimiter_id(&self) -> u32 {
        self.model.delimiter_id()
    }

    fn padding_id(&self) -> u32 {
        self.model.padding_id()
    }

    fn max_positions(&self) -> Option<usize> {
        self.model.max_positions()
    }

    fn greedy_answers(&self, src: &Padded, max_len: usize) -> Result<Option<Vec<Hypothesis>>> {
        let (batch, width) = src.ids().dims2()?;
        let ids = src.ids().flatten_all()?.to_vec1::<u32>()?;
        let full = vec![width as u32; batch];
        let rows = TokenRows { ids: &ids, lengths: src.lengths().unwrap_or(&full), width };
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decoder.take_weights(&self.parameters)?;
        decoder.answers(rows, max_len).map(Some)
    }
}

/// Greedy decoding on a device, with weights of its own in the order of the device.
#[derive(Debug)]
struct GreedyDecoder {
    device: Accelerator,
    config: TransformerConfig,
    places: DevicePlaces,
    model: Layers,
    vectors: Vectors,
    activations: Activations,
    generations: Vec<Generation>,
}

impl GreedyDecoder {
    fn new(
        config: &TransformerConfig,
        parameters: &Parameters,
        mut device: Accelerator,
        precision: Precision,
    ) -> Result<Self> {
        let places = DevicePlaces::new(&checked_layout(config, parameters)?);
        let vectors = Vectors::for_use(&mut device, places.len(), precision)?;
        let model = Layers::on(&mut device, &places, config)?;
        let activations = Activations::new(&mut device, &vectors, precision)?;
        Ok(Self { device, config: config.clone(), places, model, vectors, activations, generations: Vec::new() })
    }

    /// Copies the weights as they are now.
    fn take_weights(&mut self, parameters: &Parameters) -> Result<()> {
        let Self { device, places, vectors, .. } = self;
        for (name, range) in places.ranges() {
            device.copy_from_tensor(vectors.weights.slice(range)?, variable(parameters, name)?.as_tensor())?;
        }
        vectors.copy().map_or(Ok(()), |copy| device.round(copy, vectors.weights))
    }

    /// Answers to each source: the most probable token at each position (of equals, the first). An answer has at most
    /// `max_len` tokens, both delimiters included.
    ///
    /// In bf16, an answer may differ from that in `f32` where scores are close to each other.
    fn answers(&mut self, src: TokenRows<'_>, max_len: usize) -> Result<Vec<Hypothesis>> {
        let TransformerConfig { vocab_size, max_positions, delimiter_id, padding_id, .. } = self.config;
        src.check(vocab_size, max_positions)?;
        // The last token is chosen but never read.
        let steps = max_len.saturating_sub(1);
        let batch = src.lengths.len();
        if batch == 0 || steps == 0 {
            return Ok(vec![Hypothesis { ids: Vec::new(), end: End::Limit }; batch]);
        }
        let at = self.generation(src, steps)?;
        let Self { device, generations, vectors, model, .. } = self;
        let generation = &mut generations[at];
        generation.write(device, src, [delimiter_id, padding_id])?;
        let [own, cross, of_encoder] = generation.sizes();
        if generation.begin.is_none() {
            let Generation { ids, encoded, step, next, position, .. } = &*generation;
            // A first run outside the recording: libraries load what they need, which must not be part of a recording.
            let mut first = Pass { device, vectors, drops: false };
            model.encode(&mut first, of_encoder, *ids, encoded)?;
            model.begin(&mut first, encoded.states(), step)?;
            model.decode_step(&mut first, *next, *position, [own, cross], step)?;
            generation.begin = Some(device.record(|device| {
                let mut pass = Pass { device, vectors, drops: false };
                model.encode(&mut pass, of_encoder, *ids, encoded)?;
                model.begin(&mut pass, encoded.states(), step)
            })?);
        }
        if generation.go_on.is_none() {
            let Generation { position, written, next, answers, ended, step, .. } = &*generation;
            generation.go_on = Some(device.record(|device| {
                let mut pass = Pass { device, vectors, drops: false };
                model.decode_step(&mut pass, *next, *position, [own, cross], step)?;
                let chosen = [*next, *answers, *ended];
                pass.device.choose(chosen, step.logits, *position, [delimiter_id, padding_id])?;
                pass.device.increment(*position)?;
                pass.device.increment(*written)
            })?);
        }
        let recorded = [&generation.begin, &generation.go_on].map(|recording| recording.as_ref().expect("made above"));
        device.replay(recorded[0])?;
        for step in 1..=steps {
            device.replay(recorded[1])?;
            if step % LOOK_EVERY == 0 && device.read_ids(generation.ended)?.iter().all(|ended| *ended > 0) {
                break;
            }
        }
        // As `choose` leaves it.
        if let Some(row) = device.read_ids(generation.ended)?.iter().position(|ended| *ended == 2) {
            return Err(Error::Msg(format!("the scores of row {row} are not finite: the model has diverged")));
        }
        let answers = device.read_ids(generation.answers)?;
        let rows = answers.chunks(generation.shape.longest).take(batch);
        Ok(rows.map(|row| hypothesis(&row[..steps], delimiter_id)).collect())
    }

    /// The index of the generation for sources of this shape; plans one if there is none.
    fn generation(&mut self, src: TokenRows<'_>, steps: usize) -> Result<usize> {
        let TransformerConfig { vocab_size, max_positions, .. } = self.config;
        let shape = GenerationShape {
            batch: rounded_batch(src.lengths.len()),
            src: rounded(src.width, max_positions),
            longest: rounded(steps, max_positions),
        };
        if let Some(at) = self.generations.iter().position(|generation| generation.shape == shape) {
            return Ok(at);
        }
        let Self { device, model, activations, .. } = self;
        let GenerationShape { batch, src, longest } = shape;
        let mut reserve = |len| device.reserve(Element::U32, len);
        let [ids, lengths, position, written] = [reserve(batch * src)?, reserve(batch)?, reserve(1)?, reserve(batch)?];
        let [next, answers, ended] = [reserve(batch)?, reserve(batch * longest)?, reserve(batch)?];
        let of_encoder = Sizes { batch, t: src, s: src, key_lengths: lengths, masks: None };
        let (encoded, step) = activations.plan(device, |take| {
            Ok((model.plan_encoder(take, of_encoder)?, model.plan_step(take, batch, [longest, src], vocab_size)?))
        })?;
        let (begin, go_on) = (None, None);
        let regions =
            Generation { shape, ids, lengths, position, written, next, answers, ended, encoded, step, begin, go_on };
        self.generations.push(regions);
        Ok(self.generations.len() - 1)
    }
}

/// The number of rows for `batch` sources: a power of two or a multiple of 32, so that there are few shapes although an
/// evaluation asks for the answers that it cannot do without, which are another number each time.
fn rounded_batch(batch: usize) -> usize {
    if batch <= 32 { batch.next_power_of_two() } else { batch.next_multiple_of(32) }
}

/// The answer in a row of chosen tokens, up to the closing delimiter.
fn hypothesis(chosen: &[u32], delimiter: u32) -> Hypothesis {
    match chosen.iter().position(|id| *id == delimiter) {
        Some(end) => Hypothesis { ids: chosen[..end].to_vec(), end: End::Delimiter },
        None => Hypothesis { ids: chosen.to_vec(), end: End::Limit },
    }
}
