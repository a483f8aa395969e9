//! A device and its memory.

#[cfg(any(test, feature = "emulation"))]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(any(test, feature = "emulation"))]
use candle_core::Error;
use candle_core::{Device, Result, bail};
use half::bf16;

use super::executor::{Executor, Launch, RawProduct};
use super::region::{Element, Pool, Region};

/// A device that runs the kernels of this crate, with the memory reserved on it.
///
/// # Examples
/// ```no_run
/// use numformer_ops::device::{Accelerator, Element, cuda};
///
/// let mut device = Accelerator::new(&cuda(0)?)?;
/// let x = device.reserve(Element::F32, 3)?; // zeros
/// device.write(x, &[1.0, 2.0, 3.0])?;
/// device.add(x, x)?;
/// assert_eq!(device.read(x)?, [2.0, 4.0, 6.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Accelerator {
    executor: Box<dyn Executor>,
    device: Device,
    owner: u64,
    reserved: usize,
    /// Partial sums that one kernel leaves for the next.
    scratch: Region,
    is_recording: bool,
    recordings: usize,
}

/// A way to open an accelerator.
#[cfg(any(test, feature = "emulation"))]
pub type Opening = fn() -> Result<Accelerator>;

/// Work recorded by [`Accelerator::record`].
#[derive(Debug)]
pub struct Recording {
    owner: u64,
    index: usize,
}

