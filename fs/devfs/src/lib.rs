//! devtmpfs, `/dev` with the nodes of the devices there are, and the memory devices behind some of them.
//!
//! [`init_with`] registers the character devices of major 1 (`null`, `zero`, `full`, `random`, `urandom`, `kmsg`) and the type
//! `devtmpfs`. As in Linux there is one instance, however often it is mounted, and it is an ordinary file system in memory
//! in which anything can be made: its files are kept by another type (tmpfs), which `image` gives or the registry has.
//! Nodes of devices that come and go are
//! made in it by [`add_node`] ([`nodes`]). Neighbours: `drivers/tty` opens the terminals' nodes. Locks: the only instance is made under a
//! mutex.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod kmsg;
mod memory;
mod nodes;
pub mod provoke;

pub use nodes::{add_node, remove_node};

use abi::Result;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use machine::sync::Mutex;
use security::{Credentials, Kgid, Kuid};
use vfs::{DeviceId, FileKind, FileSystemType, Inode, MountRequest, NewContent, NewInode};

/// The nodes that are there from the start, with Linux's numbers and modes.
pub const NODES: [(&str, DeviceId, u32); 12] = [
    ("null", DeviceId::new(1, 3), 0o666),
    ("zero", DeviceId::new(1, 5), 0o666),
    ("full", DeviceId::new(1, 7), 0o666),
    ("random", DeviceId::new(1, 8), 0o666),
    ("urandom", DeviceId::new(1, 9), 0o666),
    ("kmsg", DeviceId::new(1, 11), 0o644),
    ("tty", DeviceId::new(5, 0), 0o666),
    ("console", DeviceId::new(5, 1), 0o600),
    ("ptmx", DeviceId::new(5, 2), 0o666),
    ("ttyS0", DeviceId::new(4, 64), 0o600),
    ("net/tun", DeviceId::new(10, 200), 0o600),
    ("loop-control", DeviceId::new(10, 237), 0o600),
];

/// The type `devtmpfs`.
pub struct DevTmpFs {
    /// What keeps the files; `None`: tmpfs, found when it is needed.
    store: Option<Arc<dyn FileSystemType>>,
    root: Mutex<Option<Arc<Inode>>>,
}

impl DevTmpFs {
    /// The type, with its files kept by `store`.
    pub fn new(store: Option<Arc<dyn FileSystemType>>) -> Arc<DevTmpFs> {
        Arc::new(DevTmpFs { store, root: Mutex::new(None) })
    }

    /// Makes the instance.
    fn make(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let store = match &self.store {
            Some(store) => store.clone(),
            None => vfs::superblock::find_filesystem(b"tmpfs")?,
        };
        // It belongs to the system, whoever mounts it first and with whatever options.
        let credentials = Credentials::initial();
        let own = MountRequest {
            source: request.source,
            flags: MountFlags::empty(),
            data: b"mode=0755",
            credentials: &credentials,
            device: None,
        };
        let root = store.mount(&own)?;
        for (name, device, mode) in NODES {
            add_static_node(&root, name, device, mode)?;
        }
        if machine::serial::SerialPort::Second.is_present() {
            add_static_node(&root, "ttyS1", DeviceId::new(4, 65), 0o600)?;
        }
        Ok(root)
    }
}

/// Makes something in a directory, owned by root.
fn add(directory: &Arc<Inode>, name: &str, content: NewContent<'_>, mode: u32) -> Result<Arc<Inode>> {
    let new = NewInode::new(content, mode, Kuid::ROOT, Kgid::ROOT);
    let _change = directory.lock.write();
    directory.operations().create(directory, name.as_bytes(), &new)
}

/// Makes a character device node, in a directory of its own if it has one in its name.
fn add_static_node(root: &Arc<Inode>, name: &str, device: DeviceId, mode: u32) -> Result<()> {
    let content = NewContent::Device(FileKind::CharDevice, device);
    match name.split_once('/') {
        Some((directory, name)) => {
            let directory = add(root, directory, NewContent::Directory, 0o755)?;
            add(&directory, name, content, mode)?;
        }
        None => {
            add(root, name, content, mode)?;
        }
    }
    Ok(())
}

impl FileSystemType for DevTmpFs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let mut root = self.root.lock();
        if let Some(root) = &*root {
            return Ok(root.clone());
        }
        let made = self.make(request)?;
        *root = Some(made.clone());
        Ok(made)
    }
}

/// The same, with the files kept by `store` (a tmpfs that calls itself `devtmpfs`).
pub fn init_with(store: Option<Arc<dyn FileSystemType>>) -> Result<()> {
    memory::register()?;
    kmsg::register()?;
    let kind = DevTmpFs::new(store);
    vfs::register_filesystem(kind.clone())?;
    nodes::init(&kind)
}
