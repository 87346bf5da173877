//! Which disks and partitions there are: numbers, names, partitions read and changed, and who is told.
//!
//! Key types: [`Observer`] (devtmpfs, sysfs, uevents), [`find`], [`find_by_name`]. Numbers are Linux's: major 254 for `vd` with 16 minors a
//! disk, 7 for `loop`, 8 for `sd`; what has none there is in major 259.
//! Neighbours: `partition` (what is on the disk), `node` (the driver of the nodes).
//!
//! Locks: [`CHANGES`] (sleeping) is held around every change and while observers are told; below it the tables, read-write
//! spin locks, leaves.

use crate::device::{BlockDevice, Partition};
use crate::disk::Disk;
use crate::driver::Driver;
use crate::{SECTOR_SIZE, partition};
use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::{Mutex, Once, RwSpinLock};
use vfs::{DeviceId, FileKind};

/// The major number of what has no minor of its driver's.
const EXTENDED_MAJOR: u32 = 259;
/// As many minors as a device number can have.
const MINORS: u32 = 1 << 20;
/// The most partitions that a disk shows.
pub const MAX_PARTITIONS: u32 = 256;

/// Names and numbers of a driver's disks.
struct Numbering {
    prefix: &'static str,
    major: u32,
    /// As in `/proc/devices`.
    driver: &'static str,
    /// Minors of one disk: itself and its first partitions.
    minors: u32,
}

const NUMBERINGS: [Numbering; 3] = [
    Numbering { prefix: "vd", major: 254, driver: "virtblk", minors: 16 },
    Numbering { prefix: "loop", major: 7, driver: "loop", minors: 1 },
    Numbering { prefix: "sd", major: 8, driver: "sd", minors: 16 },
];

/// Who wants to know of devices. Called in thread context, one change after the other.
pub trait Observer: Send + Sync {
    /// It is there, and [`find`] finds it.
    fn added(&self, device: &Arc<BlockDevice>);
    /// It is not there any more.
    fn removed(&self, device: &Arc<BlockDevice>);
    /// Something else about it has changed (its size).
    fn changed(&self, device: &Arc<BlockDevice>) {
        let _ = device;
    }
}

/// What a disk knows of its being known.
#[derive(Default)]
pub(crate) struct Registration {
    /// By partition number; 0 is the whole disk. Empty before and after.
    devices: RwSpinLock<BTreeMap<u32, Arc<BlockDevice>>>,
    parent: Once<String>,
}

impl Registration {
    pub(crate) fn new() -> Registration {
        Registration::default()
    }
}

#[derive(Default)]
struct Tables {
    by_number: BTreeMap<DeviceId, Arc<BlockDevice>>,
    by_name: BTreeMap<String, DeviceId>,
    /// In the order of coming, as `/proc/partitions` lists them.
    by_order: BTreeMap<u64, DeviceId>,
    last: u64,
}

static TABLES: RwSpinLock<Tables> = RwSpinLock::new(Tables {
    by_number: BTreeMap::new(),
    by_name: BTreeMap::new(),
    by_order: BTreeMap::new(),
    last: 0,
});
static CHANGES: Mutex<Vec<Arc<dyn Observer>>> = Mutex::new(Vec::new());

/// The device of that number, if it is there: a disk or a partition.
pub fn find(number: DeviceId) -> Option<Arc<BlockDevice>> {
    TABLES.read().by_number.get(&number).cloned()
}

/// The device of that name in `/dev`, if it is there.
pub fn find_by_name(name: &str) -> Option<Arc<BlockDevice>> {
    let tables = TABLES.read();
    tables.by_number.get(tables.by_name.get(name)?).cloned()
}

/// All of them, in the order of coming. Errors: `ENOMEM`.
pub fn all() -> Result<Vec<Arc<BlockDevice>>> {
    let mut devices = Vec::new();
    // Made larger outside the lock: there may be more then.
    loop {
        let tables = TABLES.read();
        let count = tables.by_order.len();
        if devices.capacity() >= count {
            let in_order = tables.by_order.values().filter_map(|number| tables.by_number.get(number));
            devices.extend(in_order.take(count).cloned());
            return Ok(devices);
        }
        drop(tables);
        devices.try_reserve_exact(count + 8).map_err(|_| Errno::ENOMEM)?;
    }
}

