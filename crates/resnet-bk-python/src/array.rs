//! NumPy arrays, by NumPy's own functions: its C interface would tie the library to its versions.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// An element of an array.
pub trait Element: Copy {
    /// Its type in NumPy.
    const DTYPE: &'static str;
    /// Length in bytes.
    const BYTES: usize;
    /// From its bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Appends its bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! elements {
    ($($element:ty: $dtype:literal),*) => {
        $(impl Element for $element {
            const DTYPE: &'static str = $dtype;
            const BYTES: usize = size_of::<$element>();

            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the bytes of one element"))
            }

            fn write(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        })*
    };
}

elements!(f32: "<f4", i16: "<i2", u8: "|u1", i64: "<i8");

/// A new array.
pub fn array<'py, T: Element>(py: Python<'py>, values: &[T]) -> PyResult<Bound<'py, PyAny>> {
    let mut bytes = Vec::with_capacity(values.len() * T::BYTES);
    values.iter().for_each(|value| value.write(&mut bytes));
    // Unlike `bytes`, a `bytearray` gives an array that can be changed.
    py.import("numpy")?.call_method1("frombuffer", (PyByteArray::new(py, &bytes), T::DTYPE))
}

/// A new array with this shape.
pub fn reshaped<'py, T: Element>(py: Python<'py>, values: &[T], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    array(py, values)?.call_method1("reshape", (shape.to_vec(),))
}

/// The elements of anything that NumPy makes an array of, in row-major order, and its shape. Numbers
/// are converted to the type.
pub fn elements<T: Element>(array: &Bound<'_, PyAny>) -> PyResult<(Vec<T>, Vec<usize>)> {
    let array = array.py().import("numpy")?.call_method1("asarray", (array, T::DTYPE))?;
    let shape = array.getattr("shape")?.extract()?;
    let bytes = array.call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    Ok((bytes.chunks(T::BYTES).map(T::read).collect(), shape))
}
