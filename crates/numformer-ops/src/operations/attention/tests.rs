//! Attention against its composition, and on slices.

use numformer_testkit::cases;
use proptest::prelude::*;

use crate::cpu::simd::tests::at_each_level;
use crate::testing::{
    Expected, assert_close, assert_entries_close, assert_same_on_any_threads, check_gradients, check_other_dtypes,
    check_views, entries, random,
};

use super::*;

fn check(
    batch: usize,
    t: usize,
    s: usize,
    heads: (usize, usize),
    causality: Causality,
    lengths: Lengths<'_>,
) -> Result<()> {
    let (n_heads, d_head) = heads;
    let width = n_heads * d_head;
    let inputs = [random((batch, t, width), 1)?, random((batch, s, width), 2)?, random((batch, s, width), 3)?];
    check_gradients(
        &inputs,
        |x| attention(&x[0], &x[1], &x[2], n_heads, causality, lengths),
        |x| composition(&x[0], &x[1], &x[2], n_heads, causality, lengths),
    )
}

#[test]
fn value_and_gradients_match_the_composition() -> Result<()> {
    for (t, s) in [(1, 1), (1, 7), (7, 1), (7, 33), (33, 33), (31, 31)] {
        for heads in [(1, 1), (1, 7), (4, 16), (3, 5)] {
            check(3, t, s, heads, Causality::Full, None)?;
        }
    }
    Ok(())
}

#[test]
fn masks_match_the_composition() -> Result<()> {
    for (t, s) in [(1, 1), (1, 7), (5, 7), (33, 33), (16, 40)] {
        check(3, t, s, (2, 4), Causality::Causal, None)?;
        // A full example, a padded one, and one without any key.
        let lengths = [s as u32, (s as u32).div_ceil(2), 0];
        check(3, t, s, (2, 4), Causality::Full, Some(&lengths))?;
        check(3, t, s, (2, 4), Causality::Causal, Some(&lengths))?;
    }
    Ok(())
}

#[test]
fn a_query_without_keys_gives_zeros() -> Result<()> {
    let x = random((2, 3, 4), 1)?;
    for f in [attention, composition] {
        let y = f(&x, &x, &x, 2, Causality::Full, Some(&[0, 3]))?;
        assert!(y.get(0)?.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| *y == 0.0));
        assert!(y.get(1)?.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| *y != 0.0));
    }
    Ok(())
}

#[test]
fn a_hidden_key_has_no_weight_at_all() -> Result<()> {
    let q = Tensor::zeros((1, 2, 1), DType::F32, &candle_core::Device::Cpu)?;
    let v = Tensor::new(&[[[2f32], [1e38]]], q.device())?;
    let y = attention(&q, &q, &v, 1, Causality::Causal, None)?;
    assert_eq!(y.to_vec3::<f32>()?, [[[2.0], [5e37]]]);
    Ok(())
}

#[test]
fn with_a_cache_the_last_query_gives_the_last_row() -> Result<()> {
    let (q, k, v) = (random((2, 9, 6), 1)?, random((2, 9, 6), 2)?, random((2, 9, 6), 3)?);
    let all = attention(&q, &k, &v, 3, Causality::Causal, None)?;
    let last = attention(&q.narrow(1, 7, 2)?, &k, &v, 3, Causality::Causal, None)?;
    assert_close(&last, &all.narrow(1, 7, 2)?.contiguous()?, 1e-6);
    Ok(())
}

#[test]
fn large_scores_stay_finite() -> Result<()> {
    let x = (random((1, 5, 4), 1)? * 1e4)?;
    let y = attention(&x, &x, &x, 2, Causality::Full, None)?;
    assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| y.is_finite()));
    Ok(())
}

#[test]
fn strides_change_nothing() -> Result<()> {
    for (batch, t, s) in [(1, 1, 1), (3, 7, 33), (7, 33, 1)] {
        let inputs = [random((batch, t, 6), 1)?, random((batch, s, 6), 2)?, random((batch, s, 6), 3)?];
        let lengths: Vec<u32> = (0..batch as u32).map(|b| b * 5 % (s as u32 + 1)).collect();
        for lengths in [None, Some(lengths.as_slice())] {
            check_views(&inputs, |x| attention(&x[0], &x[1], &x[2], 2, Causality::Full, lengths))?;
        }
    }
    Ok(())
}

#[test]
fn other_dtypes_agree() -> Result<()> {
    let inputs = [random((2, 3, 4), 1)?, random((2, 5, 4), 2)?, random((2, 5, 4), 3)?];
    check_other_dtypes(&inputs, |x| attention(&x[0], &x[1], &x[2], 2, Causality::Causal, Some(&[5, 2])))
}

