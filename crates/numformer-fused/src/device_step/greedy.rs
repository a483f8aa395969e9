//! Greedy decoding on a device. The device chooses the next token, and the host reads only the answers.

use candle_core::{Error, Result};
use numformer_model::{End, Hypothesis, TokenRows, TransformerConfig};
use numformer_ops::device::Element;

use super::DeviceStep;
use super::generation::{Generation, GenerationShape};
use super::inputs::rounded;
use super::sublayers::Sizes;
use super::vectors::Pass;

/// Number of positions between two checks whether all sequences have ended.
const LOOK_EVERY: usize = 8;

impl DeviceStep {
    /// Answers to each source, like [`greedy`](numformer_model::greedy) but on the device: the most probable token at each
    /// position (of equals, the first). An answer has at most `max_len` tokens, both delimiters included.
    ///
    /// In bf16, an answer may differ from that in `f32` where scores are close to each other.
    ///
    /// # Errors
    /// When the model cannot read the sources, `max_len` is beyond its positions, or the device fails.
    pub fn greedy(&mut self, src: TokenRows<'_>, max_len: usize) -> Result<Vec<Hypothesis>> {
        let TransformerConfig { vocab_size, max_positions, delimiter_id, padding_id, .. } = self.config;
        src.check(vocab_size, max_positions)?;
        // The last token is chosen but never read.
        let steps = max_len.saturating_sub(1);
        if steps > max_positions {
            return Err(Error::Msg(format!(
                "expected answers of at most {} tokens, found {max_len}",
                max_positions + 1
            )));
        }
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
            let mut pass = Pass { device, vectors };
            model.encode(&mut pass, of_encoder, *ids, encoded)?;
            model.begin(&mut pass, encoded.states(), step)?;
            model.decode_step(&mut pass, *next, *position, [own, cross], step)?;
            generation.begin = Some(device.record(|device| {
                let mut pass = Pass { device, vectors };
                model.encode(&mut pass, of_encoder, *ids, encoded)?;
                model.begin(&mut pass, encoded.states(), step)
            })?);
        }
        if generation.go_on.is_none() {
            let Generation { position, written, next, answers, ended, step, .. } = &*generation;
            generation.go_on = Some(device.record(|device| {
                let mut pass = Pass { device, vectors };
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
            if step % LOOK_EVERY == 0 && device.read_ids(generation.ended)?.iter().all(|ended| *ended == 1) {
                break;
            }
        }
        let answers = device.read_ids(generation.answers)?;
        Ok(answers.chunks(generation.shape.longest).map(|row| hypothesis(&row[..steps], delimiter_id)).collect())
    }

    /// The index of the generation for sources of this shape; plans one if there is none.
    fn generation(&mut self, src: TokenRows<'_>, steps: usize) -> Result<usize> {
        let TransformerConfig { vocab_size, max_positions, .. } = self.config;
        let shape = GenerationShape {
            batch: src.lengths.len(),
            src: rounded(src.width, max_positions),
            longest: rounded(steps, max_positions),
        };
        if let Some(at) = self.generations.iter().position(|generation| generation.shape == shape) {
            return Ok(at);
        }
        let GenerationShape { batch, src, longest } = shape;
        let mut reserve = |len| self.device.reserve(Element::U32, len);
        let [ids, lengths, position, written] = [reserve(batch * src)?, reserve(batch)?, reserve(1)?, reserve(batch)?];
        let [next, answers, ended] = [reserve(batch)?, reserve(batch * longest)?, reserve(batch)?];
        let of_encoder = Sizes { batch, t: src, s: src, key_lengths: lengths };
        let (encoded, step) = self.planned(|model, take| {
            Ok((model.plan_encoder(take, of_encoder)?, model.plan_step(take, batch, [longest, src], vocab_size)?))
        })?;
        let (begin, go_on) = (None, None);
        let regions =
            Generation { shape, ids, lengths, position, written, next, answers, ended, encoded, step, begin, go_on };
        self.generations.push(regions);
        Ok(self.generations.len() - 1)
    }
}

/// The answer in a row of chosen tokens, up to the closing delimiter.
fn hypothesis(chosen: &[u32], delimiter: u32) -> Hypothesis {
    match chosen.iter().position(|id| *id == delimiter) {
        Some(end) => Hypothesis { ids: chosen[..end].to_vec(), end: End::Delimiter },
        None => Hypothesis { ids: chosen.to_vec(), end: End::Limit },
    }
}
