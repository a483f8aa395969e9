//! Scaled dot-product attention over several heads.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::Lengths;
use crate::cpu::exp::exp;
use crate::cpu::fresh::Fresh;
use crate::cpu::matrix::{MatMut, MatRef};
use crate::cpu::product::{Epilogue, Operand, multiply};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{LANES, join_lanes, vectorized};
use crate::cpu::{host, parallel};

/// The keys that a query may see, in addition to the limit by `key_lengths`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// All keys.
    Full,
    /// The keys up to the query's own position. The queries are the last of the sequence: with `t` queries and `s`
    /// keys, query `i` is at position `s − t + i`.
    Causal,
}

/// Multi-head attention: softmax(Q·Kᵀ/√dₕ)·V for each head.
///
/// The heads lie side by side in the last axis, as the projections leave them; each has width dₕ. The softmax is
/// computed in `f32` (in `f64` for `f64` inputs). Keys at or beyond `key_lengths[b]` are masked, and a query that sees
/// no key gives zeros. Differentiable in `q`, `k` and `v`.
///
/// # Shapes
/// `q` is `[b, t, h·dₕ]`, `k` and `v` are `[b, s, h·dₕ]`; returns `[b, t, h·dₕ]`.
///
/// # Errors
/// When the shapes disagree, `n_heads` does not divide the width, there are more causal queries than keys, or candle
/// refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::{Causality, attention};
///
/// // Equal keys: every query averages the values it sees.
/// let q = Tensor::zeros((1, 2, 1), DType::F32, &Device::Cpu)?;
/// let v = Tensor::new(&[[[2f32], [4.0]]], &Device::Cpu)?;
/// let y = attention(&q, &q, &v, 1, Causality::Causal, None)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[2.0], [3.0]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*, sections 3.2.1 and 3.2.2. <https://arxiv.org/abs/1706.03762>
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    n_heads: usize,
    causality: Causality,
    key_lengths: Lengths<'_>,
) -> Result<Tensor> {
    let [batch, t, width] = host::dims("attention", "q", q)?;
    let [_, s, _] = host::dims("attention", "k", k)?;
    host::check_dims("attention", "k", k, &[batch, s, width])?;
    host::check_dims("attention", "v", v, &[batch, s, width])?;
    host::check_lengths("attention", key_lengths, batch)?;
    if n_heads == 0 || width % n_heads != 0 {
        bail!("attention: expected a number of heads that divides the width {width}, found {n_heads}");
    }
    if causality == Causality::Causal && t > s {
        bail!("attention: expected at most as many causal queries as keys, found {t} queries and {s} keys");
    }
    if !host::accepts(&[q, k, v]) {
        return composition(q, k, v, n_heads, causality, key_lengths);
    }
    let op = Attention {
        shape: AttentionShape { t, s, n_heads, width },
        masks: Masks { causality, key_lengths: key_lengths.map(<[u32]>::to_vec) },
        keep_probabilities: q.track_op() || k.track_op() || v.track_op(),
        probabilities: OnceLock::new(),
    };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// [`attention`] in candle's own operations.
pub fn composition(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    n_heads: usize,
    causality: Causality,
    key_lengths: Lengths<'_>,
) -> Result<Tensor> {
    let (batch, t, width) = q.dims3()?;
    let s = k.dim(1)?;
    let d_head = width / n_heads;
    let split = |x: &Tensor| x.reshape((batch, x.dim(1)?, n_heads, d_head))?.transpose(1, 2)?.contiguous();
    let scores = (split(q)?.matmul(&split(k)?.t()?)? / (d_head as f64).sqrt())?;
    let scores = match scores.dtype() {
        DType::F16 | DType::BF16 => scores.to_dtype(DType::F32)?,
        _ => scores,
    };

    // One mask for all examples, `[1, 1, t, s]`, and one for all queries, `[batch, 1, 1, s]`, which the device combines.
    let mask = |shape: (usize, usize, usize, usize), seen: Vec<usize>| {
        let visible = seen.into_iter().flat_map(|seen| (0..s).map(move |j| if j < seen { 1f32 } else { 0.0 }));
        Tensor::from_vec(visible.collect::<Vec<_>>(), shape, q.device())?.to_dtype(scores.dtype())
    };
    let causal = (causality == Causality::Causal).then(|| Visible::new(causality, s, t, s));
    let of_queries = causal.map(|visible| mask((1, 1, t, s), (0..t).map(|i| visible.by(i)).collect())).transpose()?;
    let valid = |lengths: &[u32]| lengths.iter().map(|length| s.min(*length as usize)).collect();
    let of_examples = key_lengths.map(|lengths| mask((batch, 1, 1, s), valid(lengths))).transpose()?;
    let visible = match (of_queries, of_examples) {
        (Some(of_queries), Some(of_examples)) => Some(of_queries.broadcast_mul(&of_examples)?),
        (of_queries, of_examples) => of_queries.or(of_examples),
    };
    // Masked scores become very small, not −∞: a row of −∞ would give NaN.
    let scores = match &visible {
        Some(visible) => scores.broadcast_mul(visible)?.broadcast_add(&((visible - 1.0)? * 1e30)?)?,
        None => scores,
    };
    let weights = scores.broadcast_sub(&scores.max_keepdim(3)?.detach())?.exp()?;
    let weights = match &visible {
        Some(visible) => weights.broadcast_mul(visible)?,
        None => weights,
    };
    let total = weights.sum_keepdim(3)?;
    // A query that sees no key has total 0 and all weights 0.
    let total = (&total + total.eq(0f64)?.to_dtype(total.dtype())?)?;
    let probabilities = weights.broadcast_div(&total)?.to_dtype(v.dtype())?;
    probabilities.matmul(&split(v)?)?.transpose(1, 2)?.contiguous()?.reshape((batch, t, width))
}

/// The masks that hide keys from queries.
#[derive(Debug)]
struct Masks {
    causality: Causality,
    key_lengths: Option<Vec<u32>>,
}

impl Masks {
    /// The keys that the `t` queries of example `b` see, out of `s` keys.
    fn visible(&self, b: usize, t: usize, s: usize) -> Visible {
        let valid = self.key_lengths.as_ref().map_or(s, |lengths| s.min(lengths[b] as usize));
        Visible::new(self.causality, valid, t, s)
    }
}

/// The keys that the queries of one example see: always a prefix of the sequence.
#[derive(Clone, Copy, Debug)]
struct Visible {
    /// Number of keys before the padding.
    valid: usize,
    /// Number of keys up to and including the position of query 0.
    first: usize,
}

impl Visible {
    /// The keys that `t` queries see out of `s` keys, of which the first `valid` are not padding.
    fn new(causality: Causality, valid: usize, t: usize, s: usize) -> Self {
        let first = match causality {
            Causality::Full => valid,
            Causality::Causal => s - t + 1,
        };
        Self { valid, first }
    }

    /// Number of keys that query `i` sees.
    #[inline(always)]
    fn by(self, i: usize) -> usize {
        self.valid.min(self.first + i)
    }
}

/// The sizes of one example's attention, with its forward and backward passes over slices on the calling thread alone.
///
/// Queries, keys and values are rows of `width` entries, with the heads side by side. A causal query sees the keys up
/// to its own position, as in [`Causality::Causal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Number of queries.
    pub t: usize,
    /// Number of keys.
    pub s: usize,
    /// Number of heads; it divides the width.
    pub n_heads: usize,
    /// Width of all heads together.
    pub width: usize,
}

