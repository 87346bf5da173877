//! The first root: an unlimited tmpfs with the initramfs unpacked into it, or, if that has no `/init`, the disk that `root=` names; the
//! namespace around it, and the console opened.

use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::mount::MountFlags;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::BlockDevice;
use linnet_lib::command_line;
use machine::sync::WaitKind;
use security::Credentials;
use vfs::descriptor::CloseOnExec;
use vfs::directory;
use vfs::mount_calls::{self, MountArguments};
use vfs::types::DeviceId;
use vfs::{
    DescriptorTable, FsContext, FsState, LookupContext, LookupFlags, MountNamespace, MountRequest, namei,
    open,
};

/// What the first program starts with.
pub struct Root {
    /// Root and working directory.
    pub context: Arc<FsContext>,
    /// The mounts.
    pub namespace: Arc<MountNamespace>,
    /// It is on a disk: `/init` means nothing there.
    pub is_disk: bool,
}

/// How often one looks whether the disk has come, nanoseconds.
const LOOK_AGAIN_NS: u64 = 20_000_000;
/// How long a disk may take to come without `rootwait`, nanoseconds.
const PATIENCE_NS: u64 = 3_000_000_000;

/// Mounts the root and unpacks the initramfs. Errors: `ENOMEM`.
pub fn make() -> Result<Root> {
    let credentials = Credentials::initial();
    let kind = vfs::superblock::find_filesystem(b"rootfs")?;
    let flags = MountFlags::empty();
    let request =
        MountRequest { source: b"rootfs", flags, data: b"", credentials: &credentials, device: None };
    let namespace = vfs::mount_calls::first_namespace(&*kind, &request)?;
    let place = namespace.root_path()?;
    if let Some(archive) = machine::boot::initramfs() {
        let start_ns = machine::time::now_ns();
        let report = tmpfs::initramfs::unpack(place.inode()?, &archive);
        let ms = (machine::time::now_ns() - start_ns) / 1_000_000;
        log::info!("initramfs: {} entries, {} KiB in {ms} ms", report.entries, report.bytes / 1024);
        for problem in &report.problems {
            log::warn!("initramfs: {problem}");
        }
        if let Some(error) = report.failure {
            log::error!("Initramfs unpacking failed: {error}");
        }
        archive.free();
    }
    let root = Root::of(namespace, false)?;
    root.add_defaults();
    Ok(root)
}

/// Mounts the disk that `root=` names, if the root made so far has no program of this name. Errors: `ENODEV`: the disk does not come, or no file
/// system is on it.
pub fn change_to_disk(first: Root, program: &[u8]) -> Result<Root> {
    let line = machine::boot::command_line();
    let Some(name) = command_line::value(line, "root") else { return Ok(first) };
    let name = String::from_utf8_lossy(&name).into_owned();
    if first.has(program) {
        return Ok(first);
    }
    let device = wait_for(&name).ok_or(Errno::ENODEV).inspect_err(|_| list_disks(&name))?;
    let namespace = mount_disk(&device, line)?;
    log::info!("VFS: Mounted root on {}", device.name());
    let root = Root::of(namespace, true)?;
    root.mount_devices();
    Ok(root)
}

/// The disk, once it is there.
fn wait_for(name: &str) -> Option<Arc<BlockDevice>> {
    let line = machine::boot::command_line();
    let patient = command_line::has_word(line, "rootwait");
    let deadline_ns = machine::time::now_ns() + PATIENCE_NS;
    loop {
        if let Some(device) = block::source::find_root(name) {
            return Some(device);
        }
        let now_ns = machine::time::now_ns();
        if !patient && now_ns >= deadline_ns {
            return None;
        }
        // A kernel thread gets no signals.
        let _ = sched::sleep_until(now_ns + LOOK_AGAIN_NS, WaitKind::Uninterruptible);
    }
}

/// What there is instead, for whoever reads the log.
fn list_disks(name: &str) {
    log::error!("VFS: Cannot open root device \"{name}\"; these are there:");
    for device in block::all().unwrap_or_default() {
        log::error!("  {} ({} KiB)", device.name(), device.sectors() / 2);
    }
}

