//! Orthogonalized momentum for matrices.

use std::ops::Range;

use numformer_model::{FlatLayout, Slot};
use numformer_ops::kernels::{Panels, Store, bf16, for_each, linear_input_gradient};
use serde::{Deserialize, Serialize};

use crate::optimizers::adam::AdamConfig;
use crate::optimizers::optimizer::{Optimizer, Update};

/// Muon's constants; the learning rate and the weight decay come with every update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MuonConfig {
    /// Decay of the momentum of matrices: at least 0, below 1.
    pub momentum: f64,
    /// As [`AdamConfig::beta1`]. Adam updates everything else: embeddings, biases, norms and the output projection.
    pub beta1: f64,
    /// As [`AdamConfig::beta2`].
    pub beta2: f64,
    /// As [`AdamConfig::epsilon`].
    pub epsilon: f64,
}

impl Default for MuonConfig {
    fn default() -> Self {
        let AdamConfig { beta1, beta2, epsilon } = AdamConfig::default();
        Self { momentum: 0.95, beta1, beta2, epsilon }
    }
}

impl MuonConfig {
    /// The constants of Adam.
    #[must_use]
    pub fn adam(self) -> AdamConfig {
        let Self { beta1, beta2, epsilon, .. } = self;
        AdamConfig { beta1, beta2, epsilon }
    }
}

/// The Muon optimizer: a weight matrix moves along the orthogonal matrix nearest to its momentum, so that all its directions
/// move at the same rate.
///
/// With G the gradient, M ← μM + G, and W moves by -0.2 η √max(m, n) · O, where O is about the orthogonal factor of the polar
/// decomposition of G + μM. So scaled, the entries of the step have the root mean square 0.2 η of a typical step of Adam, and
/// a learning rate for Adam serves for both.
///
/// Matrices are the weights of affine maps: all parameters of two axes but tables of embeddings and the output projection, which
/// are told by their names: `embedding` is a part of the name, between dots, or `projection` the first part. These and all vectors
/// are updated by [`Adam`](crate::Adam). The gates of a recurrent cell are one matrix.
///
/// The operands of the products by which O is found are rounded to bf16, whatever the precision of the model. So processors with
/// instructions for bf16 give other bits than those without.
///
/// # References
/// - Jordan et al. (2024), *Muon: an optimizer for hidden layers in neural networks*.
///   <https://kellerjordan.github.io/posts/muon/>
/// - Liu et al. (2025), *Muon is scalable for LLM training*, section 2.2, for the scale. <https://arxiv.org/abs/2502.16982>
#[derive(Debug, Default)]
pub struct Muon {
    config: MuonConfig,
    matrices: Vec<Matrix>,
    /// What Adam updates, between the matrices.
    rest: Vec<Range<usize>>,
    /// Of matrices; of everything else, Adam's first moment.
    momentum: Vec<f32>,
    /// Adam's; zero for matrices.
    second_moment: Vec<f32>,
}

/// A weight matrix, with the memory that its update needs.
#[derive(Debug, Default)]
struct Matrix {
    range: Range<usize>,
    rows: usize,
    columns: usize,
    room: Room,
}

/// Memory of [`orthogonalize`].
#[derive(Debug, Default)]
struct Room {
    x: Vec<f32>,
    next: Vec<f32>,
    gram: Vec<f32>,
    square: Vec<f32>,
    panels: Panels<bf16>,
}

impl Muon {
    /// A fresh optimizer.
    #[must_use]
    pub fn new(config: MuonConfig) -> Self {
        Self { config, ..Self::default() }
    }
}

/// Whether a parameter is the weight of an affine map between hidden states.
fn is_matrix(slot: &Slot) -> bool {
    let mut parts = slot.name().split('.');
    let is_table = parts.next() == Some("projection") || parts.any(|part| part == "embedding");
    slot.shape().rank() == 2 && !is_table
}

