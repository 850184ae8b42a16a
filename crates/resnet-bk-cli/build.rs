//! Sets `cfg(has_corpora)`, without which tests of a missing corpus are ignored, and the commit for
//! `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RESNET_BK_CORPORA");
    println!("cargo::rustc-check-cfg=cfg(has_corpora)");
    if std::env::var_os("RESNET_BK_CORPORA").is_some_and(|folder| !folder.is_empty()) {
        println!("cargo::rustc-cfg=has_corpora");
    }
    let commit = packaged_commit().or_else(checked_out_commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RESNET_BK_COMMIT={commit}");
}

/// The commit that `cargo package` has written beside the sources.
fn packaged_commit() -> Option<String> {
    let info = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let hash = info.split("\"sha1\":").nth(1)?.split('"').nth(1)?;
    Some(hash.chars().take(12).collect())
}

/// The commit of the checkout. `None` without git, and where another project's repository holds the
/// sources.
fn checked_out_commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // Both change with a commit or a checkout.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// The output of git, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