/// Tells `observer` of all devices there are, and from then on of every change. Thread context. Errors: `ENOMEM`.
pub fn observe(observer: Arc<dyn Observer>) -> Result<()> {
    let mut observers = CHANGES.lock();
    observers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    for device in all()? {
        observer.added(&device);
    }
    observers.push(observer);
    Ok(())
}

/// The number that a name's letters or digits stand for: `a` is 0, `z` 25, `aa` 26; `12` is 12.
fn index_of(rest: &str) -> Option<u32> {
    if let Ok(number) = rest.parse() {
        return Some(number);
    }
    let mut index = 0u32;
    for byte in rest.bytes() {
        let digit = byte.is_ascii_lowercase().then(|| u32::from(byte - b'a') + 1)?;
        index = index.checked_mul(26)?.checked_add(digit)?;
    }
    index.checked_sub(1)
}

impl Tables {
    fn free_extended(&self) -> Option<DeviceId> {
        let taken = |minor: &u32| self.by_number.contains_key(&DeviceId::new(EXTENDED_MAJOR, *minor));
        (0..MINORS).find(|minor| !taken(minor)).map(|minor| DeviceId::new(EXTENDED_MAJOR, minor))
    }

    /// The number of a disk or partition.
    fn number_for(&self, disk: &str, partition: u32) -> Option<DeviceId> {
        let known = NUMBERINGS.iter().find_map(|known| Some((known, disk.strip_prefix(known.prefix)?)));
        let own = known.and_then(|(known, rest)| {
            let first = index_of(rest)?.checked_mul(known.minors)?;
            let minor = first.checked_add(partition).filter(|minor| *minor < MINORS)?;
            (partition < known.minors).then_some(DeviceId::new(known.major, minor))
        });
        own.filter(|number| !self.by_number.contains_key(number)).or_else(|| self.free_extended())
    }

    fn insert(&mut self, device: &Arc<BlockDevice>) {
        self.last += 1;
        self.by_order.insert(self.last, device.number());
        self.by_name.insert(String::from(device.name()), device.number());
        self.by_number.insert(device.number(), device.clone());
    }

    fn remove(&mut self, device: &BlockDevice) {
        self.by_number.remove(&device.number());
        self.by_name.remove(device.name());
        self.by_order.retain(|_, number| *number != device.number());
    }
}

/// How many minors a disk and its partitions have in their driver's major.
pub(crate) fn minors_of(device: &BlockDevice) -> u32 {
    let known = NUMBERINGS.iter().find(|known| known.major == device.number().major);
    known.map_or(0, |known| known.minors)
}

/// Makes the nodes of these numbers lead here.
fn register_major(number: DeviceId) {
    let known = NUMBERINGS.iter().find(|known| known.major == number.major);
    let name = known.map_or("blkext", |known| known.driver);
    let driver = Arc::new(crate::node::Nodes::new(name));
    // Once for each major: the second time it is taken, by this very driver.
    let _ = vfs::chardev::register(FileKind::BlockDevice, number.major, 0..=MINORS - 1, driver);
}

impl Disk {
    /// Makes a disk and makes it known. `parent` is the device that it is, below `/sys/devices` (`pci0000:00/0000:00:03.0/virtio0`); `virtual` if none.
    /// Thread context. Errors: as [`Self::publish`].
    pub fn register(
        name: &str,
        driver: Arc<dyn Driver>,
        sectors: u64,
        read_only: bool,
        parent: &str,
    ) -> Result<Arc<Disk>> {
        let disk = Disk::new(String::from(name), driver, sectors, read_only);
        disk.publish(parent)?;
        Ok(disk)
    }

    /// Makes it known: number, node, `/sys`; reads its partitions. From here on it is used. For drivers that must know their disk before.
    ///
    /// Thread context. Errors: `EEXIST`: the name is taken; `ENOSPC`: no number is left; `EBUSY`: it is known already.
    pub fn publish(self: &Arc<Self>, parent: &str) -> Result<()> {
        self.registration.parent.set(String::from(parent)).map_err(|_| Errno::EBUSY)?;
        let observers = CHANGES.lock();
        // Nobody else changes the tables meanwhile; devices are made with no spin lock held.
        let number = {
            let tables = TABLES.read();
            if tables.by_name.contains_key(self.name()) {
                return Err(Errno::EEXIST);
            }
            tables.number_for(self.name(), 0).ok_or(Errno::ENOSPC)?
        };
        let whole = BlockDevice::whole(self.clone(), number);
        TABLES.write().insert(&whole);
        self.registration.devices.write().insert(0, whole.clone());
        register_major(whole.number());
        log::info!("{}: {} sectors of {SECTOR_SIZE} bytes", self.name(), self.sectors());
        observers.iter().for_each(|observer| observer.added(&whole));
        if self.sectors() > 0 {
            self.read_partitions(&whole, &observers);
        }
        Ok(())
    }

