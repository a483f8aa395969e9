//! The operations of a device against those of the host, on every device available: always the kernels compiled for the
//! host, and a GPU if there is one.

mod accumulation;
mod dropout;
mod end_step;
mod loss;

use candle_core::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Accelerator, AttentionCall, Element, Heads, Product, Region};
use crate::kernels::{
    AttentionRoom, AttentionShape, Panels, Store, embed_rows, layer_norm_gradients, layer_norm_rows,
    linear_input_gradient, linear_parameter_gradients, linear_rows, scatter_rows,
};
use crate::{Activation, Causality};

/// All devices of this machine.
fn devices() -> Vec<Accelerator> {
    let devices = Accelerator::of_this_machine().expect("a GPU, as the environment asks for one");
    devices.into_iter().map(|open| open().expect("a C++ compiler: install one, or set CXX")).collect()
}

/// The element types under test, each with the largest allowed difference from the host, relative to the largest entry.
const KINDS: [(Element, f32); 2] = [(Element::F32, 1e-5), (Element::Bf16, 2e-2)];

/// Runs a test on every device with every element type.
fn on_all(test: impl Fn(&mut Accelerator, Element, f32) -> Result<()>) -> Result<()> {
    for mut device in devices() {
        for (element, tolerance) in KINDS {
            test(&mut device, element, tolerance)?;
        }
    }
    Ok(())
}

/// Numbers between -1 and 1 that bf16 represents exactly, a function of `seed`.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| half::bf16::from_f32(rng.random_range(-1.0..1.0)).to_f32()).collect()
}

fn on(device: &mut Accelerator, element: Element, entries: &[f32]) -> Result<Region> {
    let region = device.reserve(element, entries.len())?;
    device.write(region, entries)?;
    Ok(region)
}

fn ids_on(device: &mut Accelerator, ids: &[u32]) -> Result<Region> {
    let region = device.reserve(Element::U32, ids.len())?;
    device.write_ids(region, ids)?;
    Ok(region)
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1f32, |a, x| a.max(x.abs()));
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "entry {at}: expected {e}, found {f}");
    }
}

/// A region with entries on both sides that no kernel may touch.
struct Guarded {
    whole: Region,
    inner: Region,
}

impl Guarded {
    fn new(device: &mut Accelerator, element: Element, len: usize) -> Result<Self> {
        let whole = on(device, element, &vec![7.0; len + 16])?;
        Ok(Self { whole, inner: whole.slice(8..len + 8)? })
    }

    #[track_caller]
    fn read(&self, device: &mut Accelerator) -> Result<Vec<f32>> {
        let entries = device.read(self.whole)?;
        let (before, rest) = entries.split_at(8);
        let (inner, after) = rest.split_at(rest.len() - 8);
        assert!(before.iter().chain(after).all(|x| x.to_bits() == 7f32.to_bits()), "written beyond a region");
        Ok(inner.to_vec())
    }
}

#[test]
fn products_follow_the_definition() -> Result<()> {
    on_all(|device, element, tolerance| {
        for [m, n, k] in [[1, 1, 1], [5, 3, 7], [33, 17, 9]] {
            let (a, b, c) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                for store in [Store::Replace, Store::Add] {
                    let expected: Vec<f32> = (0..m * n)
                        .map(|at| {
                            let (i, j) = (at / n, at % n);
                            let a_at = |l| if transposed[0] { a[l * m + i] } else { a[i * k + l] };
                            let b_at = |l| if transposed[1] { b[j * k + l] } else { b[l * n + j] };
                            let sum: f32 = (0..k).map(|l| a_at(l) * b_at(l)).sum();
                            sum + if store == Store::Add { c[at] } else { 0.0 }
                        })
                        .collect();
                    let [a, b] = [on(device, element, &a)?, on(device, element, &b)?];
                    for output in [element, Element::F32] {
                        let found = Guarded::new(device, output, m * n)?;
                        device.write(found.inner, &c)?;
                        device.multiply(&Product { a, b, c: found.inner, sizes: [m, n, k], transposed, store })?;
                        assert_close(&found.read(device)?, &expected, tolerance);
                    }
                }
            }
        }
        Ok(())
    })
}

