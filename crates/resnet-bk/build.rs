//! Sets `cfg(has_corpora)`, `cfg(has_amx)`, `cfg(has_gpu)` and `cfg(has_nvrtc)`. Tests that need a
//! missing corpus, processor feature, GPU or compiler are ignored.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "src/kernels/amx/permission.rs"]
mod amx_permission;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/kernels/amx/permission.rs");
    println!("cargo::rerun-if-env-changed=RESNET_BK_CORPORA");
    println!("cargo::rerun-if-env-changed=RESNET_BK_NVRTC");
    println!("cargo::rustc-check-cfg=cfg(has_nvrtc)");
    println!("cargo::rustc-check-cfg=cfg(has_corpora)");
    println!("cargo::rustc-check-cfg=cfg(has_amx)");
    let is_set = |name| std::env::var_os(name).is_some_and(|folder| !folder.is_empty());
    if is_set("RESNET_BK_CORPORA") {
        println!("cargo::rustc-cfg=has_corpora");
    }
    if is_set("RESNET_BK_NVRTC") {
        println!("cargo::rustc-cfg=has_nvrtc");
    }
    println!("cargo::rustc-check-cfg=cfg(has_gpu)");
    if builds_for_this_machine() && has_amx() {
        println!("cargo::rustc-cfg=has_amx");
    }
    if builds_for_this_machine() && std::path::Path::new("/proc/driver/nvidia/version").exists() {
        println!("cargo::rustc-cfg=has_gpu");
    }
}

fn builds_for_this_machine() -> bool {
    std::env::var_os("HOST") == std::env::var_os("TARGET")
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    amx_permission::request()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn has_amx() -> bool {
    false
}
