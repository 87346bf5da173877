//! `provoke`: a device that makes the kernel do what its name is written for, so that oopses and panics can be tested from
//! a program. It exists only if `image` registers it (with `linnet.provoke` on the command line). Locks: none.

use crate::nodes;
use abi::{Errno, Result};
use alloc::sync::Arc;
use machine::provoke::Bug;
use machine::sync::Once;
use mm::io::IoReader;
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations};

/// Its number, among those that Linux leaves for local use (`devices.txt`, 240 to 254).
const NUMBER: DeviceId = DeviceId::new(240, 0);
/// More than the longest name.
const NAME_MAX: usize = 32;

static ACT: Once<fn(Bug)> = Once::new();

/// The driver, and its open file.
struct Provoke;

impl Device for Provoke {
    fn name(&self) -> &str {
        "provoke"
    }

    fn open(&self, _id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        Ok(Arc::new(Provoke))
    }
}

impl FileOperations for Provoke {
    /// Errors: `EINVAL` for a name that is not known.
    fn write(&self, _file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let size = from.remaining();
        let mut buffer = [0; NAME_MAX];
        let bytes = buffer.get_mut(..size).ok_or(Errno::EINVAL)?;
        from.read_exact(bytes)?;
        let name = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        let bug = Bug::from_name(name.trim()).ok_or(Errno::EINVAL)?;
        if let Some(act) = ACT.get() {
            act(bug);
        }
        Ok(size)
    }
}

/// Makes the device and its node; `act` does what a write asks for. Errors: `EBUSY`; `ENODEV`: there is no `/dev` yet.
pub fn register(act: fn(Bug)) -> Result<()> {
    chardev::register(FileKind::CharDevice, NUMBER.major, 0..=0, Arc::new(Provoke))?;
    ACT.set(act).map_err(|_| Errno::EBUSY)?;
    nodes::add_node("provoke", FileKind::CharDevice, NUMBER, 0o600)
}
