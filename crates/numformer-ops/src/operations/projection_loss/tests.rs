//! The projection's loss against its composition, and on slices.

use candle_core::{Device, Var};
use numformer_testkit::cases;
use proptest::prelude::*;

use super::*;
use crate::cpu::simd::tests::at_each_level;
use crate::testing::{
    assert_close, assert_entries_close, assert_same_on_any_threads, check_gradients, check_other_dtypes, check_views,
    entries, random,
};

fn targets(n: usize, v: usize) -> Result<Tensor> {
    let targets: Vec<u32> = (0..n).map(|i| (i * 7 % v) as u32).collect();
    Tensor::from_vec(targets, n, &Device::Cpu)
}

fn inputs(n: usize, d: usize, v: usize) -> Result<[Tensor; 3]> {
    Ok([(random((n, d), 1)? * 3.0)?, random((v, d), 2)?, random(v, 3)?])
}

#[test]
fn value_and_gradients_match_the_composition() -> Result<()> {
    for (n, d, v) in [(1, 1, 1), (7, 33, 5), (33, 7, 300), (130, 16, 129)] {
        let targets = targets(n, v)?;
        for ignore in [None, Some(0)] {
            check_gradients(
                &inputs(n, d, v)?,
                |x| projection_cross_entropy(&x[0], &x[1], &x[2], &targets, ignore),
                |x| composition(&x[0], &x[1], &x[2], &targets, ignore),
            )?;
        }
    }
    Ok(())
}

#[test]
fn rows_beyond_what_is_held_at_once_are_counted() -> Result<()> {
    let (n, d, v) = (300, 2, LOGITS / 100);
    let (x, targets) = (inputs(n, d, v)?, targets(n, v)?);
    let found = projection_cross_entropy(&x[0], &x[1], &x[2], &targets, None)?;
    assert_close(&found, &composition(&x[0], &x[1], &x[2], &targets, None)?, 1e-5);

    let vars = [Var::from_tensor(&x[0])?, Var::from_tensor(&x[1])?];
    let gradients = |f: fn(&Tensor, &Tensor, &Tensor, &Tensor, Option<u32>) -> Result<Tensor>| {
        // The loss is scaled up, because the entries are of the order of 1/n.
        let loss = (f(&vars[0], &vars[1], &x[2], &targets, None)? * n as f64)?;
        let gradients = loss.backward()?;
        let of = |var: &Var| gradients.get(var).expect("x and the weight receive a gradient").clone();
        Ok::<_, candle_core::Error>([of(&vars[0]), of(&vars[1])])
    };
    for (found, expected) in gradients(projection_cross_entropy)?.iter().zip(&gradients(composition)?) {
        assert_close(found, expected, 1e-5);
    }
    Ok(())
}

/// Even with more classes than the logits that one thread holds at once, the pass takes some rows.
#[test]
fn no_vocabulary_is_too_large_for_one_thread() {
    let (n, d, v) = (70, 1, LOGITS_OF_ONE + 1);
    let (x, weight, bias) = (vec![0.5; n * d], vec![0.0; v * d], vec![0.0; v]);
    let pass = ProjectionLoss { weight: &weight, bias: &bias, share: 1.0, threads: Threads::One };
    let loss = pass.run(&x, &vec![Some(3); n], None) / n as f64;
    assert!((loss - (v as f64).ln()).abs() < 1e-4, "{loss}");
}

#[test]
fn ignored_targets_need_not_be_classes() -> Result<()> {
    let x = inputs(4, 3, 5)?;
    let targets = Tensor::new(&[1u32, u32::MAX, 4, u32::MAX], &Device::Cpu)?;
    check_gradients(
        &x,
        |x| projection_cross_entropy(&x[0], &x[1], &x[2], &targets, Some(u32::MAX)),
        |x| composition(&x[0], &x[1], &x[2], &targets, Some(u32::MAX)),
    )?;
    for f in [projection_cross_entropy, composition] {
        let nothing = Tensor::full(u32::MAX, 4, &Device::Cpu)?;
        assert_eq!(f(&x[0], &x[1], &x[2], &nothing, Some(u32::MAX))?.to_scalar::<f32>()?, 0.0);
    }
    Ok(())
}

#[test]
fn the_value_is_the_same_without_gradients() -> Result<()> {
    let (x, targets) = (inputs(40, 9, 200)?, targets(40, 200)?);
    let plain = projection_cross_entropy(&x[0], &x[1], &x[2], &targets, None)?;
    let variable = Var::from_tensor(&x[0])?;
    let tracked = projection_cross_entropy(&variable, &x[1], &x[2], &targets, None)?;
    assert!(!plain.track_op() && tracked.track_op());
    assert_eq!(plain.to_scalar::<f32>()?.to_bits(), tracked.to_scalar::<f32>()?.to_bits());
    Ok(())
}

