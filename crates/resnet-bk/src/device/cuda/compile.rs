//! The kernels' sources, their compilation by NVRTC, and the cache of compiled kernels.

use crate::device::DeviceError;
use cudarc::nvrtc::{result, sys};
use resnet_bk_runtime::internal::replace_file::replace_file;
use std::ffi::{CStr, CString};
use std::path::PathBuf;

/// Sources, in the order of compilation. The first holds what the others share.
pub(super) const SOURCES: [(&str, &str); 18] = [
    ("device/cuda/common.cu", include_str!("common.cu")),
    ("train/cuda.cu", include_str!("../../train/cuda.cu")),
    ("model/cuda.cu", include_str!("../../model/cuda.cu")),
    ("ops/dropout", include_str!("../../ops/dropout/cuda.cu")),
    ("ops/elementwise", include_str!("../../ops/elementwise/cuda.cu")),
    ("ops/embedding_lookup", include_str!("../../ops/embedding_lookup/cuda.cu")),
    ("ops/experts", include_str!("../../ops/experts/cuda.cu")),
    ("ops/fake_quantize", include_str!("../../ops/fake_quantize/cuda.cu")),
    ("ops/gate_weights", include_str!("../../ops/gate_weights/cuda.cu")),
    ("ops/head_bias", include_str!("../../ops/head_bias/cuda.cu")),
    ("ops/head_loss", include_str!("../../ops/head_loss/cuda.cu")),
    ("ops/head_loss/tiles", include_str!("../../ops/head_loss/tiles.cu")),
    ("ops/linear", include_str!("../../ops/linear/cuda.cu")),
    ("ops/mix_features", include_str!("../../ops/mix_features/cuda.cu")),
    ("ops/normalization", include_str!("../../ops/normalization/cuda.cu")),
    ("ops/penalties", include_str!("../../ops/penalties/cuda.cu")),
    ("ops/resolvent", include_str!("../../ops/resolvent/cuda.cu")),
    ("ops/propagator", include_str!("../../ops/propagator/cuda.cu")),
];

/// A library that is loaded when a GPU is opened.
#[derive(Clone, Copy)]
pub(super) enum Library {
    Driver,
    Nvrtc,
    Cublas,
}

#[expect(unsafe_code, reason = "loads a library")]
pub(super) fn is_present(library: Library) -> bool {
    // SAFETY: NVIDIA's libraries may be loaded at any time.
    unsafe {
        match library {
            Library::Driver => cudarc::driver::sys::is_culib_present(),
            Library::Nvrtc => sys::is_culib_present(),
            Library::Cublas => cudarc::cublas::sys::is_culib_present(),
        }
    }
}

pub(super) fn require_libraries() -> Result<(), DeviceError> {
    let libraries = [
        (Library::Driver, "the CUDA driver (libcuda)", "NVIDIA's driver"),
        (Library::Nvrtc, "NVRTC (libnvrtc)", "the CUDA toolkit 12 or 13, or pip's nvidia-cuda-nvrtc-cu12"),
        (Library::Cublas, "cuBLAS (libcublas)", "the CUDA toolkit 12 or 13, or pip's nvidia-cublas-cu12"),
    ];
    match libraries.into_iter().find(|(library, ..)| !is_present(*library)) {
        Some((_, library, provided_by)) => Err(DeviceError::Library { library, provided_by }),
        None => Ok(()),
    }
}

/// The compiled kernels for a capability: from the cache, or compiled and put there.
pub(super) fn kernels(capability: (i32, i32)) -> Result<Vec<u8>, DeviceError> {
    let (source, options) = (source(), options(capability));
    let version = version()?;
    let file = cache_file(&format!("{version:?} {options:?} {source}"));
    if let Some(image) =
        file.as_ref().and_then(|path| std::fs::read(path).ok()).filter(|image| image.starts_with(b"\x7fELF"))
    {
        return Ok(image);
    }
    let image = compile(&source, &options)?;
    if let Some(path) = file {
        // Without a cache, the kernels are compiled each time.
        let _ = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| replace_file(&path, &image));
    }
    Ok(image)
}

/// All sources in one.
fn source() -> String {
    SOURCES.iter().map(|(name, source)| format!("#line 1 \"{name}\"\n{source}")).collect()
}

fn options((major, minor): (i32, i32)) -> [String; 3] {
    [
        format!("--gpu-architecture=sm_{major}{minor}"),
        // As on the host, where the compiler does not fuse products and sums either. Kernels that
        // want it call fmaf.
        "--fmad=false".to_owned(),
        "--std=c++17".to_owned(),
    ]
}

/// A file in the user's cache folder, named by the SHA-256 of what determines its content.
fn cache_file(key: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("RESNET_BK_CACHE").or_else(|| {
        let user = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
        Some(user.join("resnet-bk"))
    })?;
    let hash: String = hmac_sha256::Hash::hash(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(root.join("kernels").join(format!("{hash}.cubin")))
}

fn failed(error: result::NvrtcError) -> DeviceError {
    DeviceError::Compilation(error.to_string())
}

#[expect(unsafe_code, reason = "a call of NVRTC")]
fn version() -> Result<(i32, i32), DeviceError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are valid.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().map_err(failed)?;
    Ok((major, minor))
}

#[expect(unsafe_code, reason = "calls of NVRTC")]
fn compile(source: &str, options: &[String]) -> Result<Vec<u8>, DeviceError> {
    let source = CString::new(source).expect("a source without zeros");
    let program = result::create_program(&source, Some(c"resnet-bk.cu")).map_err(failed)?;
    // SAFETY: the program is valid until it is destroyed, and the image has the size that NVRTC
    // gives.
    unsafe {
        let compiled = result::compile_program(program, options).map_err(|error| {
            let log = result::get_program_log(program).unwrap_or_default();
            let log = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
            DeviceError::Compilation(format!("{error}\n{log}"))
        });
        let image = compiled.and_then(|()| {
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &raw mut size).result().map_err(failed)?;
            let mut image = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result().map_err(failed)?;
            Ok(image)
        });
        let _ = result::destroy_program(program);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(not(has_nvrtc), ignore = "needs NVRTC, with its folder in RESNET_BK_NVRTC and LD_LIBRARY_PATH")]
    fn the_kernels_compile_for_every_capability() {
        for capability in [(7, 5), (8, 0), (8, 9), (9, 0)] {
            let image = compile(&source(), &options(capability)).unwrap_or_else(|error| panic!("{error}"));
            assert!(image.starts_with(b"\x7fELF"), "an image for {capability:?}");
        }
    }
}