impl AttentionShape {
    fn d_head(&self) -> usize {
        self.width / self.n_heads
    }

    /// 1/√dₕ
    fn scale(&self) -> f32 {
        (self.d_head() as f32).sqrt().recip()
    }

    /// Distance between rows of scores: a whole number of vectors, so that loops over a row have no remainder.
    fn stride(&self) -> usize {
        self.s.next_multiple_of(LANES)
    }

    /// Number of entries in the scores of all heads.
    #[must_use]
    pub fn scores_len(&self) -> usize {
        self.n_heads * self.t * self.stride()
    }

    /// The columns of each head.
    fn columns(self) -> impl Iterator<Item = Range<usize>> {
        let d_head = self.d_head();
        (0..self.n_heads).map(move |h| h * d_head..(h + 1) * d_head)
    }

    /// Writes softmax(Q·Kᵀ/√dₕ)·V of each head to `y`, and the probabilities for [`backward`](Self::backward):
    /// [`scores_len`](Self::scores_len) entries.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or there are more causal queries than keys.
    pub fn forward<E: Operand>(
        &self,
        causality: Causality,
        y: &mut [E],
        [q, k, v]: [&[E]; 3],
        probabilities: &mut [E],
        room: &mut AttentionRoom<E>,
    ) {
        self.forward_visible(Visible::new(causality, self.s, self.t, self.s), y, [q, k, v], probabilities, room);
    }

