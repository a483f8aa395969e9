//! The fused step on a device against automatic differentiation and the host's optimizer: always with the kernels
//! compiled for the host, and on a GPU if there is one.

mod common;

use candle_core::{Device, Result};
use common::{Tokens, assert_agree, parameters_of, weights_of};
use numformer_fused::{DeviceAutodiff, DeviceModel, DeviceStep, DeviceTraining, FusedStep, Precision};
use numformer_model::{
    Autodiff, Beam, Cell, CrossAttentionQuery, LayerWeights, Mode, OutputProjection, Parameters, Positions, Recurrent,
    RecurrentConfig, Seq2Seq, StackConfig, StepOutcome, TokenRows, TrainingStep, Transformer, TransformerConfig, beam,
    greedy,
};
use numformer_ops::device::{Accelerator, Opening, OptimizerKind, OptimizerStep, SgdStep};
use numformer_ops::{AdamStep, adam_update, reference, sum_of_squares};

/// Opens each device of this machine.
fn devices() -> Vec<Opening> {
    Accelerator::of_this_machine().expect("a GPU, as the environment asks for one")
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
    (mode, smoothing): (Mode, f64),
    tolerance: f32,
) -> Result<()> {
    let (parameters, composition) = parameters_of(config, 5)?;
    let step = DeviceStep::new(config, &parameters, device, precision, OptimizerKind::Adam)?;
    let (mut composition, mut step) =
        (composition.with_label_smoothing(smoothing), step.with_label_smoothing(smoothing));
    let weights = weights_of(composition.layout(), &parameters, 6)?;
    let [mut expected, mut found] = [vec![f32::NAN; weights.len()], vec![f32::NAN; weights.len()]];
    let expected_loss = composition.loss_and_gradients(&weights, src.rows(), tgt.rows(), mode, &mut expected)?;
    for _ in 0..2 {
        let loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), mode, &mut found)?;
        let difference = (loss - expected_loss).abs();
        assert!(difference <= f64::from(tolerance) * expected_loss, "expected {expected_loss}, found {loss}");
        assert_agree(step.weights().layout(), &found, &expected, tolerance);
    }
    Ok(())
}

const EVALUATE: (Mode, f64) = (Mode::Evaluate, 0.0);

