//! Helpers shared by the tests of the operations.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Entries uniform in [-1, 1], a function of `seed`.
pub(crate) fn random(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.elem_count()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1());
    tensor.expect("a tensor of numbers in host memory")
}

/// Fails unless the largest difference is at most `tolerance` times the largest entry (or 1, if that is larger).
#[track_caller]
pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (flat(found), flat(expected));
    let scale = expected.iter().fold(1.0, |a: f64, x| a.max(x.abs()));
    for (at, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "entry {at}: expected {e}, found {f}");
    }
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// The value and Σ value·w for a fixed random w, with the gradient of that sum for each input.
fn value_and_gradients(op: Op<'_>, inputs: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let value = op(&tensors)?;
    let gradients = weighted_sum(&value)?.backward()?;
    let gradients = vars
        .iter()
        .enumerate()
        .map(|(i, v)| gradients.get(v).cloned().unwrap_or_else(|| panic!("input {i} receives no gradient")))
        .collect();
    Ok((value, gradients))
}

fn weighted_sum(value: &Tensor) -> Result<Tensor> {
    (value * random(value.shape(), 99)?.to_dtype(value.dtype())?)?.sum_all()
}

/// Checks `op` against `composition`: the value, the gradient of every input, and that gradient against a central
/// difference of the composition in `f64` along a random direction.
pub(crate) fn check_gradients(
    inputs: &[Tensor],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    composition: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let (value, gradients) = value_and_gradients(&op, inputs)?;
    let (expected, expected_gradients) = value_and_gradients(&composition, inputs)?;
    assert_close(&value, &expected, 1e-5);
    let wide: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F64)).collect::<Result<_>>()?;
    for (i, gradient) in gradients.iter().enumerate() {
        assert_close(gradient, &expected_gradients[i], 2e-5);

        let direction = random(inputs[i].shape(), 7 + i as u64)?.to_dtype(DType::F64)?;
        let step = 1e-6;
        let at = |distance: f64| -> Result<f64> {
            let mut moved = wide.clone();
            moved[i] = (&moved[i] + (&direction * distance)?)?;
            weighted_sum(&composition(&moved)?)?.to_scalar()
        };
        let difference = (at(step)? - at(-step)?) / (2.0 * step);
        let along: f64 = (gradient.to_dtype(DType::F64)? * &direction)?.sum_all()?.to_scalar()?;
        let scale = flat(gradient).iter().map(|g| g.abs()).sum::<f64>().max(1.0);
        assert!(
            (along - difference).abs() <= 1e-5 * scale,
            "input {i}: expected {difference} by finite differences, found {along}"
        );
    }
    Ok(())
}

/// The entries of an `f32` tensor, row-major.
pub(crate) fn entries(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).expect("a tensor in host memory")
}

/// The expected results of the operations on slices.
pub(crate) struct Expected {
    /// The value of an operation.
    pub(crate) y: Vec<f32>,
    /// Weights of the entries of `y`.
    pub(crate) d_y: Vec<f32>,
    /// The gradient of the weighted sum for each input; [`check_gradients`] verifies these gradients.
    pub(crate) gradients: Vec<Vec<f32>>,
}

impl Expected {
    pub(crate) fn of(op: Op<'_>, inputs: &[Tensor]) -> Result<Self> {
        let (value, gradients) = value_and_gradients(op, inputs)?;
        let d_y = entries(&random(value.shape(), 99)?);
        Ok(Self { y: entries(&value), d_y, gradients: gradients.iter().map(entries).collect() })
    }
}

/// Fails unless the largest difference is at most 1e-5 times the largest entry (or 1, if that is larger).
#[track_caller]
pub(crate) fn assert_entries_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1f32, |a, x| a.max(x.abs()));
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 1e-5 * scale, "entry {at}: expected {e}, found {f}");
    }
}

/// Checks that `op` gives the same result in other dtypes as in `f32`.
pub(crate) fn check_other_dtypes(inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let expected = op(inputs)?;
    for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F16, 1e-2)] {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype)).collect::<Result<_>>()?;
        assert_close(&op(&inputs)?, &expected, tolerance);
    }
    Ok(())
}