impl Accelerator {
    /// Works on the stream of a CUDA device of candle, in order with all that candle does there.
    ///
    /// # Errors
    /// When it is not a CUDA device with a stream of its own, as [`cuda`](super::cuda) opens it, or the device fails.
    pub fn new(device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Ok(Self::on(Box::new(super::cuda::Cuda::new(cuda)?), device)),
            other => bail!("expected a CUDA device, found {other:?}"),
        }
    }

    /// The kernels compiled for the host, for tests: thousands of times slower than a device. Its tensors are those of
    /// the CPU.
    ///
    /// # Errors
    /// When there is no C++ compiler (`CXX`, else `c++`), or it fails to compile the kernels.
    #[cfg(any(test, feature = "emulation"))]
    pub fn emulated() -> Result<Self> {
        Ok(Self::on(Box::new(super::emulation::Emulation::new()?), &Device::Cpu))
    }

    /// How to open each device of this machine, for tests: the kernels compiled for the host and, if there is one, the
    /// first GPU. Where the environment has `NUMFORMER_NEEDS_GPU`, it is the GPU alone.
    ///
    /// # Errors
    /// When a GPU is needed and cannot be opened.
    #[cfg(any(test, feature = "emulation"))]
    pub fn of_this_machine() -> Result<Vec<Opening>> {
        /// The device of this process: opened once, because each opening waits for all that is under way.
        static GPU: OnceLock<std::result::Result<Device, String>> = OnceLock::new();
        fn gpu() -> Result<Device> {
            GPU.get_or_init(|| super::cuda(0).map_err(|error| error.to_string())).clone().map_err(Error::Msg)
        }

        let on_gpu: Opening = || Self::new(&gpu()?);
        let is_needed = std::env::var_os("NUMFORMER_NEEDS_GPU").is_some();
        match gpu() {
            Ok(_) if is_needed => Ok(vec![on_gpu]),
            Ok(_) => Ok(vec![Self::emulated, on_gpu]),
            Err(error) if is_needed => Err(error),
            Err(_) => Ok(vec![Self::emulated]),
        }
    }

    #[cfg_attr(
        not(any(test, feature = "cuda", feature = "emulation")),
        expect(dead_code, reason = "no device can be made")
    )]
    fn on(executor: Box<dyn Executor>, device: &Device) -> Self {
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed);
        let scratch = Region::new(owner, 0, Element::F32, 0);
        Self { executor, device: device.clone(), owner, reserved: 0, scratch, is_recording: false, recordings: 0 }
    }

    /// The device of candle whose tensors it shares memory with.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The executor, unless work is recorded.
    pub(super) fn executor_between_recordings(&mut self, op: &str) -> Result<&mut dyn Executor> {
        if self.is_recording {
            bail!("{op}: tensors cannot be copied while work is recorded");
        }
        Ok(&mut *self.executor)
    }

    /// A description of the device in words.
    #[must_use]
    pub fn name(&self) -> String {
        self.executor.name()
    }

    /// Bytes reserved so far.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Reserves memory for `len` entries, all zero, until the device is dropped.
    ///
    /// # Errors
    /// When there is not enough memory, or work is being recorded.
    pub fn reserve(&mut self, element: Element, len: usize) -> Result<Region> {
        if self.is_recording {
            bail!("memory cannot be reserved while work is recorded");
        }
        let Some(bytes) = len.checked_mul(element.size()).filter(|bytes| isize::try_from(*bytes).is_ok()) else {
            bail!("{len} entries of {element:?} are more than any memory can hold");
        };
        let address = self.executor.allocate(bytes.max(1))?;
        self.reserved += bytes;
        Ok(Region::new(self.owner, address, element, len))
    }

    /// Reserves memory of `bytes` bytes from which regions are taken.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_pool(&mut self, bytes: usize) -> Result<Pool> {
        let region = self.reserve(Element::F32, bytes.div_ceil(4))?;
        Ok(Pool::new(self.owner, region.address(), bytes))
    }

    /// Room for this many partial sums. Room that an earlier operation used may be given again.
    pub(super) fn scratch(&mut self, len: usize) -> Result<Region> {
        if self.scratch.len() < len {
            self.scratch = self.reserve(Element::F32, len)?;
        }
        self.scratch.slice(0..len)
    }

    /// Writes numbers; in bf16 they are rounded.
    ///
    /// # Errors
    /// When the region differs from `entries` in length or has another element type, or the device fails.
    pub fn write(&mut self, to: Region, entries: &[f32]) -> Result<()> {
        let bytes = match to.element() {
            Element::F32 => entries.iter().map(|x| x.to_ne_bytes()).collect::<Vec<_>>().into_flattened(),
            Element::Bf16 => {
                entries.iter().map(|x| bf16::from_f32(*x).to_ne_bytes()).collect::<Vec<_>>().into_flattened()
            }
            Element::F64 | Element::U32 => bail!("expected a region of F32 or Bf16, found {:?}", to.element()),
        };
        self.upload("write", to, to.element(), entries.len(), &bytes)
    }

    /// Writes ids or counts.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_ids(&mut self, to: Region, ids: &[u32]) -> Result<()> {
        let bytes: Vec<[u8; 4]> = ids.iter().map(|id| id.to_ne_bytes()).collect();
        self.upload("write_ids", to, Element::U32, ids.len(), bytes.as_flattened())
    }

    fn upload(&mut self, op: &str, to: Region, element: Element, len: usize, bytes: &[u8]) -> Result<()> {
        self.check(op, "region", to, element, len)?;
        if self.is_recording {
            bail!("{op}: memory cannot be written while work is recorded");
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the region is in memory of this executor and has `len` entries of that size.
        unsafe { self.executor.upload(to.address(), bytes) }
    }

    /// Reads numbers, after all earlier work is done.
    ///
    /// # Errors
    /// When the region has another element type, or the device or earlier work fails.
    pub fn read(&mut self, from: Region) -> Result<Vec<f32>> {
        let entries = match from.element() {
            Element::F32 => {
                let bytes = self.download(from)?;
                bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
            }
            Element::Bf16 => {
                let bytes = self.download(from)?;
                bytes.as_chunks().0.iter().map(|bytes| bf16::from_ne_bytes(*bytes).to_f32()).collect()
            }
            Element::F64 | Element::U32 => bail!("expected a region of F32 or Bf16, found {:?}", from.element()),
        };
        Ok(entries)
    }

    /// Reads ids or counts.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_ids(&mut self, from: Region) -> Result<Vec<u32>> {
        self.check("read_ids", "region", from, Element::U32, from.len())?;
        let bytes = self.download(from)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect())
    }

    fn download(&mut self, from: Region) -> Result<Vec<u8>> {
        self.check("read", "region", from, from.element(), from.len())?;
        if self.is_recording {
            bail!("memory cannot be read while work is recorded");
        }
        let mut bytes = vec![0; from.len() * from.element().size()];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        // SAFETY: the region is in memory of this executor and has this many bytes.
        unsafe { self.executor.download(from.address(), &mut bytes) }?;
        Ok(bytes)
    }

    /// Records the operations of `work` without running them. [`replay`](Self::replay) runs them as often as needed, on
    /// the contents that the regions have at that time.
    ///
    /// # Errors
    /// When `work` fails, or the device cannot record.
    pub fn record(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Recording> {
        self.begin_recording()?;
        let done = work(self);
        // This also runs after an error, because the device records until it is told to stop.
        let recording = self.end_recording();
        done?;
        recording
    }

    /// From here to [`end_recording`](Self::end_recording), operations are recorded, as by [`record`](Self::record).
    ///
    /// # Errors
    /// When work is being recorded already, or the device cannot record.
    pub fn begin_recording(&mut self) -> Result<()> {
        if self.is_recording {
            bail!("work cannot be recorded within a recording");
        }
        self.executor.begin_recording()?;
        self.is_recording = true;
        Ok(())
    }

    /// Ends a recording.
    ///
    /// # Errors
    /// When none was begun, or the device cannot record.
    pub fn end_recording(&mut self) -> Result<Recording> {
        if !self.is_recording {
            bail!("expected a recording that was begun");
        }
        self.is_recording = false;
        let index = self.executor.end_recording()?;
        self.recordings += 1;
        Ok(Recording { owner: self.owner, index })
    }

    /// Runs a recording.
    ///
    /// # Errors
    /// When another device made the recording, or the device fails.
    pub fn replay(&mut self, recording: &Recording) -> Result<()> {
        if recording.owner != self.owner {
            bail!("expected a recording of this device");
        }
        if self.is_recording {
            bail!("a recording cannot be replayed within another");
        }
        self.executor.replay(recording.index)
    }

    /// Checks that a region is of this device, holds entries of type `element`, and has `len` of them.
    pub(super) fn check(&self, op: &str, name: &str, region: Region, element: Element, len: usize) -> Result<()> {
        if region.owner() != self.owner {
            bail!("{op}: expected {name} in the memory of this device");
        }
        if region.element() != element {
            bail!("{op}: expected {name} of {element:?}, found {:?}", region.element());
        }
        if region.len() != len {
            bail!("{op}: expected {len} entries of {name}, found {}", region.len());
        }
        Ok(())
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// As for [`Executor::launch`].
    pub(super) unsafe fn launch(&mut self, launch: &Launch) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        // SAFETY: as promised by the caller.
        unsafe { self.executor.launch(launch) }
    }

    /// Multiplies two matrices.
    ///
    /// # Safety
    /// As for [`Executor::multiply`].
    pub(super) unsafe fn raw_multiply(&mut self, product: &RawProduct) -> Result<()> {
        // SAFETY: as promised by the caller.
        unsafe { self.executor.multiply(product) }
    }
}
