//! `cargo xtask docs`: the API reference as HTML.

use crate::util::{cargo, run, target_dir, workspace};
use anyhow::Result;

/// `cargo xtask docs`.
pub fn command() -> Result<u8> {
    build()?;
    println!("{}", target_dir().join("doc/index.html").display());
    Ok(0)
}

/// Builds the API reference of all our crates, with warnings as errors.
pub fn build() -> Result<()> {
    run(cargo()
        .args([
            "doc",
            "--quiet",
            "--no-deps",
            "--workspace",
            "--document-private-items",
            "--exclude",
            "linnet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings")
        .current_dir(workspace()))
}
