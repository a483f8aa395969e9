//! The fused step on a device against automatic differentiation and the host's optimizer: always with the kernels
//! compiled for the host, and on a GPU if there is one.

mod common;

use candle_core::{Device, Result};
use common::{Tokens, assert_agree, parameters_of, weights_of};
use numformer_fused::{DeviceStep, FusedStep, Precision};
use numformer_model::{
    CrossAttentionQuery, Mode, OutputProjection, Parameters, Positions, StackConfig, StepOutcome, TrainingStep,
    Transformer, TransformerConfig, greedy,
};
use numformer_ops::device::Accelerator;
use numformer_ops::{AdamStep, adam_update, sum_of_squares};

/// Opens each device of this machine.
fn devices() -> Vec<fn() -> Result<Accelerator>> {
    #[cfg_attr(not(feature = "cuda"), expect(unused_mut, reason = "there is one"))]
    let mut devices: Vec<fn() -> Result<Accelerator>> = vec![Accelerator::emulated];
    #[cfg(feature = "cuda")]
    if Accelerator::cuda(0).is_ok() {
        devices.push(|| Accelerator::cuda(0));
    }
    devices
}

fn small() -> TransformerConfig {
    TransformerConfig::new(23, 40, StackConfig::new(8, 2, 2), StackConfig::new(12, 3, 2))
}

fn tiny() -> TransformerConfig {
    TransformerConfig::new(11, 16, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1))
}

/// Checks that loss and gradients agree with those of automatic differentiation, twice: the second time in reused
/// memory.
fn check(
    config: &TransformerConfig,
    device: Accelerator,
    precision: Precision,
    [src, tgt]: [&Tokens; 2],
    tolerance: f32,
) -> Result<()> {
    let (parameters, mut composition) = parameters_of(config, 5)?;
    let mut step = DeviceStep::new(config, &parameters, device, precision)?;
    let weights = weights_of(composition.layout(), &parameters, 6)?;
    let [mut expected, mut found] = [vec![f32::NAN; weights.len()], vec![f32::NAN; weights.len()]];
    let expected_loss =
        composition.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut expected)?;
    for _ in 0..2 {
        let loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut found)?;
        let difference = (loss - expected_loss).abs();
        assert!(difference <= f64::from(tolerance) * expected_loss, "expected {expected_loss}, found {loss}");
        assert_agree(step.layout(), &found, &expected, tolerance);
    }
    Ok(())
}