    /// On what it is, below `/sys/devices`.
    pub fn parent(&self) -> &str {
        self.registration.parent.get().map_or("virtual", |parent| parent)
    }

    /// All of it, once it is known.
    pub fn whole(&self) -> Option<Arc<BlockDevice>> {
        self.part(0)
    }

    /// A partition of it, by number.
    pub fn part(&self, number: u32) -> Option<Arc<BlockDevice>> {
        self.registration.devices.read().get(&number).cloned()
    }

    /// Its partitions, by number.
    pub fn parts(&self) -> Vec<Arc<BlockDevice>> {
        self.registration.devices.read().range(1..).map(|(_, part)| part.clone()).collect()
    }

    /// It is taken away: what is not written yet is, if the device is still there; nodes and partitions go, what waits and what comes fails with `EIO`. What the driver has it still completes, unless
    /// the device is not there any more: then the driver ends it afterwards. Thread context.
    pub fn unregister(&self) {
        if self.driver().is_present() {
            self.write_all_out();
        }
        let observers = CHANGES.lock();
        self.shut_down();
        for part in self.parts() {
            self.forget(&part, &observers);
        }
        if let Some(whole) = self.whole() {
            self.forget(&whole, &observers);
        }
    }

    /// Writes what file systems and caches have that is newer than what is on the disk. Thread context. What cannot be written is told in the log.
    fn write_all_out(&self) {
        let devices = self.parts().into_iter().chain(self.whole());
        for device in devices {
            vfs::superblock::sync_device(device.number());
            if let Err(error) = device.write_cache_out().and_then(|()| device.flush()) {
                log::error!("{}: was not written before it goes: {error:?}", device.name());
            }
        }
    }

    fn forget(&self, device: &Arc<BlockDevice>, observers: &[Arc<dyn Observer>]) {
        device.set_gone();
        TABLES.write().remove(device);
        let removed = self.registration.devices.write().remove(&device.partition_number());
        observers.iter().for_each(|observer| observer.removed(device));
        drop(removed);
    }

    /// The device has another size now. Thread context.
    pub fn set_sectors(&self, sectors: u64) {
        let observers = CHANGES.lock();
        let before = self.sectors();
        self.store_sectors(sectors);
        let Some(whole) = self.whole().filter(|_| before != sectors) else { return };
        log::info!("{}: {sectors} sectors, were {before}", self.name());
        whole.contents.note_size(whole.size());
        observers.iter().for_each(|observer| observer.changed(&whole));
    }

    fn read_partitions(self: &Arc<Self>, whole: &Arc<BlockDevice>, observers: &[Arc<dyn Observer>]) {
        let found = match partition::read(whole) {
            Ok(found) => found,
            Err(error) => {
                log::warn!("{}: unable to read the partition table: {error:?}", self.name());
                return;
            }
        };
        for partition in found {
            let number = partition.number;
            if let Err(error) = self.add_locked(whole, partition, observers) {
                log::warn!("{}: partition {number}: {error:?}", self.name());
            }
        }
    }

    fn add_locked(
        self: &Arc<Self>,
        whole: &Arc<BlockDevice>,
        partition: Partition,
        observers: &[Arc<dyn Observer>],
    ) -> Result<()> {
        check_place(self, &partition)?;
        let number = partition.number;
        if number == 0 || number > MAX_PARTITIONS {
            return Err(Errno::EINVAL);
        }
        if self.part(number).is_some() {
            return Err(Errno::EBUSY);
        }
        let id = TABLES.read().number_for(self.name(), number).ok_or(Errno::EBUSY)?;
        let part = BlockDevice::part(whole, id, partition);
        TABLES.write().insert(&part);
        register_major(part.number());
        self.registration.devices.write().insert(number, part.clone());
        observers.iter().for_each(|observer| observer.added(&part));
        Ok(())
    }

