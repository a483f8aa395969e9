//! The fused step against automatic differentiation: loss and gradients of random models on random batches.

mod common;
#[path = "common/differences.rs"]
mod differences;

use candle_core::{Device, Result, Tensor};
use common::{Tokens, assert_agree, parameters_of, weights_of};
use differences::check_finite_differences;
use numformer_fused::FusedStep;
use numformer_model::{
    CrossAttentionQuery, FlatLayout, Mode, OutputProjection, Parameters, Positions, StackConfig, TokenRows,
    TrainingStep, TransformerConfig,
};
use numformer_ops::kernels::Level;
use numformer_testkit::cases;
use proptest::prelude::*;

fn check(config: &TransformerConfig, src: &Tokens, tgt: &Tokens) -> Result<()> {
    let (parameters, mut composition) = parameters_of(config, 5)?;
    let mut step = FusedStep::new(config, &parameters)?;
    let weights = weights_of(composition.layout(), &parameters, 6)?;
    let [mut expected, mut found] = [vec![f32::NAN; weights.len()], vec![f32::NAN; weights.len()]];
    let expected_loss =
        composition.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut expected)?;
    // Twice: the second time in reused memory.
    for _ in 0..2 {
        let loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut found)?;
        assert!((loss - expected_loss).abs() <= 1e-5 * expected_loss, "expected {expected_loss}, found {loss}");
        assert_agree(step.layout(), &found, &expected, 1e-5);
    }
    Ok(())
}

fn small() -> TransformerConfig {
    TransformerConfig::new(23, 40, StackConfig::new(8, 2, 2), StackConfig::new(12, 3, 2))
}

#[test]
fn every_option_agrees_with_the_composition() -> Result<()> {
    let (src, tgt) = (Tokens::random(1, &[7, 1, 33, 20, 7], 23), Tokens::random(2, &[9, 33, 2, 3, 20], 23));
    for positions in [Positions::Learned, Positions::Sinusoidal] {
        for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
            for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
                check(
                    &TransformerConfig { positions, cross_attention_query, output_projection, ..small() },
                    &src,
                    &tgt,
                )?;
            }
        }
    }
    Ok(())
}

/// A key bias adds the same value to all scores of a query, and the softmax cancels it.
#[test]
fn biases_of_keys_get_no_gradient() -> Result<()> {
    let config = small();
    let (src, tgt) = (Tokens::random(1, &[7, 1, 33, 20, 7], 23), Tokens::random(2, &[9, 33, 2, 3, 20], 23));
    let (parameters, _) = parameters_of(&config, 5)?;
    let mut step = FusedStep::new(&config, &parameters)?;
    let weights = weights_of(step.layout(), &parameters, 6)?;
    let mut gradients = vec![f32::NAN; weights.len()];
    step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
    let largest = |values: &[f32]| values.iter().fold(0f32, |a, x| a.max(x.abs()));
    let scale = largest(&gradients);
    let (mut without, mut others) = (0, 0);
    for slot in step.layout().slots().iter().filter(|slot| slot.name().ends_with("attention.key.bias")) {
        assert!(largest(&gradients[slot.range()]) < 1e-6 * scale, "{}", slot.name());
        without += slot.range().len() as u64;
    }
    for slot in step.layout().slots().iter().filter(|slot| slot.name().ends_with("attention.query.bias")) {
        assert!(largest(&gradients[slot.range()]) > 1e-4 * scale, "{}", slot.name());
        others += slot.range().len() as u64;
    }
    assert_eq!((without, others), (config.parameter_counts().key_biases, without));
    Ok(())
}

#[test]
fn a_large_vocabulary_agrees_with_the_composition() -> Result<()> {
    for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
        let sizes = StackConfig { d_ff: Some(8), ..StackConfig::new(128, 4, 1) };
        let config =
            TransformerConfig { output_projection, ..TransformerConfig::new(33_000, 12, sizes.clone(), sizes) };
        let (src, tgt) = (Tokens::random(1, &[5; 40], 33_000), Tokens::random(2, &[9, 2, 7, 3, 4].repeat(8), 33_000));
        check(&config, &src, &tgt)?;
    }
    Ok(())
}