#[test]
fn every_option_agrees_with_the_composition() -> Result<()> {
    let (src, tgt) = (Tokens::random(1, &[7, 0, 11], 23), Tokens::random(2, &[9, 3, 2], 23));
    for device in devices() {
        for positions in [Positions::Learned, Positions::Sinusoidal] {
            for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
                for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                    let config = TransformerConfig { positions, cross_attention_query, output_projection, ..small() };
                    check(&config, device()?, Precision::F32, [&src, &tgt], 1e-5)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn in_bf16_it_agrees_to_its_rounding() -> Result<()> {
    let (src, tgt) = (Tokens::random(1, &[7, 3], 23), Tokens::random(2, &[9, 4], 23));
    for device in devices() {
        check(&small(), device()?, Precision::Bf16, [&src, &tgt], 2e-2)?;
    }
    Ok(())
}

const CLIP_NORM: f32 = 0.5;

fn adam(step: i32) -> AdamStep {
    let lr = 0.01 * (1.0 - 0.999f64.powi(step)).sqrt() / (1.0 - 0.9f64.powi(step));
    AdamStep { lr: lr as f32, beta1: 0.9, beta2: 0.999, eps: 1e-8, gradient_scale: 1.0, decay: 1e-4 }
}

/// Batches of two shapes, in turn.
fn batches() -> [[Tokens; 2]; 2] {
    [
        [Tokens::random(1, &[7, 3, 5, 6], 11), Tokens::random(2, &[9, 4, 7, 2], 11)],
        [Tokens::random(3, &[12, 3, 0, 6], 11), Tokens::random(4, &[12, 4, 7, 3], 11)],
    ]
}

fn opened(device: fn() -> Result<Accelerator>, precision: Precision) -> Result<DeviceStep> {
    let (parameters, _) = parameters_of(&tiny(), 5)?;
    DeviceStep::new(&tiny(), &parameters, device()?, precision)
}

fn take(step: &mut DeviceStep, steps: std::ops::RangeInclusive<i32>) -> Result<Vec<StepOutcome>> {
    for number in steps {
        let [src, tgt] = &batches()[number as usize % 2];
        step.take_step(src.rows(), tgt.rows(), &adam(number), CLIP_NORM)?;
    }
    step.outcomes()
}

#[test]
fn steps_are_those_of_the_host() -> Result<()> {
    for device in devices() {
        let mut step = opened(device, Precision::F32)?;
        let found = take(&mut step, 1..=10)?;
        assert_eq!(step.outcomes()?, [], "asked for once");

        let (parameters, _) = parameters_of(&tiny(), 5)?;
        let mut host = FusedStep::new(&tiny(), &parameters)?;
        let len = host.layout().len();
        let mut weights = vec![0.0; len];
        host.layout().read(&parameters, &mut weights)?;
        let [mut gradients, mut m, mut v] = [(); 3].map(|()| vec![0.0; len]);
        for (step, outcome) in (1..).zip(&found) {
            let [src, tgt] = &batches()[step as usize % 2];
            let loss = host.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
            let norm = sum_of_squares(&gradients).sqrt();
            assert!((outcome.loss - loss).abs() <= 1e-4 * loss, "step {step}: expected {loss}, found {outcome:?}");
            assert!((outcome.gradient_norm - norm).abs() <= 1e-3 * norm, "step {step}: expected {norm}");
            let gradient_scale = (f64::from(CLIP_NORM) / norm).min(1.0) as f32;
            adam_update(&AdamStep { gradient_scale, ..adam(step) }, &mut weights, &gradients, &mut m, &mut v);
        }
        assert!(found[9].loss < found[1].loss - 0.1, "it learns: {found:?}");
        let mut moved = vec![0.0; len];
        step.weights(&mut moved)?;
        assert_agree(host.layout(), &moved, &weights, 1e-3);
    }
    Ok(())
}

#[test]
fn a_model_learns_its_batches_by_heart() -> Result<()> {
    for device in devices() {
        for precision in [Precision::F32, Precision::Bf16] {
            let found = take(&mut opened(device, precision)?, 1..=30)?;
            assert!(found[29].loss < 0.6 * found[0].loss, "{precision:?}: {found:?}");
        }
    }
    Ok(())
}

#[test]
fn what_is_read_and_set_again_goes_on_with_the_same_bits() -> Result<()> {
    for device in devices() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut whole = opened(device, precision)?;
            let mut restored = opened(device, precision)?;
            take(&mut whole, 1..=3)?;
            let len = whole.layout().len();
            let [mut weights, mut m, mut v] = [(); 3].map(|()| vec![0.0; len]);
            whole.weights(&mut weights)?;
            whole.moments([&mut m, &mut v])?;
            restored.set_weights(&weights)?;
            restored.set_moments([&m, &v])?;
            assert_eq!(take(&mut whole, 4..=6)?, take(&mut restored, 4..=6)?);
            let mut others = vec![0.0; len];
            whole.weights(&mut weights)?;
            restored.weights(&mut others)?;
            assert!(weights.iter().zip(&others).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
    Ok(())
}

#[test]
fn after_a_step_that_is_not_finite_the_weights_stay() -> Result<()> {
    for device in devices() {
        let mut step = opened(device, Precision::F32)?;
        let mut weights = vec![0.0; step.layout().len()];
        step.weights(&mut weights)?;
        weights[0] = f32::NAN;
        step.set_weights(&weights)?;
        let found = take(&mut step, 1..=2)?;
        assert!(found.iter().all(|outcome| !outcome.is_finite()));
        let mut stayed = vec![0.0; weights.len()];
        step.weights(&mut stayed)?;
        assert!(stayed[1..] == weights[1..]);
        weights[0] = 0.5;
        step.set_weights(&weights)?;
        assert!(take(&mut step, 1..=1)?[0].is_finite());
    }
    Ok(())
}

#[test]
fn answers_are_those_of_the_host() -> Result<()> {
    for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
        let config = TransformerConfig { cross_attention_query, ..small() };
        // The delimiter is often the most probable token, so that some answers end early.
        for seed in [5, 8] {
            let (parameters, composition) = parameters_of(&config, seed)?;
            let weights = weights_of(composition.layout(), &parameters, seed)?;
            composition.layout().write(&parameters, &weights)?;
            let model = Transformer::new(&config, &parameters.frozen())?;
            for device in devices() {
                let mut step = DeviceStep::new(&config, &parameters, device()?, Precision::F32)?;
                for (lengths, max_len) in [(vec![7, 1, 20, 3], 14), (vec![5, 6], 2), (vec![4], 1), (vec![9, 0], 41)] {
                    let src = Tokens::random(3, &lengths, 23);
                    let expected = greedy(&model, &src.rows().padded(&Device::Cpu)?, max_len)?;
                    assert_eq!(step.greedy(src.rows(), max_len)?, expected);
                }
                let error = step.greedy(Tokens::random(3, &[2], 23).rows(), 42).expect_err("too long");
                assert!(error.to_string().contains("at most 41 tokens, found 42"), "{error}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_no_device_can_is_an_error() -> Result<()> {
    let with_dropout = TransformerConfig { dropout: 0.1, ..tiny() };
    let wide = TransformerConfig::new(11, 16, StackConfig::new(258, 2, 1), StackConfig::new(8, 2, 1));
    for (config, expected) in [(with_dropout, "devices have no dropout"), (wide, "no heads wider than 128")] {
        let parameters = Parameters::random(0, &Device::Cpu);
        Transformer::init(&config, &parameters)?;
        let error = DeviceStep::new(&config, &parameters, Accelerator::emulated()?, Precision::F32);
        let error = error.expect_err("not on a device").to_string();
        assert!(error.contains(expected) && error.contains("train on the CPU"), "{error}");
    }
    let mut step = opened(Accelerator::emulated, Precision::F32)?;
    let [src, tgt] = &batches()[0];
    let foreign = Tokens::random(1, &[3, 2, 2, 2], 100);
    let error = step.take_step(foreign.rows(), tgt.rows(), &adam(1), 1.0).expect_err("unknown ids").to_string();
    assert!(error.contains("below the vocabulary's size 11"), "{error}");
    let fewer = Tokens::random(1, &[3, 2], 11);
    let error = step.take_step(src.rows(), fewer.rows(), &adam(1), 1.0).expect_err("no targets").to_string();
    assert!(error.contains("expected 4 targets"), "{error}");
    Ok(())
}
