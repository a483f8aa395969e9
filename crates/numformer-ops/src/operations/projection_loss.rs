//! Output projection and cross-entropy in one operation.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use super::linear::add_parts;
use crate::Threads;
use crate::cpu::exp::exp;
use crate::cpu::matrix::{MatMut, MatRef};
use crate::cpu::product::{Epilogue, Operand, Panels, multiply, multiply_packed};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::vectorized;
use crate::cpu::{host, parallel};

/// The maximum number of tasks in a pass. It is fixed, so that results do not depend on the number of threads.
const TASKS: usize = 8;

/// The maximum number of classes in a task, so that its logits stay in the cache.
const CLASSES: usize = 1024;

/// Number of logits held at once, by all threads together and by one thread alone. They are then still in the cache
/// when they are needed again.
const LOGITS: usize = 1 << 20;
const LOGITS_OF_ONE: usize = 1 << 18;

/// Minimum number of rows held at once, even if their logits exceed [`LOGITS`]: each block of rows reads all weights
/// and writes all their gradients.
const ROWS: usize = 256;

/// Mean cross-entropy of softmax(x·Wᵀ + b) against `targets`, over the rows whose target is not `ignore`.
///
/// Logits and their gradients are computed for a few rows at a time and never held for all rows. If candle tracks an
/// input, its gradients are computed in the same pass; call this on detached tensors when only the value is needed. The
/// mean over no rows is 0. Differentiable in `x`, `weight` and `bias`.
///
/// # Shapes
/// `x` is `[n, d]`, `weight` `[v, d]`, `bias` `[v]`, `targets` `[n]` of `u32`; returns a scalar.
///
/// # Errors
/// When the shapes disagree, a target is not below `v` and not `ignore`, or candle refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::projection_cross_entropy;
///
/// // All logits are equal: each of the four classes has probability 1/4.
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let (weight, bias) = (Tensor::ones((4, 3), DType::F32, x.device())?, Tensor::zeros(4, DType::F32, x.device())?);
/// let targets = Tensor::new(&[0u32, 3], x.device())?;
/// let loss = projection_cross_entropy(&x, &weight, &bias, &targets, None)?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn projection_cross_entropy(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    targets: &Tensor,
    ignore: Option<u32>,
) -> Result<Tensor> {
    const NAME: &str = "projection_cross_entropy";
    let [n, d] = host::dims(NAME, "x", x)?;
    let [v, _] = host::dims(NAME, "weight", weight)?;
    host::check_dims(NAME, "weight", weight, &[v, d])?;
    host::check_dims(NAME, "bias", bias, &[v])?;
    host::check_dims(NAME, "targets", targets, &[n])?;
    if targets.dtype() != DType::U32 {
        bail!("{NAME}: expected targets of dtype U32, found {:?}", targets.dtype());
    }
    if !host::accepts(&[x, weight, bias]) {
        return composition(x, weight, bias, targets, ignore);
    }
    let targets = targets.to_vec1::<u32>()?;
    let targets = targets
        .into_iter()
        .map(|target| match target {
            target if Some(target) == ignore => Ok(None),
            target if (target as usize) < v => Ok(Some(target as usize)),
            target => bail!("{NAME}: expected targets below the {v} classes, found {target}"),
        })
        .collect::<Result<Vec<_>>>()?;
    let op = ProjectionCrossEntropy {
        counted: targets.iter().flatten().count(),
        targets,
        wants_gradients: x.track_op() || weight.track_op() || bias.track_op(),
        gradients: OnceLock::new(),
    };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// [`projection_cross_entropy`] in candle's own operations.
pub fn composition(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    targets: &Tensor,
    ignore: Option<u32>,
) -> Result<Tensor> {
    let logits = x.matmul(&weight.t()?)?.broadcast_add(bias)?;
    let logits = match logits.dtype() {
        DType::F16 | DType::BF16 => logits.to_dtype(DType::F32)?,
        _ => logits,
    };
    let highest = logits.max_keepdim(1)?.detach();
    let total = logits.broadcast_sub(&highest)?.exp()?.sum_keepdim(1)?;
    let log_total = (total.log()? + highest)?;
    let counts = match ignore {
        Some(ignore) => targets.ne(ignore)?,
        None => targets.ones_like()?.to_dtype(DType::U8)?,
    };
    // An ignored target need not be a class, so class 0 stands in for it.
    let classes = counts.where_cond(targets, &targets.zeros_like()?)?;
    let losses = (log_total - logits.gather(&classes.unsqueeze(1)?, 1)?)?.squeeze(1)?;
    let counts = counts.to_dtype(losses.dtype())?;
    // The count stays on the device, which the host does not wait for.
    let counted = counts.sum_all()?.maximum(1f64)?;
    (losses * counts)?.sum_all()? / counted
}

#[derive(Debug)]
struct ProjectionCrossEntropy {
    /// The class of each row, or `None` if the row does not count.
    targets: Vec<Option<usize>>,
    counted: usize,
    wants_gradients: bool,
    gradients: OnceLock<LossGradients>,
}

/// Gradients of the loss.
#[derive(Debug)]
struct LossGradients {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl CustomOp3 for ProjectionCrossEntropy {
    fn name(&self) -> &'static str {
        "projection_cross_entropy"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(x, x_layout)?;
        let weight = host::slice(weight, weight_layout)?;
        let bias = host::slice(bias, bias_layout)?;
        let counted = self.counted.max(1);
        let pass = ProjectionLoss { weight, bias, share: 1.0 / counted as f32, threads: Threads::All };
        let total = if self.wants_gradients {
            let [mut d_x, mut d_weight, mut d_bias] = [x, weight, bias].map(|t| vec![0.0; t.len()]);
            let total = pass.run(x, &self.targets, Some([&mut d_x, &mut d_weight, &mut d_bias]));
            // Set only once: candle runs the forward pass of an operation only when it is applied.
            let _ = self.gradients.set(LossGradients {
                x: host::tensor(d_x, x_layout.shape())?,
                weight: host::tensor(d_weight, weight_layout.shape())?,
                bias: host::tensor(d_bias, bias_layout.shape())?,
            });
            total
        } else {
            pass.run(x, &self.targets, None)
        };
        Ok(host::stored(vec![(total / counted as f64) as f32], ()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _weight: &Tensor,
        _bias: &Tensor,
        _loss: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(LossGradients { x, weight, bias }) = self.gradients.get() else {
            bail!("projection_cross_entropy: backward pass without a tracked forward pass")
        };
        let scale = f64::from(gradient.to_scalar::<f32>()?);
        #[expect(clippy::float_cmp, reason = "only exactly 1 needs no multiplication")]
        let scaled = |t: &Tensor| if scale == 1.0 { Ok(t.clone()) } else { t * scale };
        Ok((Some(scaled(x)?), Some(scaled(weight)?), Some(scaled(bias)?)))
    }
}

/// The pass of [`projection_cross_entropy`] over slices.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionLoss<'a> {
    /// `[v, d]`
    pub weight: &'a [f32],
    /// `[v]`
    pub bias: &'a [f32],
    /// The weight of one row's loss in the gradients: 1 over the number of rows in the mean.
    pub share: f32,
    /// The threads that do the work.
    pub threads: Threads,
}

impl ProjectionLoss<'_> {
    /// Returns the summed loss of the rows of `x` `[n, d]` that have a target. If `gradients` is given, writes the
    /// gradient of `x` and adds the gradients of weight and bias to the values already there. Products have operands of
    /// the type of `x`.
    ///
    /// # Panics
    /// When the lengths of the slices disagree, or a target is not below `v`.
    pub fn run<E: Operand>(&self, x: &[E], targets: &[Option<usize>], mut gradients: Option<[&mut [f32]; 3]>) -> f64 {
        let d = self.weight.len() / self.bias.len();
        assert_eq!(x.len(), targets.len() * d, "expected one target for each row of {d} entries");
        let rows = match self.threads {
            Threads::All => (LOGITS / self.bias.len()).next_multiple_of(64).max(ROWS),
            Threads::One => (LOGITS_OF_ONE / self.bias.len()).next_multiple_of(64).max(64),
        };
        let mut total = 0.0;
        for (at, (x, targets)) in x.chunks(rows * d).zip(targets.chunks(rows)).enumerate() {
            let gradients = gradients.as_mut().map(|[d_x, d_weight, d_bias]| {
                let first = at * rows * d;
                [&mut d_x[first..first + x.len()], &mut d_weight[..], &mut d_bias[..]]
            });
            total += self.run_rows(x, targets, gradients);
        }
        total
    }

    /// The summed loss of a few rows.
    ///
    /// All values are stored with the class as the first axis, in blocks of classes: the logits, weights and weight
    /// gradients of a block are contiguous, and the loops run along the rows without a reduction inside a vector.
    fn run_rows<E: Operand>(&self, x: &[E], targets: &[Option<usize>], gradients: Option<[&mut [f32]; 3]>) -> f64 {
        let Self { weight, bias, share, threads } = *self;
        let (d, n) = (x.len() / targets.len(), targets.len());
        // The classes of a task, and of a block in a task.
        let of_task = match threads {
            Threads::All => parallel::share(bias.len(), TASKS),
            Threads::One => bias.len(),
        };
        let classes = match threads {
            Threads::All => of_task.min(CLASSES),
            Threads::One => of_task,
        };
        let rows = MatRef::filling(x, d);
        let mut logits = Scratch::take(bias.len() * n);
        let blocks_of = |of_task: usize| of_task.div_ceil(classes);
        let of_statistics = blocks_of(of_task) * 3 * n;
        let last = blocks_of(bias.len() % of_task) * 3 * n;
        let mut statistics = Scratch::take(bias.len() / of_task * of_statistics + last);
        let mut rows_t = Panels::<E>::default();
        rows_t.pack(rows.t());

        let tasks = logits
            .chunks_mut(of_task * n)
            .zip(weight.chunks(of_task * d))
            .zip(bias.chunks(of_task))
            .zip(statistics.chunks_mut(of_statistics))
            .enumerate();
        threads.for_each(tasks, |(task, (((logits, weight), bias), statistics))| {
            let blocks = logits
                .chunks_mut(classes * n)
                .zip(weight.chunks(classes * d))
                .zip(bias.chunks(classes))
                .zip(statistics.chunks_mut(3 * n))
                .enumerate();
            for (block, (((logits, weight), bias), statistics)) in blocks {
                let [highest, totals, at_targets] = thirds(statistics);
                let epilogue: Epilogue<'_> = Epilogue::Replace(1.0);
                multiply_packed(MatMut::filling(logits, n), MatRef::filling(weight, d), &rows_t, &epilogue);
                add_bias(logits, bias, highest);
                at_targets.fill(0.0);
                for (row, class) in targets_within(targets, task * of_task + block * classes, bias.len()) {
                    at_targets[row] = logits[class * n + row];
                }
                exponentials(logits, highest, totals);
            }
        });

        let shares: Vec<f32> = targets.iter().map(|target| target.map_or(0.0, |_| share)).collect();
        let mut losses = Scratch::take(n);
        combine(&mut statistics, &mut losses, &shares);
        let counted = targets.iter().zip(&*losses).filter(|(target, _)| target.is_some());
        let loss = counted.map(|(_, loss)| f64::from(*loss)).sum();

        let Some([d_x, d_weight, d_bias]) = gradients else { return loss };
        let mut panels = Panels::<E>::default();
        panels.pack(rows);
        // Each task but the first has a gradient of `x` of its own.
        let mut private = Scratch::take((bias.len().div_ceil(of_task) - 1) * d_x.len());
        let of_x = d_x.len();
        let own = [&mut *d_x].into_iter().chain(private.chunks_mut(of_x));
        let tasks: Vec<_> = logits
            .chunks_mut(of_task * n)
            .zip(weight.chunks(of_task * d))
            .zip(statistics.chunks_mut(of_statistics))
            .zip(d_weight.chunks_mut(of_task * d))
            .zip(d_bias.chunks_mut(of_task))
            .zip(own)
            .enumerate()
            .collect();
        threads.for_each(tasks.into_iter(), |(task, (((((logits, weight), statistics), d_weight), d_bias), d_x))| {
            let blocks = logits
                .chunks_mut(classes * n)
                .zip(weight.chunks(classes * d))
                .zip(statistics.chunks_mut(3 * n))
                .zip(d_weight.chunks_mut(classes * d))
                .zip(d_bias.chunks_mut(classes))
                .enumerate();
            for (block, ((((logits, weight), statistics), d_weight), d_bias)) in blocks {
                let [_, scales, _] = thirds(statistics);
                scale_columns(logits, scales, d_bias);
                for (row, class) in targets_within(targets, task * of_task + block * classes, d_bias.len()) {
                    logits[class * n + row] -= share;
                    d_bias[class] -= share;
                }
                let d_logits = MatRef::filling(&*logits, n);
                let add: Epilogue<'_> = Epilogue::Add;
                multiply_packed(MatMut::filling(d_weight, d), d_logits, &panels, &add);
                let epilogue = if block == 0 { Epilogue::Replace(1.0) } else { add };
                multiply::<E, _, _, _>(MatMut::filling(d_x, d), d_logits.t(), MatRef::filling(weight, d), &epilogue);
            }
        });
        if !private.is_empty() {
            add_parts(d_x, private.chunks_exact(of_x));
        }
        loss
    }
}

/// The statistics of each row within one block of classes: its highest logit, the sum of its exponentials relative to
/// that logit, and the logit of the target, or 0 if the target lies in another block.
fn thirds(statistics: &mut [f32]) -> [&mut [f32]; 3] {
    let n = statistics.len() / 3;
    let (highest, rest) = statistics.split_at_mut(n);
    let (totals, at_targets) = rest.split_at_mut(n);
    [highest, totals, at_targets]
}

/// The rows whose target is among the `classes` from `first` on, each with the position of its target there.
fn targets_within(
    targets: &[Option<usize>],
    first: usize,
    classes: usize,
) -> impl Iterator<Item = (usize, usize)> + '_ {
    targets.iter().enumerate().filter_map(move |(row, target)| {
        let class = (*target)?.checked_sub(first)?;
        (class < classes).then_some((row, class))
    })
}