impl Optimizer for Muon {
    fn begin(&mut self, layout: &FlatLayout) {
        self.momentum = vec![0.0; layout.len()];
        self.second_moment = vec![0.0; layout.len()];
        self.matrices.clear();
        self.rest.clear();
        for slot in layout.slots() {
            if let (true, [rows, columns]) = (is_matrix(slot), slot.shape().dims()) {
                let (rows, columns) = (*rows, *columns);
                self.matrices.push(Matrix { range: slot.range(), rows, columns, room: Room::default() });
            } else {
                match self.rest.last_mut().filter(|last| last.end == slot.range().start) {
                    Some(last) => last.end = slot.range().end,
                    None => self.rest.push(slot.range()),
                }
            }
        }
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        let step = self.config.adam().step(update);
        for range in &self.rest {
            let (first, second) = (&mut self.momentum[range.clone()], &mut self.second_moment[range.clone()]);
            let (weights, gradients) = (&mut weights[range.clone()], &gradients[range.clone()]);
            numformer_ops::adam_update(&step, weights, gradients, first, second);
        }
        let [mu, scale] = [self.config.momentum, update.gradient_scale].map(|x| x as f32);
        let decay = (update.lr * update.weight_decay) as f32;
        let ranges: Vec<Range<usize>> = self.matrices.iter().map(|matrix| matrix.range.clone()).collect();
        let of_gradients = ranges.iter().map(|range| &gradients[range.clone()]);
        let [of_weights, of_momentum] = [weights, &mut self.momentum].map(|vector| pieces(vector, &ranges));
        let work = self.matrices.iter_mut().zip(of_weights).zip(of_momentum).zip(of_gradients);
        for_each(work, |(((matrix, weights), momentum), gradients)| {
            let Matrix { rows, columns, room, .. } = matrix;
            room.x.resize(weights.len(), 0.0);
            for ((x, m), g) in room.x.iter_mut().zip(momentum).zip(gradients) {
                let g = scale * g;
                *m = mu * *m + g;
                *x = g + mu * *m;
            }
            orthogonalize(room, *rows, *columns);
            let lr = (0.2 * update.lr * (*rows.max(columns) as f64).sqrt()) as f32;
            for (w, o) in weights.iter_mut().zip(&room.x) {
                *w -= decay * *w + lr * o;
            }
        });
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("momentum", &self.momentum), ("second_moment", &self.second_moment)]
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("momentum", &mut self.momentum), ("second_moment", &mut self.second_moment)]
    }
}

/// Replaces the matrix `room.x` by about the orthogonal factor of its polar decomposition: its singular values become about 1.
///
/// This is the iteration X ← aX + (bA + cA²)X with A = XXᵀ, five times, from X divided by its Frobenius norm. Singular values
/// converge to about 0.7 to 1.2, which is near enough, and faster than to 1. The operands of its products are rounded to bf16.
fn orthogonalize(room: &mut Room, rows: usize, columns: usize) {
    const STEPS: usize = 5;
    // Jordan et al. chose the coefficients so that small singular values grow fast.
    const A: f32 = 3.4445;
    const B: f32 = -4.7750;
    const C: f32 = 2.0315;
    let norm = room.x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return;
    }
    let Room { x, next, gram, square, panels } = room;
    x.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    next.resize(x.len(), 0.0);
    // The product XXᵀ is smaller if there are no more rows than columns.
    let is_tall = rows > columns;
    let (n, k) = if is_tall { (columns, rows) } else { (rows, columns) };
    if is_tall {
        transpose(x, columns, next);
        std::mem::swap(x, next);
    }
    gram.resize(n * n, 0.0);
    square.resize(n * n, 0.0);
    for _ in 0..STEPS {
        panels.pack_transpose(x, k);
        linear_input_gradient(gram, Store::Replace, x, panels);
        panels.pack_rows(gram, n);
        linear_input_gradient(square, Store::Replace, gram, panels);
        square.iter_mut().zip(&*gram).for_each(|(square, gram)| *square = B * gram + C * *square);
        (0..n).for_each(|i| square[i * n + i] += A);
        panels.pack_rows(x, k);
        linear_input_gradient(next, Store::Replace, square, panels);
        std::mem::swap(x, next);
    }
    if is_tall {
        transpose(x, k, next);
        std::mem::swap(x, next);
    }
}

/// Writes the transpose of a row-major matrix of `columns` columns to `y`.
fn transpose(x: &[f32], columns: usize, y: &mut [f32]) {
    let rows = x.len() / columns;
    for (i, row) in x.chunks_exact(columns).enumerate() {
        for (j, x) in row.iter().enumerate() {
            y[j * rows + i] = *x;
        }
    }
}

/// The parts of a vector at these ranges, which are in order.
fn pieces<'a>(mut vector: &'a mut [f32], ranges: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    let mut passed = 0;
    let piece = |range: &Range<usize>| {
        vector.split_off_mut(..range.start - passed)?;
        passed = range.end;
        vector.split_off_mut(..range.len())
    };
    ranges.iter().map(piece).map(|piece| piece.expect("matrices are parts of the weights")).collect()
}

#[cfg(test)]
mod tests {
    use numformer_data::faer::MatRef;
    use numformer_testkit::cases;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Adam;

