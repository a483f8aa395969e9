//! Matrices per second, drawn from each law at the paper's sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::Mat;
use numformer_problems::{
    Entries, GaussianEntries, HaarOrthogonal, Law, LawError, Mixture, NearSymmetric, RandomScale, Spectrum,
    SymmetricSpectrum, UniformEntries, Wigner, Wishart,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The paper's bound on the entries.
const AMPLITUDE: f64 = 10.0;

/// A law and its name in the ids.
type Named = (String, Box<dyn Law>);

fn laws(n: usize) -> Result<Vec<Named>, LawError> {
    let mut laws: Vec<Named> = vec![
        ("uniform-entries".into(), Box::new(UniformEntries::new(n, n, AMPLITUDE)?)),
        ("gaussian-entries".into(), Box::new(GaussianEntries::new(n, n, AMPLITUDE / 3.0_f64.sqrt())?)),
        ("wigner".into(), Box::new(Wigner::new(n, AMPLITUDE)?)),
        ("wigner-gaussian".into(), Box::new(Wigner::new(n, AMPLITUDE)?.with_entries(Entries::Gaussian)?)),
        ("wishart".into(), Box::new(Wishart::new(n, AMPLITUDE)?)),
        ("haar-orthogonal".into(), Box::new(HaarOrthogonal::new(n)?)),
        ("near-symmetric".into(), Box::new(NearSymmetric::new(UniformEntries::new(n, n, AMPLITUDE)?, 0.0..=0.4)?)),
        ("random-scale".into(), Box::new(RandomScale::new(Wigner::new(n, 1.0)?, 1..=100)?)),
        ("mixture".into(), {
            let wigner = |n| Ok(Box::new(Wigner::new(n, AMPLITUDE)?) as Box<dyn Law>);
            Box::new(Mixture::uniform((1..=n).map(wigner).collect::<Result<_, _>>()?)?)
        }),
    ];
    for spectrum in [Spectrum::Positive, Spectrum::Uniform, Spectrum::Gaussian, Spectrum::Laplace, Spectrum::AbsLaplace]
    {
        laws.push((format!("symmetric-{spectrum}"), Box::new(SymmetricSpectrum::new(n, AMPLITUDE, spectrum)?)));
    }
    Ok(laws)
}

fn sample(c: &mut Criterion) {
    let mut group = c.benchmark_group("laws/sample");
    group.throughput(Throughput::Elements(1));
    for n in [5, 10, 20] {
        for (name, law) in laws(n).expect("valid parameters") {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let mut matrix = Mat::new();
            law.sample_into(&mut rng, &mut matrix);
            assert!(matrix.norm_max() <= law.bound().expect("these laws have one"));
            group.bench_function(BenchmarkId::new(name, format!("{n}x{n}")), |b| {
                b.iter(|| {
                    law.sample_into(&mut rng, &mut matrix);
                    black_box(&matrix);
                });
            });
        }
    }
}

criterion_group!(benches, sample);
criterion_main!(benches);