vectorized! {
    /// Joins the statistics of all blocks into the loss of each row. Each total is replaced by the factor that turns
    /// the exponentials of its block into probabilities, times the share of the row in the mean.
    fn combine(statistics: &mut [f32], losses: &mut [f32], shares: &[f32]) {
        let n = shares.len();
        let mut tops = vec![f32::NEG_INFINITY; n];
        for block in statistics.chunks_exact(3 * n) {
            for (top, highest) in tops.iter_mut().zip(&block[..n]) {
                *top = if *highest > *top { *highest } else { *top };
            }
        }
        let mut sums = vec![0.0f32; n];
        losses.fill(0.0);
        for block in statistics.chunks_exact_mut(3 * n) {
            let [highest, totals, at_targets] = thirds(block);
            for ((((highest, total), at_target), top), (sum, loss)) in
                highest.iter_mut().zip(totals).zip(at_targets).zip(&tops).zip(sums.iter_mut().zip(losses.iter_mut()))
            {
                let factor = exp(*highest - top);
                *sum += *total * factor;
                *total = factor;
                *loss -= *at_target;
            }
        }
        for ((loss, sum), top) in losses.iter_mut().zip(&sums).zip(&tops) {
            *loss += sum.ln() + top;
        }
        for block in statistics.chunks_exact_mut(3 * n) {
            for ((factor, sum), share) in block[n..2 * n].iter_mut().zip(&sums).zip(shares) {
                *factor *= share / sum;
            }
        }
    }
}