    /// A random matrix whose singular values are not all alike.
    fn random(seed: u64, rows: usize, columns: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scales: Vec<f32> = (0..columns).map(|_| rng.random_range(0.2f32..2.0)).collect();
        (0..rows * columns).map(|i| scales[i % columns] * rng.random_range(-1f32..1.0)).collect()
    }

    fn layout(shapes: &[(&str, &[usize])]) -> FlatLayout {
        FlatLayout::of_shapes(shapes.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec().into())))
    }

    fn singular_values(matrix: &[f32], columns: usize) -> Vec<f64> {
        let matrix: Vec<f64> = matrix.iter().copied().map(f64::from).collect();
        MatRef::from_row_major_slice(&matrix, matrix.len() / columns, columns).singular_values().expect("finite")
    }

    proptest! {
        #![proptest_config(cases(32))]

        #[test]
        fn steps_have_singular_values_of_about_one_and_the_singular_vectors_of_the_momentum(
            seed: u64,
            rows in 2usize..40,
            columns in 2usize..40,
        ) {
            let gradient = random(seed, rows, columns);
            let mut muon = Muon::default();
            muon.begin(&layout(&[("layer.weight", &[rows, columns])]));
            let mut weights = vec![0.0; rows * columns];
            muon.update(Update::at(1, 1.0), &mut weights, &gradient);
            let scale = -0.2 * (rows.max(columns) as f32).sqrt();
            let step: Vec<f32> = weights.iter().map(|weight| weight / scale).collect();
            // The iteration lets a direction that is nearly absent grow only so far.
            let found = singular_values(&step, columns);
            let of_gradient = singular_values(&gradient, columns);
            let norm = of_gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
            let large = of_gradient.iter().filter(|x| **x > 0.03 * norm).count();
            prop_assert!(found.iter().all(|x| *x < 1.3), "{found:?}");
            prop_assert!(found[..large].iter().all(|x| *x > 0.6), "{found:?} {of_gradient:?}");
            // The polar factor has the largest product with the gradient: the sum of its singular values.
            let product: f64 = step.iter().zip(&gradient).map(|(x, g)| f64::from(x * g)).sum();
            let most: f64 = of_gradient.iter().sum();
            prop_assert!(product > 0.65 * most && product < 1.3 * most, "{product} {most}");
        }
    }

    #[test]
    fn everything_but_matrices_is_updated_by_adam() {
        let shapes: &[(&str, &[usize])] =
            &[("encoder.embedding.tokens.weight", &[5, 4]), ("layer.bias", &[4]), ("projection.weight", &[5, 4])];
        let layout = layout(shapes);
        let (mut muon, mut adam) = (Muon::default(), Adam::default());
        muon.begin(&layout);
        adam.begin(&layout);
        let mut weights = [vec![1.0; layout.len()], vec![1.0; layout.len()]];
        for number in 1..4 {
            let update = Update { weight_decay: 0.1, gradient_scale: 0.5, ..Update::at(number, 0.01) };
            let gradients = random(number, layout.len(), 1);
            muon.update(update, &mut weights[0], &gradients);
            adam.update(update, &mut weights[1], &gradients);
        }
        assert_eq!(weights[0], weights[1]);
    }

    #[test]
    fn threads_change_no_bits_and_a_restored_optimizer_goes_on() {
        let layout = layout(&[("a.weight", &[16, 8]), ("b.bias", &[3]), ("b.weight", &[8, 24]), ("c.weight", &[8, 8])]);
        let run = |from: Option<(&Muon, &[f32])>, numbers: std::ops::Range<u64>| {
            let mut muon = Muon::default();
            muon.begin(&layout);
            let mut weights = vec![0.5; layout.len()];
            if let Some((former, former_weights)) = from {
                weights.copy_from_slice(former_weights);
                for ((_, to), (_, from)) in muon.memory_mut().into_iter().zip(former.memory()) {
                    to.copy_from_slice(from);
                }
            }
            for number in numbers {
                muon.update(Update::at(number, 0.1), &mut weights, &random(number, layout.len(), 1));
            }
            (muon, weights)
        };
        let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let expected = on(1).install(|| run(None, 1..5).1);
        assert_eq!(on(3).install(|| run(None, 1..5).1), expected);
        let (half, weights) = run(None, 1..3);
        assert_eq!(run(Some((&half, &weights)), 3..5).1, expected);
    }

    #[test]
    fn matrices_without_gradients_stay() {
        let layout = layout(&[("a.weight", &[4, 4])]);
        let mut muon = Muon::default();
        muon.begin(&layout);
        let mut weights = vec![0.5; 16];
        muon.update(Update::at(1, 0.1), &mut weights, &[0.0; 16]);
        assert_eq!(weights, [0.5; 16]);
    }
}
