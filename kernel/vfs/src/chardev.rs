//! Device nodes: from a device number to the driver.
//!
//! Key types: [`Device`]. Neighbours: drivers and `devfs` register; `open` asks. Locks: one read-write spin lock.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::RangeInclusive;

use abi::errno::{Errno, Result};
use machine::sync::RwSpinLock;

use crate::file::{File, FileOperations};
use crate::types::{DeviceId, FileKind};

/// A driver of character or block devices.
pub trait Device: Send + Sync {
    /// The name in `/proc/devices`.
    fn name(&self) -> &str;
    /// Opens the device `id` for the description `file` (see its flags). `ENXIO`: no such minor; `EBUSY`.
    fn open(&self, id: DeviceId, file: &File) -> Result<Arc<dyn FileOperations>>;
}

struct Range {
    last_minor: u32,
    device: Arc<dyn Device>,
}

/// By kind (block devices are `true`), major and first minor.
static DEVICES: RwSpinLock<BTreeMap<(bool, u32, u32), Range>> = RwSpinLock::new(BTreeMap::new());

/// Registers a driver for minors of a major of one kind ([`FileKind::CharDevice`] or [`FileKind::BlockDevice`]).
/// `EBUSY`: some are taken.
pub fn register(
    kind: FileKind,
    major: u32,
    minors: RangeInclusive<u32>,
    device: Arc<dyn Device>,
) -> Result<()> {
    let block = kind == FileKind::BlockDevice;
    let mut devices = DEVICES.write();
    let before = devices.range(..=(block, major, *minors.end())).next_back();
    if let Some(((kind, other, _), range)) = before
        && (*kind, *other) == (block, major)
        && range.last_minor >= *minors.start()
    {
        return Err(Errno::EBUSY);
    }
    devices.insert((block, major, *minors.start()), Range { last_minor: *minors.end(), device });
    Ok(())
}

/// Majors that are given to who asks for any, in this order, as on Linux (`Documentation/admin-guide/devices.txt`).
fn dynamic_majors() -> impl Iterator<Item = u32> {
    (234..=254).rev().chain((384..=511).rev())
}

/// Registers a driver of character devices for all minors of a major that nobody has; gives the major. `EBUSY`: there is none.
pub fn register_dynamic(device: Arc<dyn Device>) -> Result<u32> {
    const LAST_MINOR: u32 = (1 << 20) - 1;
    let mut devices = DEVICES.write();
    let is_free =
        |major: &u32| devices.range((false, *major, 0)..=(false, *major, u32::MAX)).next().is_none();
    let major = dynamic_majors().find(is_free).ok_or(Errno::EBUSY)?;
    devices.insert((false, major, 0), Range { last_minor: LAST_MINOR, device });
    Ok(major)
}

/// Takes back the registration that begins at this minor.
pub fn unregister(kind: FileKind, major: u32, first_minor: u32) {
    DEVICES.write().remove(&(kind == FileKind::BlockDevice, major, first_minor));
}

/// The driver of a device. `ENXIO`: there is none.
pub fn find(kind: FileKind, id: DeviceId) -> Result<Arc<dyn Device>> {
    let block = kind == FileKind::BlockDevice;
    let devices = DEVICES.read();
    match devices.range(..=(block, id.major, id.minor)).next_back() {
        Some(((known, major, _), range))
            if (*known, *major) == (block, id.major) && range.last_minor >= id.minor =>
        {
            Ok(range.device.clone())
        }
        _ => Err(Errno::ENXIO),
    }
}

/// Calls `each` with major and name of every registration of a kind (`/proc/devices`).
pub fn for_each(kind: FileKind, mut each: impl FnMut(u32, &str)) {
    let block = kind == FileKind::BlockDevice;
    for ((known, major, _), range) in DEVICES.read().iter() {
        if *known == block {
            each(*major, range.device.name());
        }
    }
}