vectorized! {
    /// Adds its bias to each row, and records the highest entry of each column.
    fn add_bias(rows: &mut [f32], bias: &[f32], highest: &mut [f32]) {
        highest.fill(f32::NEG_INFINITY);
        for (row, bias) in rows.chunks_exact_mut(highest.len()).zip(bias) {
            for (x, highest) in row.iter_mut().zip(&mut *highest) {
                *x += bias;
                *highest = if *x > *highest { *x } else { *highest };
            }
        }
    }
}

vectorized! {
    /// Replaces each entry by its exponential relative to the highest of its column, and records the sum of each
    /// column.
    fn exponentials(rows: &mut [f32], highest: &[f32], totals: &mut [f32]) {
        totals.fill(0.0);
        for row in rows.chunks_exact_mut(highest.len()) {
            for ((x, highest), total) in row.iter_mut().zip(highest).zip(&mut *totals) {
                *x = exp(*x - highest);
                *total += *x;
            }
        }
    }
}

vectorized! {
    /// Multiplies each column by its scale, and adds the sum of each row to `sums`.
    fn scale_columns(rows: &mut [f32], scales: &[f32], sums: &mut [f32]) {
        for (row, sum) in rows.chunks_exact_mut(scales.len()).zip(sums) {
            for (x, scale) in row.iter_mut().zip(scales) {
                *x *= scale;
            }
            *sum += crate::cpu::simd::sum(row);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a mean over nothing is exactly 0")]
mod tests;
