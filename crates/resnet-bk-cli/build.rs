//! Sets `cfg(has_corpora)`. Tests that need a missing corpus are ignored.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RESNET_BK_CORPORA");
    println!("cargo::rustc-check-cfg=cfg(has_corpora)");
    if std::env::var_os("RESNET_BK_CORPORA").is_some_and(|folder| !folder.is_empty()) {
        println!("cargo::rustc-cfg=has_corpora");
    }
}