#[test]
fn linear_layers_agree_with_the_host() -> Result<()> {
    on_all(|device, element, tolerance| {
        for [rows, d_in, d_out] in [[1, 1, 1], [7, 5, 33], [150, 33, 7], [700, 3, 40]] {
            for activation in [Activation::Identity, Activation::Relu] {
                let (x, weight, bias) = (random(rows * d_in, 1), random(d_in * d_out, 2), random(d_out, 3));
                let mut y = vec![0.0; rows * d_out];
                let [mut weight_t, mut packed, mut packed_x] = [(); 3].map(|()| Panels::<f32>::default());
                weight_t.pack_transpose(&weight, d_in);
                packed.pack_rows(&weight, d_in);
                packed_x.pack_rows(&x, d_in);
                linear_rows(&mut y, &x, &weight_t, &bias, activation);
                let [x_on, weight_on, bias_on] =
                    [on(device, element, &x)?, on(device, element, &weight)?, on(device, element, &bias)?];
                let y_on = Guarded::new(device, element, y.len())?;
                device.linear(y_on.inner, x_on, weight_on, bias_on, [rows, d_in], activation)?;
                assert_close(&y_on.read(device)?, &y, tolerance);

                let mut d_y = random(y.len(), 4);
                let d_y_on = on(device, element, &d_y)?;
                // Both sides use the same kinks.
                let y = device.read(y_on.inner)?;
                let is_relu = activation == Activation::Relu;
                d_y.iter_mut().zip(&y).filter(|(_, y)| is_relu && **y <= 0.0).for_each(|(d_y, _)| *d_y = 0.0);
                let (mut d_weight, mut d_bias, mut d_x) =
                    (vec![0.0; weight.len()], vec![0.0; d_out], random(x.len(), 5));
                linear_parameter_gradients(&mut d_weight, &mut d_bias, Store::Replace, &d_y, &packed_x);
                let d_x_on = on(device, element, &d_x)?;
                linear_input_gradient(&mut d_x, Store::Add, &d_y, &packed);
                let found = [weight.len(), d_out].map(|len| Guarded::new(device, Element::F32, len));
                let [found_weight, found_bias] = found;
                let (found_weight, found_bias) = (found_weight?, found_bias?);
                let gradients = [found_weight.inner, found_bias.inner];
                device.linear_parameter_gradients(gradients, d_y_on, is_relu.then_some(y_on.inner), x_on, rows)?;
                device.linear_input_gradient(d_x_on, Store::Add, d_y_on, weight_on, rows)?;
                assert_close(&device.read(d_y_on)?, &d_y, 0.0);
                assert_close(&found_weight.read(device)?, &d_weight, tolerance);
                assert_close(&found_bias.read(device)?, &d_bias, tolerance);
                assert_close(&device.read(d_x_on)?, &d_x, tolerance);
            }
        }
        Ok(())
    })
}

#[test]
fn layer_norms_agree_with_the_host() -> Result<()> {
    on_all(|device, element, tolerance| {
        for [rows, d] in [[1, 2], [7, 33], [150, 5], [5, 100]] {
            for with_residual in [true, false] {
                let (mut sum, residual) = (random(rows * d, 1), random(rows * d, 2));
                let (weight, bias, d_y) = (random(d, 3), random(d, 4), random(rows * d, 5));
                let sum_on = on(device, element, &sum)?;
                let residual_on = on(device, element, &residual)?;
                let (moments_on, y_on) =
                    (Guarded::new(device, Element::F32, 2 * rows)?, Guarded::new(device, element, rows * d)?);
                let [weight_on, bias_on] = [on(device, Element::F32, &weight)?, on(device, Element::F32, &bias)?];
                let kept = [sum_on, moments_on.inner];
                let residual_on = with_residual.then_some(residual_on);
                device.add_layer_norm(y_on.inner, kept, residual_on, [weight_on, bias_on], 1e-12)?;

                sum.iter_mut().zip(residual).for_each(|(sum, r)| *sum += if with_residual { r } else { 0.0 });
                let (mut y, mut moments) = (vec![0.0; rows * d], vec![[0.0; 2]; rows]);
                layer_norm_rows::<f32>(&mut y, &mut [], &sum, &mut moments, &weight, &bias, 1e-12);
                assert_close(&device.read(sum_on)?, &sum, tolerance);
                assert_close(&y_on.read(device)?, &y, 2.0 * tolerance);
                let scale = moments.iter().map(|moments| moments[1]).fold(1.0, f32::max);
                assert_close(&moments_on.read(device)?, moments.as_flattened(), tolerance * scale);

                // Both sides start from the same sums.
                let mut sum = device.read(sum_on)?;
                moments.clone_from(&moments_on.read(device)?.as_chunks().0.to_vec());
                let (mut d_weight, mut d_bias) = (vec![0.0; d], vec![0.0; d]);
                let d_y_on = on(device, element, &d_y)?;
                let d_sum_on = Guarded::new(device, element, rows * d)?;
                let (w_on, b_on) = (Guarded::new(device, Element::F32, d)?, Guarded::new(device, Element::F32, d)?);
                device.layer_norm_gradients(d_sum_on.inner, [w_on.inner, b_on.inner], kept, weight_on, d_y_on)?;
                let parameters = [&mut d_weight[..], &mut d_bias];
                layer_norm_gradients::<f32>(&mut sum, &mut [], parameters, Store::Replace, &moments, &weight, &d_y);
                assert_close(&d_sum_on.read(device)?, &sum, tolerance);
                assert_close(&w_on.read(device)?, &d_weight, 1e-5);
                assert_close(&b_on.read(device)?, &d_bias, 1e-5);
            }
        }
        Ok(())
    })
}