#[test]
fn every_option_agrees_with_the_composition() -> Result<()> {
    let (src, tgt) = (Tokens::random(1, &[7, 0, 11], 23), Tokens::random(2, &[9, 3, 2], 23));
    for device in devices() {
        for positions in [Positions::Learned, Positions::Sinusoidal] {
            for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
                for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                    let config = TransformerConfig { positions, cross_attention_query, output_projection, ..small() };
                    check(&config, device()?, Precision::F32, [&src, &tgt], EVALUATE, 1e-5)?;
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
        check(&small(), device()?, Precision::Bf16, [&src, &tgt], EVALUATE, 2e-2)?;
    }
    Ok(())
}

#[test]
fn dropout_and_smoothing_agree_with_the_composition() -> Result<()> {
    // Widths that are not multiples of eight, so that rows on the device are longer than on the host.
    let (src, tgt) = (Tokens::random(1, &[7, 0, 11], 23), Tokens::random(2, &[9, 3, 2], 23));
    let config = TransformerConfig { dropout: 0.3, ..small() };
    let train = Mode::Train { seed: 7, step: u64::from(u32::MAX) + 5 };
    for device in devices() {
        for (mode, smoothing) in [(train, 0.0), (train, 0.2), (Mode::Evaluate, 0.2)] {
            check(&config, device()?, Precision::F32, [&src, &tgt], (mode, smoothing), 1e-5)?;
        }
        check(&config, device()?, Precision::Bf16, [&src, &tgt], (train, 0.2), 3e-2)?;
    }
    Ok(())
}

const CLIP_NORM: f32 = 0.5;

const TRAIN: Mode = Mode::Train { seed: 0, step: 0 };

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

fn opened(device: Opening, precision: Precision) -> Result<DeviceStep> {
    let (parameters, _) = parameters_of(&tiny(), 5)?;
    DeviceStep::new(&tiny(), &parameters, device()?, precision, OptimizerKind::Adam)
}

fn take(step: &mut DeviceStep, steps: std::ops::RangeInclusive<i32>) -> Result<Vec<StepOutcome>> {
    for number in steps {
        let [src, tgt] = &batches()[number as usize % 2];
        step.take_step(&[[src.rows(), tgt.rows()]], TRAIN, OptimizerStep::Adam(adam(number)), CLIP_NORM)?;
    }
    step.weights_mut().outcomes()
}

#[test]
fn steps_are_those_of_the_host() -> Result<()> {
    for device in devices() {
        let mut step = opened(device, Precision::F32)?;
        let found = take(&mut step, 1..=10)?;
        assert_eq!(step.weights_mut().outcomes()?, [], "asked for once");

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
        step.weights_mut().read(&mut moved)?;
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
            let len = whole.weights().layout().len();
            let [mut weights, mut m, mut v] = [(); 3].map(|()| vec![0.0; len]);
            whole.weights_mut().read(&mut weights)?;
            whole.weights_mut().read_memory([&mut m[..], &mut v])?;
            restored.weights_mut().set(&weights)?;
            restored.weights_mut().set_memory(&[&m, &v])?;
            assert_eq!(take(&mut whole, 4..=6)?, take(&mut restored, 4..=6)?);
            let mut others = vec![0.0; len];
            whole.weights_mut().read(&mut weights)?;
            restored.weights_mut().read(&mut others)?;
            assert!(weights.iter().zip(&others).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
    Ok(())
}

#[test]
fn after_a_step_that_is_not_finite_the_weights_stay() -> Result<()> {
    for device in devices() {
        let mut step = opened(device, Precision::F32)?;
        let mut weights = vec![0.0; step.weights().layout().len()];
        step.weights_mut().read(&mut weights)?;
        weights[0] = f32::NAN;
        step.weights_mut().set(&weights)?;
        let found = take(&mut step, 1..=2)?;
        assert!(found.iter().all(|outcome| !outcome.is_finite()));
        let mut stayed = vec![0.0; weights.len()];
        step.weights_mut().read(&mut stayed)?;
        assert!(stayed[1..] == weights[1..]);
        weights[0] = 0.5;
        step.weights_mut().set(&weights)?;
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
                let device = device()?;
                let on = device.device().clone();
                let parameters = on_device(&parameters, &on)?;
                let answering = DeviceModel::new(&config, &parameters, device, Precision::F32)?;
                for (lengths, max_len) in [(vec![7, 1, 20, 3], 14), (vec![5, 6], 2), (vec![4], 1), (vec![9, 0], 41)] {
                    let src = Tokens::random(3, &lengths, 23);
                    let expected = greedy(&model, &src.rows().padded(&Device::Cpu)?, max_len)?;
                    assert_eq!(greedy(&answering, &src.rows().padded(&on)?, max_len)?, expected);
                    let beams = [
                        beam(&model, &src.rows().padded(&Device::Cpu)?, max_len, &Beam::new(3))?,
                        beam(&answering, &src.rows().padded(&on)?, max_len, &Beam::new(3))?,
                    ];
                    let best = |ranked: &Vec<numformer_model::Ranked>| ranked[0].hypothesis.clone();
                    let [expected, found] = beams.map(|rows| rows.iter().map(best).collect::<Vec<_>>());
                    assert_eq!(found, expected);
                }
                let src = Tokens::random(3, &[2], 23).rows().padded(&on)?;
                let error = greedy(&answering, &src, 42).expect_err("too long");
                assert!(error.to_string().contains("at most 41 tokens, found 42"), "{error}");
            }
        }
    }
    Ok(())
}

/// The same parameters on another device.
fn on_device(parameters: &Parameters, device: &Device) -> Result<Parameters> {
    let tensors = parameters.to_vec().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Parameters::from_tensors(tensors, device)
}

#[test]
fn answers_follow_the_weights() -> Result<()> {
    for device in devices() {
        let device = device()?;
        let on = device.device().clone();
        let (parameters, composition) = parameters_of(&tiny(), 5)?;
        let weights = weights_of(composition.layout(), &parameters, 6)?;
        let shared = on_device(&parameters, &on)?;
        let model = DeviceModel::new(&tiny(), &shared, device, Precision::Bf16)?;
        let src = Tokens::random(3, &[7, 3], 11).rows().padded(&on)?;
        let before = greedy(&model, &src, 12)?;
        composition.layout().write(&shared, &weights.iter().map(|weight| -3.0 * weight).collect::<Vec<_>>())?;
        assert_ne!(greedy(&model, &src, 12)?, before);
    }
    Ok(())
}

#[test]
fn a_step_on_several_batches_is_one_on_all_their_examples() -> Result<()> {
    let config = TransformerConfig { dropout: 0.2, ..tiny() };
    for device in devices() {
        // The masks of each batch are its own, so that the sum has to be found batch by batch on the host, too.
        let (parameters, mut host) = parameters_of(&config, 5)?;
        let layout = host.layout().clone();
        let mut weights = vec![0.0; layout.len()];
        layout.read(&parameters, &mut weights)?;
        let batches = batches();
        let tokens = |tgt: &Tokens| f64::from(tgt.rows().lengths.iter().map(|n| n.saturating_sub(1)).sum::<u32>());
        let total: f64 = batches.iter().map(|[_, tgt]| tokens(tgt)).sum();
        let (mut expected, mut loss, mut part) = (vec![0f32; weights.len()], 0.0, vec![0.0; weights.len()]);
        for (index, [src, tgt]) in batches.iter().enumerate() {
            let mode = Mode::Train { seed: 3, step: 8 + index as u64 };
            let share = tokens(tgt) / total;
            loss += share * host.loss_and_gradients(&weights, src.rows(), tgt.rows(), mode, &mut part)?;
            expected.iter_mut().zip(&part).for_each(|(sum, x)| *sum += share as f32 * x);
        }
        // Plain descent at rate 1 moves the weights by the gradients.
        let sgd = SgdStep { lr: 1.0, momentum: 0.0, nesterov: false, decay: 0.0 };
        let update = OptimizerStep::Sgd(sgd);
        let rows: Vec<_> = batches.iter().map(|[src, tgt]| [src.rows(), tgt.rows()]).collect();
        let mode = Mode::Train { seed: 3, step: 8 };
        let device_parameters = |device: &Accelerator| on_device(&parameters, device.device());
        let fused = device()?;
        let mut fused = DeviceStep::new(&config, &device_parameters(&fused)?, fused, Precision::F32, update.kind())?;
        let composed = device()?;
        let shared = device_parameters(&composed)?;
        let model = Transformer::new(&config, &shared.trainable())?;
        let mut composed = DeviceAutodiff::new(model, &shared, composed, update.kind())?;
        let both: [&mut dyn DeviceTraining; 2] = [&mut fused, &mut composed];
        for training in both {
            // Twice, from the same weights: recorded first, then replayed.
            for _ in 0..2 {
                training.weights_mut().set(&weights)?;
                training.take_step(&rows, mode, update, f32::INFINITY)?;
                let outcomes = training.weights_mut().outcomes()?;
                assert!((outcomes[0].loss - loss).abs() < 1e-5 * loss, "{}: {outcomes:?} {loss}", training.how());
                let mut moved = vec![0.0; weights.len()];
                training.weights_mut().read(&mut moved)?;
                let found: Vec<f32> = weights.iter().zip(&moved).map(|(before, after)| before - after).collect();
                assert_agree(&layout, &found, &expected, 2e-5);
            }
        }
    }
    Ok(())
}

/// The steps of a device by automatic differentiation, and those of the host.
fn check_any_model<M: Seq2Seq + Send + 'static>(
    build: impl Fn(&Parameters) -> Result<M>,
    device: Opening,
    smoothing: f64,
) -> Result<()> {
    let on_host = Parameters::random(5, &Device::Cpu);
    let mut host = Autodiff::new(build(&on_host)?, &on_host)?.with_label_smoothing(smoothing);
    let layout = host.layout().clone();
    let mut weights = vec![0.0; layout.len()];
    layout.read(&on_host, &mut weights)?;

    let device = device()?;
    let parameters = Parameters::random(5, device.device());
    let model = build(&parameters)?;
    let step = DeviceAutodiff::new(model, &parameters, device, OptimizerKind::Adam)?;
    let mut step = step.with_label_smoothing(smoothing);
    let [mut gradients, mut m, mut v] = [(); 3].map(|()| vec![0.0; layout.len()]);
    let batches = [
        [Tokens::random(1, &[7, 3, 5], 11), Tokens::random(2, &[9, 4, 2], 11)],
        [Tokens::random(3, &[12, 1, 6], 11), Tokens::random(4, &[12, 4, 3], 11)],
    ];
    for number in 1..=4 {
        let [src, tgt] = &batches[number as usize % 2];
        let mode = Mode::Train { seed: 2, step: number as u64 };
        step.take_step(&[[src.rows(), tgt.rows()]], mode, OptimizerStep::Adam(adam(number)), CLIP_NORM)?;
        let loss = host.loss_and_gradients(&weights, src.rows(), tgt.rows(), mode, &mut gradients)?;
        let norm = sum_of_squares(&gradients).sqrt();
        let outcome = step.weights_mut().outcomes()?[0];
        assert!((outcome.loss - loss).abs() <= 1e-4 * loss, "step {number}: expected {loss}, found {outcome:?}");
        assert!((outcome.gradient_norm - norm).abs() <= 1e-3 * norm, "step {number}: {outcome:?}");
        let gradient_scale = (f64::from(CLIP_NORM) / norm).min(1.0) as f32;
        adam_update(&AdamStep { gradient_scale, ..adam(number) }, &mut weights, &gradients, &mut m, &mut v);
    }
    let mut moved = vec![0.0; layout.len()];
    step.weights_mut().read(&mut moved)?;
    assert_agree(&layout, &moved, &weights, 1e-3);
    // The model's variables follow when they are shown the weights, without the host.
    step.weights_mut().show(&parameters)?;
    let mut shown = vec![0.0; layout.len()];
    layout.read(&parameters, &mut shown)?;
    assert!(shown == moved);
    Ok(())
}

