//! Making examples does not allocate once the buffers are warm.

use std::sync::Arc;

use allocation_counter::measure;
use faer::Mat;
use numformer_data::{Example, Split, Task};
use numformer_encoding::{NumberEncoding, Positional, Preset};
use numformer_problems::{Addition, Inversion, Law, Transpose, UniformEntries};
use rand::{Rng, RngCore};

/// Entries of another law, in any shape up to 6x6.
#[derive(Debug)]
struct AnyShape(UniformEntries);

impl Law for AnyShape {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let (rows, columns) = (rng.random_range(1..=6), rng.random_range(1..=6));
        self.0.sample_into(rng, matrix);
        matrix.truncate(rows, columns);
    }

    fn max_shape(&self) -> (usize, usize) {
        self.0.max_shape()
    }

    fn bound(&self) -> Option<f64> {
        self.0.bound()
    }
}

/// The number of allocations in making examples, after so many have been made that the longest was among them.
fn allocations(law: impl Law + 'static, encoding: Positional) -> u64 {
    let encoding: Arc<dyn NumberEncoding> = Arc::new(encoding);
    let task = Task::new(Transpose, law, encoding.clone(), encoding).expect("the law suits the encoding");
    let mut example = Example::default();
    let mut make = |range: std::ops::Range<u64>| {
        for index in range {
            task.example_into(7, Split::Train, index, &mut example).expect("any matrix has a transpose");
        }
    };
    make(0..1_000);
    measure(|| make(1_000..2_000)).count_total
}

#[test]
fn warm_examples_do_not_allocate() {
    for encoding in [Positional::p10, Positional::p1000] {
        let law = UniformEntries::new(6, 6, 10.0).expect("valid parameters");
        assert_eq!(allocations(law, encoding()), 0);
        assert_eq!(allocations(AnyShape(law), encoding()), 0);
    }
}

#[test]
fn warm_examples_of_mixtures_do_not_allocate() {
    let uniform =
        |rows, cols| -> Box<dyn Law> { Box::new(UniformEntries::new(rows, cols, 10.0).expect("valid parameters")) };
    for preset in Preset::ALL {
        let task = Task::builder(preset.encoding(), preset.encoding())
            .with_problem(Transpose, 1.0, vec![uniform(2, 3), uniform(5, 5)])
            .with_problem(Addition, 1.0, vec![uniform(10, 20)])
            .with_problem(Inversion::default(), 1.0, vec![uniform(5, 5)])
            .with_task_letters()
            .with_noise(0.05)
            .build()
            .expect("a task");
        let mut example = Example::default();
        let mut make = |range: std::ops::Range<u64>| {
            range.for_each(|index| task.example_into(7, Split::Train, index, &mut example).expect("an example"));
        };
        make(0..1_000);
        assert_eq!(measure(|| make(1_000..2_000)).count_total, 0, "{preset}");
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1]))).count_total, 1);
}
