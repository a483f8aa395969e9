//! Attention over several heads.

use candle_core::{Result, bail};

use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};
use crate::operations::attention::Causality;

use super::arguments::{named, size};

/// Head widths for which there are kernels, each with the number of rows that a block handles.
const HEAD_WIDTHS: [(usize, usize); 3] = [(32, 16), (64, 16), (128, 8)];

/// The columns of a matrix that hold the heads of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The matrix.
    pub region: Region,
    /// Width of the matrix.
    pub stride: usize,
    /// First column of the first head.
    pub column: usize,
}

/// The sizes of an attention: `batch` examples of `t` queries and `s` keys.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCall {
    /// Number of examples.
    pub batch: usize,
    /// Number of queries per example.
    pub t: usize,
    /// Number of keys per example.
    pub s: usize,
    /// Number of heads.
    pub n_heads: usize,
    /// Number of entries in a head.
    pub d_head: usize,
    /// The keys that a query may see.
    pub causality: Causality,
    /// Number of valid keys of each example, `[batch]`.
    pub lengths: Region,
}

impl Accelerator {
    /// Computes the attention of every head of every example. `normalisers` `[batch, heads, t]`, of `F32`, receives the
    /// values that the gradients need.
    ///
    /// # Errors
    /// When the sizes disagree, heads are wider than 128 entries, or the device fails.
    pub fn attention(
        &mut self,
        call: &AttentionCall,
        y: Heads,
        [q, k, v]: [Heads; 3],
        normalisers: Option<Region>,
    ) -> Result<()> {
        const OP: &str = "attention";
        let checked = self.check_attention(OP, call, y, [q, k, v])?;
        if let Some(normalisers) = normalisers {
            self.check(OP, "normalisers", normalisers, Element::F32, call.batch * call.n_heads * call.t)?;
        }
        let mut arguments =
            vec![checked.y.into(), normalisers.map_or(Argument::NULL, |normalisers| normalisers.address().into())];
        arguments.extend(checked.q_k_v.map(Argument::from));
        arguments.extend_from_slice(&checked.sizes);
        let launch = Launch {
            kernel: named(&format!("{OP}_{}", checked.width), y.region.element())?,
            grid: checked.grid(call.t)?,
            block: [128, 1],
            arguments,
        };
        // SAFETY: the arguments fit the kernel; `check_attention` has checked that all heads lie in their regions.
        unsafe { self.launch(&launch) }
    }

