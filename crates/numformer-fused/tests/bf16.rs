//! The fused step with products of bf16 against itself in single precision.

mod common;
#[path = "common/differences.rs"]
mod differences;

use candle_core::Result;
use common::{Tokens, assert_agree, parameters_of, weights_of};
use differences::check_finite_differences;
use numformer_fused::{FusedStep, Precision};
use numformer_model::{
    CrossAttentionQuery, Mode, OutputProjection, Positions, StackConfig, TrainingStep, TransformerConfig,
};
use numformer_ops::kernels::Level;

/// Widths that fill no vector, sequences shorter and longer than one.
fn uneven() -> TransformerConfig {
    TransformerConfig::new(37, 40, StackConfig::new(14, 2, 2), StackConfig::new(21, 3, 2))
}

/// Widths whose rows are operands where they lie.
fn even() -> TransformerConfig {
    TransformerConfig::new(37, 40, StackConfig::new(32, 2, 2), StackConfig::new(64, 4, 2))
}

fn batch() -> [Tokens; 2] {
    [Tokens::random(1, &[7, 1, 33, 20, 7], 37), Tokens::random(2, &[9, 33, 2, 17, 20], 37)]
}

/// Loss and gradients of a model with given weights, in both precisions.
fn both(config: &TransformerConfig, [src, tgt]: &[Tokens; 2]) -> Result<[(f64, Vec<f32>); 2]> {
    let (parameters, _) = parameters_of(config, 5)?;
    let found = [Precision::F32, Precision::Bf16].map(|precision| -> Result<_> {
        let mut step = FusedStep::with_precision(config, &parameters, precision)?;
        let weights = weights_of(step.layout(), &parameters, 6)?;
        let mut gradients = vec![f32::NAN; weights.len()];
        let mut loss = f64::NAN;
        // Twice: the second time in reused memory.
        for _ in 0..2 {
            loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
        }
        Ok((loss, gradients))
    });
    let [single, rounded] = found;
    Ok([single?, rounded?])
}

/// Fails unless the gradients of each parameter lie within a distance of the expected ones, relative to their length and
/// to a tenth of that of all gradients. Rounding by some 0.4% changes the sign of what goes into a ReLU for as many units,
/// and these few times a whole gradient are most of the distance; finite differences below are the sharper test.
#[track_caller]
fn assert_near(config: &TransformerConfig, found: &[f32], expected: &[f32], tolerance: f64) -> Result<()> {
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let whole = length(&mut expected.iter().map(|e| f64::from(*e)));
    for slot in parameters_of(config, 5)?.1.layout().slots() {
        let (found, expected) = (&found[slot.range()], &expected[slot.range()]);
        let distance = length(&mut found.iter().zip(expected).map(|(f, e)| f64::from(f - e)));
        let own = length(&mut expected.iter().map(|e| f64::from(*e)));
        assert!(distance <= tolerance * (own + 0.1 * whole), "{}: {distance} of {own}", slot.name());
    }
    Ok(())
}

#[test]
fn a_step_tells_where_bf16_is_slower() -> Result<()> {
    let (parameters, _) = parameters_of(&even(), 5)?;
    let single = FusedStep::with_precision(&even(), &parameters, Precision::F32)?;
    let rounded = FusedStep::with_precision(&even(), &parameters, Precision::Bf16)?;
    for level in Level::available() {
        let tells = |step: &FusedStep| level.run(|| step.how()).contains("slower than f32 here");
        assert_eq!([tells(&single), tells(&rounded)], [false, !level.has_bf16()], "{level:?}");
    }
    Ok(())
}

#[test]
fn every_option_agrees_with_single_precision() -> Result<()> {
    for sizes in [uneven(), even()] {
        for positions in [Positions::Learned, Positions::Sinusoidal] {
            for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
                for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                    let config =
                        TransformerConfig { positions, cross_attention_query, output_projection, ..sizes.clone() };
                    let [(loss, gradients), (rounded_loss, rounded)] = both(&config, &batch())?;
                    assert!((rounded_loss - loss).abs() < 1e-2 * loss, "expected {loss}, found {rounded_loss}");
                    assert!(rounded != gradients);
                    assert_near(&config, &rounded, &gradients, 0.2)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_large_vocabulary_agrees_with_single_precision() -> Result<()> {
    let sizes = StackConfig { d_ff: Some(8), ..StackConfig::new(128, 4, 1) };
    let config = TransformerConfig::new(33_000, 12, sizes.clone(), sizes);
    let batch = [Tokens::random(1, &[5; 40], 33_000), Tokens::random(2, &[9, 2, 7, 3, 4].repeat(8), 33_000)];
    let [(loss, gradients), (rounded_loss, rounded)] = both(&config, &batch)?;
    assert!((rounded_loss - loss).abs() < 1e-2 * loss, "expected {loss}, found {rounded_loss}");
    assert_agree(parameters_of(&config, 5)?.1.layout(), &rounded, &gradients, 2e-2);
    Ok(())
}

/// Along the gradient of each parameter in bf16, the loss in single precision rises as the gradient says.
#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for config in [uneven(), even()] {
        let [src, tgt] = batch();
        let [_, (_, gradients)] = both(&config, &[src.clone(), tgt.clone()])?;
        let (parameters, _) = parameters_of(&config, 5)?;
        let mut step = FusedStep::new(&config, &parameters)?;
        let weights = weights_of(step.layout(), &parameters, 6)?;
        check_finite_differences(&mut step, &weights, [src.rows(), tgt.rows()], &gradients, [2e-3, 0.05])?;
    }
    Ok(())
}

#[test]
fn threads_do_not_change_the_bits() -> Result<()> {
    let lengths: Vec<u32> = (0..64).map(|i| 20 + i * 7 % 20).collect();
    let batch = [Tokens::random(1, &lengths, 37), Tokens::random(2, &lengths, 37)];
    let on = |threads: usize| -> Result<_> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts");
        let [_, (loss, gradients)] = pool.install(|| both(&even(), &batch))?;
        Ok((loss.to_bits(), gradients.into_iter().map(f32::to_bits).collect::<Vec<_>>()))
    };
    let one = on(1)?;
    assert!(on(2)? == one && on(5)? == one);
    Ok(())
}

/// Products of bf16 are exact in single precision, so that all instruction sets sum the same numbers; those with
/// instructions for bf16 in another order.
#[test]
fn instruction_sets_differ_by_the_order_of_sums_alone() -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a small pool starts");
    for config in [uneven(), even()] {
        pool.install(|| -> Result<()> {
            let [_, (expected_loss, expected)] = Level::available()[0].run(|| both(&config, &batch()))?;
            for level in Level::available() {
                let [_, (loss, gradients)] = level.run(|| both(&config, &batch()))?;
                if !level.has_bf16() {
                    assert!(loss.to_bits() == expected_loss.to_bits() && gradients == expected, "{level:?}");
                }
                // Another order may round an activation to the neighbouring bf16.
                assert!((loss - expected_loss).abs() <= 1e-3 * expected_loss, "{level:?}: {loss}, {expected_loss}");
                assert_near(&config, &gradients, &expected, 3e-2)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
