//! Coefficients per second, written and read, for the published encodings at the paper's sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use numformer_encoding::{MatrixEncoding, Preset, Vocabulary};

const MATRICES: usize = 200;

/// Numbers uniform in (-10, 10), as the entries of the paper's matrices: Knuth's linear congruential generator.
fn coefficients(count: usize) -> Vec<f64> {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        20.0 * (state >> 11) as f64 / (1_u64 << 53) as f64 - 10.0
    };
    (0..count).map(|_| draw()).collect()
}

fn encoding(c: &mut Criterion) {
    for preset in Preset::ALL {
        let number = preset.encoding();
        let vocabulary = Vocabulary::reference(&*number, &*number);
        let encoding = MatrixEncoding::new(number, &vocabulary).expect("its own vocabulary");
        for n in [5, 10] {
            let numbers = coefficients(MATRICES * n * n);
            let matrices: Vec<_> = numbers.chunks(n * n).collect();
            let mut group = c.benchmark_group("encoding");
            group.throughput(Throughput::Elements((MATRICES * n * n) as u64));

            let mut tokens = Vec::new();
            let id = |direction| BenchmarkId::new(format!("{direction}/{preset}"), format!("{n}x{n}"));
            group.bench_function(id("encode"), |b| {
                b.iter(|| {
                    for matrix in black_box(&matrices) {
                        tokens.clear();
                        encoding.encode(n, n, matrix.iter().copied(), &mut tokens).expect("numbers in range");
                        black_box(&tokens);
                    }
                });
            });

            let sequences: Vec<_> = matrices
                .iter()
                .map(|matrix| {
                    let mut tokens = Vec::new();
                    encoding.encode(n, n, matrix.iter().copied(), &mut tokens).expect("numbers in range");
                    let rounded = encoding.decode(&tokens).expect("its own tokens");
                    let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 0.005 * x.abs();
                    assert!(rounded.coefficients.iter().zip(*matrix).all(close));
                    tokens
                })
                .collect();
            let mut read = Vec::new();
            group.bench_function(id("decode"), |b| {
                b.iter(|| {
                    for tokens in black_box(&sequences) {
                        encoding.decode_into(tokens, &mut read).expect("its own tokens");
                        black_box(&read);
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, encoding);
criterion_main!(benches);
