//! `cargo xtask compat`: writes `docs/compat.md`, which of Linux's system calls the kernel has.
//!
//! The page is printed by an example of `kernel/syscall`, from the table that the kernel dispatches with; this module only
//! puts it in its place, and tells `check` whether it is there.

use crate::util::{cargo, output, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

fn place() -> PathBuf {
    workspace().join("docs/compat.md")
}

/// What the table gives.
fn page() -> Result<String> {
    output(
        cargo()
            .args(["run", "--quiet", "--package", "linnet-syscall", "--example", "compat"])
            .current_dir(workspace()),
    )
    .context("printing the table of system calls")
}

/// `cargo xtask compat`.
pub fn command() -> Result<u8> {
    std::fs::write(place(), page()?).context("writing docs/compat.md")?;
    println!("{}", place().display());
    Ok(0)
}

/// Fails when the page is not what the table gives.
pub fn verify() -> Result<()> {
    if std::fs::read_to_string(place()).unwrap_or_default() == page()? {
        return Ok(());
    }
    bail!("docs/compat.md is not what the table of system calls gives: run `cargo xtask compat`")
}
