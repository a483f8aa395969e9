//! Forward and backward pass of each operation, fused and composed of candle's own operations.
//!
//! Ids read `ops/<operation>/<size>/<fused|candle>`. The sizes are those of two training runs at batch size 64: `t5` is
//! a transformer of width 64 with 4 heads on 31 tokens, `t1` one of width 256 with 8 heads on 79 tokens. Both have a
//! vocabulary of 1328.

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use numformer_ops::{
    Activation, AdamStep, Causality, adam_update, add_layer_norm, attention, embedding, linear,
    projection_cross_entropy, reference, sum_of_squares, zero_padding,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Batch size, the same for `t5` and `t1`.
const BATCH: usize = 64;
const VOCABULARY: usize = 1328;

struct Size {
    name: &'static str,
    len: usize,
    d: usize,
    heads: usize,
}

const SIZES: [Size; 2] =
    [Size { name: "t5", len: 31, d: 64, heads: 4 }, Size { name: "t1", len: 79, d: 256, heads: 8 }];

fn variable(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-0.1..0.1)).collect();
    Ok(Var::from_vec(data, shape, &Device::Cpu)?.into_inner())
}

fn ids(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<u32> = (0..shape.iter().product()).map(|_| rng.random_range(0..VOCABULARY as u32)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

type Operation<'a> = &'a dyn Fn() -> Result<Tensor>;

fn compare(criterion: &mut Criterion, name: &str, size: &Size, fused: Operation<'_>, candle: Operation<'_>) {
    let (value, expected) = (fused().expect("it runs"), candle().expect("it runs"));
    let sum = |t: &Tensor| t.sqr().and_then(|t| t.sum_all()?.to_scalar::<f32>()).expect("a tensor of f32");
    assert!((sum(&value) - sum(&expected)).abs() <= 1e-3 * sum(&expected), "{name}: both give the same");

    let mut group = criterion.benchmark_group(format!("ops/{name}/{}", size.name));
    group.sample_size(20).throughput(Throughput::Elements((BATCH * size.len) as u64));
    for (side, operation) in [("fused", fused), ("candle", candle)] {
        group.bench_function(side, |b| b.iter(|| operation()?.backward()));
    }
    group.finish();
}

fn operations(criterion: &mut Criterion) -> Result<()> {
    for size in &SIZES {
        let &Size { len, d, heads, .. } = size;
        let x = variable(&[BATCH, len, d], 1)?;
        let more = [2, 3].map(|seed| variable(&[BATCH, len, d], seed));
        let [y, z] = more;
        let (y, z) = (y?, z?);

        let (weight, bias) = (variable(&[4 * d, d], 4)?, variable(&[4 * d], 5)?);
        compare(criterion, "linear", size, &|| linear(&x, &weight, &bias, Activation::Relu), &|| {
            reference::linear(&x, &weight, &bias, Activation::Relu)
        });
        compare(criterion, "attention", size, &|| attention(&x, &y, &z, heads, Causality::Causal, None), &|| {
            reference::attention(&x, &y, &z, heads, Causality::Causal, None)
        });
        let (scale, shift) = (variable(&[d], 6)?, variable(&[d], 7)?);
        compare(criterion, "add_layer_norm", size, &|| add_layer_norm(&x, &y, &scale, &shift, 1e-12), &|| {
            reference::add_layer_norm(&x, &y, &scale, &shift, 1e-12)
        });
        let (tokens, positions) = (variable(&[VOCABULARY, d], 8)?, variable(&[len, d], 9)?);
        let input = ids(&[BATCH, len], 10)?;
        compare(criterion, "embedding", size, &|| embedding(&input, &tokens, &positions, 0), &|| {
            reference::embedding(&input, &tokens, &positions, 0)
        });
        let rows = x.reshape((BATCH * len, d))?.detach();
        let rows = Var::from_tensor(&rows)?.into_inner();
        let (targets, offsets) = (ids(&[BATCH * len], 11)?, variable(&[VOCABULARY], 12)?);
        compare(
            criterion,
            "projection_cross_entropy",
            size,
            &|| projection_cross_entropy(&rows, &tokens, &offsets, &targets, None),
            &|| reference::projection_cross_entropy(&rows, &tokens, &offsets, &targets, None),
        );
        let lengths: Vec<u32> = (0..BATCH).map(|b| (b * len / BATCH) as u32).collect();
        compare(criterion, "zero_padding", size, &|| zero_padding(&x, Some(&lengths)), &|| {
            reference::zero_padding(&x, Some(&lengths))
        });
    }
    Ok(())
}

/// Passes over the parameters of a model with a million of them.
fn optimizer(criterion: &mut Criterion) {
    const PARAMETERS: usize = 1_000_000;
    let step = AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, gradient_scale: 1.0, decay: 0.0 };
    let gradients = vec![0.01; PARAMETERS];
    let mut group = criterion.benchmark_group("ops/optimizer");
    group.throughput(Throughput::Elements(PARAMETERS as u64));
    group.bench_function(BenchmarkId::new("adam_update", PARAMETERS), |b| {
        let [mut parameters, mut first, mut second] = [(); 3].map(|()| vec![0.0; PARAMETERS]);
        b.iter(|| adam_update(&step, &mut parameters, &gradients, &mut first, &mut second));
    });
    group.bench_function(BenchmarkId::new("sum_of_squares", PARAMETERS), |b| b.iter(|| sum_of_squares(&gradients)));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    operations(criterion).expect("the operations take these tensors");
    optimizer(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
