//! The process file system: `/proc` (proc(5)).
//!
//! | file | what |
//! |---|---|
//! | `process` | `/proc/PID`: the directory and its files |
//! | `process_text` | the contents of those files |
//! | `descriptors` | `/proc/PID/fd`, `fdinfo` |
//! | `memory` | `/proc/PID/mem` |
//! | `network` | `/proc/PID/net`: what others registered about a network namespace |
//! | `system`, `cpuinfo`, `kmsg` | the files about the whole system |
//! | `sysctl` | `/proc/sys` |
//!
//! Everything is computed when it is read; each value is read under its own lock, so a file is not one instant, as on
//! Linux. A directory of a process lives as long as the process. Locks: none of its own.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cpuinfo;
mod descriptors;
mod kmsg;
mod memory;
pub mod network;
mod process;
mod process_text;
mod sysctl;
mod system;

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use vfs::pseudo::{Node, PseudoFs, StaticDirectory};

/// `PROC_SUPER_MAGIC`.
const MAGIC: u32 = 0x9fa0;

/// What `image` knows and `/proc` tells.
#[derive(Clone, Copy)]
pub struct Identity {
    /// `uname -r`.
    pub release: &'static str,
    /// `uname -v`.
    pub version: &'static str,
}

/// Makes the file system type known. Errors: `EBUSY` if that was done before.
pub fn register(identity: Identity) -> Result<()> {
    let fixed = system::files(identity)
        .add("sys", Node::directory(Arc::new(sysctl::tree(identity))))
        .add("fs", Node::directory(Arc::new(StaticDirectory::new())))
        .add(
            "tty",
            Node::directory(Arc::new(
                StaticDirectory::new().add("ldisc", Node::directory(Arc::new(StaticDirectory::new()))),
            )),
        );
    network::add("unix", net::unix::write_sockets)?;
    network::add("dev", net::device::show::write_devices)?;
    let root = process::Root::new(fixed);
    // A name that is not there is an error even for who wants to make it, as on Linux.
    let root = Node::directory(Arc::new(root));
    vfs::register_filesystem(PseudoFs::with_creation_error("proc", MAGIC, root, Errno::ENOENT))
}
