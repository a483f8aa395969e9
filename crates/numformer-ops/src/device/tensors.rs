//! Copies between the memory of an accelerator and tensors of candle on the same device.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};

use super::accelerator::Accelerator;
use super::executor::Executor;
use super::region::{Element, Region};

impl Accelerator {
    /// Copies the entries of a tensor, row-major.
    ///
    /// # Errors
    /// When the tensor is on another device, or has another number or type of entries than the region; when work is
    /// recorded, or the device fails.
    pub fn copy_from_tensor(&mut self, to: Region, from: &Tensor) -> Result<()> {
        self.transfer("copy_from_tensor", to, &from.contiguous()?, Direction::FromTensor)
    }

    /// Replaces the entries of a tensor, row-major, also for everything that shares its memory: the variables of a
    /// model, for example.
    ///
    /// # Errors
    /// As [`copy_from_tensor`](Self::copy_from_tensor), and when the tensor is not contiguous.
    pub fn copy_to_tensor(&mut self, to: &Tensor, from: Region) -> Result<()> {
        self.transfer("copy_to_tensor", from, to, Direction::ToTensor)
    }

    fn transfer(&mut self, op: &str, region: Region, tensor: &Tensor, direction: Direction) -> Result<()> {
        if !tensor.device().same_device(self.device()) {
            bail!("{op}: expected a tensor on {:?}, found one on {:?}", self.device(), tensor.device());
        }
        let element = match tensor.dtype() {
            DType::F32 => Element::F32,
            DType::U32 => Element::U32,
            other => bail!("{op}: expected a tensor of F32 or U32, found {other:?}"),
        };
        self.check(op, "region", region, element, tensor.elem_count())?;
        if !tensor.is_contiguous() {
            bail!("{op}: expected a contiguous tensor");
        }
        if region.is_empty() {
            return Ok(());
        }
        let executor = RefCell::new(self.executor_between_recordings(op)?);
        tensor.inplace_op1(&Transfer { executor, region, direction })
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    FromTensor,
    ToTensor,
}

/// A copy that gets at the memory of a tensor as an operation in place.
struct Transfer<'a> {
    executor: RefCell<&'a mut dyn Executor>,
    region: Region,
    direction: Direction,
}

impl Transfer<'_> {
    /// # Safety
    /// The tensor has as many bytes as the region, at this address of the device's memory.
    unsafe fn run(&self, tensor: u64) -> Result<()> {
        let (region, bytes) = (self.region.address(), self.region.len() * self.region.element().size());
        let (to, from) = match self.direction {
            Direction::FromTensor => (region, tensor),
            Direction::ToTensor => (tensor, region),
        };
        // SAFETY: as promised by the caller; the region was checked to belong to this executor.
        unsafe { self.executor.borrow_mut().copy(to, from, bytes) }
    }
}

impl InplaceOp1 for Transfer<'_> {
    fn name(&self) -> &'static str {
        "transfer"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let range = layout.start_offset()..layout.start_offset() + self.region.len();
        // The kernels on the host work in the memory of the host.
        let address = match storage {
            CpuStorage::F32(entries) => entries[range].as_mut_ptr() as u64,
            CpuStorage::U32(entries) => entries[range].as_mut_ptr() as u64,
            _ => bail!("transfer: expected a tensor of F32 or U32"),
        };
        // SAFETY: the slice has as many entries as the region, of the same type.
        unsafe { self.run(address) }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut candle_core::CudaStorage, layout: &Layout) -> Result<()> {
        use cudarc::driver::DevicePtrMut;

        let (begin, len) = (layout.start_offset(), self.region.len());
        let stream = storage.device.cuda_stream();
        match self.region.element() {
            Element::U32 => {
                let mut entries = storage.as_cuda_slice_mut::<u32>()?.slice_mut(begin..begin + len);
                let (address, _use) = entries.device_ptr_mut(&stream);
                // SAFETY: the slice has as many entries as the region, of the same type; the copy is ordered by the
                // stream that all uses of the tensor are on.
                unsafe { self.run(address) }
            }
            _ => {
                let mut entries = storage.as_cuda_slice_mut::<f32>()?.slice_mut(begin..begin + len);
                let (address, _use) = entries.device_ptr_mut(&stream);
                // SAFETY: as above.
                unsafe { self.run(address) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor, Var};

    use super::*;

    /// A GPU if there is one, else the kernels on the host.
    fn opened() -> Result<Accelerator> {
        Accelerator::of_this_machine()?.last().expect("the host at least")()
    }

    #[test]
    fn entries_go_to_a_tensor_and_back() -> Result<()> {
        let mut device = opened()?;
        let on = device.device().clone();
        let region = device.reserve(Element::F32, 6)?;
        let x = Tensor::arange(0f32, 12.0, &on)?.reshape((4, 3))?;
        // A part of a larger tensor, and one that is not contiguous.
        device.copy_from_tensor(region, &x.narrow(0, 1, 2)?)?;
        assert_eq!(device.read(region)?, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        device.copy_from_tensor(region, &x.narrow(0, 0, 2)?.t()?)?;
        assert_eq!(device.read(region)?, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);

        let var = Var::zeros((2, 3), DType::F32, &on)?;
        let shared = var.as_detached_tensor();
        device.copy_to_tensor(&var, region)?;
        assert_eq!(shared.to_vec2::<f32>()?, [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]);

        let ids = device.reserve(Element::U32, 3)?;
        device.copy_from_tensor(ids, &Tensor::new(&[7u32, 8, 9], &on)?)?;
        assert_eq!(device.read_ids(ids)?, [7, 8, 9]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let mut device = opened()?;
        let on = device.device().clone();
        let region = device.reserve(Element::F32, 2)?;
        let refused = |device: &mut Accelerator, tensor: &Tensor| {
            device.copy_to_tensor(tensor, region).expect_err("another shape").to_string()
        };
        let three = Tensor::zeros(3, DType::F32, &on)?;
        assert!(refused(&mut device, &three).contains("expected 3 entries"));
        assert!(refused(&mut device, &three.to_dtype(DType::F64)?).contains("found F64"));
        let column = Tensor::zeros((2, 2), DType::F32, &on)?.narrow(1, 0, 1)?;
        assert!(refused(&mut device, &column).contains("contiguous"));
        Ok(())
    }
}