    fn forward_visible<E: Operand>(
        &self,
        visible: Visible,
        y: &mut [E],
        [q, k, v]: [&[E]; 3],
        probabilities: &mut [E],
        room: &mut AttentionRoom<E>,
    ) {
        let Self { t, width, .. } = *self;
        if self.scores_len() == 0 {
            y[..t * width].fill(E::default());
            return;
        }
        let (stride, valid) = (self.stride(), visible.valid);
        if t == 1 {
            return self.forward_one(visible, y, [q, k, v], probabilities, room);
        }
        let rows = |x, rows| MatRef::new(x, rows, width, width);
        let (q, k, v) = (rows(q, t), rows(k, valid), rows(v, valid));
        let scores = room.scores(t * stride);
        for (h, head) in self.columns().enumerate() {
            let [q, k, v] = [q, k, v].map(|x| x.columns(head.clone()));
            let p = &mut probabilities[h * t * stride..(h + 1) * t * stride];
            multiply::<E, _, _, _>(MatMut::new(scores, t, valid, stride), q, k.t(), &Epilogue::Replace(self.scale()));
            softmax_rows(p, scores, stride, visible);
            let y = MatMut::new(&mut y[head.start..], t, head.len(), width);
            multiply::<E, _, _, _>(y, MatRef::new(p, t, valid, stride), v, &Epilogue::Replace(1.0));
        }
    }

    /// [`forward_visible`](Self::forward_visible) of one query, as in generation: to pack keys and values for a product
    /// would cost more than the product.
    fn forward_one<E: Operand>(
        &self,
        visible: Visible,
        y: &mut [E],
        [q, k, v]: [&[E]; 3],
        probabilities: &mut [E],
        room: &mut AttentionRoom<E>,
    ) {
        let (stride, seen) = (self.stride(), visible.by(0));
        let scores = room.scores(stride);
        let mut sums = vec![0.0; self.d_head()];
        let probabilities = &mut probabilities[..self.scores_len()];
        for (head, p) in self.columns().zip(probabilities.chunks_exact_mut(stride)) {
            let rows = |x| MatRef::new(x, seen, self.width, self.width).columns(head.clone());
            score_one(scores, self.scale(), &q[head.clone()], rows(k));
            softmax_rows(p, scores, stride, visible);
            combine(&mut y[head.clone()], &mut sums, p, rows(v));
        }
    }

