//! The operations of a device: the layers of a transformer, its loss, and the end of a step.

use candle_core::{Result, bail};

use super::accelerator::Accelerator;
use super::executor::{Argument, Launch, RawProduct};
use super::region::{Element, Region};
use crate::adam::AdamStep;
use crate::attention::Causality;
use crate::kernels::Store;
use crate::linear::Activation;

/// Maximum number of chunks of rows; each chunk is summed by itself, and a second pass adds the sums. Enough to keep a
/// whole device busy at the widths of these models, few enough for a short second pass.
pub(super) const CHUNKS: usize = 64;

/// Maximum number of blocks, of 256 threads each, that sum the squares of the gradients: four for each of the 132
/// processors of the largest device. Fewer are used where a block would get less than four entries per thread.
const SQUARE_BLOCKS: usize = 528;

/// Maximum number of blocks of the optimizer, of 256 threads each: eight for each of the 132 processors of the largest
/// device.
const ADAM_BLOCKS: usize = 1056;

/// Head widths for which there are kernels, each with the number of rows that a block handles.
const HEAD_WIDTHS: [(usize, usize); 3] = [(32, 16), (64, 16), (128, 8)];

/// C = op(A)·op(B) with C `[m, n]`, all row-major.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// `[m, k]`, or `[k, m]` if it is transposed.
    pub a: Region,
    /// `[k, n]`, or `[n, k]` if it is transposed.
    pub b: Region,
    /// `[m, n]`.
    pub c: Region,
    /// m, n and k.
    pub sizes: [usize; 3],
    /// Whether A is stored transposed, and whether B is.
    pub transposed: [bool; 2],
    /// Whether C is replaced or added to.
    pub store: Store,
}

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

/// The numbers of one step of Adam and of its report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The numbers of Adam; the device computes `gradient_scale` itself.
    pub adam: AdamStep,
    /// Gradients with a larger norm are scaled down to this norm.
    pub clip_norm: f32,
    /// Where the loss and the norm are reported.
    pub slot: u32,
    /// 1 over the number of target tokens.
    pub share: f32,
}

impl StepNumbers {
    /// Number of words in [`to_words`](Self::to_words).
    pub const WORDS: usize = 10;

    /// The index of [`share`](Self::share) among the words.
    pub const SHARE: usize = 9;

    /// The numbers in the layout that the kernels read.
    #[must_use]
    pub fn to_words(self) -> [u32; Self::WORDS] {
        let Self { adam: AdamStep { lr, beta1, beta2, eps, decay, .. }, clip_norm, slot, share } = self;
        let [beta1, rest1, beta2, rest2] = [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(|beta| (beta as f32).to_bits());
        let [lr, eps, decay, clip_norm, share] = [lr, eps, decay, clip_norm, share].map(f32::to_bits);
        [lr, beta1, rest1, beta2, rest2, eps, decay, clip_norm, slot, share]
    }
}

/// The name of a kernel for an element type.
fn named(kernel: &str, element: Element) -> Result<String> {
    match element {
        Element::F32 => Ok(format!("{kernel}_f32")),
        Element::Bf16 => Ok(format!("{kernel}_bf16")),
        Element::F64 | Element::U32 => bail!("{kernel}: expected regions of F32 or Bf16, found {element:?}"),
    }
}

/// A size in the type that kernels take.
fn size(op: &str, n: usize) -> Result<u32> {
    // One bit less than a u32 has, so that the sum of two sizes does not overflow.
    match u32::try_from(n) {
        Ok(n) if n <= u32::MAX / 2 => Ok(n),
        _ => bail!("{op}: expected a size below 2^31, found {n}"),
    }
}

/// The number of rows in a chunk, and the number of chunks.
fn chunks(rows: usize) -> (usize, usize) {
    let rows_of_chunk = rows.div_ceil(CHUNKS).max(8);
    (rows_of_chunk, rows.div_ceil(rows_of_chunk))
}

fn arguments<const N: usize>(arguments: [Argument; N]) -> Vec<Argument> {
    arguments.into()
}

impl Accelerator {
    /// Multiplies two matrices of the same element type. For matrices of `Bf16`, C may be of `F32`. Sums are in `f32`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn multiply(&mut self, product: &Product) -> Result<()> {
        self.product(product, None, Activation::Identity)
    }

