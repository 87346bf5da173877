//! What `/proc/partitions`, `/proc/diskstats` and `/sys/block` say of devices, and what an administrator changes there (Linux's
//! `Documentation/ABI/stable/sysfs-block`): one table for each directory.
//!
//! Key type: [`Attribute`]. Only what is so here is shown. Neighbours: `fs/proc` and `fs/sysfs` make files of it. No locks.

use crate::SECTOR_SIZE;
use crate::device::BlockDevice;
use crate::disk::Scheduler;
use crate::registry;
use abi::errno::{Errno, Result};
use core::fmt::{self, Write};

/// Writes what is read.
type Read = fn(&BlockDevice, &mut dyn Write) -> fmt::Result;
/// Takes what is written.
type Store = fn(&BlockDevice, &str) -> Result<()>;

/// A file.
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What reading gives.
    pub read: Read,
    /// What writing does; none: it cannot be written.
    pub store: Option<Store>,
}

const fn shown(name: &'static str, read: Read) -> Attribute {
    Attribute { name, read, store: None }
}

const fn changeable(name: &'static str, read: Read, store: Store) -> Attribute {
    Attribute { name, read, store: Some(store) }
}

/// A decimal number. Errors: `EINVAL`.
fn number(text: &str) -> Result<u64> {
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

/// Of a disk and of a partition.
pub const DEVICE: &[Attribute] = &[
    shown("alignment_offset", |_, out| writeln!(out, "0")),
    shown("dev", |device, out| writeln!(out, "{}:{}", device.number().major, device.number().minor)),
    shown("discard_alignment", |_, out| writeln!(out, "0")),
    shown("inflight", |device, out| {
        let (reads, others) = device.statistics().in_flight();
        writeln!(out, "{reads:8} {others:8}")
    }),
    shown("ro", |device, out| writeln!(out, "{}", u8::from(device.is_read_only()))),
    shown("size", |device, out| writeln!(out, "{}", device.sectors())),
    shown("stat", |device, out| device.statistics().write_line(out)),
    shown("uevent", write_uevent),
];

/// Of a disk only.
pub const DISK: &[Attribute] = &[
    shown("capability", |_, out| writeln!(out, "0")),
    shown("diskseq", |device, out| writeln!(out, "{}", device.disk().sequence())),
    shown("ext_range", |_, out| writeln!(out, "{}", registry::MAX_PARTITIONS)),
    shown("hidden", |_, out| writeln!(out, "0")),
    shown("range", |device, out| writeln!(out, "{}", registry::minors_of(device))),
    shown("removable", |_, out| writeln!(out, "0")),
];

/// Of a partition only.
pub const PARTITION: &[Attribute] = &[
    shown("partition", |device, out| writeln!(out, "{}", device.partition_number())),
    shown("start", |device, out| writeln!(out, "{}", device.first_sector())),
];

/// The directory `queue` of a disk.
pub const QUEUE: &[Attribute] = &[
    shown("discard_granularity", |device, out| {
        let limits = device.disk().limits();
        let granularity = limits.discard_granularity.max(limits.logical_block_size);
        writeln!(out, "{}", if limits.max_discard_sectors > 0 { granularity } else { 0 })
    }),
    shown("discard_max_bytes", |device, out| bytes_of(device.disk().limits().max_discard_sectors, out)),
    shown("discard_max_hw_bytes", |device, out| bytes_of(device.disk().limits().max_discard_sectors, out)),
    shown("discard_zeroes_data", |_, out| writeln!(out, "0")),
    shown("fua", |device, out| {
        let limits = device.disk().limits();
        writeln!(out, "{}", u8::from(limits.write_cache && limits.fua))
    }),
    shown("hw_sector_size", |device, out| writeln!(out, "{}", device.disk().limits().logical_block_size)),
    shown("logical_block_size", |device, out| writeln!(out, "{}", device.disk().limits().logical_block_size)),
    shown("max_hw_sectors_kb", |device, out| writeln!(out, "{}", device.disk().limits().max_sectors / 2)),
    shown("max_sectors_kb", |device, out| writeln!(out, "{}", device.disk().limits().max_sectors / 2)),
    shown("max_segment_size", |device, out| writeln!(out, "{}", device.disk().limits().max_segment_size)),
    shown("max_segments", |device, out| writeln!(out, "{}", device.disk().limits().max_segments)),
    shown("minimum_io_size", |device, out| {
        let limits = device.disk().limits();
        writeln!(out, "{}", limits.physical_block_size.max(limits.logical_block_size))
    }),
    changeable(
        "nomerges",
        |device, out| writeln!(out, "{}", if device.disk().merges() { 0 } else { 2 }),
        |device, text| {
            device.disk().set_merges(number(text)? == 0);
            Ok(())
        },
    ),
    changeable(
        "nr_requests",
        |device, out| writeln!(out, "{}", device.disk().max_waiting()),
        |device, text| {
            device
                .disk()
                .set_max_waiting(usize::try_from(number(text)?).map_err(|_| Errno::EINVAL)?.min(1 << 16));
            Ok(())
        },
    ),
    shown("optimal_io_size", |_, out| writeln!(out, "0")),
    shown("physical_block_size", |device, out| {
        let limits = device.disk().limits();
        writeln!(out, "{}", limits.physical_block_size.max(limits.logical_block_size))
    }),
    changeable(
        "read_ahead_kb",
        |device, out| writeln!(out, "{}", device.backing().read_ahead_kb()),
        |device, text| {
            device.backing().set_read_ahead_kb(u32::try_from(number(text)?).map_err(|_| Errno::EINVAL)?);
            Ok(())
        },
    ),
    shown("rotational", |device, out| writeln!(out, "{}", u8::from(device.disk().limits().rotational))),
    changeable("scheduler", write_scheduler, |device, text| {
        let known = [Scheduler::None, Scheduler::MqDeadline].into_iter();
        let chosen = known.into_iter().find(|known| known.name() == text.trim()).ok_or(Errno::EINVAL)?;
        device.disk().set_scheduler(chosen);
        Ok(())
    }),
    shown("write_cache", |device, out| {
        let back = device.disk().limits().write_cache;
        writeln!(out, "{}", if back { "write back" } else { "write through" })
    }),
    shown("write_same_max_bytes", |_, out| writeln!(out, "0")),
    shown("write_zeroes_max_bytes", |device, out| {
        bytes_of(device.disk().limits().max_write_zeroes_sectors, out)
    }),
    shown("zoned", |_, out| writeln!(out, "none")),
];

/// A number of sectors as bytes.
fn bytes_of(sectors: u32, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "{}", u64::from(sectors) * SECTOR_SIZE as u64)
}

