//! One loop device: binding it to a file and letting go of it, and the thread that does its transfers.
//!
//! Key type: [`LoopDevice`]. A transfer waits in a queue for the device's thread, which is there while the device is bound. Letting go happens at
//! the last close, when nothing is under way any more. Locks: `bound` (sleeping) inside [`DEVICES`]; `queue`, a leaf, usable in interrupts.

use abi::errno::{Errno, Result};
use abi::ioctl::{
    LOOP_CHANGE_FD, LOOP_CLR_FD, LOOP_CONFIGURE, LOOP_GET_STATUS64, LOOP_SET_BLOCK_SIZE, LOOP_SET_CAPACITY,
    LOOP_SET_DIRECT_IO, LOOP_SET_FD, LOOP_SET_STATUS64,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use block::{BlockDevice, Disk, Driver, Limits, Request};
use machine::sync::{IrqSpinLock, Mutex, Once, WaitKind, WaitQueue};
use machine::user::{read_value, write_value};
use security::Capability;
use vfs::{File, FileKind};
use zerocopy::FromZeros;

use crate::backing::Backing;
use crate::status::{Config, Info, LoopFlags};
use crate::{DEVICES, MAJOR};

/// How many requests it takes at once.
const QUEUE_LENGTH: usize = 128;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    /// What the thread works on; `None`: it is to end, or there is none.
    backing: Option<Arc<Backing>>,
    has_thread: bool,
}

/// A device, as the driver of its disk.
pub(crate) struct LoopDevice {
    number: u32,
    disk: Once<Weak<Disk>>,
    bound: Mutex<Option<Arc<Backing>>>,
    queue: IrqSpinLock<Queue>,
    /// Woken when the queue changes.
    changed: WaitQueue,
}

/// The open file that a descriptor of the caller's stands for. Errors: `EBADF`.
fn file_of(descriptor: u32) -> Result<Arc<File>> {
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::EBADF)?;
    let files = task::task::with_current(|task| task.files()).flatten().ok_or(Errno::EBADF)?;
    files.get_open(descriptor)
}

/// The size of blocks that is meant: 0 is the usual one.
fn block_size_of(bytes: u32) -> u32 {
    if bytes == 0 { block::SECTOR_SIZE as u32 } else { bytes }
}

impl LoopDevice {
    /// Makes a device that is bound to nothing, and its node. Thread context. Errors: `ENOSPC`, `ENOMEM`.
    pub(crate) fn make(number: u32) -> Result<Arc<LoopDevice>> {
        let device = Arc::new(LoopDevice {
            number,
            disk: Once::new(),
            bound: Mutex::new(None),
            queue: IrqSpinLock::new(Queue::default()),
            changed: WaitQueue::new(),
        });
        let disk = Disk::new(format!("loop{number}"), device.clone(), 0, false);
        let _ = device.disk.set(Arc::downgrade(&disk));
        disk.publish("virtual")?;
        Ok(device)
    }

    fn disk(&self) -> Result<Arc<Disk>> {
        self.disk.get().and_then(Weak::upgrade).ok_or(Errno::ENXIO)
    }

    /// Whether a file is behind it.
    pub(crate) fn is_bound(&self) -> bool {
        self.bound.lock().is_some()
    }

    /// Whether anybody has it open or mounted.
    pub(crate) fn is_used(&self) -> bool {
        self.disk().ok().and_then(|disk| disk.whole()).is_some_and(|whole| whole.users() > 0)
    }

    /// It is removed.
    pub(crate) fn take_away(&self) {
        if let Ok(disk) = self.disk() {
            disk.unregister();
        }
    }

