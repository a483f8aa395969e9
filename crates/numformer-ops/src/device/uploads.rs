//! Copies from the host to a GPU, which overlap with its work.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use candle_core::Result;
use cudarc::driver::{CudaEvent, CudaStream, result, sys};

use super::executor::failed;

/// Maximum number of uploads whose bytes have not arrived on the device.
const SLOTS: usize = 8;

/// Maximum number of bytes in one upload; longer data goes in several.
const LARGEST: usize = 16 << 20;

/// Copies from the host to a GPU. The bytes cross the bus on a stream of their own, to memory that waits for them. The
/// stream of work then only copies them within the device, which takes a few microseconds.
pub(super) struct Uploads {
    /// The stream of work.
    work: Arc<CudaStream>,
    /// The stream of copies.
    copies: Arc<CudaStream>,
    slots: Vec<Slot>,
    next: usize,
}

/// Memory of the host that the device reads directly, and memory of the device of the same length.
struct Slot {
    host: *mut c_void,
    device: u64,
    len: usize,
    /// The bytes have arrived on the device: the memory of the host is free again.
    arrived: CudaEvent,
    /// The bytes have been copied to their place: the memory of the device is free again.
    taken: CudaEvent,
}

impl Uploads {
    pub(super) fn new(work: &Arc<CudaStream>) -> Result<Self> {
        let copies = work.context().new_stream().map_err(|error| failed("make a stream for uploads", error))?;
        Ok(Self { work: work.clone(), copies, slots: Vec::new(), next: 0 })
    }

    /// Writes bytes to the address `to` of the device, in the order of the stream of work. The caller may change the
    /// bytes afterwards.
    ///
    /// # Safety
    /// The address has room for all bytes, and the context is bound to this thread.
    pub(super) unsafe fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        let failed = |error| failed("be written to", error);
        for (to, bytes) in (to..).step_by(LARGEST).zip(bytes.chunks(LARGEST)) {
            let at = self.slot(bytes.len())?;
            let slot = &self.slots[at];
            self.copies.wait(&slot.taken).map_err(failed)?;
            // SAFETY: both memories of the slot have room. That of the host stays as it is until `arrived`, that of the
            // device until `taken`: `slot` waits for the one, the stream of copies for the other.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), slot.host.cast(), bytes.len());
                let pinned = std::slice::from_raw_parts(slot.host.cast::<u8>(), bytes.len());
                result::memcpy_htod_async(slot.device, pinned, self.copies.cu_stream()).map_err(failed)?;
            }
            slot.arrived.record(&self.copies).map_err(failed)?;
            self.work.wait(&slot.arrived).map_err(failed)?;
            // SAFETY: the caller has promised room at `to`; the bytes have arrived by then.
            unsafe { result::memcpy_dtod_async(to, slot.device, bytes.len(), self.work.cu_stream()) }
                .map_err(failed)?;
            slot.taken.record(&self.work).map_err(failed)?;
        }
        Ok(())
    }

    /// The next slot, whose memory of the host is free, with room for `len` bytes.
    fn slot(&mut self, len: usize) -> Result<usize> {
        let at = self.next;
        self.next = (at + 1) % SLOTS;
        let failed = |error| failed("take memory for uploads", error);
        if at == self.slots.len() {
            // Timings are not asked for, and events without them are cheaper.
            let event = || self.work.context().new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING));
            let (arrived, taken) = (event().map_err(failed)?, event().map_err(failed)?);
            self.slots.push(Slot { host: ptr::null_mut(), device: 0, len: 0, arrived, taken });
        }
        let slot = &mut self.slots[at];
        slot.arrived.synchronize().map_err(failed)?;
        if slot.len < len {
            slot.taken.synchronize().map_err(failed)?;
            let len = len.next_power_of_two();
            // SAFETY: nothing reads or writes the old memory any more; it is freed here, or by `drop`, once.
            unsafe {
                slot.free().map_err(failed)?;
                slot.host = result::malloc_host(len, 0).map_err(failed)?;
                slot.device = result::malloc_sync(len).map_err(failed)?;
            }
            slot.len = len;
        }
        Ok(at)
    }
}

impl Slot {
    /// # Safety
    /// Nothing uses the memory any more.
    unsafe fn free(&mut self) -> std::result::Result<(), cudarc::driver::DriverError> {
        self.len = 0;
        let (host, device) = (std::mem::replace(&mut self.host, ptr::null_mut()), std::mem::take(&mut self.device));
        // SAFETY: as promised by the caller; each is freed once, as the fields are empty now.
        unsafe {
            if !host.is_null() {
                result::free_host(host)?;
            }
            if device != 0 {
                result::free_sync(device)?;
            }
        }
        Ok(())
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // Errors have no remedy here, and the system reclaims everything when the process ends.
        let _ = self.work.context().bind_to_thread();
        let _ = self.copies.synchronize();
        let _ = self.work.synchronize();
        for slot in &mut self.slots {
            // SAFETY: both streams have done their work.
            let _ = unsafe { slot.free() };
        }
    }
}
