//! Builds the kernel: an ELF file that QEMU and other PVH loaders start directly.
//!
//! The flags of the bare target are in `.cargo/config.toml`, the link script belongs to `image/`.

use crate::toolchain::{CoreSource, TARGET};
use crate::util::{cargo, run, target_dir, workspace};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::Command;

/// What `cargo xtask build` takes.
#[derive(Args)]
pub struct BuildArguments {
    /// With what optimisation and which checks.
    #[arg(long, value_enum, default_value = "release")]
    pub profile: Profile,
}

/// Cargo's profile for the kernel.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// With debug assertions and the lock-order check.
    Dev,
    /// As it is meant to be used and measured.
    Release,
}

/// The built kernel.
pub struct Built {
    /// With symbols and line tables, for the debugger.
    pub full: PathBuf,
    /// Without them: what is booted and measured.
    pub stripped: PathBuf,
}

/// `cargo xtask build`.
pub fn command(arguments: &BuildArguments) -> Result<u8> {
    let built = build(arguments.profile)?;
    let bytes = std::fs::metadata(&built.stripped)?.len();
    println!("{} ({} KiB stripped)", built.stripped.display(), bytes.div_ceil(1024));
    Ok(0)
}

/// Builds the package `image/` for the bare target and strips a copy.
pub fn build(profile: Profile) -> Result<Built> {
    let (name, folder) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--package", "linnet", "--target", TARGET, "--profile", name])
        .current_dir(workspace());
    CoreSource::find()?.apply(&mut build);
    run(&mut build)?;
    let full = target_dir().join(TARGET).join(folder).join("linnet");
    let stripped = full.with_file_name("linnet.stripped");
    strip(&full, &stripped)?;
    let mut bytes = std::fs::read(&stripped)?;
    let linked = std::fs::read(&full)?;
    if profile == Profile::Release {
        // Without optimisation frames are larger, and so are the stacks.
        crate::frames::check(&linked)?;
    }
    crate::symbols::add(&linked, &mut bytes)?;
    std::fs::write(&stripped, bytes)?;
    Ok(Built { full, stripped })
}

/// Removes symbols and debug sections, keeping every loaded segment and note.
fn strip(from: &PathBuf, to: &PathBuf) -> Result<()> {
    for tool in ["strip", "llvm-strip"] {
        if crate::util::have(tool) {
            return run(Command::new(tool).arg("--strip-all").arg("-o").arg(to).arg(from));
        }
    }
    if !from.is_file() {
        bail!("{} was not built", from.display());
    }
    std::fs::copy(from, to).map(|_| ()).context("copying the kernel")
}
