//! Sampling does not allocate once a matrix has been drawn.

use allocation_counter::measure;
use faer::Mat;
use numformer_problems::{
    Entries, GaussianEntries, HaarOrthogonal, Law, LogUniformEntries, LowRank, Mixture, NearSymmetric, RandomScale,
    Spectrum, SymmetricSpectrum, UniformEntries, Wishart,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn laws(n: usize) -> anyhow::Result<Vec<Box<dyn Law>>> {
    let mut laws: Vec<Box<dyn Law>> = vec![
        Box::new(UniformEntries::new(n, n, 1.0)?),
        Box::new(GaussianEntries::new(n, n, 1.0)?),
        Box::new(LogUniformEntries::new(n, n, 0.1, 10.0)?),
        Box::new(Wishart::new(n, 1.0)?),
        Box::new(HaarOrthogonal::new(n)?),
        Box::new(LowRank::new(n, n, 1000.0)?),
        Box::new(NearSymmetric::new(UniformEntries::new(n, n, 1.0)?, 0.0..=0.4)?),
        Box::new(RandomScale::new(UniformEntries::new(n, n, 1.0)?, 1..=9)?),
    ];
    for spectrum in Spectrum::ALL {
        let law = SymmetricSpectrum::new(n, 1.0, spectrum)?;
        for entries in Entries::ALL {
            laws.push(Box::new(law.with_entries(entries)?));
        }
    }
    Ok(laws)
}

#[test]
fn warm_samples_do_not_allocate() -> anyhow::Result<()> {
    for n in [1, 5, 20] {
        let mut laws = laws(n)?;
        laws.push(Box::new(Mixture::uniform(self::laws(n)?)?));
        for law in laws {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut matrix = Mat::new();
            let mut draw = |count: usize| (0..count).for_each(|_| law.sample_into(&mut rng, &mut matrix));
            draw(100);
            assert_eq!(measure(|| draw(100)).count_total, 0, "{n}: {law:?}");
        }
    }
    Ok(())
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1]))).count_total, 1);
}
