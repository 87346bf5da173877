//! ioctl(2) on disks and partitions: sizes, caches, discarding, partitions (`linux/fs.h`, `linux/blkpg.h`, `linux/hdreg.h`).
//!
//! What is not known here is the driver's ([`Driver::ioctl`](crate::Driver::ioctl)). Locks: those of what is called.

use crate::SECTOR_SIZE;
use crate::device::{BlockDevice, Partition};
use crate::node::Opened;
use abi::errno::{Errno, Result};
use abi::ioctl::{
    BLKALIGNOFF, BLKBSZGET, BLKBSZSET, BLKDISCARD, BLKDISCARDZEROES, BLKFLSBUF, BLKFRAGET, BLKFRASET,
    BLKGETDISKSEQ, BLKGETSIZE, BLKGETSIZE64, BLKIOMIN, BLKIOOPT, BLKPBSZGET, BLKPG, BLKRAGET, BLKRASET,
    BLKROGET, BLKROSET, BLKROTATIONAL, BLKRRPART, BLKSECDISCARD, BLKSECTGET, BLKSSZGET, BLKZEROOUT,
    HDIO_GETGEO,
};
use core::ops::Range;
use machine::user::{read_value, write_value};
use security::Capability;
use vfs::File;

const SECTOR: u64 = SECTOR_SIZE as u64;
/// `BLKPG`'s operations.
const ADD_PARTITION: i32 = 1;
const DELETE_PARTITION: i32 = 2;
const RESIZE_PARTITION: i32 = 3;