#[test]
fn large_logits_stay_finite() -> Result<()> {
    let (x, targets) = (inputs(5, 4, 200)?, targets(5, 200)?);
    let loss = projection_cross_entropy(&(&x[0] * 1e4)?, &x[1], &x[2], &targets, None)?;
    assert!(loss.to_scalar::<f32>()?.is_finite());
    Ok(())
}

#[test]
fn strides_change_nothing() -> Result<()> {
    for (n, d, v) in [(1, 1, 1), (7, 33, 7), (33, 7, 33)] {
        let twice = Tensor::stack(&[&targets(n, v)?, &targets(n, v)?], 1)?;
        let targets = twice.narrow(1, 1, 1)?.squeeze(1)?;
        check_views(&inputs(n, d, v)?, |x| projection_cross_entropy(&x[0], &x[1], &x[2], &targets, Some(0)))?;
    }
    Ok(())
}

#[test]
fn other_dtypes_agree() -> Result<()> {
    let targets = targets(6, 5)?;
    check_other_dtypes(&inputs(6, 4, 5)?, |x| projection_cross_entropy(&x[0], &x[1], &x[2], &targets, Some(0)))
}

#[test]
fn threads_do_not_change_the_bits() {
    let targets = targets(333, 500).unwrap();
    assert_same_on_any_threads(&inputs(333, 24, 500).unwrap(), |x| {
        projection_cross_entropy(&x[0], &x[1], &x[2], &targets, Some(14))
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let [x, weight, bias] = inputs(2, 3, 5)?;
    let message = |x: &Tensor, targets: &Tensor, ignore| {
        projection_cross_entropy(x, &weight, &bias, targets, ignore).unwrap_err().to_string()
    };
    let wrong = Tensor::new(&[1u32, 5], &Device::Cpu)?;
    assert!(message(&x, &wrong, Some(0)).contains("below the 5 classes, found 5"));
    let short = Tensor::new(&[1u32], &Device::Cpu)?;
    assert!(message(&x, &short, None).contains("expected targets of shape [2], found [1]"));
    assert!(message(&weight.t()?, &short, None).contains("expected weight of shape [5, 5], found [5, 3]"));
    let signed = Tensor::new(&[1i64, 2], &Device::Cpu)?;
    assert!(message(&x, &signed, None).contains("targets of dtype U32, found I64"));
    Ok(())
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn a_constant_added_to_the_bias_changes_nothing(n in 1usize..60, v in 1usize..300, shift in -5.0f64..5.0) {
        let [x, weight, bias] = inputs(n, 4, v).unwrap();
        let targets = targets(n, v).unwrap();
        let loss = |bias: &Tensor| projection_cross_entropy(&x, &weight, bias, &targets, None).unwrap();
        assert_close(&loss(&(&bias + shift).unwrap()), &loss(&bias), 1e-5);
    }
}

#[test]
fn one_thread_gives_what_all_give() -> Result<()> {
    for (n, d, v) in [(1, 1, 1), (7, 33, 5), (200, 7, 300), (33, 16, 5000)] {
        let [x, weight, bias] = inputs(n, d, v)?.each_ref().map(entries);
        let targets: Vec<_> = (0..n).map(|i| (i % 3 != 2).then_some(i * 7 % v)).collect();
        let counted = targets.iter().flatten().count();
        let pass = |threads| {
            let [mut d_x, mut d_weight, mut d_bias] = [&x, &weight, &bias].map(|t| vec![0.0; t.len()]);
            let pass = ProjectionLoss { weight: &weight, bias: &bias, share: 1.0 / counted as f32, threads };
            let loss = pass.run(&x, &targets, Some([&mut d_x, &mut d_weight, &mut d_bias]));
            assert!((pass.run(&x, &targets, None) - loss).abs() <= 1e-9 * loss);
            (loss, [d_x, d_weight, d_bias])
        };
        let (expected_loss, expected) = pass(Threads::All);
        for (loss, found) in at_each_level(|| pass(Threads::One)) {
            assert!((loss - expected_loss).abs() <= 1e-6 * expected_loss, "{loss} {expected_loss}");
            for (found, expected) in found.iter().zip(&expected) {
                assert_entries_close(found, expected);
            }
        }
    }
    Ok(())
}