/// Checks attention of a batch, with its gradients, against the host, for examples of different lengths.
fn check_attention(
    device: &mut Accelerator,
    (element, tolerance): (Element, f32),
    [t, s, n_heads, d_head]: [usize; 4],
    causality: Causality,
    lengths: &[u32],
) -> Result<()> {
    let (batch, width) = (lengths.len(), n_heads * d_head);
    // The queries have a matrix of their own; keys and values lie side by side, with a column before and between them.
    let stride = 2 * width + 3;
    let (q, kv, d_y) = (random(batch * t * width, 1), random(batch * s * stride, 2), random(batch * t * width, 3));
    let key = |example: usize, row: usize| (example * s + row) * stride + 1;
    let value = |example: usize, row: usize| key(example, row) + width + 1;

    let (mut y, mut d_q) = (vec![0.0; q.len()], vec![0.0; q.len()]);
    let mut d_kv = vec![7.0; kv.len()];
    for (example, length) in lengths.iter().enumerate() {
        // A causal query sees the valid keys up to its own position; all rows of queries are present.
        let own = example * t * width..(example + 1) * t * width;
        let (k, v): (Vec<f32>, Vec<f32>) = {
            let rows = |first: &dyn Fn(usize, usize) -> usize| {
                (0..s).flat_map(|row| kv[first(example, row)..][..width].to_vec()).collect::<Vec<_>>()
            };
            (rows(&key), rows(&value))
        };
        let gradients = reference_attention(
            [t, s, n_heads, d_head],
            causality,
            (*length as usize).min(s),
            [&q[own.clone()], &k, &v, &d_y[own.clone()]],
        );
        y[own.clone()].copy_from_slice(&gradients[0]);
        d_q[own].copy_from_slice(&gradients[1]);
        for row in 0..s {
            d_kv[key(example, row)..][..width].copy_from_slice(&gradients[2][row * width..][..width]);
            d_kv[value(example, row)..][..width].copy_from_slice(&gradients[3][row * width..][..width]);
        }
    }

    let lengths = ids_on(device, lengths)?;
    let call = AttentionCall { batch, t, s, n_heads, d_head, causality, lengths };
    let whole = |region| Heads { region, stride: width, column: 0 };
    let beside = |region| [Heads { region, stride, column: 1 }, Heads { region, stride, column: width + 2 }];
    let (q_on, kv_on, d_y_on) = (on(device, element, &q)?, on(device, element, &kv)?, on(device, element, &d_y)?);
    let (y_on, d_q_on) = (Guarded::new(device, element, q.len())?, Guarded::new(device, element, q.len())?);
    let d_kv_on = on(device, element, &vec![7.0; kv.len()])?;
    let scores = batch * n_heads * t;
    let (normalisers, products) =
        (Guarded::new(device, Element::F32, scores)?, Guarded::new(device, Element::F32, scores)?);
    let [k_on, v_on] = beside(kv_on);
    let inputs = [whole(q_on), k_on, v_on];
    device.attention(&call, whole(y_on.inner), inputs, Some(normalisers.inner))?;
    assert_close(&y_on.read(device)?, &y, tolerance);
    let [d_k_on, d_v_on] = beside(d_kv_on);
    device.attention_gradients(
        &call,
        [whole(d_q_on.inner), d_k_on, d_v_on],
        [whole(d_y_on), whole(y_on.inner)],
        inputs,
        [normalisers.inner, products.inner],
    )?;
    normalisers.read(device)?;
    products.read(device)?;
    assert_close(&d_q_on.read(device)?, &d_q, tolerance);
    // This includes the columns beside the heads, which must not change.
    let found = device.read(d_kv_on)?;
    assert_close(&found, &d_kv, tolerance);
    let beside = found.chunks(stride).flat_map(|row| [row[0], row[width + 1], row[stride - 1]]);
    assert!(beside.into_iter().all(|x| x.to_bits() == 7f32.to_bits()), "written beside the heads");
    Ok(())
}

