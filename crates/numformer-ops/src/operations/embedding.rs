//! Token and position embeddings, summed.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use crate::cpu::fresh::Fresh;
use crate::cpu::simd::{accumulate, add, vectorized};
use crate::cpu::{host, parallel};

/// Number of token table rows whose gradients one task computes.
const ROWS: usize = 128;

/// Embeds ids at consecutive positions: `tokens[ids[b, i]] + positions[start + i]`.
///
/// Differentiable in `tokens` and `positions`.
///
/// # Shapes
/// `ids` is `[b, t]` of `u32`, `tokens` `[v, d]`, `positions` `[p, d]` with `start + t ≤ p`; returns `[b, t, d]`.
///
/// # Errors
/// When the shapes disagree, an id or a position is beyond its table, or candle refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_ops::embedding;
///
/// let ids = Tensor::new(&[[1u32, 0]], &Device::Cpu)?;
/// let tokens = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
/// let positions = Tensor::new(&[[10f32], [20.0], [30.0]], &Device::Cpu)?;
/// assert_eq!(embedding(&ids, &tokens, &positions, 1)?.to_vec3::<f32>()?, [[[22.0], [31.0]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn embedding(ids: &Tensor, tokens: &Tensor, positions: &Tensor, start: usize) -> Result<Tensor> {
    let [_, t] = host::dims("embedding", "ids", ids)?;
    let [v, d] = host::dims("embedding", "tokens", tokens)?;
    let [p, _] = host::dims("embedding", "positions", positions)?;
    host::check_dims("embedding", "positions", positions, &[p, d])?;
    if ids.dtype() != DType::U32 {
        bail!("embedding: expected ids of dtype U32, found {:?}", ids.dtype());
    }
    if p.saturating_sub(start) < t {
        bail!("embedding: expected positions within the table's {p} rows, found {t} from row {start} on");
    }
    if !host::accepts(&[tokens, positions]) || !ids.device().is_cpu() || ids.elem_count() == 0 {
        return composition(ids, tokens, positions, start);
    }
    let ids = ids.flatten_all()?.to_vec1::<u32>()?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= v) {
        bail!("embedding: expected ids below the table's {v} rows, found {id}");
    }
    tokens.contiguous()?.apply_op2(&positions.contiguous()?, Embedding { ids, t, d, start })
}

/// [`embedding`] in candle's own operations.
pub fn composition(ids: &Tensor, tokens: &Tensor, positions: &Tensor, start: usize) -> Result<Tensor> {
    let (batch, t) = ids.dims2()?;
    let d = tokens.dim(1)?;
    let rows = tokens.contiguous()?.index_select(&ids.flatten_all()?, 0)?.reshape((batch, t, d))?;
    rows.broadcast_add(&positions.narrow(0, start, t)?)
}

/// Writes `tokens[ids[i]] + positions[i]` to row `i` of `y` `[t, d]`, on the calling thread alone.
///
/// # Panics
/// When an id or a position is beyond its table.
pub fn embed_rows(y: &mut [f32], ids: &[u32], tokens: &[f32], positions: &[f32], d: usize) {
    for ((y, id), position) in y.chunks_exact_mut(d).zip(ids).zip(positions.chunks_exact(d)) {
        let token = &tokens[*id as usize * d..][..d];
        for ((y, token), position) in y.iter_mut().zip(token).zip(position) {
            *y = token + position;
        }
    }
}

/// Adds row `i` of `rows` to row `ids[i]` of `table`, both of width `d`, on all threads.
///
/// Each task owns a few rows of the table and scans the ids in order, so the order of additions is fixed.
///
/// # Panics
/// When the number of rows is not the number of ids.
pub fn scatter_rows(table: &mut [f32], rows: &[f32], ids: &[u32], d: usize) {
    assert_eq!(rows.len(), ids.len() * d, "expected one id for each row of {d} entries");
    parallel::for_each(table.chunks_mut(ROWS * d).enumerate(), |(block, table)| {
        scatter_from(table, block * ROWS, rows, ids, d);
    });
}

vectorized! {
    /// Adds row `i` of `rows` to row `ids[i] - first` of `table`, if the table has that row.
    fn scatter_from(table: &mut [f32], first: usize, rows: &[f32], ids: &[u32], d: usize) {
        for (id, row) in ids.iter().zip(rows.chunks_exact(d)) {
            let at = (*id as usize).checked_sub(first);
            if let Some(entries) = at.and_then(|at| table.chunks_exact_mut(d).nth(at)) {
                accumulate(entries, row);
            }
        }
    }
}

#[derive(Debug)]
struct Embedding {
    ids: Vec<u32>,
    t: usize,
    d: usize,
    start: usize,
}

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(
        &self,
        tokens: &CpuStorage,
        tokens_layout: &Layout,
        positions: &CpuStorage,
        positions_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let tokens = host::slice(tokens, tokens_layout)?;
        let positions = host::slice(positions, positions_layout)?;
        Ok(host::stored(self.forward(tokens, positions), (self.ids.len() / self.t, self.t, self.d)))
    }

    fn bwd(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradient = host::read(&gradient)?;
        let [d_tokens, d_positions] = self.backward(&gradient, tokens.elem_count(), positions.elem_count());
        Ok((Some(host::tensor(d_tokens, tokens.shape())?), Some(host::tensor(d_positions, positions.shape())?)))
    }
}

