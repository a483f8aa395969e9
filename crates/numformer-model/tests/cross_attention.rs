//! The cross-attention weights of a transformer's decoder.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use candle_core::{D, Device, Tensor};
use numformer_model::{
    CrossAttentionQuery, Mode, Padded, Parameters, Seq2Seq, StackConfig, Transformer, TransformerConfig,
};

fn model(query: CrossAttentionQuery) -> Transformer {
    let mut config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 2), StackConfig::new(16, 4, 3));
    config.cross_attention_query = query;
    Transformer::new(&config, &Parameters::random(3, &Device::Cpu).frozen()).unwrap()
}

fn row(ids: &[u32]) -> Padded {
    Padded::new(ids, &[ids.len() as u32], ids.len(), &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn each_layer_and_head_spreads_a_weight_of_one_over_the_source() {
    let model = model(CrossAttentionQuery::SelfAttended);
    let memory = model.encode(&row(&[0, 5, 6, 7, 0]), Mode::Evaluate).unwrap();
    let weights = model.cross_attention_weights(&memory, &row(&[0, 6, 5])).unwrap();
    assert_eq!(weights.len(), 3);
    for layer in weights {
        assert_eq!(layer.dims(), [1, 4, 3, 5]);
        let sums = layer.sum(D::Minus1).unwrap();
        assert!(difference(&sums, &sums.ones_like().unwrap()) < 1e-5);
    }
}

#[test]
fn weights_depend_on_earlier_tokens_only_and_on_what_asks() {
    let of = |query, tgt: &[u32]| {
        let model = model(query);
        let memory = model.encode(&row(&[0, 5, 6, 7, 0]), Mode::Evaluate).unwrap();
        model.cross_attention_weights(&memory, &row(tgt)).unwrap().pop().unwrap()
    };
    let begin = |weights: &Tensor| weights.narrow(2, 0, 2).unwrap().contiguous().unwrap();
    let whole = of(CrossAttentionQuery::SelfAttended, &[0, 6, 5]);
    assert!(difference(&begin(&whole), &of(CrossAttentionQuery::SelfAttended, &[0, 6])) < 1e-6);
    assert!(difference(&whole, &of(CrossAttentionQuery::SelfAttended, &[0, 6, 9])) > 1e-4);
    assert!(difference(&whole, &of(CrossAttentionQuery::LayerInput, &[0, 6, 5])) > 1e-4);
}

#[test]
fn padding_is_refused() {
    let model = model(CrossAttentionQuery::SelfAttended);
    let padded = Padded::new(&[0, 5, 0, 1], &[3], 4, &Device::Cpu).unwrap();
    let memory = model.encode(&padded, Mode::Evaluate).unwrap();
    let error = model.cross_attention_weights(&memory, &row(&[0])).unwrap_err().to_string();
    assert!(error.contains("expected unpadded"), "{error}");
}