    /// A product, to each row of which a bias and an activation may be applied.
    fn product(&mut self, product: &Product, bias: Option<Region>, activation: Activation) -> Result<()> {
        let Product { a, b, c, sizes, transposed, store } = *product;
        let raw = RawProduct {
            sizes,
            a: a.address(),
            b: b.address(),
            c: c.address(),
            input: a.element(),
            output: c.element(),
            transposed,
            bias: bias.map(Region::address),
            relu: activation == Activation::Relu,
            accumulate: store == Store::Add,
        };
        let [m, n, k] = sizes;
        self.check("multiply", "A", a, raw.input, m * k)?;
        self.check("multiply", "B", b, raw.input, k * n)?;
        self.check("multiply", "C", c, raw.output, m * n)?;
        if let Some(bias) = bias {
            self.check("multiply", "bias", bias, raw.output, n)?;
            if !bias.address().is_multiple_of(16) {
                bail!("multiply: expected a bias at an address that is a multiple of 16 bytes");
            }
        }
        let fits = matches!(
            (raw.input, raw.output),
            (Element::F32 | Element::Bf16, Element::F32) | (Element::Bf16, Element::Bf16)
        );
        if !fits {
            bail!(
                "multiply: expected F32 or Bf16, found {:?} times {:?} in {:?}",
                a.element(),
                b.element(),
                c.element()
            );
        }
        for n in [m, n, k] {
            size("multiply", n)?;
        }
        if m * n == 0 {
            return Ok(());
        }
        if k == 0 {
            bail!("multiply: expected sums of at least one term");
        }
        // SAFETY: the matrices are regions of this device, and have the lengths that the sizes require.
        unsafe { self.raw_multiply(&raw) }
    }

