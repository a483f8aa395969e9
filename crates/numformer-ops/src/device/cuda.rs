//! NVIDIA GPUs: kernels from PTX, products by cuBLASLt, recordings as CUDA graphs.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use candle_core::{Error, Result, bail};
use cudarc::cublaslt::{result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaStream, DriverError, result, sys};
use cudarc::nvrtc::Ptx;

use super::executor::{Executor, Launch, RawProduct};
use super::region::Element;

/// The kernels, compiled by the build script.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Maximum number of uploads under way at once; the host is at most this many uploads ahead of the device.
const UPLOADS: usize = 8;

/// Maximum number of bytes in one upload; longer data goes in several.
const UPLOAD: usize = 16 << 20;

/// Memory for cuBLASLt to work in: 32 MiB, as NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// The functions of the driver that are called here, and by cudarc on behalf of this module.
const DRIVER_SYMBOLS: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// The functions of cuBLASLt that are called: the same in CUDA 12 and 13.
const BLAS_SYMBOLS: &[&str] = &[
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// A GPU, its stream of work, and its memory.
pub(super) struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: HashMap<String, CudaFunction>,
    blas: blas_sys::cublasLtHandle_t,
    workspace: u64,
    allocations: Vec<u64>,
    uploads: Vec<Upload>,
    next_upload: usize,
    graphs: Vec<CudaGraph>,
}

// SAFETY: the handles are used by one thread at a time, which binds the context first.
unsafe impl Send for Cuda {}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Pinned memory of the host, which the device reads directly.
struct Upload {
    memory: *mut c_void,
    len: usize,
    /// Signals that the device has read the memory.
    done: CudaEvent,
}

fn failed(what: &str, error: impl fmt::Debug) -> Error {
    Error::Msg(format!("the device cannot {what}: {error:?}"))
}

impl Cuda {
    pub(super) fn new(ordinal: usize) -> Result<Self> {
        let unopened = |why: String| Error::Msg(format!("cuda:{ordinal} cannot be opened: {why}"));
        // SAFETY: this only looks for the libraries; a missing library would end the program later.
        let (driver, blas) = unsafe { (sys::is_culib_present(), blas_sys::is_culib_present()) };
        if !driver {
            return Err(unopened("there is no NVIDIA driver on this machine".to_owned()));
        }
        if !blas {
            return Err(unopened(
                "there is no cuBLASLt of CUDA 13 or 12 (libcublasLt.so); put its folder on LD_LIBRARY_PATH".to_owned(),
            ));
        }
        // cudarc looks up a symbol at its first call, and ends the program if the symbol is missing.
        // SAFETY: the libraries are present (see above), and their symbols are looked up, not called.
        let (in_driver, in_blas) = unsafe {
            let (driver, blas) = (sys::culib(), blas_sys::culib());
            let in_driver = |name: &&&str| driver.get::<unsafe extern "C" fn()>(name.as_bytes()).is_err();
            let in_blas = |name: &&&str| blas.get::<unsafe extern "C" fn()>(name.as_bytes()).is_err();
            (DRIVER_SYMBOLS.iter().find(in_driver), BLAS_SYMBOLS.iter().find(in_blas))
        };
        for (library, missing) in [("the NVIDIA driver", in_driver), ("cuBLASLt (libcublasLt.so)", in_blas)] {
            if let Some(symbol) = missing {
                return Err(unopened(format!("the installed {library} has no {symbol}: it is not for CUDA 13 or 12")));
            }
        }
        let opened = |DriverError(error)| {
            unopened(match error {
                sys::CUresult::CUDA_ERROR_NO_DEVICE => "there is no GPU on this machine".to_owned(),
                sys::CUresult::CUDA_ERROR_INVALID_DEVICE => "there is no GPU with this number".to_owned(),
                sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
                    "the driver does not match the rest of the system".to_owned()
                }
                other => format!("{other:?}"),
            })
        };
        let context = CudaContext::new(ordinal).map_err(opened)?;
        // SAFETY: all work is on one stream, so nothing waits for an event.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(opened)?;
        let module = context.load_module(Ptx::from_src(KERNELS)).map_err(|error| failed("load the kernels", error))?;
        let blas = blas::create_handle().map_err(|error| failed("open cuBLASLt", error))?;
        // All kernels are loaded now: loading one while work is recorded would be part of the recording.
        let names = KERNELS.lines().filter_map(|line| line.strip_prefix(".visible .entry ")?.strip_suffix('('));
        let load = |name: &str| {
            let function = module.load_function(name).map_err(|error| failed(&format!("load {name}"), error))?;
            Ok((name.to_owned(), function))
        };
        let functions = names.map(load).collect::<Result<_>>()?;
        let mut cuda = Self {
            context,
            stream,
            functions,
            blas,
            workspace: 0,
            allocations: Vec::new(),
            uploads: Vec::new(),
            next_upload: 0,
            graphs: Vec::new(),
        };
        cuda.workspace = cuda.allocate(WORKSPACE)?;
        Ok(cuda)
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| failed("be used", error))
    }

    /// Pinned memory that the device has finished reading, with room for `len` bytes.
    fn staging(&mut self, len: usize) -> Result<&mut Upload> {
        let at = self.next_upload;
        self.next_upload = (at + 1) % UPLOADS;
        let failed = |error| failed("take memory of the host", error);
        if at == self.uploads.len() {
            let done = self.context.new_event(None).map_err(failed)?;
            self.uploads.push(Upload { memory: std::ptr::null_mut(), len: 0, done });
        }
        let upload = &mut self.uploads[at];
        upload.done.synchronize().map_err(failed)?;
        if upload.len < len {
            let len = len.next_power_of_two();
            // SAFETY: the device has finished reading the old memory, which is freed here or when the device is
            // dropped.
            unsafe {
                if !upload.memory.is_null() {
                    result::free_host(upload.memory).map_err(failed)?;
                    upload.memory = std::ptr::null_mut();
                    upload.len = 0;
                }
                upload.memory = result::malloc_host(len, 0).map_err(failed)?;
            }
            upload.len = len;
        }
        Ok(upload)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Graphs go first, because they hold addresses. Errors are ignored here: the system reclaims everything when
        // the process ends.
        let _ = self.context.bind_to_thread();
        let _ = self.stream.synchronize();
        self.graphs.clear();
        // SAFETY: all work is done, so nothing uses the handle or the memory any more, and each is released once.
        unsafe {
            let _ = blas::destroy_handle(self.blas);
            for address in self.allocations.drain(..) {
                let _ = result::free_sync(address);
            }
            for upload in self.uploads.drain(..) {
                let _ = result::free_host(upload.memory);
            }
        }
    }
}

