//! From what mount(2) and `root=` name to a device.
//!
//! Key items: [`device_of_mount_source`] (for file systems on a device), [`find_root`] (for the boot). No locks.

use crate::device::BlockDevice;
use crate::registry::{self, all, find, find_by_name};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use vfs::{DeviceId, MountRequest};

/// The device that a file system is to be mounted from. What the source names was found by `vfs`, which gives `ENOTBLK` and `EACCES`.
///
/// Errors: `EINVAL`: no source; `ENXIO`: there is no such device; `EACCES`: it is read-only, and the mount is not.
pub fn device_of_mount_source(request: &MountRequest<'_>) -> Result<Arc<BlockDevice>> {
    let number = request.device.ok_or(Errno::EINVAL)?;
    let device = find(number).ok_or(Errno::ENXIO)?;
    if device.is_read_only() && !request.flags.contains(MountFlags::RDONLY) {
        return Err(Errno::EACCES);
    }
    Ok(device)
}

/// Where the superblock of ext2, ext3 and ext4 is, bytes, and where in it are its magic number, its UUID and its name.
const EXT_SUPERBLOCK: u64 = 1024;
const EXT_MAGIC: usize = 0x38;
const EXT_UUID: usize = 0x68;
const EXT_LABEL: usize = 0x78;

/// The UUID and the name of the file system on a device, as far as they are known here: those of ext2, ext3 and ext4.
fn identity(device: &BlockDevice) -> Option<(String, String)> {
    let mut superblock = [0; 256];
    device.read_bytes(EXT_SUPERBLOCK, &mut superblock).ok()?;
    if superblock.get(EXT_MAGIC..EXT_MAGIC + 2)? != [0x53, 0xef] {
        return None;
    }
    let mut uuid = String::new();
    for (place, byte) in superblock.get(EXT_UUID..EXT_UUID + 16)?.iter().enumerate() {
        let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
        uuid.push_str(&format!("{dash}{byte:02x}"));
    }
    let label = superblock.get(EXT_LABEL..EXT_LABEL + 16)?;
    let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
    Some((uuid, String::from_utf8_lossy(label).into_owned()))
}

/// A number as `root=` may give it: `254:1`, or in hexadecimal as stat(2) packs it.
fn number_of(text: &str) -> Option<DeviceId> {
    if let Some((major, minor)) = text.split_once(':') {
        return Some(DeviceId::new(major.parse().ok()?, minor.parse().ok()?));
    }
    u32::from_str_radix(text, 16).ok().map(|packed| DeviceId::decode(u64::from(packed)))
}

/// The device with this `PARTUUID=`, to which `/PARTNROFF=n` may be added: the partition n after it on its disk.
fn by_partition_uuid(text: &str) -> Option<Arc<BlockDevice>> {
    let (uuid, offset) = text.split_once("/PARTNROFF=").unwrap_or((text, "0"));
    let offset: i32 = offset.parse().ok()?;
    let has = |device: &Arc<BlockDevice>| {
        let own = device.partition().and_then(|partition| partition.uuid.as_deref());
        own.is_some_and(|own| own.eq_ignore_ascii_case(uuid))
    };
    let found = all().ok()?.into_iter().find(has)?;
    let number = found.partition_number().checked_add_signed(offset)?;
    if offset == 0 { Some(found) } else { found.disk().part(number) }
}

/// The device that `root=` names, if it is there now: `/dev/vda1`, `PARTUUID=`, `PARTLABEL=`, `UUID=` and `LABEL=` (of ext2, ext3 and ext4), `254:1`,
/// `fe01`. Thread context: devices may be read.
pub fn find_root(text: &str) -> Option<Arc<BlockDevice>> {
    let by = |has: &dyn Fn(&BlockDevice) -> bool| all().ok()?.into_iter().find(|device| has(device));
    if let Some(name) = text.strip_prefix("/dev/") {
        return find_by_name(name);
    }
    match text.split_once('=') {
        Some(("PARTUUID", uuid)) => by_partition_uuid(uuid),
        Some(("PARTLABEL", label)) => {
            by(&|device| device.partition().is_some_and(|own| own.label.as_deref() == Some(label)))
        }
        Some(("UUID", uuid)) => {
            by(&|device| identity(device).is_some_and(|(own, _)| own.eq_ignore_ascii_case(uuid)))
        }
        Some(("LABEL", label)) => by(&|device| identity(device).is_some_and(|(_, own)| own == label)),
        _ => number_of(text).and_then(registry::find),
    }
}
