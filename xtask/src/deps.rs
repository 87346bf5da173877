//! Programs from outside: installed on Debian when we are root, else named.

use crate::util::{have, say};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Held while it is seen what is there and the rest is installed.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A program and the Debian package that has it.
pub struct Tool {
    /// The name on the PATH.
    pub program: &'static str,
    package: &'static str,
}

/// The emulator.
pub const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
/// Unpacks kernel modules.
pub const XZ: Tool = Tool { program: "xz", package: "xz-utils" };
/// Makes the tables that modprobe reads.
pub const DEPMOD: Tool = Tool { program: "depmod", package: "kmod" };
/// Makes Debian roots.
pub const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
/// Makes file systems, checks them and looks into them: the judge of what Linnet writes.
pub const MKFS_EXT4: Tool = Tool { program: "mkfs.ext4", package: "e2fsprogs" };
/// Unpacks archives.
pub const CPIO: Tool = Tool { program: "cpio", package: "cpio" };
/// Keeps owners for someone who is not root.
pub const FAKEROOT: Tool = Tool { program: "fakeroot", package: "fakeroot" };
/// Makes partition tables.
pub const SFDISK: Tool = Tool { program: "sfdisk", package: "fdisk" };
/// The C compiler driver, which links Rust programs for the host and the guest.
pub const CC: Tool = Tool { program: "cc", package: "gcc" };

/// Makes sure that a program is there.
pub fn need(tool: &Tool) -> Result<()> {
    // apt-get lets nobody else in meanwhile.
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if have(tool.program) {
        return Ok(());
    }
    install(tool.package)?;
    if !have(tool.program) {
        bail!("the package {} did not bring {}", tool.package, tool.program);
    }
    Ok(())
}

/// Makes sure that static C libraries are there, for programs of the guest.
pub fn need_static_libc() -> Result<()> {
    need(&CC)?;
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = Command::new("cc").arg("-print-file-name=libc.a").output().context("starting cc")?;
    if found.stdout.starts_with(b"/") { Ok(()) } else { install("libc6-dev") }
}

/// Installs a Debian package, or says that it is missing.
fn install(package: &str) -> Result<()> {
    let is_root = crate::util::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !have("apt-get") || !is_root {
        bail!("the package `{package}` (its name in Debian) is missing; please install it");
    }
    say(format_args!("installing Debian's {package}"));
    if try_install(package).is_ok() {
        return Ok(());
    }
    crate::util::run_quiet(Command::new("apt-get").args(["-qq", "update"]))?;
    try_install(package).with_context(|| format!("installing {package}"))
}

fn try_install(package: &str) -> Result<()> {
    crate::util::run_quiet(
        Command::new("apt-get")
            .args(["-qq", "install", "-y", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}