    /// Writes the gradients of queries, keys and values, given that of the output. Gradients of keys that no query may
    /// see are left unchanged.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn backward<E: Operand>(
        &self,
        [d_q, d_k, d_v]: [&mut [E]; 3],
        [q, k, v]: [&[E]; 3],
        probabilities: &[E],
        gradient: &[E],
        room: &mut AttentionRoom<E>,
    ) {
        self.backward_valid(self.s, [d_q, d_k, d_v], [q, k, v], probabilities, gradient, room);
    }

    /// With P the probabilities and S the scaled scores of a head:
    /// dV = Pᵀ·dY, dP = dY·Vᵀ, dS = P ∘ (dP − rowsum(P ∘ dP)), dQ = dS·K/√dₕ and dK = dSᵀ·Q/√dₕ.
    fn backward_valid<E: Operand>(
        &self,
        valid: usize,
        [d_q, d_k, d_v]: [&mut [E]; 3],
        [q, k, v]: [&[E]; 3],
        probabilities: &[E],
        gradient: &[E],
        room: &mut AttentionRoom<E>,
    ) {
        let Self { t, s, width, .. } = *self;
        if self.scores_len() == 0 {
            d_q[..t * width].fill(E::default());
            [d_k, d_v].into_iter().for_each(|gradients| gradients[..s * width].fill(E::default()));
            return;
        }
        let stride = self.stride();
        let rows = |x, rows| MatRef::new(x, rows, width, width);
        let (q, k, v, gradient) = (rows(q, t), rows(k, valid), rows(v, valid), rows(gradient, t));
        let (d_scores, rounded) = room.scores_and_rounded(t * stride);
        // The products below do not write the end of each row.
        d_scores.fill(0.0);
        for (h, head) in self.columns().enumerate() {
            let p = &probabilities[h * t * stride..(h + 1) * t * stride];
            let [q, k, v, gradient] = [q, k, v, gradient].map(|x| x.columns(head.clone()));
            let slab = |x, rows| MatMut::new(x, rows, head.len(), width);

            let p_t = MatRef::new(p, t, valid, stride).t();
            multiply::<E, _, _, _>(slab(&mut d_v[head.start..], valid), p_t, gradient, &Epilogue::Replace(1.0));

            let d_p = MatMut::new(d_scores, t, valid, stride);
            multiply::<E, _, _, _>(d_p, gradient, v.t(), &Epilogue::Replace(1.0));
            softmax_rows_backward(d_scores, rounded, p, stride);
            let scores = MatRef::new(E::either(d_scores, rounded), t, valid, stride);
            let scaled = Epilogue::Replace(self.scale());
            multiply::<E, _, _, _>(slab(&mut d_q[head.start..], t), scores, k, &scaled);
            multiply::<E, _, _, _>(slab(&mut d_k[head.start..], valid), scores.t(), q, &scaled);
        }
    }
}

/// Scratch space of attention, for the scores of one head. It may be used again for other shapes.
#[derive(Clone, Debug, Default)]
pub struct AttentionRoom<E> {
    scores: Vec<f32>,
    rounded: Vec<E>,
}

impl<E: Operand> AttentionRoom<E> {
    fn scores(&mut self, len: usize) -> &mut [f32] {
        self.scores.resize(self.scores.len().max(len), 0.0);
        &mut self.scores[..len]
    }

    /// Scores, and as many operands to round them to.
    fn scores_and_rounded(&mut self, len: usize) -> (&mut [f32], &mut [E]) {
        self.rounded.resize(self.rounded.len().max(len), E::default());
        self.scores.resize(self.scores.len().max(len), 0.0);
        (&mut self.scores[..len], &mut self.rounded[..len])
    }
}

#[derive(Debug)]
struct Attention {
    shape: AttentionShape,
    masks: Masks,
    keep_probabilities: bool,
    /// For each example and head, `t` rows of whole vectors, kept from the forward pass for the backward pass.
    probabilities: OnceLock<Scratch>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(host::slice(q, q_layout)?, host::slice(k, k_layout)?, host::slice(v, v_layout)?);
        Ok(host::stored(y, q_layout.shape()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(probabilities) = self.probabilities.get() else {
            bail!("attention: backward pass without a tracked forward pass")
        };
        let gradient = gradient.contiguous()?;
        let [d_q, d_k, d_v] =
            self.backward(&host::read(q)?, &host::read(k)?, &host::read(v)?, probabilities, &host::read(&gradient)?);
        Ok((
            Some(host::tensor(d_q, q.shape())?),
            Some(host::tensor(d_k, k.shape())?),
            Some(host::tensor(d_v, v.shape())?),
        ))
    }
}

impl Attention {
    fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let shape = self.shape;
        let AttentionShape { t, s, width, .. } = shape;
        let mut y = Fresh::new(q.len());
        let examples = y
            .chunks(t * width)
            .zip(q.chunks(t * width))
            .zip(k.chunks(s * width).zip(v.chunks(s * width)))
            .enumerate()
            .map(|(b, ((y, q), (k, v)))| (b, y, q, k, v));
        let scores = shape.scores_len();
        if self.keep_probabilities {
            let mut kept = Scratch::take(q.len() / (t * width) * scores);
            parallel::for_each(examples.zip(kept.chunks_mut(scores)), |((b, y, q, k, v), probabilities)| {
                self.forward_example(b, y.clear(), q, k, v, probabilities);
            });
            // Set only once: candle runs the forward pass of an operation only when it is applied.
            let _ = self.probabilities.set(kept);
        } else {
            parallel::for_each(examples, |(b, y, q, k, v)| {
                self.forward_example(b, y.clear(), q, k, v, &mut Scratch::take(scores));
            });
        }
        y.finish()
    }

