//! Matrix products by cuBLAS, of row-major matrices.

use super::memory::{Allocation, Array};
use super::{Cuda, call, check};
use crate::device::DeviceError;
use cudarc::cublas::{result, sys};
use cudarc::driver::sys::CUstream;
use std::ffi::c_void;
use std::sync::{Arc, PoisonError};

/// Format of the factors; sums are float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Math {
    /// float32.
    Float32,
    /// float32 rounded to 10 bits of mantissa by the tensor cores.
    Tf32,
}

/// A factor or the result of a product: a row-major matrix in device memory, or several of them at
/// a constant distance.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pointer: u64,
    /// Elements from row to row.
    row: usize,
    /// Elements from matrix to matrix.
    stride: usize,
    transposed: bool,
    bf16: bool,
}

impl Operand {
    /// The transposed matrix.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Several matrices, at a distance of `stride` elements; 0 for the same one each time.
    pub fn strided(self, stride: usize) -> Self {
        Self { stride, ..self }
    }
}

/// Numbers that products can have as factors.
pub trait Element {
    /// Whether they are bf16.
    const IS_BF16: bool;
}

impl Element for f32 {
    const IS_BF16: bool = false;
}

/// The bits of a bf16 number.
impl Element for u16 {
    const IS_BF16: bool = true;
}

impl<T: Element> Array<T> {
    /// A matrix from element `first` on, with `row` elements from row to row.
    pub fn matrix(&self, first: usize, row: usize) -> Operand {
        assert!(first <= self.len(), "a matrix from element {first} of {}", self.len());
        let pointer = self.pointer() + (first * size_of::<T>()) as u64;
        Operand { pointer, row, stride: 0, transposed: false, bf16: T::IS_BF16 }
    }
}

/// Creates a handle for a stream, with its own workspace: results then have the same bits each
/// time, and products can be recorded.
#[expect(unsafe_code, reason = "calls of cuBLAS")]
pub(super) fn create(stream: CUstream, workspace: Arc<Allocation>) -> Result<sys::cublasHandle_t, DeviceError> {
    let handle = result::create_handle().map_err(|error| call("cublasCreate", error))?;
    // SAFETY: the handle is new. The workspace is never freed, because the handle is not either.
    unsafe {
        result::set_stream(handle, stream.cast()).map_err(|error| call("cublasSetStream", error))?;
        let bytes = super::BLAS_WORKSPACE;
        sys::cublasSetWorkspace_v2(handle, workspace.pointer() as *mut c_void, bytes)
            .result()
            .map_err(|error| call("cublasSetWorkspace", error))?;
    }
    std::mem::forget(workspace);
    Ok(handle)
}

impl Cuda {
    /// `out = a b`, or `out += a b` if `accumulate`, for `batch` matrices. Sizes: `a` `[m, k]`, `b`
    /// `[k, n]`, `out` `[m, n]` in float32.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a product")]
    #[expect(unsafe_code, reason = "a call of cuBLAS")]
    pub fn product(
        &self,
        out: Operand,
        accumulate: bool,
        a: Operand,
        b: Operand,
        [m, n, k]: [usize; 3],
        batch: usize,
        math: Math,
    ) {
        if m * n * batch == 0 {
            return;
        }
        assert!(!out.transposed && a.bf16 == b.bf16 && !out.bf16, "formats of a product");
        let (alpha, beta) = (1.0f32, if accumulate { 1.0f32 } else { 0.0 });
        let operation = |operand: Operand| match operand.transposed {
            true => sys::cublasOperation_t::CUBLAS_OP_T,
            false => sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let kind = |operand: Operand| match operand.bf16 {
            true => sys::cudaDataType_t::CUDA_R_16BF,
            false => sys::cudaDataType_t::CUDA_R_32F,
        };
        let compute = match math {
            Math::Tf32 if !a.bf16 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        self.bind();
        let _one_call = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let name = || {
            let format = if a.bf16 { "bf16".to_owned() } else { format!("{math:?}").to_lowercase() };
            format!("product {format} {m} x {k} x {n}, {batch}")
        };
        self.timed(name, || {
            // A row-major matrix is the transposed one in cuBLAS's column-major order: out^T = b^T a^T.
            // SAFETY: the arrays hold matrices of these sizes.
            let done = unsafe {
                result::gemm_strided_batched_ex(
                    self.blas(),
                    operation(b),
                    operation(a),
                    n as i32,
                    m as i32,
                    k as i32,
                    (&raw const alpha).cast(),
                    b.pointer as *const c_void,
                    kind(b),
                    b.row as i32,
                    b.stride as i64,
                    a.pointer as *const c_void,
                    kind(a),
                    a.row as i32,
                    a.stride as i64,
                    (&raw const beta).cast(),
                    out.pointer as *mut c_void,
                    kind(out),
                    out.row as i32,
                    out.stride as i64,
                    batch as i32,
                    compute,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            };
            check("cublasGemmStridedBatchedEx", done);
        });
    }
}
