//! The device numbers of terminals, and what opening each of them means.
//!
//! | number | name | opens |
//! |---|---|---|
//! | 4:64 | `ttyS0` | the serial console's port |
//! | 4:65 | `ttyS1` | the second serial port, if there is one |
//! | 5:0 | `tty` | the caller's controlling terminal |
//! | 5:1 | `console` | the console, never as controlling terminal |
//! | 5:2 | `ptmx` | the master of a new pair, in the devpts next to the node |
//! | 229:N | `hvcN` | line N of the host's (`hvc`) |
//! | 136:N | `pts/N` | the slave of pair N of the devpts that the node is in |

use crate::devpts::{DevPts, DevPtsType};
use crate::file::{Acquire, TtyFile};
use crate::job::job_control;
use crate::pty::{MasterFile, SLAVE_MAJOR};
use crate::{console, hvc, serial};
use abi::fcntl::OpenFlags;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use task::limits::Resource;
use vfs::chardev::{self, Device};
use vfs::namei::{LookupFlags, Start, resolve};
use vfs::{CloseOnExec, DeviceId, File, FileKind, FileOperations, LookupContext, Path};

/// Major number of `tty`, `console` and `ptmx`.
const AUXILIARY_MAJOR: u32 = 5;
const TTY_MINOR: u32 = 0;
const CONSOLE_MINOR: u32 = 1;
const PTMX_MINOR: u32 = 2;

/// Serial ports.
struct SerialDevice;

impl Device for SerialDevice {
    fn name(&self) -> &str {
        "ttyS"
    }

    fn open(&self, id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>> {
        let tty = serial::find(id).ok_or(Errno::ENXIO)?;
        Ok(TtyFile::open(tty, file.flags(), Acquire::Allowed)?)
    }
}

/// `tty`, `console`, `ptmx`.
struct AuxiliaryDevice {
    minor: u32,
    name: &'static str,
}

impl Device for AuxiliaryDevice {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self, _id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>> {
        match self.minor {
            TTY_MINOR => {
                let tty = job_control().terminal_of_caller().ok_or(Errno::ENXIO)?;
                Ok(TtyFile::open(tty, file.flags(), Acquire::Never)?)
            }
            CONSOLE_MINOR => {
                let tty = console::terminal().ok_or(Errno::ENODEV)?;
                Ok(TtyFile::open(tty, file.flags(), Acquire::Console)?)
            }
            _ => Ok(open_master(file)?),
        }
    }
}

/// Slaves.
struct SlaveDevice;

impl Device for SlaveDevice {
    fn name(&self) -> &str {
        "pts"
    }

    fn open(&self, id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>> {
        let instance = DevPts::of(file.inode()?.superblock()).ok_or(Errno::EIO)?;
        let pty = instance.find(id.minor).ok_or(Errno::EIO)?;
        Ok(TtyFile::open(pty.slave().clone(), file.flags(), Acquire::Allowed)?)
    }
}

/// Opens `ptmx`. Errors: `ENODEV` (no devpts there), and those of [`DevPts::create`].
fn open_master(file: &File) -> Result<Arc<MasterFile>> {
    let directory = devpts_for(file.path())?;
    let instance = DevPts::of(directory.inode()?.superblock()).ok_or(Errno::ENODEV)?;
    let pty = instance.create(file.credentials())?;
    MasterFile::new(pty, instance, directory)
}

/// The root of the devpts that a `ptmx` node belongs to: the one it is in, else the one mounted at `pts` beside it.
fn devpts_for(ptmx: &Path) -> Result<Path> {
    if DevPts::of(ptmx.inode()?.superblock()).is_some() {
        return Ok(Path { mount: ptmx.mount.clone(), dentry: ptmx.mount.root().clone() });
    }
    let parent = ptmx.dentry.parent().ok_or(Errno::ENODEV)?;
    let start = Path { mount: ptmx.mount.clone(), dentry: parent };
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let directory = resolve_for_caller(&start, b"pts", flags).map_err(|_| Errno::ENODEV)?;
    match directory.is_mount_root() && DevPts::of(directory.inode()?.superblock()).is_some() {
        true => Ok(directory),
        false => Err(Errno::ENODEV),
    }
}

/// Calls `f` with the caller's root, working directory and credentials.
fn with_context<R>(f: impl FnOnce(&task::Task, &LookupContext<'_>) -> Result<R>) -> Result<R> {
    task::task::with_current(|task| {
        let fs = task.file_system()?;
        let credentials = task.credentials();
        f(task, &LookupContext { fs: &fs, credentials: &credentials })
    })
    .unwrap_or(Err(Errno::ENODEV))
}

fn resolve_for_caller(start: &Path, path: &[u8], flags: LookupFlags) -> Result<Path> {
    with_context(|_, context| resolve(context, Start::Path(start), path, flags))
}

/// Opens the slave of pair `number` in the devpts at `directory` into a new descriptor of the caller.
///
/// Errors: `EIO` (locked), `EMFILE`.
pub(crate) fn open_slave(directory: &Path, number: u32, flags: OpenFlags) -> Result<usize> {
    let name = format!("{number}");
    with_context(|task, context| {
        let path = resolve(context, Start::Path(directory), name.as_bytes(), LookupFlags::empty())?;
        let limit = task.process().limit(Resource::OpenFiles);
        let close = if flags.contains(OpenFlags::CLOEXEC) { CloseOnExec::Yes } else { CloseOnExec::No };
        let files = task.open_files()?;
        let place = files.reserve(0, limit, close)?;
        let file = vfs::open::open_path(&path, flags, context)?;
        Ok(place.install(file) as usize)
    })
}

/// Registers the devices and devpts, and starts the console. Once, after the scheduler runs.
///
/// Errors: `EBUSY` (done before), `ENOMEM`.
pub fn init() -> Result<()> {
    serial::init()?;
    console::init();
    hvc::init();
    let kind = FileKind::CharDevice;
    chardev::register(
        kind,
        serial::MAJOR,
        serial::FIRST_MINOR..=serial::FIRST_MINOR + 3,
        Arc::new(SerialDevice),
    )?;
    let auxiliary = [(TTY_MINOR, "/dev/tty"), (CONSOLE_MINOR, "/dev/console"), (PTMX_MINOR, "/dev/ptmx")];
    for (minor, name) in auxiliary {
        chardev::register(kind, AUXILIARY_MAJOR, minor..=minor, Arc::new(AuxiliaryDevice { minor, name }))?;
    }
    chardev::register(kind, SLAVE_MAJOR, 0..=0xf_ffff, Arc::new(SlaveDevice))?;
    vfs::superblock::register_filesystem(Arc::new(DevPtsType))
}