#[test]
fn any_model_learns_on_a_device_as_on_the_host() -> Result<()> {
    let recurrent = |cell| RecurrentConfig { dropout: 0.2, ..RecurrentConfig::new(cell, 11, 6, 2) };
    let universal = TransformerConfig { layer_weights: LayerWeights::Shared, dropout: 0.1, ..tiny() };
    let gated = TransformerConfig { copy_gate: true, ..tiny() };
    for device in devices() {
        for cell in [Cell::Lstm, Cell::Gru] {
            check_any_model(|parameters| Recurrent::init(&recurrent(cell), parameters), device, 0.0)?;
        }
        for config in [&universal, &gated] {
            check_any_model(|parameters| Transformer::init(config, parameters), device, 0.1)?;
        }
    }
    Ok(())
}

#[test]
fn all_models_are_computed_by_the_operations_that_devices_have() -> Result<()> {
    // As on a device: without the operations that are for the host alone. Within rayon's pool, so that the work stays on
    // this thread, which the choice is for.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        reference::instead(|| {
            let recurrent = RecurrentConfig { dropout: 0.2, ..RecurrentConfig::new(Cell::Lstm, 11, 6, 2) };
            check_any_model(|parameters| Recurrent::init(&recurrent, parameters), Accelerator::emulated, 0.1)?;
            let universal = TransformerConfig { layer_weights: LayerWeights::Shared, dropout: 0.1, ..tiny() };
            check_any_model(|parameters| Transformer::init(&universal, parameters), Accelerator::emulated, 0.0)
        })
    })
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let gated = TransformerConfig { copy_gate: true, ..tiny() };
    let wide = TransformerConfig::new(11, 16, StackConfig::new(258, 2, 1), StackConfig::new(8, 2, 1));
    for (config, expected) in [(gated, "has no copy gates"), (wide, "has no heads wider than 128")] {
        let parameters = Parameters::random(0, &Device::Cpu);
        Transformer::init(&config, &parameters)?;
        let device = devices()[0]()?;
        let error = DeviceStep::new(&config, &parameters, device, Precision::F32, OptimizerKind::Adam);
        let error = error.expect_err("not by the fused step").to_string();
        assert!(error.contains(expected) && error.contains("use automatic differentiation"), "{error}");
    }
    let mut step = opened(devices()[0], Precision::F32)?;
    let [src, tgt] = &batches()[0];
    let mut refused = |batches: &[[TokenRows<'_>; 2]], update| {
        step.take_step(batches, TRAIN, update, 1.0).expect_err("refused").to_string()
    };
    let update = OptimizerStep::Adam(adam(1));
    let foreign = Tokens::random(1, &[3, 2, 2, 2], 100);
    let error = refused(&[[foreign.rows(), tgt.rows()]], update);
    assert!(error.contains("below the vocabulary's size 11"), "{error}");
    let fewer = Tokens::random(1, &[3, 2], 11);
    let error = refused(&[[src.rows(), fewer.rows()]], update);
    assert!(error.contains("expected 4 targets"), "{error}");
    assert!(refused(&[], update).contains("at least one batch"));
    let sgd = OptimizerStep::Sgd(SgdStep { lr: 1.0, momentum: 0.0, nesterov: false, decay: 0.0 });
    assert!(refused(&[[src.rows(), tgt.rows()]], sgd).contains("expected an update by Adam"));
    Ok(())
}
