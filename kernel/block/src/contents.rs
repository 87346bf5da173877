//! The page cache of a device, as long as somebody uses the device.
//!
//! Key types: [`Contents`] (who uses it, and the cache), [`DevicePager`]. The cache is made when the first file is opened and goes, written,
//! when the last user does: open files and claims (mounted file systems) are users, and a partition's users use its disk too.
//! A file system keeps what it knows of its device in caches of its own, as on Linux its files are not in this cache.
//!
//! Locks: [`Contents`] has a sleeping lock, inside that of an inode, outside a page cache's.

use crate::SECTOR_SIZE;
use crate::bio::{Bio, BioFlags, Operation, Segment};
use crate::device::BlockDevice;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::memory::Frame;
use machine::sync::{Mutex, MutexGuard};
use mm::{BackingDevice, Fill, PageCache, Pager, Retention, WriteBack, WriteBackMode};

/// The most pages of one transfer.
const PAGES_AT_ONCE: usize = 256;

#[derive(Default)]
struct State {
    users: usize,
    cache: Option<Arc<PageCache>>,
}

/// A device's cache and the count of those who use it.
pub(crate) struct Contents {
    state: Mutex<State>,
    /// Held by whoever writes through the cache.
    pub(crate) writer: Mutex<()>,
}

impl Contents {
    pub(crate) fn new() -> Contents {
        Contents { state: Mutex::new(State::default()), writer: Mutex::new(()) }
    }

    /// How many use the device.
    pub(crate) fn users(&self) -> usize {
        self.state.lock().users
    }

    /// Whether anybody uses the device.
    pub(crate) fn is_used(&self) -> bool {
        self.users() > 0
    }

    /// The cache, if there is one now.
    pub(crate) fn cache(&self) -> Option<Arc<PageCache>> {
        self.state.lock().cache.clone()
    }

    /// The device has another size.
    pub(crate) fn note_size(&self, size: u64) {
        let Some(cache) = self.cache() else { return };
        let _writer = self.writer.lock();
        // Growing cannot fail. What fails to be cut is beyond the end and is never written.
        let _ = cache.truncate(size);
    }

    /// Forgets pages that nobody maps and that are not dirty.
    pub(crate) fn drop_clean(&self) {
        if let Some(cache) = self.cache() {
            cache.invalidate(0..u64::MAX);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// While it lives, somebody uses the device (and the disk, if it is a partition).
pub(crate) struct User {
    device: Arc<BlockDevice>,
    _whole: Option<Box<User>>,
}

impl User {
    /// One user more. Errors: `ENXIO`: the device has gone.
    pub(crate) fn new(device: &Arc<BlockDevice>) -> Result<User> {
        let whole = match (device.partition(), device.whole_disk()) {
            (Some(_), Some(whole)) => Some(Box::new(User::new(&whole)?)),
            _ => None,
        };
        let mut state = device.contents.lock();
        if device.is_gone() {
            return Err(Errno::ENXIO);
        }
        state.users += 1;
        Ok(User { device: device.clone(), _whole: whole })
    }

    /// The cache of the device. Errors: `ENOMEM`.
    pub(crate) fn cache(&self) -> Arc<PageCache> {
        let mut state = self.device.contents.lock();
        let make = || PageCache::new(Arc::new(DevicePager(self.device.clone())), self.device.size());
        state.cache.get_or_insert_with(make).clone()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let device = &self.device;
        let mut state = device.contents.lock();
        if state.users == 1
            && let Some(cache) = state.cache.take()
        {
            // Whoever opens it meanwhile waits for this lock. As on Linux the device's own cache is not flushed by closing, and what fails to be
            // written is told to nobody any more.
            if cache.sync(0..u64::MAX).is_err() {
                log::error!("{}: writing failed at the last close", device.name());
            }
        }
        state.users -= 1;
        let was_last = state.users == 0;
        drop(state);
        if was_last && device.partition().is_none() {
            device.disk().driver().released();
        }
    }
}

/// Pages from and to a device.
struct DevicePager(Arc<BlockDevice>);

impl DevicePager {
    /// The memory of neighbouring pages as far as they lie within the device. Errors: `ENOMEM`.
    fn segments(&self, first: u64, frames: &[Frame]) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        segments.try_reserve_exact(frames.len()).map_err(|_| Errno::ENOMEM)?;
        let size = self.0.size();
        for (index, frame) in (first..).zip(frames) {
            let at = index.saturating_mul(PAGE_SIZE as u64);
            let length = size.saturating_sub(at).min(PAGE_SIZE as u64) as u32;
            if length > 0 {
                segments.push(Segment { frame: frame.clone(), offset: 0, length });
            }
        }
        Ok(segments)
    }

    fn send(&self, mut bio: Bio, segments: Result<Vec<Segment>>) {
        match segments {
            Err(error) => bio.complete(Err(error)),
            Ok(segments) if segments.is_empty() => bio.complete(Ok(())),
            Ok(segments) => {
                bio.set_segments(segments);
                self.0.submit(bio);
            }
        }
    }

    fn read_run(&self, fill: Fill) {
        let (first, size) = (fill.first(), self.0.size());
        for (index, frame) in (first..).zip(fill.frames()) {
            let at = index.saturating_mul(PAGE_SIZE as u64);
            let inside = size.saturating_sub(at).min(PAGE_SIZE as u64) as usize;
            frame.zero_range(inside, PAGE_SIZE - inside);
        }
        let segments = self.segments(first, fill.frames());
        let completion = Box::new(move |result: Result<()>| fill.complete(result.map_err(as_of_files)));
        let mut bio = Bio::new(Operation::Read, sector_of(first), completion);
        bio.flags = BioFlags::SYNC;
        self.send(bio, segments);
    }

    fn write_run(&self, batch: WriteBack) {
        let waited_for = batch.mode() != WriteBackMode::Background;
        let (first, segments) = (batch.first(), self.segments(batch.first(), batch.frames()));
        let completion = Box::new(move |result: Result<()>| batch.complete(result.map_err(as_of_files)));
        let mut bio = Bio::new(Operation::Write, sector_of(first), completion);
        bio.flags.set(BioFlags::SYNC, waited_for);
        self.send(bio, segments);
    }
}

/// Of the errors of transfers, those that reach who reads and writes through the cache: any other is `EIO`, as on Linux.
fn as_of_files(error: Errno) -> Errno {
    if matches!(error, Errno::ENOSPC | Errno::ENOMEM) { error } else { Errno::EIO }
}

/// The first sector of a page.
fn sector_of(page: u64) -> u64 {
    page.saturating_mul((PAGE_SIZE / SECTOR_SIZE) as u64)
}

impl Pager for DevicePager {
    fn retention(&self) -> Retention {
        Retention::Reloadable
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        Some(self.0.backing().clone())
    }

    fn read_pages(&self, mut fill: Fill) {
        while fill.frames().len() > PAGES_AT_ONCE {
            let rest = fill.split_off(PAGES_AT_ONCE);
            self.read_run(core::mem::replace(&mut fill, rest));
        }
        self.read_run(fill);
    }

    fn write_pages(&self, mut batch: WriteBack) {
        while batch.frames().len() > PAGES_AT_ONCE {
            let rest = batch.split_off(PAGES_AT_ONCE);
            self.write_run(core::mem::replace(&mut batch, rest));
        }
        self.write_run(batch);
    }
}
