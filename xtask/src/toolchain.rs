//! `core` and `alloc` for the bare target: from rustup where it can download, else built from source.
//!
//! The source is Debian's `rust-src` of exactly the compiler's version. Building the standard library takes
//! cargo's `-Zbuild-std`; `RUSTC_BOOTSTRAP` is set for that one purpose, the kernel uses no nightly feature.

use crate::apt::Apt;
use crate::util::{have, output, say, target_dir};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// The target the kernel is built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// Where `core` and `alloc` come from.
pub enum CoreSource {
    /// The toolchain has them compiled.
    Installed,
    /// cargo compiles them from this `library/` folder.
    Source(PathBuf),
}

impl CoreSource {
    /// Finds the best source, fetching what is missing.
    pub fn find() -> Result<CoreSource> {
        if installed()? {
            return Ok(CoreSource::Installed);
        }
        if have("rustup") && std::env::var_os("LINNET_NO_RUSTUP").is_none() {
            say(format_args!("rustup target add {TARGET}"));
            let added = Command::new("rustup").args(["target", "add", TARGET]).output();
            if added.is_ok_and(|output| output.status.success()) && installed()? {
                return Ok(CoreSource::Installed);
            }
            say("rustup could not add the target; building core and alloc from Debian's rust-src");
        }
        Ok(CoreSource::Source(fetch_source()?))
    }

    /// Adds what this source needs to a `cargo build` for the bare target.
    pub fn apply(&self, cargo: &mut Command) {
        if let CoreSource::Source(library) = self {
            cargo
                .arg("-Zbuild-std=core,alloc,compiler_builtins")
                .arg("-Zbuild-std-features=compiler-builtins-mem")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
        }
    }
}

/// Whether the toolchain in use has the target's libraries.
fn installed() -> Result<bool> {
    if std::env::var_os("LINNET_NO_RUSTUP").is_some() {
        return Ok(false);
    }
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = std::fs::read_dir(libraries) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
}

/// Unpacks Debian's `rust-src` of the compiler's own version; returns its `library/`.
fn fetch_source() -> Result<PathBuf> {
    let verbose = output(Command::new("rustc").arg("-vV"))?;
    let release = verbose
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .context("rustc -vV has no release")?;
    let dir = target_dir().join("rust-src").join(release);
    let library = dir.join(format!("usr/src/rustc-{release}/library"));
    if library.join("core/src/lib.rs").is_file() {
        return Ok(library);
    }
    let apt = Apt::open("trixie-backports")?;
    let version =
        apt.version("rust-src", |version| version.split(['+', '-', '~']).next() == Some(release))
            .with_context(|| format!("no rust-src for rustc {release}; try `rustup target add {TARGET}`"))?;
    apt.unpack("rust-src", &version, &dir)?;
    let checked = std::fs::read_to_string(dir.join(format!("usr/src/rustc-{release}/src/version")));
    if checked.is_ok_and(|text| text.trim() != release) || !library.join("core/src/lib.rs").is_file() {
        bail!("Debian's rust-src {version} is not the source of rustc {release}");
    }
    Ok(library)
}