    /// Reads its partitions anew (`BLKRRPART`). Thread context. Errors: `EBUSY`: one is open or mounted.
    pub fn rescan(self: &Arc<Self>) -> Result<()> {
        let observers = CHANGES.lock();
        let whole = self.whole().ok_or(Errno::ENXIO)?;
        let parts = self.parts();
        if parts.iter().any(|part| part.contents.is_used()) {
            return Err(Errno::EBUSY);
        }
        for part in parts {
            self.forget(&part, &observers);
        }
        whole.contents.drop_clean();
        if self.sectors() > 0 {
            self.read_partitions(&whole, &observers);
        }
        observers.iter().for_each(|observer| observer.changed(&whole));
        Ok(())
    }

    /// Adds a partition that is in no table (`BLKPG_ADD_PARTITION`). Thread context. Errors: `EINVAL`: not on the disk; `EBUSY`: the number is
    /// taken, or the place.
    pub fn add_partition(self: &Arc<Self>, partition: Partition) -> Result<()> {
        let observers = CHANGES.lock();
        let whole = self.whole().ok_or(Errno::ENXIO)?;
        check_place(self, &partition)?;
        if overlaps(&self.parts(), &partition) {
            return Err(Errno::EBUSY);
        }
        self.add_locked(&whole, partition, &observers)
    }

    /// Takes a partition away (`BLKPG_DEL_PARTITION`). Thread context. Errors: `ENXIO`: there is none; `EBUSY`: it is open or mounted.
    pub fn remove_partition(&self, number: u32) -> Result<()> {
        let observers = CHANGES.lock();
        let part = self.part(number).filter(|_| number != 0).ok_or(Errno::ENXIO)?;
        if part.contents.is_used() {
            return Err(Errno::EBUSY);
        }
        self.forget(&part, &observers);
        Ok(())
    }

    /// Gives a partition another length (`BLKPG_RESIZE_PARTITION`). Thread context. Errors: `ENXIO`; `EINVAL`; `EBUSY`: it would lie over another.
    pub fn resize_partition(&self, number: u32, first_sector: u64, sectors: u64) -> Result<()> {
        let observers = CHANGES.lock();
        let part = self.part(number).filter(|_| number != 0).ok_or(Errno::ENXIO)?;
        let partition = Partition { number, first_sector, sectors, ..Partition::default() };
        if part.first_sector() != first_sector {
            return Err(Errno::EINVAL);
        }
        check_place(self, &partition)?;
        if overlaps(&self.parts(), &partition) {
            return Err(Errno::EBUSY);
        }
        part.store_sectors(sectors);
        part.contents.note_size(part.size());
        observers.iter().for_each(|observer| observer.changed(&part));
        Ok(())
    }
}

/// Errors: `EINVAL`: it is not on the disk.
fn check_place(disk: &Disk, partition: &Partition) -> Result<()> {
    let end = partition.first_sector.checked_add(partition.sectors);
    let inside = partition.sectors > 0 && end.is_some_and(|end| end <= disk.sectors());
    if inside { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Whether a partition lies over another of the list, itself not counted.
fn overlaps(parts: &[Arc<BlockDevice>], new: &Partition) -> bool {
    parts.iter().filter(|part| part.partition_number() != new.number).any(|part| {
        let end = part.first_sector().saturating_add(part.sectors());
        part.first_sector() < new.first_sector.saturating_add(new.sectors) && new.first_sector < end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers() {
        assert_eq!(index_of("a"), Some(0));
        assert_eq!(index_of("z"), Some(25));
        assert_eq!(index_of("aa"), Some(26));
        assert_eq!(index_of("12"), Some(12));
        assert_eq!(index_of(""), None);
        assert_eq!(index_of("A"), None);
        assert_eq!(index_of("zzzzzzzzzzzzzzz"), None);
        let tables = Tables::default();
        assert_eq!(tables.number_for("vdb", 3), Some(DeviceId::new(254, 19)));
        assert_eq!(tables.number_for("vda", 16), Some(DeviceId::new(259, 0)));
        assert_eq!(tables.number_for("loop3", 0), Some(DeviceId::new(7, 3)));
        assert_eq!(tables.number_for("loop3", 1), Some(DeviceId::new(259, 0)));
        assert_eq!(tables.number_for("nvme0n1", 0), Some(DeviceId::new(259, 0)));
    }
}