    fn forward_example(&self, b: usize, y: &mut [f32], q: &[f32], k: &[f32], v: &[f32], probabilities: &mut [f32]) {
        let visible = self.masks.visible(b, self.shape.t, self.shape.s);
        self.shape.forward_visible(visible, y, [q, k, v], probabilities, &mut AttentionRoom::default());
    }

    /// The gradients of `q`, `k` and `v`.
    fn backward(&self, q: &[f32], k: &[f32], v: &[f32], probabilities: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let AttentionShape { t, s, width, .. } = self.shape;
        let [mut d_q, mut d_k, mut d_v] = [q, k, v].map(|x| Fresh::new(x.len()));
        let examples = d_q.chunks(t * width).zip(d_k.chunks(s * width).zip(d_v.chunks(s * width))).enumerate();
        parallel::for_each(examples, |(b, (d_q, (d_k, d_v)))| {
            let example = |len: usize| b * len..(b + 1) * len;
            self.shape.backward_valid(
                self.masks.visible(b, t, s).valid,
                [d_q.clear(), d_k.clear(), d_v.clear()],
                [&q[example(t * width)], &k[example(s * width)], &v[example(s * width)]],
                &probabilities[example(self.shape.scores_len())],
                &gradient[example(t * width)],
                &mut AttentionRoom::default(),
            );
        });
        [d_q, d_k, d_v].map(Fresh::finish)
    }
}

vectorized! {
    /// Writes the softmax of each row of scores to `probabilities`; entries that are not visible become 0. The scores are
    /// overwritten.
    ///
    /// Rows are a few vectors long. Sums over whole vectors are twice as fast here as loops over entries, which
    /// compilers unroll past the end of such rows. The last loop, which rounds, goes over entries: over whole vectors,
    /// compilers take it apart by lanes.
    fn softmax_rows[E: Operand](probabilities: &mut [E], scores: &mut [f32], stride: usize, visible: Visible) {
        let rows = scores.chunks_exact_mut(stride).zip(probabilities.chunks_exact_mut(stride));
        for (i, (row, probabilities)) in rows.enumerate() {
            let seen = visible.by(i);
            let (probabilities, hidden) = probabilities.split_at_mut(seen.next_multiple_of(LANES));
            hidden.fill(E::default());
            let (row, _) = row[..probabilities.len()].as_chunks_mut::<LANES>();
            let (probabilities, _) = probabilities.as_chunks_mut::<LANES>();
            // The last vector may be only partly visible.
            hide_lanes(row, seen, f32::NEG_INFINITY);

            let mut highest = [f32::NEG_INFINITY; LANES];
            for scores in &*row {
                for (highest, score) in highest.iter_mut().zip(scores) {
                    *highest = larger(*highest, *score);
                }
            }
            let highest = join_lanes(highest, larger);

            let mut totals = [0.0; LANES];
            for scores in &mut *row {
                for (total, score) in totals.iter_mut().zip(scores) {
                    *score = exp(*score - highest);
                    *total += *score;
                }
            }
            hide_lanes(row, seen, 0.0);

            let scale = join_lanes(totals, |a, b| a + b).recip();
            let probabilities = probabilities.as_flattened_mut();
            for (weight, probability) in row.as_flattened().iter().zip(probabilities) {
                *probability = E::round(weight * scale);
            }
        }
    }
}