/// The value and the gradients of queries, keys and values of one example with `valid` valid keys, by the kernels of
/// the host, which see only valid keys.
fn reference_attention(
    [t, s, n_heads, d_head]: [usize; 4],
    causality: Causality,
    valid: usize,
    [q, k, v, d_y]: [&[f32]; 4],
) -> [Vec<f32>; 4] {
    let width = n_heads * d_head;
    let mut gradients = [vec![0.0; t * width], vec![0.0; t * width], vec![0.0; s * width], vec![0.0; s * width]];
    let [y, d_q, d_k, d_v] = &mut gradients;
    // One query at a time, which sees the first few keys.
    for i in 0..t {
        let seen = match causality {
            Causality::Full => valid,
            Causality::Causal => valid.min(s - t + i + 1),
        };
        if seen == 0 {
            continue;
        }
        let shape = AttentionShape { t: 1, s: seen, n_heads, width };
        let (own, keys) = (i * width..(i + 1) * width, 0..seen * width);
        let mut probabilities = vec![0.0; shape.scores_len()];
        let inputs = [&q[own.clone()], &k[keys.clone()], &v[keys.clone()]];
        let mut room = AttentionRoom::default();
        shape.forward(Causality::Full, &mut y[own.clone()], inputs, &mut probabilities, &mut room);
        let (mut of_keys, mut of_values) = (vec![0.0; keys.len()], vec![0.0; keys.len()]);
        let outputs = [&mut d_q[own.clone()], &mut of_keys, &mut of_values];
        shape.backward(outputs, inputs, &probabilities, &d_y[own], &mut room);
        d_k.iter_mut().zip(&of_keys).for_each(|(sum, x)| *sum += x);
        d_v.iter_mut().zip(&of_values).for_each(|(sum, x)| *sum += x);
    }
    gradients
}

#[test]
fn attention_agrees_with_the_host() -> Result<()> {
    on_all(|device, element, tolerance| {
        let kind = (element, tolerance);
        check_attention(device, kind, [1, 1, 1, 1], Causality::Full, &[1, 0])?;
        check_attention(device, kind, [7, 33, 2, 5], Causality::Full, &[33, 0, 99])?;
        check_attention(device, kind, [17, 70, 1, 33], Causality::Full, &[65, 1])?;
        check_attention(device, kind, [9, 12, 1, 100], Causality::Full, &[12, 3])?;
        check_attention(device, kind, [33, 33, 1, 8], Causality::Causal, &[33, 0, 20, 1])?;
        check_attention(device, kind, [7, 40, 1, 16], Causality::Causal, &[36])
    })
}

