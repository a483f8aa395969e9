//! Numbers written and read per second, both as the paper's matrices and one by one. The encodings are the published
//! ones, general ones and a custom one.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use numformer_encoding::{
    DecodeError, EncodeError, MatrixEncoding, NumberEncoding, TokenId, Vocabulary, encoding_by_name,
};

const MATRICES: usize = 200;

/// Names that [`encoding_by_name`] reads.
const NAMES: [&str; 7] = [
    "p10",
    "p1000",
    "b1999",
    "fp15",
    "positional(base=100,precision=2)",
    "balanced(precision=2)",
    "floating(precision=2,exponents=16,decimals=7)",
];

/// An encoding as a user writes one, with only the required methods: integers from -10 to 10.
#[derive(Debug)]
struct SmallIntegers(Vec<String>);

impl NumberEncoding for SmallIntegers {
    fn symbols(&self) -> &[String] {
        &self.0
    }

    fn max_word_len(&self) -> usize {
        1
    }

    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        let nearest = x.round_ties_even();
        if nearest.is_nan() || nearest.abs() > 10.0 {
            return Err(EncodeError::TooLarge { value: x, largest: 10.0 });
        }
        word.push(TokenId((nearest + 10.0) as u32));
        Ok(())
    }

    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        match tokens.split_first() {
            Some((&TokenId(id), rest)) if id <= 20 => Ok((f64::from(id) - 10.0, rest)),
            _ => Err(DecodeError::expected("an integer", 0, tokens, self.symbols())),
        }
    }
}

/// Numbers uniform in (-10, 10), like the entries of the paper's matrices, from Knuth's linear congruential generator.
fn coefficients(count: usize) -> Vec<f64> {
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        20.0 * (state >> 11) as f64 / (1_u64 << 53) as f64 - 10.0
    };
    (0..count).map(|_| draw()).collect()
}

fn encoding(c: &mut Criterion) {
    let published = NAMES.map(|name| (name, encoding_by_name(name).expect("a name")));
    let integers = SmallIntegers((-10..=10).map(|i| i.to_string()).collect());
    let own: (_, Arc<dyn NumberEncoding>) = ("own", Arc::new(integers));
    let mut group = c.benchmark_group("encoding");
    for (name, number) in published.into_iter().chain([own]) {
        bench_numbers(&mut group, name, &*number);
        let vocabulary = Vocabulary::reference(&*number, &*number);
        let encoding = MatrixEncoding::new(number, &vocabulary).expect("its own vocabulary");
        for n in [5, 10] {
            bench_matrices(&mut group, name, &encoding, n);
        }
    }
    group.finish();
}

/// One number at a time, through the trait object.
fn bench_numbers(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, encoding: &dyn NumberEncoding) {
    let numbers = coefficients(MATRICES);
    let words: Vec<_> = numbers
        .iter()
        .map(|&x| {
            let mut word = Vec::new();
            encoding.encode(x, &mut word).expect("a number in range");
            assert_eq!(encoding.decode(&word).map(|(y, _)| y).ok(), encoding.round(x).ok());
            word
        })
        .collect();
    let id = |direction| BenchmarkId::new(format!("{direction}/{name}"), "number");
    group.throughput(Throughput::Elements(numbers.len() as u64));
    let mut word = Vec::new();
    group.bench_function(id("encode"), |b| {
        b.iter(|| {
            for x in black_box(&numbers) {
                word.clear();
                encoding.encode(*x, &mut word).expect("a number in range");
                black_box(&word);
            }
        });
    });
    group.bench_function(id("decode"), |b| {
        b.iter(|| {
            for word in black_box(&words) {
                black_box(encoding.decode(word).expect("its own word"));
            }
        });
    });
}

fn bench_matrices(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, encoding: &MatrixEncoding, n: usize) {
    let numbers = coefficients(MATRICES * n * n);
    let matrices: Vec<_> = numbers.chunks(n * n).collect();
    let sequences: Vec<_> = matrices
        .iter()
        .map(|matrix| {
            let mut tokens = Vec::new();
            encoding.encode(n, n, matrix.iter().copied(), &mut tokens).expect("numbers in range");
            let read = encoding.decode(&tokens).expect("its own tokens").coefficients;
            assert!(read.iter().zip(*matrix).all(|(y, x)| Ok(*y) == encoding.number().round(*x)));
            tokens
        })
        .collect();
    let id = |direction| BenchmarkId::new(format!("{direction}/{name}"), format!("{n}x{n}"));
    group.throughput(Throughput::Elements(numbers.len() as u64));
    let mut tokens = Vec::new();
    group.bench_function(id("encode"), |b| {
        b.iter(|| {
            for matrix in black_box(&matrices) {
                tokens.clear();
                encoding.encode(n, n, matrix.iter().copied(), &mut tokens).expect("numbers in range");
                black_box(&tokens);
            }
        });
    });
    let mut read = Vec::new();
    group.bench_function(id("decode"), |b| {
        b.iter(|| {
            for tokens in black_box(&sequences) {
                encoding.decode_into(tokens, &mut read).expect("its own tokens");
                black_box(&read);
            }
        });
    });
}

criterion_group!(benches, encoding);
criterion_main!(benches);