/// The maximum by one comparison, where `f32::max` would take several instructions. A NaN in `b` is ignored.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Bits of lanes to keep, and of as many to hide.
const KEPT: [[u32; LANES]; 2] = [[u32::MAX; LANES], [0; LANES]];

/// Sets to `value` the lanes of the last vector at and beyond entry `seen`. It masks bits, because compilers turn
/// conditions on lanes into branches.
#[inline(always)]
fn hide_lanes(vectors: &mut [[f32; LANES]], seen: usize, value: f32) {
    let hidden = seen.next_multiple_of(LANES) - seen;
    if let (Some(last), Some(kept)) = (vectors.last_mut(), KEPT.as_flattened()[hidden..].first_chunk::<LANES>()) {
        for (entry, kept) in last.iter_mut().zip(kept) {
            *entry = f32::from_bits(entry.to_bits() & kept | value.to_bits() & !kept);
        }
    }
}

vectorized! {
    /// The products of a query with the rows of `keys`.
    fn score_one[E: Operand](scores: &mut [f32], scale: f32, query: &[E], keys: MatRef<'_, E>) {
        for (score, key) in scores.iter_mut().zip(keys.rows()) {
            let mut lanes = [0.0; LANES];
            let (query, query_rest) = query.as_chunks::<LANES>();
            let (key, key_rest) = key.as_chunks::<LANES>();
            for (query, key) in query.iter().zip(key) {
                for ((lane, query), key) in lanes.iter_mut().zip(query).zip(key) {
                    *lane = query.widen().mul_add(key.widen(), *lane);
                }
            }
            for ((lane, query), key) in lanes.iter_mut().zip(query_rest).zip(key_rest) {
                *lane = query.widen().mul_add(key.widen(), *lane);
            }
            *score = scale * join_lanes(lanes, |a, b| a + b);
        }
    }
}

vectorized! {
    /// The sum of the rows of `values` by their weights.
    fn combine[E: Operand](y: &mut [E], sums: &mut [f32], weights: &[E], values: MatRef<'_, E>) {
        sums.fill(0.0);
        for (weight, value) in weights.iter().zip(values.rows()) {
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum = weight.widen().mul_add(value.widen(), *sum);
            }
        }
        for (y, sum) in y.iter_mut().zip(sums) {
            *y = E::round(*sum);
        }
    }
}

vectorized! {
    /// Turns gradients of the probabilities, which are zero beyond the valid keys, into gradients of the scores.
    /// `rounded` gets them as operands, if these are not `f32`.
    fn softmax_rows_backward[E: Operand](
        gradients: &mut [f32],
        rounded: &mut [E],
        probabilities: &[E],
        stride: usize,
    ) {
        let rows = gradients.chunks_exact_mut(stride).zip(rounded.chunks_exact_mut(stride));
        for ((gradient, rounded), p) in rows.zip(probabilities.chunks_exact(stride)) {
            let mut lanes = [0.0; LANES];
            let (gradient, _) = gradient.as_chunks_mut::<LANES>();
            let (p, _) = p.as_chunks::<LANES>();
            for (gradient, p) in gradient.iter().zip(p) {
                for ((lane, gradient), p) in lanes.iter_mut().zip(gradient).zip(p) {
                    *lane = gradient.mul_add(p.widen(), *lane);
                }
            }
            let mean = join_lanes(lanes, |a, b| a + b);
            let gradient = gradient.as_flattened_mut();
            for (gradient, p) in gradient.iter_mut().zip(p.as_flattened()) {
                // Beyond the valid keys, there is nothing to pass on, not even what is not a number.
                *gradient = if p.widen() == 0.0 { 0.0 } else { p.widen() * (*gradient - mean) };
            }
            E::round_all(rounded, gradient);
        }
    }
}

#[cfg(test)]
mod tests;