/// Checks that the value and the gradients have the same bits on one thread and on two.
#[track_caller]
pub(crate) fn assert_same_on_any_threads(inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts");
        let (value, gradients) = pool.install(|| value_and_gradients(&op, inputs)).expect("the operation runs");
        let bits = |t: &Tensor| flat(t).into_iter().map(f64::to_bits).collect::<Vec<_>>();
        (bits(&value), gradients.iter().map(bits).collect::<Vec<_>>())
    };
    assert_eq!(on(1), on(2));
}

/// How an input lies in memory. Each view has the same entries as a contiguous tensor, but other strides.
#[derive(Clone, Copy, Debug)]
enum View {
    /// The last two axes swapped.
    Transposed,
    /// A part of a tensor that extends beyond it on both sides, along every axis.
    Narrowed,
    /// One entry of the first axis, repeated.
    Broadcast,
}

impl View {
    /// A contiguous tensor from which [`of`](Self::of) makes a view with the shape of `input`; `None` if there is no
    /// such view.
    fn base(self, input: &Tensor) -> Result<Option<Tensor>> {
        let rank = input.rank();
        match self {
            Self::Transposed if rank < 2 => Ok(None),
            Self::Transposed => input.transpose(rank - 2, rank - 1)?.contiguous().map(Some),
            Self::Narrowed => {
                let surrounded = (0..rank).try_fold(input.clone(), |t, axis| {
                    let end = t.narrow(axis, 0, 1)?.affine(-1.0, 9.0)?;
                    Tensor::cat(&[&end, &t, &end, &end], axis)
                });
                surrounded?.contiguous().map(Some)
            }
            Self::Broadcast => input.narrow(0, 0, 1)?.contiguous().map(Some),
        }
    }

    /// The view of `base` that has the shape `shape`.
    fn of(self, base: &Tensor, shape: &Shape) -> Result<Tensor> {
        match self {
            Self::Transposed => base.transpose(base.rank() - 2, base.rank() - 1),
            Self::Narrowed => {
                shape.dims().iter().enumerate().try_fold(base.clone(), |t, (axis, len)| t.narrow(axis, 1, *len))
            }
            Self::Broadcast => base.broadcast_as(shape.clone()),
        }
    }
}

/// Checks that `op` gives the same bits, in the value and the gradients, for inputs with other strides as for
/// contiguous ones: with all inputs in each [`View`] at once, and with each input by itself.
pub(crate) fn check_views(inputs: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let alone = (0..inputs.len()).map(|i| i..i + 1);
    let chosen: Vec<_> = alone.chain(std::iter::once(0..inputs.len())).collect();
    for view in [View::Transposed, View::Narrowed, View::Broadcast] {
        for chosen in &chosen {
            let bases = inputs.iter().enumerate().map(|(i, input)| match view.base(input)? {
                Some(base) if chosen.contains(&i) => Ok((base, true)),
                _ => Ok((input.clone(), false)),
            });
            let (bases, viewed): (Vec<_>, Vec<_>) = bases.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            let on = |contiguous: bool| {
                value_and_gradients(
                    &|bases: &[Tensor]| {
                        let tensors = bases.iter().zip(&viewed).zip(inputs).map(|((base, viewed), input)| {
                            let tensor = if *viewed { view.of(base, input.shape())? } else { base.clone() };
                            if contiguous { tensor.force_contiguous() } else { Ok(tensor) }
                        });
                        op(&tensors.collect::<Result<Vec<_>>>()?)
                    },
                    &bases,
                )
            };
            let ((value, gradients), (expected, expected_gradients)) = (on(false)?, on(true)?);
            assert_eq!(flat(&value), flat(&expected), "{view:?} of inputs {chosen:?}");
            for (found, expected) in gradients.iter().zip(&expected_gradients) {
                assert_eq!(flat(found), flat(expected), "{view:?} of inputs {chosen:?}");
            }
        }
    }
    Ok(())
}