    /// y = x·Wᵀ + b with an activation: x `[rows, d_in]`, W `[d_out, d_in]`, b `[d_out]`, y `[rows, d_out]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear(
        &mut self,
        y: Region,
        x: Region,
        weight: Region,
        bias: Region,
        [rows, d_in]: [usize; 2],
        activation: Activation,
    ) -> Result<()> {
        let sizes = [rows, bias.len(), d_in];
        let product = Product { a: x, b: weight, c: y, sizes, transposed: [false, true], store: Store::Replace };
        self.product(&product, Some(bias), activation)
    }

    /// The gradients of the weight and bias of [`linear`](Self::linear), in `F32`: d_y `[rows, d_out]`, x
    /// `[rows, d_in]`. If `hidden`, the output of a ReLU, is given, d_y is first replaced by the gradient before the
    /// ReLU.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear_parameter_gradients(
        &mut self,
        [d_weight, d_bias]: [Region; 2],
        d_y: Region,
        hidden: Option<Region>,
        x: Region,
        rows: usize,
    ) -> Result<()> {
        const OP: &str = "linear_parameter_gradients";
        let d_out = d_bias.len();
        self.check(OP, "d_bias", d_bias, Element::F32, d_out)?;
        self.check(OP, "d_y", d_y, d_y.element(), rows * d_out)?;
        if let Some(hidden) = hidden {
            self.check(OP, "hidden", hidden, d_y.element(), rows * d_out)?;
        }
        if d_out == 0 || rows == 0 {
            bail!("{OP}: expected at least one row and one column, found {rows} and {d_out}");
        }
        let (rows_of_chunk, count) = chunks(rows);
        let partials = self.scratch(count * d_out)?;
        let launch = Launch {
            kernel: named("column_partials", d_y.element())?,
            grid: [size(OP, d_out.div_ceil(32))?, size(OP, count)?, 1],
            block: [32, 8],
            arguments: arguments([
                partials.address().into(),
                d_y.address().into(),
                hidden.map_or(Argument::NULL, |hidden| hidden.address().into()),
                size(OP, rows)?.into(),
                size(OP, d_out)?.into(),
                size(OP, rows_of_chunk)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the matrices have the lengths that it assumes, and there is room for a
        // row of partial sums for each chunk.
        unsafe { self.launch(&launch) }?;
        self.sum_partials([d_bias, d_bias], 1, partials, count)?;
        let d_in = x.len() / rows;
        let sizes = [d_out, d_in, rows];
        self.multiply(&Product { a: d_y, b: x, c: d_weight, sizes, transposed: [true, false], store: Store::Replace })
    }

    /// The gradient of the input of [`linear`](Self::linear): d_x `[rows, d_in]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear_input_gradient(
        &mut self,
        d_x: Region,
        store: Store,
        d_y: Region,
        weight: Region,
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            bail!("linear_input_gradient: expected at least one row");
        }
        let sizes = [rows, d_x.len() / rows, d_y.len() / rows];
        self.multiply(&Product { a: d_y, b: weight, c: d_x, sizes, transposed: [false, false], store })
    }

    /// Sums `[outputs, chunks, n]` over the chunks.
    fn sum_partials(&mut self, outputs: [Region; 2], used: usize, partials: Region, chunks: usize) -> Result<()> {
        const OP: &str = "sum_partials";
        let n = outputs[0].len();
        for output in &outputs[..used] {
            self.check(OP, "output", *output, Element::F32, n)?;
        }
        self.check(OP, "partials", partials, Element::F32, used * chunks * n)?;
        let launch = Launch {
            kernel: OP.to_owned(),
            grid: [size(OP, n.div_ceil(256))?, size(OP, used)?, 1],
            block: [256, 1],
            arguments: arguments([
                outputs[0].address().into(),
                outputs[1].address().into(),
                partials.address().into(),
                size(OP, n)?.into(),
                size(OP, chunks)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the outputs and partial sums have the lengths that it assumes.
        unsafe { self.launch(&launch) }
    }

    /// Adds `residual`, if there is one, to `sum` `[rows, d]`. Writes the layer norm of the result to `y`, and the
    /// values that the gradients need to `moments` `[rows, 2]`. `weight` and `bias` are of `F32`, `[d]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add_layer_norm(
        &mut self,
        y: Region,
        [sum, moments]: [Region; 2],
        residual: Option<Region>,
        [weight, bias]: [Region; 2],
        eps: f32,
    ) -> Result<()> {
        const OP: &str = "add_layer_norm";
        let rows = self.check_norm(OP, [sum, moments], weight)?;
        self.check(OP, "y", y, sum.element(), sum.len())?;
        self.check(OP, "bias", bias, Element::F32, weight.len())?;
        if let Some(residual) = residual {
            self.check(OP, "residual", residual, sum.element(), sum.len())?;
        }
        let launch = Launch {
            kernel: named(OP, sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                y.address().into(),
                sum.address().into(),
                moments.address().into(),
                residual.map_or(Argument::NULL, |residual| residual.address().into()),
                weight.address().into(),
                bias.address().into(),
                size(OP, rows)?.into(),
                size(OP, weight.len())?.into(),
                eps.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; all matrices are [rows, d] and all vectors [d], as it assumes.
        unsafe { self.launch(&launch) }
    }

    /// The gradients of [`add_layer_norm`](Self::add_layer_norm): of the sum, `[rows, d]`, and of weight and bias,
    /// `[d]`, in `F32`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn layer_norm_gradients(
        &mut self,
        d_sum: Region,
        [d_weight, d_bias]: [Region; 2],
        [sum, moments]: [Region; 2],
        weight: Region,
        d_y: Region,
    ) -> Result<()> {
        const OP: &str = "layer_norm_gradients";
        let rows = self.check_norm(OP, [sum, moments], weight)?;
        let d = weight.len();
        self.check(OP, "d_sum", d_sum, sum.element(), sum.len())?;
        self.check(OP, "d_y", d_y, sum.element(), sum.len())?;
        let (rows_of_chunk, count) = chunks(rows);
        let partials = self.scratch(2 * count * d)?;
        let launch = Launch {
            kernel: named("layer_norm_partials", sum.element())?,
            grid: [size(OP, d.div_ceil(32))?, size(OP, count)?, 1],
            block: [32, 8],
            arguments: arguments([
                partials.address().into(),
                sum.address().into(),
                moments.address().into(),
                d_y.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
                size(OP, rows_of_chunk)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the matrices are [rows, d], and there is room for two rows of partial
        // sums for each chunk.
        unsafe { self.launch(&launch) }?;
        self.sum_partials([d_weight, d_bias], 2, partials, count)?;
        let launch = Launch {
            kernel: named("layer_norm_backward", sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                d_sum.address().into(),
                sum.address().into(),
                moments.address().into(),
                weight.address().into(),
                d_y.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
            ]),
        };
        // SAFETY: as above.
        unsafe { self.launch(&launch) }
    }

    /// Checks the shapes of a layer norm and returns its number of rows.
    fn check_norm(&self, op: &str, [sum, moments]: [Region; 2], weight: Region) -> Result<usize> {
        let d = weight.len();
        if d == 0 || !sum.len().is_multiple_of(d) || sum.is_empty() {
            bail!("{op}: expected rows of {d} entries, found {} entries", sum.len());
        }
        let rows = sum.len() / d;
        self.check(op, "sum", sum, sum.element(), rows * d)?;
        self.check(op, "moments", moments, Element::F32, 2 * rows)?;
        self.check(op, "weight", weight, Element::F32, d)?;
        Ok(rows)
    }

    /// Writes `tokens[ids[r]] + positions[r % length + offset]` to row `r` of `sum`; `offset` is a word of memory, or
    /// zero if absent. An id or a position beyond its table counts as zeros.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn embed(
        &mut self,
        sum: Region,
        ids: Region,
        [tokens, positions]: [Region; 2],
        length: usize,
        offset: Option<Region>,
        d: usize,
    ) -> Result<()> {
        const OP: &str = "embed";
        let rows = ids.len();
        self.check(OP, "ids", ids, Element::U32, rows)?;
        self.check(OP, "sum", sum, sum.element(), rows * d)?;
        if d == 0 || length == 0 {
            bail!("{OP}: expected sequences and vectors that are not empty, found {length} and {d}");
        }
        let tables = [("tokens", tokens), ("positions", positions)];
        for (name, table) in tables {
            self.check(OP, name, table, Element::F32, table.len() / d * d)?;
        }
        if let Some(offset) = offset {
            self.check(OP, "offset", offset, Element::U32, 1)?;
        }
        let launch = Launch {
            kernel: named(OP, sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                sum.address().into(),
                ids.address().into(),
                tokens.address().into(),
                positions.address().into(),
                offset.map_or(Argument::NULL, |offset| offset.address().into()),
                size(OP, rows)?.into(),
                size(OP, length)?.into(),
                size(OP, d)?.into(),
                size(OP, tokens.len() / d)?.into(),
                size(OP, positions.len() / d)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which reads no row beyond a table.
        unsafe { self.launch(&launch) }
    }

    /// Adds row `r` of `d_sum` `[rows, d]` to row `keys[r]` of `table` `[v, d]`. `order` lists each row once, so that
    /// rows with equal keys are adjacent; otherwise the sums are wrong. A key beyond the table is ignored.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn scatter(&mut self, table: Region, d_sum: Region, [keys, order]: [Region; 2], d: usize) -> Result<()> {
        const OP: &str = "scatter";
        let rows = keys.len();
        self.check(OP, "keys", keys, Element::U32, rows)?;
        self.check(OP, "order", order, Element::U32, rows)?;
        self.check(OP, "d_sum", d_sum, d_sum.element(), rows * d)?;
        if d == 0 {
            bail!("{OP}: expected vectors that are not empty");
        }
        self.check(OP, "table", table, Element::F32, table.len() / d * d)?;
        let launch = Launch {
            kernel: named(OP, d_sum.element())?,
            grid: [size(OP, rows)?, size(OP, d.div_ceil(32))?, 1],
            block: [32, 8],
            arguments: arguments([
                table.address().into(),
                d_sum.address().into(),
                keys.address().into(),
                order.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
                size(OP, table.len() / d)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which uses no row or key out of range.
        unsafe { self.launch(&launch) }
    }

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

    /// Writes the cross-entropy of each row to `losses` and replaces the logits `[rows, v]` by their gradients times
    /// `share`, a word of memory. A row does not count if its target is not a class.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn cross_entropy(&mut self, losses: Region, logits: Region, targets: Region, share: Region) -> Result<()> {
        const OP: &str = "cross_entropy";
        let rows = targets.len();
        self.check(OP, "targets", targets, Element::U32, rows)?;
        self.check(OP, "losses", losses, Element::F32, rows)?;
        self.check(OP, "share", share, Element::U32, 1)?;
        if rows == 0 || logits.is_empty() {
            bail!("{OP}: expected at least one row and one class");
        }
        let v = logits.len() / rows;
        self.check(OP, "logits", logits, logits.element(), rows * v)?;
        let launch = Launch {
            kernel: named(OP, logits.element())?,
            grid: [size(OP, rows)?, 1, 1],
            block: [256, 1],
            arguments: arguments([
                losses.address().into(),
                logits.address().into(),
                targets.address().into(),
                share.address().into(),
                size(OP, v)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; there is a target and a loss for each row.
        unsafe { self.launch(&launch) }
    }

    /// x ← x + y
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add(&mut self, x: Region, y: Region) -> Result<()> {
        const OP: &str = "add";
        self.check(OP, "x", x, x.element(), x.len())?;
        self.check(OP, "y", y, x.element(), x.len())?;
        let n = size(OP, x.len())?;
        let launch = Launch {
            kernel: named(OP, x.element())?,
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([x.address().into(), y.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel; both regions have `n` entries.
        unsafe { self.launch(&launch) }
    }

    /// Sets all entries to zero.
    ///
    /// # Errors
    /// When the region is not of `F32` or `U32`, or the device fails.
    pub fn clear(&mut self, x: Region) -> Result<()> {
        self.words("clear", x)
    }

    /// Adds one to each count.
    ///
    /// # Errors
    /// When the region is not of `U32`, or the device fails.
    pub fn increment(&mut self, x: Region) -> Result<()> {
        self.check("increment", "x", x, Element::U32, x.len())?;
        self.words("increment", x)
    }

    fn words(&mut self, op: &str, x: Region) -> Result<()> {
        if !matches!(x.element(), Element::F32 | Element::U32) {
            bail!("{op}: expected a region of F32 or U32, found {:?}", x.element());
        }
        self.check(op, "x", x, x.element(), x.len())?;
        let n = size(op, x.len())?;
        let launch = Launch {
            kernel: op.to_owned(),
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([x.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel, and there are `n` words.
        unsafe { self.launch(&launch) }
    }

    /// Copies row `i` of `x` `[n, d]` to row `position`, a word of memory, of table `i` of `y` `[n, rows, d]`. Nothing
    /// is copied if the position is beyond the tables.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn append(&mut self, y: Region, x: Region, position: Region, n: usize) -> Result<()> {
        const OP: &str = "append";
        if n == 0 || x.is_empty() {
            bail!("{OP}: expected rows that are not empty");
        }
        let d = x.len() / n;
        let rows = y.len() / x.len();
        self.check(OP, "x", x, x.element(), n * d)?;
        self.check(OP, "y", y, x.element(), n * rows * d)?;
        self.check(OP, "position", position, Element::U32, 1)?;
        let launch = Launch {
            kernel: named(OP, x.element())?,
            grid: [size(OP, x.len())?.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([
                y.address().into(),
                x.address().into(),
                position.address().into(),
                size(OP, n)?.into(),
                size(OP, d)?.into(),
                size(OP, rows)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which writes nothing beyond a table.
        unsafe { self.launch(&launch) }
    }

    /// Chooses the next token of each sequence: the largest of its logits, the first among equals. It is written to
    /// `next` and to column `position` of `answers` `[batch, width]`. A sequence ends after `delimiter`, and then gets
    /// `padding`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn choose(
        &mut self,
        [next, answers, ended]: [Region; 3],
        logits: Region,
        position: Region,
        [delimiter, padding]: [u32; 2],
    ) -> Result<()> {
        const OP: &str = "choose";
        let batch = next.len();
        self.check(OP, "next", next, Element::U32, batch)?;
        self.check(OP, "ended", ended, Element::U32, batch)?;
        self.check(OP, "position", position, Element::U32, 1)?;
        if batch == 0 || logits.is_empty() {
            bail!("{OP}: expected at least one sequence and one token");
        }
        let (v, width) = (logits.len() / batch, answers.len() / batch);
        self.check(OP, "logits", logits, logits.element(), batch * v)?;
        self.check(OP, "answers", answers, Element::U32, batch * width)?;
        let launch = Launch {
            kernel: named(OP, logits.element())?,
            grid: [size(OP, batch)?, 1, 1],
            block: [256, 1],
            arguments: arguments([
                next.address().into(),
                answers.address().into(),
                ended.address().into(),
                logits.address().into(),
                position.address().into(),
                size(OP, v)?.into(),
                size(OP, width)?.into(),
                delimiter.into(),
                padding.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, with a row of logits and of answers for each sequence.
        unsafe { self.launch(&launch) }
    }

    /// Ends a step: reports the mean loss and the norm of the gradients in `outcomes` `[slots, 2]`, clips the
    /// gradients, and takes a step of Adam. `numbers` holds [`StepNumbers`], `state` two words that begin as zeros.
    /// Once the loss or the norm is not finite, this step and all later ones leave the weights unchanged.
    ///
    /// `copy` receives the new weights in bf16.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn end_step(
        &mut self,
        [weights, first, second]: [Region; 3],
        copy: Option<Region>,
        gradients: Region,
        losses: Region,
        [numbers, state, outcomes]: [Region; 3],
        squares: Region,
    ) -> Result<()> {
        const OP: &str = "end_step";
        let n = weights.len();
        let vectors =
            [("weights", weights), ("first moment", first), ("second moment", second), ("gradients", gradients)];
        for (name, region) in vectors {
            self.check(OP, name, region, Element::F32, n)?;
        }
        if let Some(copy) = copy {
            self.check(OP, "copy", copy, Element::Bf16, n)?;
        }
        self.check(OP, "losses", losses, Element::F32, losses.len())?;
        self.check(OP, "numbers", numbers, Element::U32, StepNumbers::WORDS)?;
        self.check(OP, "state", state, Element::U32, 2)?;
        self.check(OP, "outcomes", outcomes, Element::F32, outcomes.len() / 2 * 2)?;
        self.check(OP, "squares", squares, Element::F64, Self::SQUARES)?;
        let n = size(OP, n)?;
        let blocks = n.div_ceil(1024).clamp(1, SQUARE_BLOCKS as u32);
        let of_squares = Launch {
            kernel: "square_partials".to_owned(),
            grid: [blocks, 1, 1],
            block: [256, 1],
            arguments: arguments([squares.address().into(), gradients.address().into(), n.into()]),
        };
        let judgement = Launch {
            kernel: "judge_step".to_owned(),
            grid: [1, 1, 1],
            block: [1024, 1],
            arguments: arguments([
                outcomes.address().into(),
                state.address().into(),
                numbers.address().into(),
                losses.address().into(),
                size(OP, losses.len())?.into(),
                squares.address().into(),
                blocks.into(),
                size(OP, outcomes.len() / 2)?.into(),
            ]),
        };
        let update = Launch {
            kernel: "adam".to_owned(),
            grid: [n.div_ceil(256).min(ADAM_BLOCKS as u32), 1, 1],
            block: [256, 1],
            arguments: arguments([
                weights.address().into(),
                copy.map_or(Argument::NULL, |copy| copy.address().into()),
                gradients.address().into(),
                first.address().into(),
                second.address().into(),
                state.address().into(),
                numbers.address().into(),
                n.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernels; all vectors have `n` entries, and a slot beyond the outcomes is
        // ignored.
        unsafe {
            self.launch(&of_squares)?;
            self.launch(&judgement)?;
            self.launch(&update)
        }
    }

    /// Number of `F64` entries that [`end_step`](Self::end_step) needs for the squares of the gradients.
    pub const SQUARES: usize = SQUARE_BLOCKS;
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
