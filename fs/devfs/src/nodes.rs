//! Nodes of devices that come and go while the system runs: made and removed as a program would, so that every cache of names hears of it.
//!
//! The kernel has a mount namespace of its own for that, whose root is the instance of devtmpfs. [`Blocks`] makes the nodes of disks
//! and partitions, [`Classes`] those of drivers' character devices. Neighbours: `kernel/block` and `device::class` say which there are. Locks: those of directories.

use crate::DevTmpFs;
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use abi::stat::{S_IFBLK, S_IFCHR};
use alloc::sync::Arc;
use block::BlockDevice;
use device::class::{self, ClassDevice};
use machine::sync::Once;
use security::Credentials;
use vfs::namei::Start;
use vfs::{DeviceId, FileKind, FsContext, FsState, LookupContext, MountRequest, directory, mount_calls};

static CONTEXT: Once<Arc<FsContext>> = Once::new();

/// Makes the namespace, and the nodes of disks from now on. Errors: `EBUSY`: done before; `ENOMEM`.
pub(crate) fn init(kind: &DevTmpFs) -> Result<()> {
    let credentials = Credentials::initial();
    let flags = MountFlags::empty();
    let request =
        MountRequest { source: b"devtmpfs", flags, data: b"", credentials: &credentials, device: None };
    let namespace = mount_calls::first_namespace(kind, &request)?;
    let root = namespace.root_path()?;
    let state = FsState { root: root.clone(), working_directory: root, umask: 0, namespace };
    CONTEXT.set(FsContext::new(state)).map_err(|_| Errno::EBUSY)?;
    class::attach_view(&Classes)?;
    block::observe(Arc::new(Blocks))
}

/// Calls `change` with the kernel's own view. Errors: `ENODEV`: there is no `/dev` yet.
fn with_context<R>(change: impl FnOnce(&LookupContext<'_>) -> Result<R>) -> Result<R> {
    let fs = CONTEXT.get().ok_or(Errno::ENODEV)?;
    let credentials = Credentials::initial();
    change(&LookupContext { fs, credentials: &credentials })
}

/// Makes the node of a device, in directories that are made if need be. Thread context. Errors: `EEXIST`, `ENOMEM`; `ENODEV`: there is no `/dev` yet.
pub fn add_node(name: &str, kind: FileKind, id: DeviceId, mode: u32) -> Result<()> {
    let kind_bits = if kind == FileKind::BlockDevice { S_IFBLK } else { S_IFCHR };
    with_context(|context| {
        for (at, _) in name.match_indices('/') {
            let parent = name.get(..at).unwrap_or_default().as_bytes();
            match directory::create_directory(context, Start::WorkingDirectory, parent, 0o755) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        directory::make_node(context, Start::WorkingDirectory, name.as_bytes(), kind_bits | mode, id)
            .map(drop)
    })
}

/// Removes the node of a device. Thread context. Errors: `ENOENT`: a program did that before; `ENODEV`: there is no `/dev` yet.
pub fn remove_node(name: &str) -> Result<()> {
    with_context(|context| directory::unlink(context, Start::WorkingDirectory, name.as_bytes()))
}

/// Makes the nodes of devices of classes.
struct Classes;

impl class::View for Classes {
    fn added(&self, device: &Arc<ClassDevice>) {
        let (major, minor) = device.number;
        if let Err(error) = add_node(&device.name, FileKind::CharDevice, DeviceId::new(major, minor), 0o600) {
            log::warn!("/dev/{}: {error:?}", device.name);
        }
    }

    fn removed(&self, device: &Arc<ClassDevice>) {
        // A program may have been faster.
        let _ = remove_node(&device.name);
    }
}

/// Makes the nodes of disks and partitions.
struct Blocks;

impl block::Observer for Blocks {
    fn added(&self, device: &Arc<BlockDevice>) {
        if let Err(error) = add_node(device.name(), FileKind::BlockDevice, device.number(), 0o600) {
            log::warn!("/dev/{}: {error:?}", device.name());
        }
    }

    fn removed(&self, device: &Arc<BlockDevice>) {
        // A program may have been faster.
        let _ = remove_node(device.name());
    }
}
