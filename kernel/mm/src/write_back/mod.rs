//! Writing dirty pages back: the devices they go to, the thread of each that writes them, and the limits that writers meet.
//!
//! | file | what |
//! |---|---|
//! | here | [`BackingDevice`]: the caches that have dirty pages, by age |
//! | `flusher` | the thread of a device: old pages, and what is above the background limit |
//! | `balance` | who makes pages dirty faster than the device takes them waits for it |
//! | `limits` | `vm.dirty_*` |
//!
//! A cache comes to its device's list with its first dirty page and leaves it once nothing of it is dirty or being written; the list
//! keeps it alive, so what a program wrote reaches the disk although nobody has the file open any more.
//!
//! # Locks
//! * `fresh` (spin lock): caches that have become dirty and are not in `by_age` yet, linked through themselves, because they come
//!   from where nothing can be allocated. Taken inside a cache's `pages`; the links are changed under it, or by who took the whole chain.
//! * `by_age` (mutex): the others, in the order in which they came. Held for a look only, never while pages are written.

mod balance;
mod flusher;
pub mod limits;

pub(crate) use flusher::enable;

use crate::page_cache::PageCache;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::PAGE_SIZE;
use machine::sync::{Mutex, Once, SpinLock, WaitQueue};
use sched::Thread;

/// `read_ahead_kb` of a new device, as on Linux.
const DEFAULT_READ_AHEAD_KB: u32 = 128;

/// A device that caches are read from and written back to.
pub struct BackingDevice {
    name: String,
    read_ahead_kb: AtomicU32,
    /// Pages that are dirty, or being written.
    dirty: AtomicUsize,
    in_flight: AtomicUsize,
    /// Pages written since boot.
    cleaned: AtomicU64,
    /// Pages made dirty since a writer last looked at the limits.
    unbalanced: AtomicUsize,
    /// Up to where writers have been promised to go on; see `balance`.
    promised: AtomicU64,
    /// Woken as pages are done.
    progress: WaitQueue,
    fresh: SpinLock<Option<Arc<PageCache>>>,
    by_age: Mutex<ByAge>,
    flusher: Once<Arc<Thread>>,
    /// Somebody starts the flusher.
    starting: AtomicBool,
    /// The flusher is to write whatever there is: memory is short.
    hurry: AtomicBool,
}

#[derive(Default)]
struct ByAge {
    caches: BTreeMap<u64, Arc<PageCache>>,
    next: u64,
}

/// All devices there are, for sync(2) and who is short of memory; a leaf.
static DEVICES: SpinLock<Vec<Weak<BackingDevice>>> = SpinLock::new(Vec::new());

impl BackingDevice {
    /// A device; `name` is its number as `/proc` tells it (`254:0`), which its flusher thread is called after.
    pub fn new(name: &str) -> Arc<BackingDevice> {
        let device = Arc::new(BackingDevice {
            name: String::from(name),
            read_ahead_kb: AtomicU32::new(DEFAULT_READ_AHEAD_KB),
            dirty: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            cleaned: AtomicU64::new(0),
            unbalanced: AtomicUsize::new(0),
            promised: AtomicU64::new(0),
            progress: WaitQueue::new(),
            fresh: SpinLock::new(None),
            by_age: Mutex::new(ByAge::default()),
            flusher: Once::new(),
            starting: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
        });
        let mut devices = DEVICES.lock();
        devices.retain(|device| device.strong_count() > 0);
        devices.push(Arc::downgrade(&device));
        device
    }

