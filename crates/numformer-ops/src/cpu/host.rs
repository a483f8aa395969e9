//! Conversions between candle's tensors and slices in host memory.

use std::cell::Cell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

thread_local! {
    /// Whether this thread computes by compositions alone.
    static COMPOSES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with every operation on this thread computed by its composition, as on devices other than the CPU: for
/// tests of what runs there. Work that `work` hands to other threads is computed as usual.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::{Activation, linear, reference};
///
/// let (x, bias) = (Tensor::ones((2, 3), DType::F32, &Device::Cpu)?, Tensor::zeros(3, DType::F32, &Device::Cpu)?);
/// let weight = Tensor::ones((3, 3), DType::F32, &Device::Cpu)?;
/// let composed = reference::instead(|| linear(&x, &weight, &bias, Activation::Identity))?;
/// assert_eq!(composed.to_vec2::<f32>()?, linear(&x, &weight, &bias, Activation::Identity)?.to_vec2::<f32>()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instead<T>(work: impl FnOnce() -> T) -> T {
    /// Restores the choice, also after a panic.
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            COMPOSES.set(self.0);
        }
    }

    let _before = Before(COMPOSES.replace(true));
    work()
}

/// Whether the fused kernels accept these tensors: `f32`, in host memory, none of them empty.
pub(crate) fn accepts(tensors: &[&Tensor]) -> bool {
    !COMPOSES.get() && tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32 && t.elem_count() > 0)
}

/// The entries of a contiguous `f32` tensor, as the forward pass of a custom operation receives it.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[contiguous_range(layout)?])
}

/// The entries of a contiguous `f32` tensor, borrowed.
pub(crate) fn read(tensor: &Tensor) -> Result<Entries<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let range = contiguous_range(layout)?;
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Entries { storage, range }),
        _ => {
            bail!("expected f32 entries in host memory, found {:?} on {:?}", tensor.dtype(), tensor.device().location())
        }
    }
}

/// Entries of a tensor, with the lock on its storage held.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Entries<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.range.clone()],
            _ => unreachable!("`read` makes no other entries"),
        }
    }
}

fn contiguous_range(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!("expected a contiguous tensor, found strides {:?}", layout.stride()),
    }
}

/// The return value of a custom operation's forward pass.
pub(crate) fn stored(data: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(data), shape.into())
}

/// A tensor in host memory.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}

/// Fails unless `tensor`, called `name` in the message, has exactly the dimensions `expected`.
pub(crate) fn check_dims(op: &str, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() != expected {
        bail!("{op}: expected {name} of shape {expected:?}, found {:?}", tensor.dims());
    }
    Ok(())
}

/// The dimensions of `tensor`, called `name` in the message; fails unless there are exactly `N`.
pub(crate) fn dims<const N: usize>(op: &str, name: &str, tensor: &Tensor) -> Result<[usize; N]> {
    match tensor.dims().try_into() {
        Ok(dims) => Ok(dims),
        Err(_) => bail!("{op}: expected {name} with {N} dimensions, found shape {:?}", tensor.dims()),
    }
}

/// Fails if `lengths` is given and does not hold one length for each of `batch` examples.
pub(crate) fn check_lengths(op: &str, lengths: crate::Lengths<'_>, batch: usize) -> Result<()> {
    match lengths {
        Some(lengths) if lengths.len() != batch => {
            bail!("{op}: expected {batch} lengths, found {}", lengths.len())
        }
        _ => Ok(()),
    }
}
