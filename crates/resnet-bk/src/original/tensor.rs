//! Tensors of a torch checkpoint: views of storages, checked against them.
//!
//! ```text
//! element (i, j, ...) = storage[offset + i stride_0 + j stride_1 + ...]
//! ```

use half::{bf16, f16};
use std::fmt;
use thiserror::Error;

/// What the elements of a storage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StorageKind {
    F16,
    BF16,
    F32,
    F64,
    /// Pairs of F32, real part first.
    C64,
    /// Elements of a size in bytes that no weight of a model has: integers, booleans, complex
    /// numbers in double precision.
    Other(usize),
}

impl StorageKind {
    /// The elements of a class of storages in the module `torch`.
    pub(super) fn of_class(name: &str) -> Option<Self> {
        Some(match name {
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "FloatStorage" => Self::F32,
            "DoubleStorage" => Self::F64,
            "ComplexFloatStorage" => Self::C64,
            "ComplexDoubleStorage" => Self::Other(16),
            "LongStorage" => Self::Other(8),
            "IntStorage" => Self::Other(4),
            "ShortStorage" => Self::Other(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Self::Other(1),
            _ => return None,
        })
    }

    /// Bytes of an element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::C64 => 8,
            Self::Other(bytes) => bytes,
        }
    }
}

/// Bytes of a file that hold elements of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) kind: StorageKind,
    /// A multiple of the size of an element.
    pub(super) bytes: &'a [u8],
}

/// Why a tensor is no view of its storage.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// Sizes and strides are not of the same dimensions.
    #[error("it has {sizes} sizes, but {strides} strides")]
    Dimensions {
        /// Number of sizes.
        sizes: usize,
        /// Number of strides.
        strides: usize,
    },
    /// The last element lies outside of the storage.
    #[error("sizes {sizes:?} with strides {strides:?} from element {offset} leave a storage of {elements} elements")]
    Outside {
        /// Its sizes.
        sizes: Vec<usize>,
        /// Its strides.
        strides: Vec<usize>,
        /// Its first element.
        offset: usize,
        /// Elements of the storage.
        elements: usize,
    },
    /// It has more elements than its storage, because some are used more than once.
    #[error("it has more elements than its storage of {elements}: sizes {sizes:?}")]
    Expanded {
        /// Its sizes.
        sizes: Vec<usize>,
        /// Elements of the storage.
        elements: usize,
    },
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct TensorView<'a> {
    storage: Storage<'a>,
    offset: usize,
    sizes: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> TensorView<'a> {
    /// A view, if all its elements are in the storage, and it has no more elements than that.
    pub(super) fn new(
        storage: Storage<'a>,
        offset: usize,
        sizes: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, ViewError> {
        if sizes.len() != strides.len() {
            return Err(ViewError::Dimensions { sizes: sizes.len(), strides: strides.len() });
        }
        // An axis of one element takes no step, and its stride may be any number.
        let strides: Vec<usize> =
            sizes.iter().zip(strides).map(|(&size, stride)| if size == 1 { 0 } else { stride }).collect();
        let elements = storage.bytes.len() / storage.kind.bytes();
        let is_empty = sizes.contains(&0);
        let last = sizes
            .iter()
            .zip(&strides)
            .try_fold(offset, |last, (&size, &stride)| last.checked_add(size.saturating_sub(1).checked_mul(stride)?));
        if !is_empty && last.is_none_or(|last| last >= elements) {
            return Err(ViewError::Outside { sizes, strides, offset, elements });
        }
        let count = sizes.iter().try_fold(1, |count: usize, &size| count.checked_mul(size));
        if !is_empty && count.is_none_or(|count| count > elements) {
            return Err(ViewError::Expanded { sizes, elements });
        }
        Ok(Self { storage, offset, sizes, strides })
    }

    /// A whole storage in row-major order.
    pub(super) fn contiguous(storage: Storage<'a>, sizes: Vec<usize>) -> Result<Self, ViewError> {
        let mut strides = vec![1; sizes.len()];
        for axis in (1..sizes.len()).rev() {
            strides[axis - 1] = sizes[axis].saturating_mul(strides[axis]);
        }
        Self::new(storage, 0, sizes, strides)
    }

    /// Its sizes.
    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of elements.
    fn len(&self) -> usize {
        // The product of the other sizes may be too large for a number.
        if self.sizes.contains(&0) { 0 } else { self.sizes.iter().product() }
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> usize {
        self.len() * self.storage.kind.bytes()
    }

    /// What its elements are.
    pub(super) fn kind(&self) -> StorageKind {
        self.storage.kind
    }

    /// Its values in row-major order. `None` if they are not real floating-point numbers.
    pub(super) fn values(&self) -> Option<Vec<f32>> {
        let read: fn(&[u8]) -> f32 = match self.storage.kind {
            StorageKind::F16 => |bytes| f16::from_le_bytes(first(bytes)).to_f32(),
            StorageKind::BF16 => |bytes| bf16::from_le_bytes(first(bytes)).to_f32(),
            StorageKind::F32 => |bytes| f32::from_le_bytes(first(bytes)),
            StorageKind::F64 => |bytes| f64::from_le_bytes(first(bytes)) as f32,
            StorageKind::C64 | StorageKind::Other(_) => return None,
        };
        let mut values = Vec::with_capacity(self.len());
        self.for_each_element(|bytes| values.push(read(bytes)));
        Some(values)
    }

    /// Real and imaginary part of a tensor with one complex element.
    pub(super) fn complex(&self) -> Option<(f32, f32)> {
        if self.storage.kind != StorageKind::C64 || self.sizes.iter().any(|&size| size != 1) {
            return None;
        }
        let mut parts = None;
        self.for_each_element(|bytes| {
            parts = Some((f32::from_le_bytes(first(bytes)), f32::from_le_bytes(first(&bytes[4..]))));
        });
        parts
    }

    /// Calls `visit` with the bytes of each element in row-major order.
    fn for_each_element(&self, mut visit: impl FnMut(&[u8])) {
        let size = self.storage.kind.bytes();
        if self.len() == 0 {
            return;
        }
        let mut index = vec![0; self.sizes.len()];
        let mut at = self.offset;
        loop {
            visit(&self.storage.bytes[at * size..][..size]);
            // The next index: the last axis runs fastest.
            let mut axis = self.sizes.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.sizes[axis] {
                    break;
                }
                at -= self.strides[axis] * self.sizes[axis];
                index[axis] = 0;
            }
        }
    }
}

/// The first `N` of at least `N` bytes.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("as many bytes as an element has")
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F16 => f.write_str("float16"),
            Self::BF16 => f.write_str("bfloat16"),
            Self::F32 => f.write_str("float32"),
            Self::F64 => f.write_str("float64"),
            Self::C64 => f.write_str("complex64"),
            Self::Other(bytes) => write!(f, "elements of {bytes} bytes that are not real floating-point numbers"),
        }
    }
}