    /// The device of caches whose pager names none.
    pub(crate) fn nameless() -> Arc<BackingDevice> {
        static NAMELESS: Once<Arc<BackingDevice>> = Once::new();
        NAMELESS.get_or_init(|| BackingDevice::new("0:0")).clone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The most that is read ahead of a program, KiB (`/sys/block/*/queue/read_ahead_kb`).
    pub fn read_ahead_kb(&self) -> u32 {
        self.read_ahead_kb.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_read_ahead_kb(&self, kib: u32) {
        self.read_ahead_kb.store(kib, Ordering::Relaxed);
    }

    /// The same in pages.
    pub(crate) fn read_ahead_pages(&self) -> usize {
        self.read_ahead_kb() as usize / (PAGE_SIZE / 1024)
    }

    /// Pages of it that are dirty or being written.
    pub fn dirty_pages(&self) -> usize {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Pages of it that are being written.
    pub fn pages_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn note_dirtied(&self, pages: usize) {
        self.dirty.fetch_add(pages, Ordering::Relaxed);
    }

    /// Pages have gone that were dirty.
    pub(crate) fn note_cleaned(&self, pages: usize) {
        self.dirty.fetch_sub(pages, Ordering::Relaxed);
    }

    pub(crate) fn note_started(&self, pages: usize) {
        self.in_flight.fetch_add(pages, Ordering::Relaxed);
    }

    /// Any context.
    pub(crate) fn note_written(&self, pages: usize) {
        self.in_flight.fetch_sub(pages, Ordering::Relaxed);
        self.dirty.fetch_sub(pages, Ordering::Relaxed);
        self.cleaned.fetch_add(pages as u64, Ordering::AcqRel);
        self.progress.wake_all();
    }

    /// Takes a cache that has its first dirty page. Spin locks may be held, `pages` of the cache is.
    pub(crate) fn enlist(&self, cache: Arc<PageCache>) {
        let mut fresh = self.fresh.lock();
        let first = fresh.is_none();
        *cache.next_listed().lock() = fresh.take();
        *fresh = Some(cache);
        drop(fresh);
        if first {
            self.wake_flusher();
        }
    }

    /// Moves the fresh caches to those by age.
    fn collect(&self) {
        let mut by_age = self.by_age.lock();
        let mut rest = self.fresh.lock().take();
        // The last that came is the first of the list: turn it round.
        let mut reversed = None;
        while let Some(cache) = rest {
            rest = cache.next_listed().lock().take();
            *cache.next_listed().lock() = reversed.take();
            reversed = Some(cache);
        }
        while let Some(cache) = reversed {
            reversed = cache.next_listed().lock().take();
            let place = by_age.next;
            by_age.next += 1;
            by_age.caches.insert(place, cache);
        }
    }

    /// The next cache at or after a place in the order of age, and where to go on.
    fn cache_after(&self, place: u64) -> Option<(u64, Arc<PageCache>)> {
        let by_age = self.by_age.lock();
        by_age.caches.range(place..).next().map(|(place, cache)| (*place, cache.clone()))
    }

    /// Where the caches end that are there now.
    fn end_of_list(&self) -> u64 {
        self.collect();
        self.by_age.lock().next
    }

    /// Takes a cache off the list if it is clean.
    fn drop_if_clean(&self, place: u64, cache: &Arc<PageCache>) {
        if !cache.delist_if_clean() {
            return;
        }
        let removed = self.by_age.lock().caches.remove(&place);
        // The last reference perhaps: not under the lock.
        drop(removed);
    }

    /// Puts a cache, all of whose pages are being written, behind all others: what is dirty in it now has become so since `now_ns`.
    fn move_to_end(&self, place: u64, now_ns: u64) {
        let mut by_age = self.by_age.lock();
        let Some(cache) = by_age.caches.remove(&place) else { return };
        cache.set_dirtied_ns(now_ns);
        let end = by_age.next;
        by_age.next += 1;
        by_age.caches.insert(end, cache);
    }

    /// Starts writing everything that is dirty now; with `Wait::ForAll` also waits for it. Errors are for those who have the files open.
    pub fn write_all(&self, wait: Wait) {
        let end = self.end_of_list();
        let mut from = 0;
        while let Some((place, cache)) = self.cache_after(from).filter(|(place, _)| *place < end) {
            let _ = cache.start_write_back(0..u64::MAX, crate::WriteBackMode::Sync);
            from = place + 1;
        }
        from = 0;
        while wait == Wait::ForAll
            && let Some((place, cache)) = self.cache_after(from).filter(|(place, _)| *place < end)
        {
            cache.wait(0..u64::MAX);
            self.drop_if_clean(place, &cache);
            from = place + 1;
        }
    }
}

/// Whether to wait for what was started.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Wait {
    /// No.
    No,
    /// Until all of it is on the device.
    ForAll,
}

/// The devices there are now.
pub fn devices() -> Vec<Arc<BackingDevice>> {
    DEVICES.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Starts writing everything that is dirty on any device, then, with `Wait::ForAll`, waits for it: sync(2)'s part here.
pub fn write_all(wait: Wait) {
    let devices = devices();
    devices.iter().for_each(|device| device.write_all(Wait::No));
    if wait == Wait::ForAll {
        devices.iter().for_each(|device| device.write_all(wait));
    }
}

impl Drop for BackingDevice {
    fn drop(&mut self) {
        // The flusher finds it gone.
        if let Some(flusher) = self.flusher.get() {
            flusher.wake();
        }
    }
}