    /// Errors: `EBADF`: the file is this device, perhaps through others; `EINVAL`: it is neither a file nor a disk, or a loop device that is bound
    /// to nothing.
    fn check_file(&self, file: &Arc<File>, devices: &BTreeMap<u32, Arc<LoopDevice>>) -> Result<()> {
        let mut file = file.clone();
        // Each step goes to another device, since no ring has been bound before.
        for _ in 0..=devices.len() {
            let inode = file.inode()?;
            match inode.kind() {
                FileKind::Regular => return Ok(()),
                FileKind::BlockDevice => {}
                _ => return Err(Errno::EINVAL),
            }
            let device = block::find(inode.special_device()).ok_or(Errno::ENXIO)?;
            let whole = device.whole_disk().ok_or(Errno::ENXIO)?.number();
            if whole.major != MAJOR {
                return Ok(());
            }
            if whole.minor == self.number {
                return Err(Errno::EBADF);
            }
            let next = devices.get(&whole.minor).and_then(|next| next.bound.lock().clone());
            file = next.ok_or(Errno::EINVAL)?.file.clone();
        }
        Err(Errno::EBADF)
    }

    /// `LOOP_SET_FD`, `LOOP_CONFIGURE`. Errors: `EBADF`, `EBUSY`: it is bound; `EINVAL`, `EOVERFLOW`.
    fn bind(self: &Arc<Self>, opened: &File, config: &Config) -> Result<()> {
        let file = file_of(config.descriptor)?;
        let mut flags = LoopFlags::from_bits(config.info.flags)
            .filter(|flags| LoopFlags::CONFIGURABLE.contains(*flags))
            .ok_or(Errno::EINVAL)?;
        config.info.check()?;
        let disk = self.disk()?;
        let devices = DEVICES.lock();
        self.check_file(&file, &devices)?;
        let mut bound = self.bound.lock();
        if bound.is_some() {
            return Err(Errno::EBUSY);
        }
        if !file.flags().writes() || !opened.flags().writes() {
            flags |= LoopFlags::READ_ONLY;
        }
        flags -= LoopFlags::DIRECT_IO;
        let Info { offset, size_limit, file_name: name, crypt_name, .. } = config.info;
        let backing = Arc::new(Backing { file, offset, size_limit, flags, name, crypt_name });
        let sectors = backing.sectors()?;
        disk.set_block_size(block_size_of(config.block_size))?;
        self.start(&backing)?;
        *bound = Some(backing);
        drop(bound);
        drop(devices);
        disk.set_read_only(flags.contains(LoopFlags::READ_ONLY));
        disk.set_sectors(sectors);
        self.scan(&disk, flags);
        Ok(())
    }

    /// `LOOP_CHANGE_FD`: another file of the same size, behind a device that is only read. Errors: `EBADF`, `ENXIO`: nothing is bound; `EINVAL`.
    fn change_file(self: &Arc<Self>, descriptor: u32) -> Result<()> {
        let file = file_of(descriptor)?;
        let devices = DEVICES.lock();
        let old = self.bound.lock().clone().ok_or(Errno::ENXIO)?;
        if !old.flags.contains(LoopFlags::READ_ONLY) {
            return Err(Errno::EINVAL);
        }
        self.check_file(&file, &devices)?;
        let new = Backing { file: file.clone(), ..Backing::clone(&old) };
        if new.sectors()? != old.sectors()? {
            return Err(Errno::EINVAL);
        }
        self.change(|backing| {
            backing.file = file;
            Ok(())
        })?;
        drop(devices);
        self.scan(&self.disk()?, new.flags);
        Ok(())
    }

    /// `LOOP_SET_BLOCK_SIZE`: 0 is the usual size. What the cache has is written and dropped first, in the blocks that were. Errors: `ENXIO`, `EINVAL`, `EIO`.
    fn set_block_size(&self, bytes: usize) -> Result<()> {
        if !self.is_bound() {
            return Err(Errno::ENXIO);
        }
        let disk = self.disk()?;
        let bytes = block_size_of(u32::try_from(bytes).map_err(|_| Errno::EINVAL)?);
        if disk.limits().logical_block_size == bytes {
            return Ok(());
        }
        if let Some(whole) = disk.whole() {
            whole.write_cache_out()?;
        }
        disk.set_block_size(bytes)
    }

