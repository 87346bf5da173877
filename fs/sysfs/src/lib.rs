//! The system file system: `/sys` (sysfs(5)). A skeleton: the directories that programs expect, CPUs, kernel facts.
//!
//! Key item: [`register`]. Everything is computed when read. Locks: none.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::errno::Result;
use alloc::format;
use alloc::sync::Arc;
use core::fmt::Write;
use machine::cpu;
use security::{Credentials, UserNamespace};
use vfs::pseudo::{Node, PseudoFs, StaticDirectory};
use vfs::{FileSystemType, Inode, MountRequest};

/// `SYSFS_MAGIC`.
const MAGIC: u32 = 0x6265_6572;

fn directory(contents: StaticDirectory) -> Node {
    Node::directory(Arc::new(contents))
}

fn empty() -> Node {
    directory(StaticDirectory::new())
}

/// `/sys/devices/system/cpu`.
fn cpus() -> StaticDirectory {
    let list = || {
        Node::text(0o444, |out| match cpu::count() {
            1 => writeln!(out, "0"),
            count => writeln!(out, "0-{}", count - 1),
        })
    };
    let mut all = StaticDirectory::new().add("online", list()).add("possible", list()).add("present", list());
    for cpu in cpu::online() {
        all = all.add(&format!("cpu{}", cpu.index()), empty());
    }
    all
}

/// Makes the file system type known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    let system = StaticDirectory::new().add("cpu", directory(cpus()));
    let devices = StaticDirectory::new().add("system", directory(system)).add("virtual", empty());
    let root = StaticDirectory::new()
        .add("block", empty())
        .add("bus", empty())
        .add("class", empty())
        .add("dev", directory(StaticDirectory::new().add("block", empty()).add("char", empty())))
        .add("devices", directory(devices))
        .add("fs", empty())
        .add("kernel", empty())
        .add("module", empty());
    vfs::register_filesystem(Arc::new(Sysfs(PseudoFs::new("sysfs", MAGIC, directory(root)))))
}

/// The type: the administrator of a network namespace may mount it, because it shows that namespace's devices.
struct Sysfs(Arc<PseudoFs>);

impl FileSystemType for Sysfs {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn user_mountable(&self) -> bool {
        true
    }

    fn must_be_visible(&self) -> bool {
        true
    }

    fn owner(&self, credentials: &Credentials) -> Arc<UserNamespace> {
        let net = task::task::with_current(|task| task.live_namespaces().ok()).flatten();
        net.map_or_else(|| credentials.user_namespace.clone(), |set| set.net.owner().clone())
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        self.0.mount(request)
    }
}
