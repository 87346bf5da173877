//! The system file system: `/sys` (sysfs(5)): the directories that programs expect, processors, devices.
//!
//! Key items: [`register`], [`tree`] (the top), [`Folder`] (directories that change), [`register_device`] and [`register_class`]
//! (for whoever has devices; `image` calls them, since drivers are below). Only what is true here is shown.
//! Locks: those of folders.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod block;
mod bus;
mod class;
mod device;
mod folder;
mod net;

pub use device::{Device, DeviceNode, register_class, register_device};
pub use folder::{Entries, Entry, Folder};

use abi::errno::Result;
use alloc::format;
use alloc::sync::Arc;
use core::fmt::Write;
use machine::cpu;
use machine::sync::Once;
use security::{Credentials, UserNamespace};
use vfs::pseudo::{Node, PseudoFs};
use vfs::{FileSystemType, Inode, MountRequest};

const NAME: &str = "sysfs";
/// `SYSFS_MAGIC`.
const MAGIC: u32 = 0x6265_6572;

static TREE: Once<Arc<Folder>> = Once::new();

/// The top of the tree.
pub fn tree() -> &'static Arc<Folder> {
    TREE.get_or_init(Folder::new)
}

/// Processor numbers as a list.
fn cpu_list(first: usize, count: usize) -> Node {
    Node::text(0o444, move |out| match count {
        0 => writeln!(out),
        1 => writeln!(out, "{first}"),
        _ => writeln!(out, "{first}-{}", first + count - 1),
    })
}

/// `/sys/devices/system/cpu`. Every processor that can be there is, and stays.
fn add_cpus(cpus: &Arc<Folder>) -> Result<()> {
    for name in ["online", "possible", "present"] {
        cpus.add(name, cpu_list(0, cpu::count()))?.keep();
    }
    for cpu in cpu::online() {
        cpus.folder(&format!("cpu{}", cpu.index()))?;
    }
    Ok(())
}

/// `/sys/kernel`.
fn add_kernel(kernel: &Arc<Folder>) -> Result<()> {
    kernel.add("address_bits", Node::text(0o444, |out| writeln!(out, "{}", usize::BITS)))?.keep();
    kernel.add("cpu_byteorder", Node::text(0o444, |out| out.write_str("little\n")))?.keep();
    Ok(())
}

/// Makes the file system type known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    const FOLDERS: [&str; 15] = [
        "block",
        "bus",
        "class",
        "dev/block",
        "dev/char",
        "devices/platform",
        "devices/system",
        "devices/virtual",
        "firmware",
        "fs",
        "kernel",
        "kernel/debug",
        "kernel/mm",
        "module",
        "power",
    ];
    let top = tree();
    for path in FOLDERS {
        top.folder_at(path)?;
    }
    add_cpus(&top.folder_at("devices/system/cpu")?)?;
    add_kernel(&top.folder("kernel")?)?;
    ::device::attach_view(&bus::Tree);
    ::device::class::attach_view(&class::Classes)?;
    let initial = net::tree_of(::net::NetNamespace::initial().state())?;
    vfs::register_filesystem(Arc::new(Sysfs(PseudoFs::new(NAME, MAGIC, initial))))?;
    ::block::observe(block::Blocks::new())
}

/// The type: the administrator of a network namespace may mount it, because it shows that namespace's devices. The initial
/// namespace has one instance, others one for each mount.
struct Sysfs(Arc<PseudoFs>);

/// The network namespace of the caller.
fn caller_net() -> Arc<::net::NetNamespace> {
    let set = task::task::with_current(|task| task.live_namespaces().ok()).flatten();
    set.map_or_else(|| ::net::NetNamespace::initial().clone(), |set| set.net.clone())
}

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
        let net = caller_net();
        if net.is_initial() {
            return self.0.mount(request);
        }
        let top = net::tree_of(net.state())?;
        Ok(vfs::pseudo::instance(NAME, MAGIC, top, net.owner().clone(), None))
    }
}