    /// Reads the partitions, if that is wanted.
    fn scan(&self, disk: &Arc<Disk>, flags: LoopFlags) {
        if flags.contains(LoopFlags::PARTSCAN)
            && let Err(error) = disk.rescan()
        {
            log::warn!("loop{}: partitions: {error:?}", self.number);
        }
    }

    /// Starts the thread. Errors: `ENOMEM`.
    fn start(self: &Arc<Self>, backing: &Arc<Backing>) -> Result<()> {
        let own = self.clone();
        self.queue.lock().backing = Some(backing.clone());
        let spawned =
            sched::spawn(&format!("loop{}", self.number), sched::SpawnOptions::default(), move || own.work());
        let mut queue = self.queue.lock();
        match spawned {
            Ok(_) => queue.has_thread = true,
            Err(_) => queue.backing = None,
        }
        drop(queue);
        spawned.map(drop)
    }

    /// The thread: what waits, one by one, until the device is let go of.
    fn work(self: Arc<Self>) {
        loop {
            // A kernel thread gets no signals, and one that has nothing to do is no load.
            let next = self.changed.wait_until(WaitKind::Interruptible, None, || {
                let mut queue = self.queue.lock();
                let backing = queue.backing.clone();
                match (queue.waiting.pop_front(), backing) {
                    (Some(request), backing) => Some(Some((request, backing))),
                    (None, None) => Some(None),
                    (None, Some(_)) => None,
                }
            });
            let Ok(Some((request, backing))) = next else { break };
            let result = backing.map_or(Err(Errno::EIO), |backing| backing.carry_out(&request));
            request.complete(result);
            if let Ok(disk) = self.disk() {
                disk.run_queue(0);
            }
        }
        self.queue.lock().has_thread = false;
        self.changed.wake_all();
    }

    /// Lets go of the file. Nobody uses the device.
    fn unbind(&self) {
        let mut bound = self.bound.lock();
        let Some(backing) = bound.take() else { return };
        drop(self.queue.lock().backing.take());
        self.changed.wake_all();
        let ended = || (!self.queue.lock().has_thread).then_some(());
        let _ = self.changed.wait_until(WaitKind::Uninterruptible, None, ended);
        drop(bound);
        if let Ok(disk) = self.disk() {
            for part in disk.parts() {
                let _ = disk.remove_partition(part.partition_number());
            }
            disk.set_sectors(0);
            disk.set_read_only(false);
        }
        drop(backing);
    }

    /// Changes what is bound. Errors: `ENXIO`: nothing is.
    fn change(&self, change: impl FnOnce(&mut Backing) -> Result<()>) -> Result<Arc<Backing>> {
        let mut bound = self.bound.lock();
        let mut new = Backing::clone(bound.as_ref().ok_or(Errno::ENXIO)?);
        change(&mut new)?;
        let new = Arc::new(new);
        *bound = Some(new.clone());
        // What is being worked on goes on with what was.
        let old = self.queue.lock().backing.replace(new.clone());
        drop(old);
        Ok(new)
    }

    /// `LOOP_SET_STATUS64`. Errors: `EPERM`, `ENXIO`, `EINVAL`, `EOVERFLOW`.
    fn set_status(&self, opened: &File, info: &Info) -> Result<()> {
        let admin = opened.credentials().capable(security::initial_namespace(), Capability::SysAdmin);
        if !opened.flags().writes() && !admin {
            return Err(Errno::EPERM);
        }
        let asked = LoopFlags::from_bits_truncate(info.flags);
        let mut scans = false;
        let new = self.change(|backing| {
            info.check()?;
            let before = backing.flags;
            let kept = before & !LoopFlags::SETTABLE | before & LoopFlags::SETTABLE & !LoopFlags::CLEARABLE;
            backing.flags = kept | asked & LoopFlags::SETTABLE;
            scans = backing.flags.contains(LoopFlags::PARTSCAN) && !before.contains(LoopFlags::PARTSCAN);
            (backing.offset, backing.size_limit) = (info.offset, info.size_limit);
            (backing.name, backing.crypt_name) = (info.file_name, info.crypt_name);
            Ok(())
        })?;
        let disk = self.disk()?;
        disk.set_sectors(new.sectors()?);
        if scans {
            self.scan(&disk, new.flags);
        }
        Ok(())
    }