#[test]
fn embeddings_agree_with_the_host() -> Result<()> {
    on_all(|device, element, tolerance| {
        for (d, rows) in [(1, 1), (33, 7), (5, 60)] {
            let (v, length) = (11, 7);
            let (tokens, positions, d_sum) = (random(v * d, 1), random(length * d, 2), random(rows * d, 3));
            let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
            let ids: Vec<u32> = (0..rows).map(|_| rng.random_range(0..v as u32)).collect();
            let mut expected = vec![0.0; rows * d];
            for (ids, sum) in ids.chunks(length).zip(expected.chunks_mut(length * d)) {
                embed_rows(sum, ids, &tokens, &positions, d);
            }
            let [tokens_on, positions_on] = [on(device, Element::F32, &tokens)?, on(device, Element::F32, &positions)?];
            let ids_region = ids_on(device, &ids)?;
            let sum = Guarded::new(device, element, rows * d)?;
            device.embed(sum.inner, ids_region, [tokens_on, positions_on], length, None, d)?;
            assert_close(&sum.read(device)?, &expected, tolerance);

            let mut table = random(v * d, 4);
            let found = Guarded::new(device, Element::F32, v * d)?;
            device.write(found.inner, &table)?;
            scatter_rows(&mut table, &d_sum, &ids, d);
            let mut order: Vec<u32> = (0..rows as u32).collect();
            order.sort_by_key(|row| ids[*row as usize]);
            let [d_sum, order] = [on(device, element, &d_sum)?, ids_on(device, &order)?];
            device.scatter(found.inner, d_sum, [ids_region, order], d)?;
            assert_close(&found.read(device)?, &table, 1e-5);
        }
        Ok(())
    })
}

#[test]
fn ids_and_positions_beyond_their_tables_count_as_zeros() -> Result<()> {
    on_all(|device, element, tolerance| {
        let [tokens, positions] =
            [on(device, Element::F32, &[1.0, 2.0])?, on(device, Element::F32, &[10.0, 20.0, 30.0])?];
        let (ids, offset) = (ids_on(device, &[1, 5, 0])?, ids_on(device, &[1])?);
        let sum = Guarded::new(device, element, 3)?;
        device.embed(sum.inner, ids, [tokens, positions], 3, Some(offset), 1)?;
        assert_close(&sum.read(device)?, &[22.0, 30.0, 1.0], tolerance);
        let (table, d_sum) = (Guarded::new(device, Element::F32, 2)?, on(device, element, &[1.0, 2.0, 4.0])?);
        let order = ids_on(device, &[2, 0, 1])?;
        device.scatter(table.inner, d_sum, [ids, order], 1)?;
        assert_close(&table.read(device)?, &[11.0, 8.0], 1e-6);
        Ok(())
    })
}

#[test]
fn the_next_token_is_the_first_of_the_largest() -> Result<()> {
    on_all(|device, element, _| {
        let v = 300;
        let mut logits = vec![-1.0; 4 * v];
        for (row, id, value) in [(0, 299, 2.0), (0, 40, 2.0), (1, 0, 3.0), (2, 7, 1.0), (3, 5, 1.0)] {
            logits[row * v + id] = value;
        }
        let logits = on(device, element, &logits)?;
        let (next, answers) = (ids_on(device, &[9; 4])?, ids_on(device, &[9; 12])?);
        let (ended, position) = (ids_on(device, &[0, 0, 1, 0])?, ids_on(device, &[1])?);
        device.choose([next, answers, ended], logits, position, [0, 1])?;
        assert_eq!(device.read_ids(next)?, [40, 0, 1, 5]);
        assert_eq!(device.read_ids(answers)?, [9, 40, 9, 9, 0, 9, 9, 1, 9, 9, 5, 9]);
        assert_eq!(device.read_ids(ended)?, [0, 1, 1, 0]);
        // Scores that are not finite are noted, except in a sequence that has ended.
        let wrong = on(device, element, &[0.0, f32::NAN, 1.0, f32::INFINITY, 0.0, 1.0, f32::NAN, 2.0, 3.0])?;
        let (next_of_wrong, answers_of_wrong) = (ids_on(device, &[9; 3])?, ids_on(device, &[9; 3])?);
        let (ended_of_wrong, first) = (ids_on(device, &[0, 0, 1])?, ids_on(device, &[0])?);
        device.choose([next_of_wrong, answers_of_wrong, ended_of_wrong], wrong, first, [5, 1])?;
        assert_eq!(device.read_ids(ended_of_wrong)?, [2, 2, 1]);
        // Nothing is written beyond the answers.
        device.write_ids(position, &[3])?;
        device.choose([next, answers, ended], logits, position, [0, 1])?;
        assert_eq!(device.read_ids(answers)?, [9, 40, 9, 9, 0, 9, 9, 1, 9, 9, 5, 9]);
        Ok(())
    })
}

