//! Ranks over NCCL, one for each GPU.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, bail};
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtrMut};
use cudarc::nccl::result::{self, NcclError};
use cudarc::nccl::sys as nccl;
use numformer_distributed::{Communicator, CommunicatorError};

use super::accelerator::Accelerator;
use super::device_sum::DeviceSum;
use super::region::{Element, Region};

/// Bytes of an identifier of NCCL.
const ID: usize = 128;

/// Time between two looks at the sums that are under way.
const LOOK: Duration = Duration::from_millis(200);

/// The processes that NCCL connects, each with a GPU of its own. Vectors on the devices are added up there, in the order
/// of candle's stream; vectors of the host go by way of the device.
///
/// The host does not wait for a sum of vectors on devices. A thread of this communicator looks after the sums that are
/// under way: if one takes longer than the time-out, it ends the connection, so that the device stops waiting for ranks
/// that are gone, and every later call fails.
pub struct Nccl {
    shared: Arc<Shared>,
    rank: usize,
    size: usize,
}

struct Shared {
    connection: Mutex<Connection>,
    stream: Arc<CudaStream>,
    timeout: Option<Duration>,
}

/// A connection, with the sums that are under way.
struct Connection {
    /// `None` once it has ended.
    handle: Option<Handle>,
    /// Whether it ended because a sum took too long.
    timed_out: bool,
    under_way: VecDeque<CudaEvent>,
    /// When the first of them became the first.
    since: Instant,
}

/// A handle of NCCL.
struct Handle(nccl::ncclComm_t);

// SAFETY: NCCL allows any thread to use a communicator, one at a time: it is behind a lock.
unsafe impl Send for Handle {}

impl Connection {
    /// Ends the connection without the other ranks.
    fn abort(&mut self) {
        if let Some(Handle(handle)) = self.handle.take() {
            // SAFETY: the handle is released once. An error here has no remedy.
            let _ = unsafe { result::comm_abort(handle) };
        }
    }