impl Executor for Cuda {
    fn name(&self) -> String {
        self.context.name().unwrap_or_else(|_| "an NVIDIA GPU".to_owned())
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        self.bind()?;
        let failed = |error| failed(&format!("reserve {bytes} bytes"), error);
        // SAFETY: the memory is set to zeros before anything reads it, in the order of the stream.
        unsafe {
            let address = result::malloc_sync(bytes).map_err(failed)?;
            self.allocations.push(address);
            result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()).map_err(failed)?;
            Ok(address)
        }
    }

    unsafe fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        let stream = self.stream.clone();
        let mut to = to;
        for bytes in bytes.chunks(UPLOAD) {
            let upload = self.staging(bytes.len())?;
            // SAFETY: the pinned memory has room, and stays valid until the event signals that the device has read it.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), upload.memory.cast(), bytes.len());
                let pinned = std::slice::from_raw_parts(upload.memory.cast::<u8>(), bytes.len());
                result::memcpy_htod_async(to, pinned, stream.cu_stream())
                    .map_err(|error| failed("be written to", error))?;
            }
            upload.done.record(&stream).map_err(|error| failed("be written to", error))?;
            to += bytes.len() as u64;
        }
        Ok(())
    }

    unsafe fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the bytes stay in place until the copy is done, because this function waits for it.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }
            .map_err(|error| failed("be read", error))?;
        self.stream.synchronize().map_err(|error| failed("do its work", error))
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.bind()?;
        let Launch { kernel, grid: [x, y, z], block: [columns, rows], arguments } = launch;
        let stream = self.stream.cu_stream();
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|argument| std::ptr::from_ref(argument).cast_mut().cast()).collect();
        let Some(function) = self.functions.get(kernel) else { bail!("there is no kernel `{kernel}`") };
        // SAFETY: the arguments are the kernel's, as promised by the caller; they are copied before this returns.
        unsafe {
            let (grid, block) = ((*x, *y, *z), (*columns, *rows, 1));
            result::launch_kernel(function.cu_function(), grid, block, 0, stream, &mut arguments)
        }
        .map_err(|error| failed(&format!("run {kernel}"), error))
    }

    unsafe fn multiply(&mut self, product: &RawProduct) -> Result<()> {
        self.bind()?;
        // SAFETY: as promised by the caller; the handle and the workspace belong to this device.
        unsafe { multiply(self.blas, self.workspace, &self.stream, product) }
            .map_err(|error| failed(&format!("multiply {:?}", product.sizes), error))
    }

    fn begin_recording(&mut self) -> Result<()> {
        self.stream
            .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(|error| failed("record", error))
    }

    fn end_recording(&mut self) -> Result<usize> {
        let graph =
            self.stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(|error| failed("record", error))?;
        let Some(graph) = graph else { bail!("the device recorded nothing") };
        self.graphs.push(graph);
        Ok(self.graphs.len() - 1)
    }

    fn replay(&mut self, recording: usize) -> Result<()> {
        self.graphs[recording].launch().map_err(|error| failed("do recorded work", error))
    }
}