impl Embedding {
    fn forward(&self, tokens: &[f32], positions: &[f32]) -> Vec<f32> {
        let Self { ids, t, d, start } = self;
        let positions = &positions[start * d..(start + t) * d];
        let mut y = Fresh::new(ids.len() * d);
        parallel::for_each(y.chunks(t * d).zip(ids.chunks(*t)), |(y, ids)| {
            embed_rows(y.clear(), ids, tokens, positions, *d);
        });
        y.finish()
    }

    /// The gradients of tables with the given numbers of entries, by [`scatter_rows`] into tables that each task clears
    /// itself.
    fn backward(&self, gradient: &[f32], tokens: usize, positions: usize) -> [Vec<f32>; 2] {
        let Self { ids, t, d, start } = self;
        let mut d_tokens = Fresh::new(tokens);
        parallel::for_each(d_tokens.chunks(ROWS * d).enumerate(), |(block, rows)| {
            scatter_from(rows.clear(), block * ROWS, gradient, ids, *d);
        });
        let mut d_positions = vec![0.0; positions];
        for example in gradient.chunks_exact(t * d) {
            add(&mut d_positions[start * d..(start + t) * d], example);
        }
        [d_tokens.finish(), d_positions]
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small integers are exact")]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{
        assert_close, assert_same_on_any_threads, check_gradients, check_other_dtypes, check_views, random,
    };

    fn ids(batch: usize, t: usize, v: u32) -> Result<Tensor> {
        let ids: Vec<u32> = (0..(batch * t) as u32).map(|i| i * i % v).collect();
        Tensor::from_vec(ids, (batch, t), &Device::Cpu)
    }

    #[test]
    fn value_and_gradients_match_the_composition() -> Result<()> {
        for (batch, t, v, d, start) in [(1, 1, 1, 1, 0), (3, 7, 5, 33, 2), (2, 33, 300, 16, 0), (5, 4, 129, 7, 9)] {
            let ids = ids(batch, t, v as u32)?;
            let inputs = [random((v, d), 1)?, random((start + t + 3, d), 2)?];
            check_gradients(
                &inputs,
                |x| embedding(&ids, &x[0], &x[1], start),
                |x| composition(&ids, &x[0], &x[1], start),
            )?;
        }
        Ok(())
    }

    #[test]
    fn strides_change_nothing() -> Result<()> {
        for (batch, t, v, d) in [(1, 1, 1, 1), (7, 33, 7, 33), (33, 1, 33, 7)] {
            let inputs = [random((v, d), 1)?, random((t + 2, d), 2)?];
            let turned = ids(t, batch, v as u32)?.t()?;
            let every_other = Tensor::stack(&[&turned, &turned], 2)?.narrow(2, 1, 1)?.squeeze(2)?;
            let same = ids(batch, 1, v as u32)?.broadcast_as((batch, t))?;
            for ids in [turned, every_other, same] {
                check_views(&inputs, |x| embedding(&ids, &x[0], &x[1], 1))?;
                let found = embedding(&ids, &inputs[0], &inputs[1], 1)?;
                assert_close(&found, &embedding(&ids.force_contiguous()?, &inputs[0], &inputs[1], 1)?, 0.0);
            }
        }
        Ok(())
    }

    #[test]
    fn other_dtypes_agree() -> Result<()> {
        let ids = ids(2, 3, 5)?;
        check_other_dtypes(&[random((5, 4), 1)?, random((6, 4), 2)?], |x| embedding(&ids, &x[0], &x[1], 1))
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let ids = ids(9, 31, 150).unwrap();
        assert_same_on_any_threads(&[random((400, 8), 1).unwrap(), random((31, 8), 2).unwrap()], |x| {
            embedding(&ids, &x[0], &x[1], 0)
        });
    }

    #[test]
    fn what_is_beyond_a_table_is_named() -> Result<()> {
        let (tokens, positions) = (random((5, 2), 1)?, random((4, 2), 2)?);
        let message = |ids: &Tensor, start| embedding(ids, &tokens, &positions, start).unwrap_err().to_string();
        let wrong_id = Tensor::new(&[[0u32, 5]], &Device::Cpu)?;
        assert!(message(&wrong_id, 0).contains("below the table's 5 rows, found 5"));
        assert!(message(&ids(1, 3, 5)?, 2).contains("within the table's 4 rows, found 3 from row 2 on"));
        assert!(message(&Tensor::new(&[[0i64]], &Device::Cpu)?, 0).contains("dtype U32, found I64"));
        Ok(())
    }

    #[test]
    fn rows_are_added_to_their_places_in_order() {
        let mut table = vec![0.0; 300 * 2];
        let rows: Vec<f32> = (0..8).map(|i| i as f32).collect();
        scatter_rows(&mut table, &rows, &[299, 0, 299, 130], 2);
        assert_eq!([table[0], table[1], table[260], table[261]], [2.0, 3.0, 6.0, 7.0]);
        assert_eq!(table[598..], [4.0, 6.0]);
        assert_eq!(table.iter().sum::<f32>(), 28.0);
    }
}
