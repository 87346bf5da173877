//! The first root: an unlimited tmpfs with the initramfs unpacked into it, the namespace around it, and the console opened.

use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use security::Credentials;
use vfs::descriptor::CloseOnExec;
use vfs::directory;
use vfs::types::DeviceId;
use vfs::{DescriptorTable, FsContext, FsState, LookupContext, MountNamespace, MountRequest, namei, open};

/// What the first program starts with.
pub struct Root {
    /// Root and working directory.
    pub context: Arc<FsContext>,
    /// The mounts.
    pub namespace: Arc<MountNamespace>,
}

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
    let state =
        FsState { root: place.clone(), working_directory: place, umask: 0o022, namespace: namespace.clone() };
    let root = Root { context: FsContext::new(state), namespace };
    root.add_defaults();
    Ok(root)
}

impl Root {
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