/// Tries the types that `rootfstype=` names, or all that live on disks. Errors: `ENODEV`: none fits; or the last one's.
fn mount_disk(device: &Arc<BlockDevice>, line: &str) -> Result<Arc<MountNamespace>> {
    let writable = command_line::last_of(line, "rw", "ro").unwrap_or(false);
    let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
    let data = command_line::value(line, "rootflags").unwrap_or_default();
    let types = command_line::value(line, "rootfstype");
    let wanted = |name: &str| {
        let named = |types: &Vec<u8>| types.split(|byte| *byte == b',').any(|one| one == name.as_bytes());
        types.as_ref().is_none_or(named)
    };
    let credentials = Credentials::initial();
    let request = MountRequest {
        source: b"/dev/root",
        flags,
        data: &data,
        credentials: &credentials,
        device: Some(device.number()),
    };
    let mut failure = Errno::ENODEV;
    for kind in vfs::superblock::filesystems() {
        if !kind.needs_device() || !wanted(kind.name()) {
            continue;
        }
        match vfs::mount_calls::first_namespace(&*kind, &request) {
            Ok(namespace) => return Ok(namespace),
            Err(error) => {
                log::warn!("VFS: {} on {}: {error:?}", kind.name(), device.name());
                failure = error;
            }
        }
    }
    log::error!("VFS: Unable to mount root fs on {}", device.name());
    Err(failure)
}

impl Root {
    fn of(namespace: Arc<MountNamespace>, is_disk: bool) -> Result<Root> {
        let place = namespace.root_path()?;
        let own = namespace.clone();
        let state = FsState { root: place.clone(), working_directory: place, umask: 0o022, namespace: own };
        Ok(Root { context: FsContext::new(state), namespace, is_disk })
    }

    /// Whether there is something of this name.
    fn has(&self, path: &[u8]) -> bool {
        let credentials = Credentials::initial();
        let context = LookupContext { fs: &self.context, credentials: &credentials };
        namei::resolve(&context, namei::Start::WorkingDirectory, path, LookupFlags::FOLLOW).is_ok()
    }

    /// devtmpfs on `/dev`, as Linux mounts it with `CONFIG_DEVTMPFS_MOUNT`.
    fn mount_devices(&self) {
        let credentials = Credentials::initial();
        let context = LookupContext { fs: &self.context, credentials: &credentials };
        let start = namei::Start::WorkingDirectory;
        let mounted = namei::resolve(&context, start, b"/dev", LookupFlags::FOLLOW).and_then(|target| {
            let (source, kind, flags, data) = (b"devtmpfs", b"devtmpfs", MountFlags::empty(), b"");
            mount_calls::mount(&context, &MountArguments { source, target: &target, kind, flags, data })
        });
        if let Err(error) = mounted {
            log::warn!("devtmpfs: error mounting {error:?}");
        }
    }

    /// What Linux's built-in archive holds (`usr/default_cpio_list`), so that an initramfs without a console node has a
    /// console all the same: `/dev`, `/dev/console`, `/root`. What the initramfs brought stays as it is.
    fn add_defaults(&self) {
        let credentials = Credentials::initial();
        let context = LookupContext { fs: &self.context, credentials: &credentials };
        let start = namei::Start::WorkingDirectory;
        let (mode, device) = (abi::stat::S_IFCHR | 0o600, DeviceId::new(5, 1));
        let made = [
            ("/dev", directory::create_directory(&context, start, b"/dev", 0o755).err()),
            ("/dev/console", directory::make_node(&context, start, b"/dev/console", mode, device).err()),
            ("/root", directory::create_directory(&context, start, b"/root", 0o700).err()),
        ];
        for (name, error) in made {
            if let Some(error) = error.filter(|error| *error != Errno::EEXIST) {
                log::warn!("{name}: {error:?}");
            }
        }
    }

    /// Opens `/dev/console` as descriptors 0, 1 and 2, as Linux does.
    pub fn open_console(&self) -> Result<Arc<DescriptorTable>> {
        let files = DescriptorTable::new();
        let credentials = Credentials::initial();
        let context = LookupContext { fs: &self.context, credentials: &credentials };
        let request = open::OpenRequest { flags: OpenFlags::RDWR | OpenFlags::NOCTTY, ..Default::default() };
        match open::open(&context, namei::Start::WorkingDirectory, b"/dev/console", &request) {
            Ok(console) => {
                for _ in 0..3 {
                    files.install(console.clone(), CloseOnExec::No, 3)?;
                }
            }
            Err(error) => log::warn!("unable to open an initial console: {error:?}"),
        }
        Ok(files)
    }
}