#[test]
fn many_examples_are_divided_into_parts_and_microbatches() -> Result<()> {
    let lengths: Vec<u32> = (0..150).map(|i| 2 + i * 7 % 38).collect();
    check(&small(), &Tokens::random(1, &lengths, 23), &Tokens::random(2, &lengths, 23))
}

#[test]
fn sources_without_tokens_and_targets_without_predictions_agree() -> Result<()> {
    check(&small(), &Tokens::random(1, &[0, 3, 0, 1], 23), &Tokens::random(2, &[4, 0, 2, 1], 23))
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    let (src, tgt) = (Tokens::random(1, &[7, 5], 23), Tokens::random(2, &[9, 4], 23));
    let (parameters, _) = parameters_of(&small(), 5)?;
    let mut step = FusedStep::new(&small(), &parameters)?;
    let weights = weights_of(step.layout(), &parameters, 6)?;
    let mut gradients = vec![0.0; weights.len()];
    step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
    check_finite_differences(&mut step, &weights, [src.rows(), tgt.rows()], &gradients, [1e-3, 0.02])
}

#[test]
fn threads_do_not_change_the_bits() -> Result<()> {
    let lengths: Vec<u32> = (0..64).map(|i| 20 + i * 7 % 20).collect();
    let (src, tgt) = (Tokens::random(1, &lengths, 23), Tokens::random(2, &lengths, 23));
    let on = |threads: usize| -> Result<_> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts");
        pool.install(|| {
            let (parameters, composition) = parameters_of(&small(), 5)?;
            let weights = weights_of(composition.layout(), &parameters, 6)?;
            let mut gradients = vec![0.0; weights.len()];
            let mut step = FusedStep::new(&small(), &parameters)?;
            let loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
            Ok((loss.to_bits(), gradients.into_iter().map(f32::to_bits).collect::<Vec<_>>()))
        })
    };
    let one = on(1)?;
    assert!(on(2)? == one && on(5)? == one);
    Ok(())
}

/// Forward and backward pass at each instruction set of this processor, by the fused step and by automatic
/// differentiation. All sets that have fused multiply-adds give the same bits; without them, sums round once more.
#[test]
fn instruction_sets_do_not_change_the_bits() -> Result<()> {
    // Widths that are not a multiple of a vector, and sequences shorter and longer than a vector.
    let config = TransformerConfig::new(37, 40, StackConfig::new(14, 2, 2), StackConfig::new(21, 3, 2));
    let (src, tgt) = (Tokens::random(1, &[7, 1, 33, 20], 37), Tokens::random(2, &[9, 33, 2, 17], 37));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a small pool starts");
    let both = || -> Result<_> {
        let (parameters, mut composition) = parameters_of(&config, 5)?;
        let weights = weights_of(composition.layout(), &parameters, 6)?;
        let mut step = FusedStep::new(&config, &parameters)?;
        let steps: [&mut dyn TrainingStep; 2] = [&mut step, &mut composition];
        let bits = steps.map(|step| -> Result<_> {
            let mut gradients = vec![f32::NAN; weights.len()];
            let loss = step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients)?;
            assert!(gradients.iter().all(|g| g.is_finite()));
            Ok((loss, gradients))
        });
        bits.into_iter().collect::<Result<Vec<_>>>()
    };
    let (parameters, _) = parameters_of(&config, 5)?;
    let layout = FlatLayout::new(&parameters)?;
    pool.install(|| {
        let widest = both()?;
        for level in Level::available() {
            let found = level.run(both)?;
            assert!(!level.has_fma() || found == widest, "{level:?}");
            for ((loss, gradients), (expected_loss, expected)) in found.iter().zip(&widest) {
                assert!((loss - expected_loss).abs() <= 1e-6 * expected_loss, "{level:?}: {loss}, {expected_loss}");
                assert_agree(&layout, gradients, expected, 1e-5);
            }
        }
        Ok(())
    })
}