fn write_scheduler(device: &BlockDevice, out: &mut dyn Write) -> fmt::Result {
    let own = device.disk().scheduler();
    for (place, known) in [Scheduler::None, Scheduler::MqDeadline].into_iter().enumerate() {
        let (before, after) = if known == own { ("[", "]") } else { ("", "") };
        let space = if place > 0 { " " } else { "" };
        write!(out, "{space}{before}{}{after}", known.name())?;
    }
    writeln!(out)
}

/// The lines of `uevent`, and of what udev hears when the device comes.
pub fn write_uevent(device: &BlockDevice, out: &mut dyn Write) -> fmt::Result {
    let number = device.number();
    writeln!(out, "MAJOR={}\nMINOR={}\nDEVNAME={}", number.major, number.minor, device.name())?;
    writeln!(out, "DEVTYPE={}", if device.partition().is_some() { "partition" } else { "disk" })?;
    writeln!(out, "DISKSEQ={}", device.disk().sequence())?;
    if let Some(partition) = device.partition() {
        writeln!(out, "PARTN={}", partition.number)?;
        if let Some(uuid) = &partition.uuid {
            writeln!(out, "PARTUUID={uuid}")?;
        }
        if let Some(label) = &partition.label {
            writeln!(out, "PARTNAME={label}")?;
        }
    }
    Ok(())
}

/// `/proc/partitions`: what is there and not empty.
pub fn write_partitions(out: &mut dyn Write) -> fmt::Result {
    out.write_str("major minor  #blocks  name\n\n")?;
    for device in registry::all().map_err(|_| fmt::Error)? {
        let number = device.number();
        if device.sectors() > 0 {
            writeln!(
                out,
                "{:4}  {:7} {:10} {}",
                number.major,
                number.minor,
                device.sectors() / 2,
                device.name()
            )?;
        }
    }
    Ok(())
}

/// `/proc/diskstats`.
pub fn write_diskstats(out: &mut dyn Write) -> fmt::Result {
    for device in registry::all().map_err(|_| fmt::Error)? {
        let number = device.number();
        // Linux leaves out empty partitions, not empty disks.
        if device.partition().is_none() || device.sectors() > 0 {
            write!(out, "{:4} {:7} {} ", number.major, number.minor, device.name())?;
            device.statistics().write_line(out)?;
        }
    }
    Ok(())
}