    /// Writes the gradients of [`attention`](Self::attention) to `d_q`, `d_k` and `d_v`. `products`, which is as long
    /// as `normalisers`, is scratch space.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn attention_gradients(
        &mut self,
        call: &AttentionCall,
        [d_q, d_k, d_v]: [Heads; 3],
        [d_y, y]: [Heads; 2],
        [q, k, v]: [Heads; 3],
        [normalisers, products]: [Region; 2],
    ) -> Result<()> {
        const OP: &str = "attention_gradients";
        let checked = self.check_attention(OP, call, y, [q, k, v])?;
        let gradients = self.check_attention(OP, call, d_y, [d_q, d_k, d_v])?;
        let strides = |heads: [Heads; 4]| heads.map(|heads| heads.stride);
        if strides([y, q, k, v]) != strides([d_y, d_q, d_k, d_v]) {
            bail!("{OP}: expected each gradient to have rows as wide as its value");
        }
        let [of_y, of_d_y] = [y, d_y].map(|heads| heads.region.element());
        if of_y != of_d_y {
            bail!("{OP}: expected gradients of {of_y:?}, found {of_d_y:?}");
        }
        for region in [normalisers, products] {
            self.check(OP, "normalisers", region, Element::F32, call.batch * call.n_heads * call.t)?;
        }
        let [d_q, d_k, d_v] = gradients.q_k_v;
        let own = |kernel: &str, rows: usize, own: Vec<Argument>| -> Result<Launch> {
            let mut arguments = own;
            arguments.extend(checked.q_k_v.map(Argument::from));
            arguments.extend_from_slice(&checked.sizes);
            let kernel = named(&format!("{kernel}_{}", checked.width), y.region.element())?;
            Ok(Launch { kernel, grid: checked.grid(rows)?, block: [128, 1], arguments })
        };
        let [normalisers, products] = [normalisers, products].map(|region| Argument::from(region.address()));
        let of_queries = [d_q.into(), products, gradients.y.into(), checked.y.into(), normalisers];
        let of_queries = own("attention_query_gradient", call.t, of_queries.into())?;
        let of_keys = [d_k.into(), d_v.into(), products, gradients.y.into(), normalisers];
        let of_keys = own("attention_key_gradients", call.s, of_keys.into())?;
        // SAFETY: the arguments fit the kernels; `check_attention` has checked that all heads lie in their regions.
        unsafe {
            self.launch(&of_queries)?;
            self.launch(&of_keys)
        }
    }

    fn check_attention(&self, op: &str, call: &AttentionCall, y: Heads, q_k_v: [Heads; 3]) -> Result<CheckedAttention> {
        let AttentionCall { batch, t, s, n_heads, d_head, causality, lengths } = *call;
        self.check(op, "lengths", lengths, Element::U32, batch)?;
        if causality == Causality::Causal && t > s {
            bail!("{op}: expected at most as many causal queries as keys, found {t} queries and {s} keys");
        }
        let Some((width, rows)) = HEAD_WIDTHS.into_iter().find(|(width, _)| d_head <= *width) else {
            bail!("{op}: expected heads of at most 128 entries, found {d_head}");
        };
        let element = y.region.element();
        let [q, k, v] = q_k_v;
        for (name, heads, rows) in [("y", y, t), ("q", q, t), ("k", k, s), ("v", v, s)] {
            let Heads { stride, column, .. } = heads;
            let len = batch.checked_mul(rows).and_then(|rows| rows.checked_mul(stride));
            let Some(len) = len else { bail!("{op}: {name} is larger than any memory") };
            self.check(op, name, heads.region, element, len)?;
            let end = n_heads.checked_mul(d_head).and_then(|width| width.checked_add(column));
            if end.is_none_or(|end| end > stride) {
                bail!(
                    "{op}: expected {n_heads} heads of {d_head} entries from column {column} of {name}, found {stride} columns"
                );
            }
        }
        let mut sizes = vec![lengths.address().into()];
        for n in [t, s, d_head, y.stride, q.stride, k.stride, v.stride] {
            sizes.push(size(op, n)?.into());
        }
        sizes.push(u32::from(causality == Causality::Causal).into());
        sizes.push((1.0 / (d_head.max(1) as f32).sqrt()).into());
        if n_heads > 65_535 || batch > 65_535 {
            bail!("{op}: expected at most 65535 heads and examples, found {n_heads} and {batch}");
        }
        let first = |heads: Heads| heads.region.address() + (heads.column * element.size()) as u64;
        Ok(CheckedAttention {
            y: first(y),
            q_k_v: q_k_v.map(first),
            sizes,
            width,
            rows,
            heads_and_examples: [size(op, n_heads)?, size(op, batch)?],
        })
    }
}

/// The checked arguments of an attention.
struct CheckedAttention {
    y: u64,
    q_k_v: [u64; 3],
    /// The arguments after those of the matrices.
    sizes: Vec<Argument>,
    /// Head width of the kernel.
    width: usize,
    /// Number of rows of a block.
    rows: usize,
    heads_and_examples: [u32; 2],
}

impl CheckedAttention {
    fn grid(&self, rows: usize) -> Result<[u32; 3]> {
        let [heads, examples] = self.heads_and_examples;
        Ok([size("attention", rows.div_ceil(self.rows))?, heads, examples])
    }
}
