//! Kernels by name, and their launches.

use super::{Cuda, call, check};
use crate::device::DeviceError;
use crate::device::cuda::Array;
use crate::device::cuda::compile::SOURCES;
use cudarc::driver::result;
use cudarc::driver::sys::CUfunction;
use std::collections::HashMap;
use std::ffi::{CString, c_void};

/// Largest number of bytes of an argument.
const LARGEST: usize = 3968;

/// An argument of a kernel: a pointer, a number, or a struct passed by value.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    word: u64,
    /// A struct, which is not in `word`.
    bytes: Option<(*const u8, usize)>,
}

impl Arg {
    /// A parameter of type `double`. There is no `From<f64>`: a literal of Rust would become one
    /// where the kernel has a `float`.
    pub fn double(number: f64) -> Self {
        Self::from(number.to_bits())
    }

    /// A `#[repr(C)]` struct, passed by value. It must live until the launch.
    pub fn by_value<T: Copy>(value: &T) -> Self {
        const { assert!(size_of::<T>() <= LARGEST) };
        Self { word: 0, bytes: Some((std::ptr::from_ref(value).cast(), size_of::<T>())) }
    }
}

impl<T> From<&Array<T>> for Arg {
    fn from(array: &Array<T>) -> Self {
        Self::from(array.pointer())
    }
}

impl From<u64> for Arg {
    fn from(word: u64) -> Self {
        Self { word, bytes: None }
    }
}

impl From<u32> for Arg {
    fn from(number: u32) -> Self {
        Self::from(u64::from(number))
    }
}

/// Sizes are `unsigned int` in kernels.
impl From<usize> for Arg {
    fn from(number: usize) -> Self {
        Self::from(u32::try_from(number).expect("an array of less than 2^32 elements"))
    }
}

impl From<f32> for Arg {
    fn from(number: f32) -> Self {
        Self::from(number.to_bits())
    }
}

/// Launches a kernel: `launch!(cuda, "name", grid, threads, argument, ...)`, with the blocks of the
/// grid as a number or as `[x, y, z]`.
macro_rules! launch {
    ($cuda:expr, $name:expr, $grid:expr, $threads:expr $(, $argument:expr)* $(,)?) => {
        $cuda.launch($name, $crate::device::cuda::Grid::from($grid).0, $threads as u32,
            &[$($crate::device::cuda::Arg::from($argument)),*])
    };
}
pub(crate) use launch;

/// Blocks of a launch.
pub struct Grid(pub [u32; 3]);

impl From<usize> for Grid {
    fn from(x: usize) -> Self {
        Self([x as u32, 1, 1])
    }
}

impl From<[usize; 3]> for Grid {
    fn from(sizes: [usize; 3]) -> Self {
        Self(sizes.map(|size| size as u32))
    }
}

/// Blocks of 256 threads for `n` elements, one each.
pub fn blocks(n: usize) -> usize {
    n.div_ceil(256)
}

/// The compiled kernels.
pub(super) struct Kernels(HashMap<&'static str, Kernel>);

struct Kernel {
    function: CUfunction,
    parameters: usize,
}

impl Kernels {
    /// Loads a compiled module.
    #[expect(unsafe_code, reason = "calls of the driver")]
    pub(super) fn load(image: &[u8]) -> Result<Self, DeviceError> {
        // SAFETY: the image is a cubin of NVRTC. The module is never unloaded.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }
            .map_err(|error| call("cuModuleLoadData", error))?;
        let mut kernels = HashMap::new();
        for (_, source) in SOURCES {
            for (name, parameters) in signatures(source) {
                let symbol = CString::new(name).expect("a name of C");
                // SAFETY: the module is loaded.
                let function = unsafe { result::module::get_function(module, symbol) }
                    .map_err(|error| call("cuModuleGetFunction", error))?;
                kernels.insert(name, Kernel { function, parameters });
            }
        }
        Ok(Self(kernels))
    }
}

/// Names of the kernels in a source, with their numbers of parameters.
fn signatures(source: &'static str) -> impl Iterator<Item = (&'static str, usize)> {
    source.split("\nKERNEL ").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once('(')?;
        let (parameters, _) = rest.split_once(')')?;
        Some((name, parameters.split(',').count()))
    })
}

impl Cuda {
    /// Launches a kernel. A kernel reaches device memory only: wrong arguments can spoil results
    /// there, which the device check finds, but not the memory of the host.
    ///
    /// # Panics
    /// If there is no such kernel, or the number of arguments is not that of its parameters.
    #[expect(unsafe_code, reason = "a call of the driver")]
    pub fn launch(&self, name: &str, grid: [u32; 3], threads: u32, arguments: &[Arg]) {
        let kernel = self.0.kernels.0.get(name).unwrap_or_else(|| panic!("no kernel {name}"));
        assert_eq!(arguments.len(), kernel.parameters, "arguments of {name}");
        if grid.contains(&0) {
            return;
        }
        let mut pointers: Vec<*mut c_void> = arguments
            .iter()
            .map(|argument| match &argument.bytes {
                Some((bytes, _)) => bytes.cast_mut().cast(),
                None => (&raw const argument.word).cast_mut().cast(),
            })
            .collect();
        self.bind();
        let [x, y, z] = grid;
        self.timed(
            || name.to_owned(),
            || {
                // SAFETY: there is an argument for every parameter, of at least its size.
                let done = unsafe {
                    result::launch_kernel(kernel.function, (x, y, z), (threads, 1, 1), 0, self.stream(), &mut pointers)
                };
                check("cuLaunchKernel", done);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_found_in_the_sources() {
        let source = "\n// KERNEL x(u32 n)\nKERNEL a(float* x, u32 n) {}\nKERNEL b(\n    const float* x) {}";
        assert_eq!(signatures(source).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
        let all: Vec<&str> = SOURCES.iter().flat_map(|(_, source)| signatures(source)).map(|(name, _)| name).collect();
        let distinct: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert!(all.len() > 20 && distinct.len() == all.len(), "{all:?}");
    }
}
