//! Builds the static Linux programs that run in the guest: `tests/guest` and `bench`.
//!
//! They are packages of their own, outside the kernel's workspace, because they use the standard library.

use crate::deps;
use crate::util::{cargo, run, target_dir, workspace};
use anyhow::{Context, Result};

/// The folders of packages that are not members of the kernel's workspace: these programs, and the fuzz targets.
pub const PACKAGES: [&str; 3] = ["tests/guest", "bench", "fuzz"];

const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the package in `folder` and returns its program `name`.
pub fn build(folder: &str, name: &str) -> Result<Vec<u8>> {
    deps::need_static_libc()?;
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--release", "--target", GUEST_TARGET])
        .current_dir(workspace().join(folder))
        .env("CARGO_TARGET_DIR", target_dir().join("guest"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    run(&mut build)?;
    let program = target_dir().join("guest").join(GUEST_TARGET).join("release").join(name);
    std::fs::read(&program).with_context(|| format!("reading {}", program.display()))
}