/// Errors: `EACCES` unless the caller administers the machine.
fn check_admin(file: &File) -> Result<()> {
    let own = is_admin(file);
    if own { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether who opened it administers the machine.
fn is_admin(file: &File) -> bool {
    file.credentials().capable(security::initial_namespace(), Capability::SysAdmin)
}

fn put<T: zerocopy::IntoBytes + zerocopy::Immutable>(argument: usize, value: T) -> Result<usize> {
    write_value(argument, &value)?;
    Ok(0)
}

/// Errors: `ENOTTY`: not known; and those of the manual pages.
pub(crate) fn ioctl(opened: &Opened, file: &File, command: u32, argument: usize) -> Result<usize> {
    let device = &opened.device;
    let limits = device.disk().limits();
    match command {
        BLKGETSIZE => put(argument, device.sectors()),
        BLKGETSIZE64 => put(argument, device.size()),
        BLKSSZGET => put(argument, limits.logical_block_size),
        BLKPBSZGET => put(argument, limits.physical_block_size.max(limits.logical_block_size)),
        BLKBSZGET => put(argument, device.soft_block_size()),
        BLKIOMIN => put(argument, limits.physical_block_size.max(limits.logical_block_size)),
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES => put(argument, 0u32),
        BLKROGET => put(argument, i32::from(device.is_read_only())),
        BLKSECTGET => put(argument, u16::try_from(limits.max_sectors).unwrap_or(u16::MAX)),
        BLKROTATIONAL => put(argument, u16::from(limits.rotational)),
        BLKRAGET | BLKFRAGET => put(argument, u64::from(device.backing().read_ahead_kb()) * 1024 / SECTOR),
        BLKGETDISKSEQ => put(argument, device.disk().sequence()),
        HDIO_GETGEO => geometry(device, argument),
        _ => change(opened, file, command, argument),
    }
}

/// The calls that change something.
fn change(opened: &Opened, file: &File, command: u32, argument: usize) -> Result<usize> {
    let device = &opened.device;
    match command {
        BLKBSZSET => {
            check_admin(file)?;
            let bytes: i32 = if argument == 0 { return Err(Errno::EINVAL) } else { read_value(argument)? };
            device.set_soft_block_size(u32::try_from(bytes).map_err(|_| Errno::EINVAL)?)?;
        }
        BLKROSET => {
            check_admin(file)?;
            device.set_read_only(read_value::<i32>(argument)? != 0);
        }
        BLKRASET | BLKFRASET => {
            check_admin(file)?;
            let kib = (argument as u64).saturating_mul(SECTOR) / 1024;
            device.backing().set_read_ahead_kb(u32::try_from(kib).unwrap_or(u32::MAX));
        }
        BLKFLSBUF => {
            check_admin(file)?;
            opened.write_out()?;
            device.contents.drop_clean();
        }
        BLKRRPART => {
            check_admin(file)?;
            if device.partition().is_some() {
                return Err(Errno::EINVAL);
            }
            // Whoever has all of the disk for himself may.
            if opened.claim.is_none() && device.holder().is_some() {
                return Err(Errno::EBUSY);
            }
            opened.write_out()?;
            device.disk().rescan()?;
        }
        BLKDISCARD => {
            let range = byte_range(device, file, argument)?;
            device.disk().check_supported(crate::Operation::Discard)?;
            opened.change_past_cache(range, |device, sector, sectors| device.discard(sector, sectors))?;
        }
        BLKZEROOUT => {
            let range = byte_range(device, file, argument)?;
            opened
                .change_past_cache(range, |device, sector, sectors| device.write_zeroes(sector, sectors))?;
        }
        BLKSECDISCARD => return Err(Errno::EOPNOTSUPP),
        BLKPG => partitions(device, file, argument)?,
        _ => return device.disk().driver().ioctl(device, file, command, argument),
    }
    Ok(0)
}

/// The start and length at `argument`, in whole blocks within the device. Errors: `EBADF`: not open for writing; `EINVAL`.
fn byte_range(device: &BlockDevice, file: &File, argument: usize) -> Result<Range<u64>> {
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    let [start, length]: [u64; 2] = read_value(argument)?;
    let block = u64::from(device.disk().limits().logical_block_size);
    let end = start.checked_add(length).filter(|end| *end <= device.size()).ok_or(Errno::EINVAL)?;
    if start.is_multiple_of(block) && length.is_multiple_of(block) && length > 0 {
        Ok(start..end)
    } else {
        Err(Errno::EINVAL)
    }
}

/// `struct hd_geometry`.
#[repr(C)]
#[derive(zerocopy::IntoBytes, zerocopy::Immutable)]
struct Geometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    padding: u32,
    start: u64,
}

fn geometry(device: &BlockDevice, argument: usize) -> Result<usize> {
    let (heads, sectors) = device.disk().driver().geometry().ok_or(Errno::ENOTTY)?;
    if argument == 0 {
        return Err(Errno::EINVAL);
    }
    let track = u64::from(heads).max(1) * u64::from(sectors).max(1);
    let cylinders = (device.disk().sectors() / track) as u16;
    put(argument, Geometry { heads, sectors, cylinders, padding: 0, start: device.first_sector() })
}

/// `BLKPG`: partitions by hand, as partx(8) and parted(8) make them.
fn partitions(device: &BlockDevice, file: &File, argument: usize) -> Result<()> {
    // struct blkpg_ioctl_arg: operation, flags, length of the data, and where they are.
    let [operation, _flags, _length, _padding]: [i32; 4] = read_value(argument)?;
    let data: usize = read_value(argument.checked_add(16).ok_or(Errno::EFAULT)?)?;
    check_admin(file)?;
    if device.partition().is_some() {
        return Err(Errno::EINVAL);
    }
    // struct blkpg_partition: start and length in bytes, number; names follow that nobody looks at.
    let [start, length]: [i64; 2] = read_value(data)?;
    let number: i32 = read_value(data.checked_add(16).ok_or(Errno::EFAULT)?)?;
    let number = u32::try_from(number).ok().filter(|number| *number > 0).ok_or(Errno::EINVAL)?;
    let disk = device.disk();
    if operation == DELETE_PARTITION {
        return disk.remove_partition(number);
    }
    let block = i64::from(disk.limits().logical_block_size);
    let whole = start >= 0 && length > 0 && start.checked_add(length).is_some();
    if !whole || start % block != 0 || length % block != 0 {
        return Err(Errno::EINVAL);
    }
    let (first_sector, sectors) = (start as u64 / SECTOR, length as u64 / SECTOR);
    match operation {
        ADD_PARTITION => {
            disk.add_partition(Partition { number, first_sector, sectors, ..Partition::default() })
        }
        RESIZE_PARTITION => disk.resize_partition(number, first_sector, sectors),
        _ => Err(Errno::EINVAL),
    }
}