    /// `LOOP_GET_STATUS64`. Errors: `ENXIO`.
    fn status(&self) -> Result<Info> {
        let backing = self.bound.lock().clone().ok_or(Errno::ENXIO)?;
        let inode = backing.file.inode()?;
        let mut info = Info::new_zeroed();
        info.device = inode.superblock().device().encode();
        info.inode = inode.number();
        info.rdevice =
            if inode.kind() == FileKind::BlockDevice { inode.special_device().encode() } else { 0 };
        (info.offset, info.size_limit) = (backing.offset, backing.size_limit);
        (info.number, info.flags) = (self.number, backing.flags.bits());
        (info.file_name, info.crypt_name) = (backing.name, backing.crypt_name);
        Ok(info)
    }

    /// The device behind an open file of its disk.
    fn own(&self) -> Result<Arc<LoopDevice>> {
        DEVICES.lock().get(&self.number).cloned().ok_or(Errno::ENXIO)
    }
}

impl Driver for LoopDevice {
    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: 512,
            physical_block_size: 512,
            max_sectors: 2560,
            max_segments: 320,
            max_segment_size: 4096,
            max_discard_sectors: u32::MAX >> 9,
            discard_granularity: 0,
            max_write_zeroes_sectors: u32::MAX >> 9,
            write_cache: true,
            fua: false,
            rotational: false,
        }
    }

    fn queue(&self, _queue: usize, request: Request) -> core::result::Result<(), Request> {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= QUEUE_LENGTH {
            return Err(request);
        }
        if queue.backing.is_none() || queue.waiting.try_reserve(1).is_err() {
            drop(queue);
            request.complete(Err(Errno::EIO));
            return Ok(());
        }
        queue.waiting.push_back(request);
        Ok(())
    }

    fn kick(&self, _queue: usize) {
        self.changed.wake_all();
    }

    fn released(&self) {
        let autoclears = |backing: &Arc<Backing>| backing.flags.contains(LoopFlags::AUTOCLEAR);
        if self.bound.lock().as_ref().is_some_and(autoclears) && !self.is_used() {
            self.unbind();
        }
    }

    fn ioctl(&self, _device: &Arc<BlockDevice>, file: &File, command: u32, argument: usize) -> Result<usize> {
        match command {
            LOOP_SET_FD => {
                let mut config = Config::new_zeroed();
                config.descriptor = argument as u32;
                self.own()?.bind(file, &config)?;
            }
            LOOP_CONFIGURE => self.own()?.bind(file, &read_value(argument)?)?,
            // At the last close, which is this description's if there is no other.
            LOOP_CLR_FD => drop(self.change(|backing| {
                backing.flags |= LoopFlags::AUTOCLEAR;
                Ok(())
            })?),
            LOOP_SET_STATUS64 => self.set_status(file, &read_value(argument)?)?,
            LOOP_GET_STATUS64 => write_value(argument, &self.status()?)?,
            LOOP_SET_CAPACITY => {
                let backing = self.bound.lock().clone().ok_or(Errno::ENXIO)?;
                self.disk()?.set_sectors(backing.sectors()?);
            }
            LOOP_SET_BLOCK_SIZE => self.set_block_size(argument)?,
            LOOP_CHANGE_FD => self.own()?.change_file(argument as u32)?,
            // Transfers go through the file's page cache, always.
            LOOP_SET_DIRECT_IO if !self.is_bound() => return Err(Errno::ENXIO),
            LOOP_SET_DIRECT_IO if argument != 0 => return Err(Errno::EINVAL),
            LOOP_SET_DIRECT_IO => {}
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn geometry(&self) -> Option<(u8, u8)> {
        None
    }
}
