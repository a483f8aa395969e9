//! The executor on NVIDIA GPUs: kernels from PTX, products by cuBLASLt, recordings as CUDA graphs, on the context and
//! the stream of a device of candle.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use candle_core::{CudaDevice, Result, bail};
use cudarc::cublaslt::{result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaStream, result, sys};
use cudarc::nvrtc::Ptx;

use super::executor::{Executor, Launch, RawProduct, failed};
use super::region::Element;
use super::uploads::Uploads;

/// The kernels, compiled by the build script.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Memory for cuBLASLt to work in: 32 MiB, as NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// A GPU, its stream of work, and its memory.
pub(super) struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: HashMap<String, CudaFunction>,
    blas: blas_sys::cublasLtHandle_t,
    workspace: u64,
    allocations: Vec<u64>,
    uploads: Uploads,
    graphs: Vec<CudaGraph>,
}

// SAFETY: the handles are used by one thread at a time, which binds the context first.
unsafe impl Send for Cuda {}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Cuda {
    /// Work on the stream of `device`.
    ///
    /// # Errors
    /// When work on this stream cannot be recorded, or the device fails.
    pub(super) fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        // The null stream, and the one that stands for another stream in each thread.
        if (stream.cu_stream() as usize) <= 2 {
            bail!(
                "expected a device with a stream of its own, on which work can be recorded: open it with \
                 `numformer_ops::device::cuda` or `Device::new_cuda_with_stream`, not `Device::new_cuda`"
            );
        }
        let context = stream.context().clone();
        let module = context.load_module(Ptx::from_src(KERNELS)).map_err(|error| failed("load the kernels", error))?;
        // All kernels are loaded now: loading one while work is recorded would be part of the recording.
        let names = KERNELS.lines().filter_map(|line| line.strip_prefix(".visible .entry ")?.strip_suffix('('));
        let load = |name: &str| {
            let function = module.load_function(name).map_err(|error| failed(&format!("load {name}"), error))?;
            Ok((name.to_owned(), function))
        };
        let functions = names.map(load).collect::<Result<_>>()?;
        let uploads = Uploads::new(&stream)?;
        let blas = blas::create_handle().map_err(|error| failed("open cuBLASLt", error))?;
        let mut cuda = Self {
            context,
            stream,
            functions,
            blas,
            workspace: 0,
            allocations: Vec::new(),
            uploads,
            graphs: Vec::new(),
        };
        cuda.workspace = cuda.allocate(WORKSPACE)?;
        Ok(cuda)
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| failed("be used", error))
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
        // SAFETY: as promised by the caller.
        unsafe { self.uploads.upload(to, bytes) }
    }

    unsafe fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: as promised by the caller.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(|error| failed("copy", error))
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