#[test]
fn threads_do_not_change_the_bits() {
    let inputs = [1, 2, 3].map(|seed| random((5, 21, 12), seed).unwrap());
    assert_same_on_any_threads(&inputs, |x| {
        attention(&x[0], &x[1], &x[2], 3, Causality::Causal, Some(&[21, 20, 3, 1, 0]))
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let (q, k) = (random((2, 3, 4), 1)?, random((2, 2, 4), 2)?);
    let message =
        |heads, causality, lengths| attention(&q, &k, &k, heads, causality, lengths).map(drop).unwrap_err().to_string();
    assert!(message(3, Causality::Full, None).contains("divides the width 4, found 3"));
    assert!(message(0, Causality::Full, None).contains("divides the width 4, found 0"));
    assert!(message(2, Causality::Causal, None).contains("3 queries and 2 keys"));
    assert!(message(2, Causality::Full, Some(&[1])).contains("expected 2 lengths, found 1"));
    let error = attention(&q, &k, &q, 2, Causality::Full, None).unwrap_err().to_string();
    assert!(error.contains("expected v of shape [2, 2, 4], found [2, 3, 4]"), "{error}");
    Ok(())
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn values_lie_between_the_extremes_seen(t in 1usize..20, more in 0usize..20, seed in 0u64..1000) {
        let s = t + more;
        let (q, k, v) = (
            random((1, t, 4), seed).unwrap(),
            random((1, s, 4), seed + 1).unwrap(),
            random((1, s, 4), seed + 2).unwrap(),
        );
        let y = attention(&q, &k, &v, 2, Causality::Causal, None).unwrap();
        let high = v.max(1).unwrap().unsqueeze(1).unwrap();
        let above = y.broadcast_sub(&high).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        prop_assert!(above.iter().all(|x| *x <= 1e-6));
    }
}

#[test]
fn slices_give_what_the_operation_gives() -> Result<()> {
    for (t, s, n_heads, d_head) in [(1, 1, 1, 1), (7, 33, 3, 5), (33, 33, 2, 16), (5, 7, 1, 33)] {
        for causality in [Causality::Full, Causality::Causal] {
            let width = n_heads * d_head;
            let inputs = [random((1, t, width), 1)?, random((1, s, width), 2)?, random((1, s, width), 3)?];
            let op = |x: &[Tensor]| attention(&x[0], &x[1], &x[2], n_heads, causality, None);
            let Expected { y: expected, d_y, gradients } = Expected::of(&op, &inputs)?;
            let [q, k, v] = inputs.each_ref().map(entries);
            let shape = AttentionShape { t, s, n_heads, width };
            for (y, found) in at_each_level(|| {
                let mut y = vec![f32::NAN; q.len()];
                let mut probabilities = vec![f32::NAN; shape.scores_len()];
                let mut room = AttentionRoom { scores: vec![f32::NAN; 2000], rounded: vec![f32::NAN; 2000] };
                shape.forward(causality, &mut y, [&q, &k, &v], &mut probabilities, &mut room);
                let [mut d_q, mut d_k, mut d_v] = [&q, &k, &v].map(|x| vec![f32::NAN; x.len()]);
                shape.backward([&mut d_q, &mut d_k, &mut d_v], [&q, &k, &v], &probabilities, &d_y, &mut room);
                (y, [d_q, d_k, d_v])
            }) {
                assert_entries_close(&y, &expected);
                for (found, expected) in found.iter().zip(&gradients) {
                    assert_entries_close(found, expected);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn slices_without_keys_or_queries_give_zeros() {
    let pass = |t: usize, s: usize| {
        let shape = AttentionShape { t, s, n_heads: 1, width: 2 };
        let (q, k) = (vec![1.0; 2 * t], vec![1.0; 2 * s]);
        let mut y = vec![f32::NAN; 2 * t];
        shape.forward(Causality::Full, &mut y, [&q, &k, &k], &mut [], &mut AttentionRoom::default());
        let [mut d_q, mut d_k, mut d_v] = [&q, &k, &k].map(|x| vec![f32::NAN; x.len()]);
        shape.backward([&mut d_q, &mut d_k, &mut d_v], [&q, &k, &k], &[], &q, &mut AttentionRoom::default());
        [y, d_q, d_k, d_v].concat()
    };
    assert_eq!(pass(3, 0), [0.0; 12]);
    assert_eq!(pass(0, 2), [0.0; 8]);
}