fn data_type(element: Element) -> blas_sys::cudaDataType {
    match element {
        Element::Bf16 => blas_sys::cudaDataType::CUDA_R_16BF,
        _ => blas_sys::cudaDataType::CUDA_R_32F,
    }
}

/// A descriptor of cuBLASLt, destroyed on drop.
struct Described<T: Copy> {
    handle: T,
    destroy: unsafe fn(T) -> std::result::Result<(), blas::CublasError>,
}

impl<T: Copy> Drop for Described<T> {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once, when nothing uses it any more. An error here has no remedy.
        let _ = unsafe { (self.destroy)(self.handle) };
    }
}

/// The largest power of two, up to 256, that divides an address.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

/// cuBLASLt stores matrices by columns, so it computes Cᵀ = op(B)ᵀ·op(A)ᵀ.
///
/// # Safety
/// The matrices and the workspace are in memory of the device.
unsafe fn multiply(
    handle: blas_sys::cublasLtHandle_t,
    workspace: u64,
    stream: &CudaStream,
    product: &RawProduct,
) -> std::result::Result<(), blas::CublasError> {
    use blas_sys::cublasLtMatmulDescAttributes_t as Attribute;
    use blas_sys::cublasLtMatmulPreferenceAttributes_t as Preference;

    let RawProduct { sizes: [m, n, k], a, b, c, input, output, transposed, bias, relu, accumulate } = *product;
    let compute = blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
    let operation = Described {
        handle: blas::create_matmul_desc(compute, blas_sys::cudaDataType::CUDA_R_32F)?,
        destroy: blas::destroy_matmul_desc,
    };
    let set = |attribute, value: *const c_void, size| {
        // SAFETY: the descriptor is alive, and the value has `size` bytes.
        unsafe { blas::set_matmul_desc_attribute(operation.handle, attribute, value, size) }
    };
    let set_word = |attribute, value: u32| set(attribute, std::ptr::from_ref(&value).cast(), size_of::<u32>());
    let [of_a, of_b] = transposed;
    set_word(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, u32::from(of_b))?;
    set_word(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, u32::from(of_a))?;
    let epilogue = match (bias, relu) {
        (Some(_), true) => blas_sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
        (Some(_), false) => blas_sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        (None, true) => blas_sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU,
        (None, false) => blas_sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
    };
    set_word(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue as u32)?;
    if let Some(bias) = bias {
        set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, std::ptr::from_ref(&bias).cast(), size_of::<u64>())?;
    }

    let layout = |element, rows: usize, columns: usize| -> std::result::Result<_, blas::CublasError> {
        let handle = blas::create_matrix_layout(data_type(element), rows as u64, columns as u64, rows as i64)?;
        Ok(Described { handle, destroy: blas::destroy_matrix_layout })
    };
    let first = if of_b { layout(input, k, n) } else { layout(input, n, k) }?;
    let second = if of_a { layout(input, m, k) } else { layout(input, k, m) }?;
    let result = layout(output, n, m)?;

    let preference = Described { handle: blas::create_matmul_pref()?, destroy: blas::destroy_matmul_pref };
    let prefer = |attribute, value: *const c_void, size| {
        // SAFETY: as for `set`.
        unsafe { blas::set_matmul_pref_attribute(preference.handle, attribute, value, size) }
    };
    let size = WORKSPACE;
    prefer(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::ptr::from_ref(&size).cast(), size_of::<usize>())?;
    for (attribute, address) in [
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
        (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c),
    ] {
        let alignment = alignment(address);
        prefer(attribute, std::ptr::from_ref(&alignment).cast(), size_of::<u32>())?;
    }
    // Partial sums are added in f32, not in the element type of C.
    let scheme = blas_sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
    let mask = Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
    prefer(mask, std::ptr::from_ref(&scheme).cast(), size_of::<u32>())?;
    let (alpha, beta) = (1f32, if accumulate { 1f32 } else { 0.0 });
    // SAFETY: all descriptors are alive; the matrices and the workspace are memory of the device, as promised by the
    // caller.
    unsafe {
        let chosen = blas::get_matmul_algo_heuristic(
            handle,
            operation.handle,
            first.handle,
            second.handle,
            result.handle,
            result.handle,
            preference.handle,
        )?;
        blas::matmul(
            handle,
            operation.handle,
            std::ptr::from_ref(&alpha).cast(),
            std::ptr::from_ref(&beta).cast(),
            b as *const c_void,
            first.handle,
            a as *const c_void,
            second.handle,
            c as *const c_void,
            result.handle,
            c as *mut c_void,
            result.handle,
            &raw const chosen.algo,
            workspace as *mut c_void,
            WORKSPACE,
            stream.cu_stream().cast(),
        )
    }
}