#[test]
fn rows_are_appended_where_the_position_says() -> Result<()> {
    on_all(|device, element, _| {
        let (tables, rows) = (Guarded::new(device, element, 2 * 3 * 2)?, on(device, element, &[1.0, 2.0, 3.0, 4.0])?);
        let position = ids_on(device, &[1])?;
        device.append(tables.inner, rows, position, 2)?;
        device.increment(position)?;
        device.increment(position)?;
        device.append(tables.inner, rows, position, 2)?; // there is no row 3
        assert_eq!(tables.read(device)?, [7.0, 7.0, 1.0, 2.0, 7.0, 7.0, 7.0, 7.0, 3.0, 4.0, 7.0, 7.0]);
        assert_eq!(device.read_ids(position)?, [3]);
        Ok(())
    })
}

#[test]
fn recorded_work_is_done_on_what_is_there_then() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        let (x, y) = (on(device, Element::F32, &[1.0, 2.0])?, on(device, Element::F32, &[10.0, 10.0])?);
        let recording = device.record(|device| {
            device.add(x, y)?;
            device.add(x, y)
        })?;
        assert_eq!(device.read(x)?, [1.0, 2.0], "recording does not run the work");
        device.write(y, &[100.0, 200.0])?;
        device.replay(&recording)?;
        device.replay(&recording)?;
        assert_eq!(device.read(x)?, [401.0, 802.0]);

        let error = device.record(|device| device.read(x).map(drop)).expect_err("nothing can be read");
        assert!(error.to_string().contains("while work is recorded"), "{error}");
        device.add(x, y)?;
        assert_eq!(device.read(x)?, [501.0, 1002.0], "it works again after an error");
    }
    Ok(())
}

#[test]
fn regions_without_entries_are_written_and_read() -> Result<()> {
    for mut device in devices() {
        let nothing = device.reserve(Element::F32, 0)?;
        device.write(nothing, &[])?;
        assert!(device.read(nothing)?.is_empty());
    }
    Ok(())
}

#[test]
fn regions_that_do_not_fit_are_errors() -> Result<()> {
    let [mut device, mut other] = [devices().swap_remove(0), devices().swap_remove(0)];
    let device = &mut device;
    let (two, three) = (device.reserve(Element::F32, 2)?, device.reserve(Element::F32, 3)?);
    let half = device.reserve(Element::Bf16, 2)?;
    let foreign = other.reserve(Element::F32, 2)?;
    let message = |result: Result<()>| result.expect_err("it does not fit").to_string();
    assert!(message(device.add(two, three)).contains("expected 2 entries of y, found 3"));
    assert!(message(device.add(two, half)).contains("expected y of F32, found Bf16"));
    assert!(message(device.add(two, foreign)).contains("in the memory of this device"));
    assert!(message(two.slice(1..3).map(drop)).contains("within the 2 entries"));
    assert!(message(device.write(two, &[1.0])).contains("expected 1 entries of region, found 2"));
    let call = AttentionCall {
        batch: 1,
        t: 1,
        s: 1,
        n_heads: 1,
        d_head: 200,
        causality: Causality::Full,
        lengths: device.reserve(Element::U32, 1)?,
    };
    let heads = Heads { region: device.reserve(Element::F32, 200)?, stride: 200, column: 0 };
    assert!(message(device.attention(&call, heads, [heads; 3], None)).contains("at most 128 entries, found 200"));
    assert!(message(device.reserve(Element::F32, 1 << 62).map(drop)).contains("more than any memory"));
    assert_eq!(device.reserve_pool(1024)?.take(Element::F32, 1 << 62), None);
    let call = AttentionCall { d_head: 1, ..call };
    let one = |region: Region| Heads { region, stride: 1, column: 0 };
    let [x, other] = [device.reserve(Element::F32, 1)?, device.reserve(Element::Bf16, 1)?].map(one);
    let normalisers = device.reserve(Element::F32, 1)?;
    let mixed = device.attention_gradients(&call, [other; 3], [other, x], [x; 3], [normalisers; 2]);
    assert!(message(mixed).contains("expected gradients of F32, found Bf16"));
    let beyond = Heads { column: usize::MAX, ..x };
    assert!(message(device.attention(&call, beyond, [x; 3], None)).contains("1 heads of 1 entries"));
    let call = AttentionCall { d_head: 3, ..call };
    let heads = Heads { region: two, stride: 2, column: 0 };
    assert!(message(device.attention(&call, heads, [heads; 3], None)).contains("1 heads of 3 entries"));
    Ok(())
}