#[test]
fn parameters_of_another_model_are_named() -> Result<()> {
    let (parameters, _) = parameters_of(&small(), 5)?;
    let mut tensors: Vec<(String, Tensor)> =
        parameters.to_vec().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    let error = |tensors: &[(String, Tensor)]| -> Result<String> {
        let parameters = Parameters::from_tensors(tensors.iter().cloned(), &Device::Cpu)?;
        Ok(FusedStep::new(&small(), &parameters).expect_err("another model").to_string())
    };
    for (at, (name, tensor)) in tensors.iter().enumerate() {
        // The same number of coefficients in a matrix of another shape, and one row more.
        let turned = if tensor.rank() == 2 { tensor.t()? } else { tensor.unsqueeze(0)? };
        for wrong in [turned, Tensor::cat(&[tensor.clone(), tensor.narrow(0, 0, 1)?], 0)?] {
            if wrong.dims() == tensor.dims() {
                continue;
            }
            let mut tensors = tensors.clone();
            tensors[at].1 = wrong.clone();
            let expected = format!("parameter `{name}`: expected shape {:?}, found {:?}", tensor.dims(), wrong.dims());
            assert!(error(&tensors)?.starts_with(&expected), "{expected}");
        }
        let mut tensors = tensors.clone();
        tensors.remove(at);
        assert!(error(&tensors)?.starts_with(&format!("no parameter `{name}`")));
    }
    tensors.push(("extra".to_owned(), Tensor::new(&[1f32, 2.0], &Device::Cpu)?));
    assert!(error(&tensors)?.contains("coefficients of the model, found"));
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let (parameters, _) = parameters_of(&small(), 5)?;
    let mut step = FusedStep::new(&small(), &parameters)?;
    let len = step.layout().len();
    let good = Tokens::random(1, &[3, 4], 23);
    let mut error = |src: TokenRows<'_>, tgt: TokenRows<'_>, weights: usize| {
        let found = step.loss_and_gradients(&vec![0.0; weights], src, tgt, Mode::Evaluate, &mut vec![0.0; len]);
        found.expect_err("a batch that does not fit").to_string()
    };
    let foreign = TokenRows { ids: &[0, 23], lengths: &[2], width: 2 };
    assert!(error(foreign, good.rows(), len).contains("expected 1 targets, one for each source, found 2"));
    assert!(error(foreign, foreign, len).contains("below the vocabulary's size 23, found 23"));
    let long = Tokens::random(1, &[41, 2], 23);
    assert!(error(long.rows(), good.rows(), len).contains("lengths of at most 40, found 41"));
    assert!(error(good.rows(), TokenRows { width: 3, ..good.rows() }, len).contains("2 rows of 3 ids"));
    assert!(error(good.rows(), good.rows(), len - 1).contains("weights, found"));
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn sizes_and_padding_patterns_agree_with_the_composition(
        heads in (1usize..4, 1usize..4),
        d_head in (1usize..9, 1usize..9),
        layers in (1usize..4, 1usize..4),
        d_ff in (1usize..20, 1usize..20),
        lengths in prop::collection::vec((1u32..12, 2u32..12), 1..9),
        quirk in any::<bool>(),
    ) {
        let stack = |heads, d_head, layers, d_ff| StackConfig { d_ff: Some(d_ff), ..StackConfig::new(heads * d_head, heads, layers) };
        let config = TransformerConfig {
            cross_attention_query: if quirk { CrossAttentionQuery::LayerInput } else { CrossAttentionQuery::SelfAttended },
            ..TransformerConfig::new(17, 12, stack(heads.0, d_head.0, layers.0, d_ff.0), stack(heads.1, d_head.1, layers.1, d_ff.1))
        };
        let (src, tgt): (Vec<_>, Vec<_>) = lengths.into_iter().unzip();
        check(&config, &Tokens::random(3, &src, 17), &Tokens::random(4, &tgt, 17)).expect("valid");
    }
}