    /// Forgets the sums that are done. Aborts if the first of the others takes longer than the time-out.
    fn look_after(&mut self, timeout: Duration) {
        while self.under_way.front().is_some_and(|sum| sum.try_is_complete().unwrap_or(true)) {
            self.under_way.pop_front();
            self.since = Instant::now();
        }
        if !self.under_way.is_empty() && self.since.elapsed() > timeout {
            self.timed_out = true;
            self.under_way.clear();
            self.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nccl {
    /// Joins `size` ranks as number `rank`, on a GPU that [`cuda`](super::cuda) opened. The environment variable
    /// `NCCL_COMM_ID` must give the address of a free port of the first rank, as `host:port`, to all of them: NCCL's own
    /// rendezvous meets there.
    ///
    /// # Errors
    /// When the device is no GPU, NCCL is missing or fails, or another rank does not come in time.
    pub fn join(
        device: &Device,
        rank: usize,
        size: usize,
        timeout: Option<Duration>,
    ) -> std::result::Result<Self, CommunicatorError> {
        let id = own_id(rank)?;
        Self::connect(device, rank, size, id, timeout)
    }

    /// Joins the ranks of another communicator, which tells them where to meet.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_by(
        device: &Device,
        ranks: &dyn Communicator,
        timeout: Option<Duration>,
    ) -> std::result::Result<Self, CommunicatorError> {
        let (rank, size) = (ranks.rank(), ranks.size());
        let mut id =
            if rank == 0 { own_id(rank)?.internal.map(|byte| byte.cast_unsigned()).to_vec() } else { Vec::new() };
        ranks.broadcast(&mut id, 0)?;
        let bytes: [u8; ID] = id.try_into().map_err(|_| CommunicatorError::Unreadable {
            rank: 0,
            reason: format!("expected an identifier of {ID} bytes"),
        })?;
        let id = nccl::ncclUniqueId { internal: bytes.map(u8::cast_signed) };
        Self::connect(device, rank, size, id, timeout)
    }

    fn connect(
        device: &Device,
        rank: usize,
        size: usize,
        id: nccl::ncclUniqueId,
        timeout: Option<Duration>,
    ) -> std::result::Result<Self, CommunicatorError> {
        let failed = |message: String| CommunicatorError::Device { rank, message };
        let Device::Cuda(cuda) = device else { return Err(failed(format!("expected a GPU, found {device:?}"))) };
        let stream = cuda.cuda_stream();
        let (to, connected) = channel();
        let context = stream.context().clone();
        // NCCL waits for the other ranks as long as it takes; this thread does not.
        thread::spawn(move || {
            let connected = context.bind_to_thread().map_err(|error| error.to_string()).and_then(|()| {
                let mut connection = std::ptr::null_mut();
                // SAFETY: the handle is written to a variable of its type.
                unsafe { result::comm_init_rank(&raw mut connection, size as i32, id, rank as i32) }.map_err(said)?;
                Ok(Handle(connection))
            });
            let _ = to.send(connected);
        });
        let connected = match timeout {
            Some(timeout) => connected.recv_timeout(timeout),
            None => connected.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let connection = match connected {
            Ok(connection) => connection.map_err(failed)?,
            Err(RecvTimeoutError::Disconnected) => return Err(CommunicatorError::Closed { rank }),
            Err(RecvTimeoutError::Timeout) => {
                let after = timeout.unwrap_or(Duration::MAX);
                return Err(CommunicatorError::TimedOut { rank, work: "join", after });
            }
        };
        let (under_way, since, timed_out) = (VecDeque::new(), Instant::now(), false);
        let connection = Connection { handle: Some(connection), timed_out, under_way, since };
        let shared = Arc::new(Shared { connection: Mutex::new(connection), stream, timeout });
        if let Some(timeout) = timeout {
            let watched = Arc::downgrade(&shared);
            thread::spawn(move || {
                while let Some(shared) = watched.upgrade() {
                    shared.lock().look_after(timeout);
                    drop(shared);
                    thread::sleep(LOOK);
                }
            });
        }
        Ok(Self { shared, rank, size })
    }

    /// Leaves the other ranks at the end of a job, after all that is under way. A collective call. Later calls fail.
    ///
    /// # Errors
    /// When another rank failed, or NCCL does.
    pub fn finish(&self) -> std::result::Result<(), CommunicatorError> {
        self.wait_for_work()?;
        let Some(Handle(handle)) = self.shared.lock().handle.take() else { return Err(self.ended(false)) };
        // SAFETY: the handle was taken, so that nothing else uses it; it is released once.
        let ended = unsafe { result::comm_finalize(handle).and_then(|_| result::comm_destroy(handle)) };
        ended.map(drop).map_err(|error| self.failed(said(error)))
    }

    fn failed(&self, message: impl ToString) -> CommunicatorError {
        CommunicatorError::Device { rank: self.rank, message: message.to_string() }
    }

    /// The error of a connection that has ended.
    fn ended(&self, timed_out: bool) -> CommunicatorError {
        let rank = self.rank;
        match self.shared.timeout {
            Some(after) if timed_out => CommunicatorError::TimedOut { rank, work: "add up vectors", after },
            _ => CommunicatorError::Closed { rank },
        }
    }

    /// Waits for all work of the stream. If a sum never ends, the thread that looks after it makes it end.
    fn wait_for_work(&self) -> std::result::Result<(), CommunicatorError> {
        let synchronized = self.shared.stream.synchronize();
        let Connection { timed_out, ref handle, .. } = *self.shared.lock();
        if handle.is_none() {
            return Err(self.ended(timed_out));
        }
        synchronized.map_err(|error| self.failed(error))
    }

    /// Does `work` with the handle, in the order of the stream, and looks after it.
    fn with_handle(
        &self,
        work: impl FnOnce(nccl::ncclComm_t) -> std::result::Result<(), NcclError>,
    ) -> std::result::Result<(), CommunicatorError> {
        let mut connection = self.shared.lock();
        let Some(Handle(handle)) = connection.handle else { return Err(self.ended(connection.timed_out)) };
        work(handle).map_err(|error| self.failed(said(error)))?;
        if self.shared.timeout.is_some() {
            let done = self.shared.stream.record_event(None).map_err(|error| self.failed(error))?;
            if connection.under_way.is_empty() {
                connection.since = Instant::now();
            }
            connection.under_way.push_back(done);
        }
        Ok(())
    }

    /// Adds up `len` numbers at an address, in the order of the stream.
    ///
    /// # Safety
    /// The address has as many numbers in memory of the device.
    unsafe fn sum_at(&self, address: u64, len: usize) -> std::result::Result<(), CommunicatorError> {
        let (at, stream) = (address as *mut c_void, self.shared.stream.cu_stream().cast());
        self.with_handle(|handle| {
            // SAFETY: the caller vouches for the memory; NCCL may add up in place.
            unsafe {
                let (of, operation) = (nccl::ncclDataType_t::ncclFloat32, nccl::ncclRedOp_t::ncclSum);
                result::all_reduce(at, at, len, of, operation, handle, stream).map(drop)
            }
        })
    }

    /// The numbers on the device, after `work` there.
    fn on_device<T: cudarc::driver::DeviceRepr + Clone + Default>(
        &self,
        values: &[T],
        work: impl FnOnce(u64) -> std::result::Result<(), CommunicatorError>,
    ) -> std::result::Result<Vec<T>, CommunicatorError> {
        let stream = &self.shared.stream;
        let mut there: CudaSlice<T> = stream.clone_htod(values).map_err(|error| self.failed(error))?;
        {
            let (address, _used) = there.device_ptr_mut(stream);
            work(address)?;
        }
        self.wait_for_work()?;
        stream.clone_dtoh(&there).map_err(|error| self.failed(error))
    }

    fn broadcast_at(&self, bytes: &[u8], from: usize) -> std::result::Result<Vec<u8>, CommunicatorError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        self.on_device(bytes, |address| {
            let (at, stream) = (address as *mut c_void, self.shared.stream.cu_stream().cast());
            let of = nccl::ncclDataType_t::ncclUint8;
            // SAFETY: there are as many bytes at the address.
            self.with_handle(|handle| unsafe {
                result::broadcast(at, at, bytes.len(), of, from as i32, handle, stream).map(drop)
            })
        })
    }
}

/// Where ranks meet: the address in `NCCL_COMM_ID`, or one that the first rank opens.
fn own_id(rank: usize) -> std::result::Result<nccl::ncclUniqueId, CommunicatorError> {
    result::get_uniqueid().map_err(|error| CommunicatorError::Device { rank, message: said(error) })
}

/// What NCCL says, in words.
fn said(NcclError(error): NcclError) -> String {
    match error {
        nccl::ncclResult_t::ncclSystemError => {
            "NCCL cannot be used (ncclSystemError): expected libnccl.so.2 on LD_LIBRARY_PATH, and a network between the \
             ranks; NCCL_DEBUG=INFO says more"
                .to_owned()
        }
        other => format!("NCCL failed ({other:?}); NCCL_DEBUG=INFO says more"),
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) -> std::result::Result<(), CommunicatorError> {
        if values.is_empty() {
            return Ok(());
        }
        let len = values.len();
        // SAFETY: as many numbers as there are values.
        let sums = self.on_device(values, |address| unsafe { self.sum_at(address, len) })?;
        values.copy_from_slice(&sums);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> std::result::Result<(), CommunicatorError> {
        let len = self.broadcast_at(&(bytes.len() as u64).to_le_bytes(), from)?;
        let len = len.try_into().map(u64::from_le_bytes).map_err(|_| self.failed("expected eight bytes"))?;
        bytes.resize(len as usize, 0);
        *bytes = self.broadcast_at(bytes, from)?;
        Ok(())
    }
}

impl DeviceSum for Nccl {
    fn sum(&self, device: &mut Accelerator, region: Region) -> Result<()> {
        device.check("sum", "region", region, Element::F32, region.len())?;
        match device.device() {
            Device::Cuda(cuda) if cuda.cuda_stream().cu_stream() == self.shared.stream.cu_stream() => {}
            other => bail!("sum: expected the device of this communicator, found {other:?}"),
        }
        // SAFETY: the region lies in memory of this device, and the work is in the order of its stream.
        unsafe { self.sum_at(region.address(), region.len()) }.map_err(candle_core::Error::wrap)
    }

    fn wait(&self) -> Result<()> {
        self.wait_for_work().map_err(candle_core::Error::wrap)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // Unless the job was finished: other ranks may be gone, so this does not wait for them.
        self.shared.lock().abort();
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, size, shared } = self;
        let mut shown = f.debug_struct("Nccl");
        shown.field("rank", rank).field("size", size).field("timeout", &shared.timeout).finish_non_exhaustive()
    }
}
