//! The end of a step.

use candle_core::Result;

use super::{assert_close, devices, on, random};
use crate::device::{Accelerator, Element, OptimizerStep, Region, SgdStep, StepNumbers};
use crate::{AdamStep, adam_update};

const ADAM: AdamStep = AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, gradient_scale: 1.0, decay: 0.001 };

/// The vectors of a step, on the device.
struct Stepped {
    weights: Region,
    memory: Vec<Region>,
    copy: Region,
    gradients: Region,
    losses: Region,
    words: [Region; 3],
    squares: Region,
}

impl Stepped {
    fn new(
        device: &mut Accelerator,
        optimizer: OptimizerStep,
        [weights, gradients, losses]: [&[f32]; 3],
    ) -> Result<Self> {
        let n = weights.len();
        Ok(Self {
            weights: on(device, Element::F32, weights)?,
            memory: (0..optimizer.kind().vectors()).map(|_| device.reserve(Element::F32, n)).collect::<Result<_>>()?,
            copy: device.reserve(Element::Bf16, n)?,
            gradients: on(device, Element::F32, gradients)?,
            losses: on(device, Element::F32, losses)?,
            words: [
                device.reserve(Element::U32, StepNumbers::WORDS)?,
                device.reserve(Element::U32, 2)?,
                device.reserve(Element::F32, 4)?,
            ],
            squares: device.reserve(Element::F64, Accelerator::SQUARES)?,
        })
    }

    fn take(&self, device: &mut Accelerator, optimizer: OptimizerStep, clip_norm: f32, slot: u32) -> Result<()> {
        let numbers = StepNumbers { optimizer, clip_norm, slot, share: 0.5 };
        device.write_ids(self.words[0], &numbers.to_words())?;
        let [numbers, state, outcomes] = self.words;
        device.end_step(
            optimizer.kind(),
            [self.weights, self.gradients],
            &self.memory,
            Some(self.copy),
            self.losses,
            [numbers, state, outcomes, self.squares],
        )
    }
}

#[test]
fn steps_of_adam_agree_with_the_host() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        let (mut weights, gradients) = (random(1000, 1), random(1000, 2));
        let norm = crate::sum_of_squares(&gradients).sqrt() as f32;
        let step = Stepped::new(device, OptimizerStep::Adam(ADAM), [&weights, &gradients, &[1.0, 0.0, 2.0]])?;
        let (mut m, mut v) = (vec![0.0; 1000], vec![0.0; 1000]);
        // First with clipping, then without.
        for (slot, clip_norm) in [(0, 0.5 * norm), (1, 2.0 * norm)] {
            step.take(device, OptimizerStep::Adam(ADAM), clip_norm, slot)?;
            let gradient_scale = (clip_norm / norm).min(1.0);
            adam_update(&AdamStep { gradient_scale, ..ADAM }, &mut weights, &gradients, &mut m, &mut v);
            for (region, expected) in [step.weights, step.memory[0], step.memory[1]].into_iter().zip([&weights, &m, &v])
            {
                assert_close(&device.read(region)?, expected, 1e-6);
            }
            assert_close(&device.read(step.copy)?, &weights, 4e-3);
        }
        assert_close(&device.read(step.words[2])?, &[1.5, norm, 1.5, norm], 1e-6);
    }
    Ok(())
}

#[test]
fn steps_of_sgd_follow_the_definition() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let (mut weights, gradients) = (random(1000, 1), random(1000, 2));
            let norm = crate::sum_of_squares(&gradients).sqrt() as f32;
            let sgd = SgdStep { lr: 0.125, momentum, nesterov, decay: 0.01 };
            let step = Stepped::new(device, OptimizerStep::Sgd(sgd), [&weights, &gradients, &[1.0, 0.0, 2.0]])?;
            let mut velocity = vec![0.0; 1000];
            // With and without clipping, and with another learning rate in the same layout of words.
            for (slot, clip_norm, lr) in [(0, 0.5 * norm, 0.125), (1, 2.0 * norm, 0.125), (0, 2.0 * norm, 0.5)] {
                let SgdStep { decay, .. } = sgd;
                step.take(device, OptimizerStep::Sgd(SgdStep { lr, ..sgd }), clip_norm, slot)?;
                let scale = (clip_norm / norm).min(1.0);
                for ((x, v), g) in weights.iter_mut().zip(&mut velocity).zip(&gradients) {
                    let g = scale * g;
                    *v = momentum * *v + g;
                    let direction = if nesterov { g + momentum * *v } else { *v };
                    *x -= decay * *x + lr * direction;
                }
                // A device may fuse a product and a sum, which rounds once instead of twice.
                assert_close(&device.read(step.weights)?, &weights, 2e-7);
                assert_close(&device.read(step.memory[0])?, &velocity, 2e-7);
                assert_close(&device.read(step.copy)?, &weights, 4e-3);
            }
            assert_close(&device.read(step.words[2])?, &[1.5, norm, 1.5, norm], 1e-6);
        }
    }
    Ok(())
}

const SGD: SgdStep = SgdStep { lr: 0.01, momentum: 0.9, nesterov: true, decay: 0.001 };

#[test]
fn after_a_step_that_is_not_finite_none_is_taken() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        for optimizer in [OptimizerStep::Adam(ADAM), OptimizerStep::Sgd(SGD)] {
            for (gradient, loss) in [(f32::NAN, 1.0), (1.0, f32::INFINITY)] {
                let step = Stepped::new(device, optimizer, [&[1.0, 2.0], &[gradient, 1.0], &[loss]])?;
                step.take(device, optimizer, 5.0, 0)?;
                device.write(step.gradients, &[1.0, 1.0])?;
                device.write(step.losses, &[1.0])?;
                step.take(device, optimizer, 5.0, 1)?;
                assert_close(&device.read(step.weights)?, &[1.0, 2.0], 0.0);
                for region in &step.memory {
                    assert_close(&device.read(*region)?, &[0.0, 0.0], 0.0);
                }
                let outcomes = device.read(step.words[2])?;
                assert!(outcomes[..2].iter().any(|x| !x.is_finite()) && outcomes[2..].iter().all(|x| x.is_finite()));
                device.clear(step.words[1])?;
                step.take(device, optimizer, 5.0, 1)?;
                assert!(device.read(step.weights)?[0] < 1.0);
            }
        }
    }
    Ok(())
}

#[test]
fn an_optimizer_has_its_own_number_of_vectors() -> Result<()> {
    let mut device = super::devices().swap_remove(0);
    for (optimizer, other, expected) in [
        (OptimizerStep::Adam(ADAM), OptimizerStep::Sgd(SGD), "expected 2 vectors of memory for Adam, found 1"),
        (OptimizerStep::Sgd(SGD), OptimizerStep::Adam(ADAM), "expected 1 vectors of memory for Sgd"),
    ] {
        let step = Stepped::new(&mut device, other, [&[1.0], &[1.0], &[1.0]])?;
        let error = step.take(&mut device, optimizer, 5.0, 0).expect_err("the memory of another optimizer");
        assert!(error.to_string().contains(expected), "{error}");
    }
    Ok(())
}
