//! The flusher: the thread of a device that writes its dirty pages.
//!
//! It sleeps while nothing is dirty. Otherwise it looks every `dirty_writeback_centisecs`: pages older than `dirty_expire_centisecs` are written,
//! and the oldest as long as more than the background limit is dirty. It is woken early when that limit is passed or memory is short. It works inside
//! [`machine::thread::AllocationScope::freeing`]: what it needs comes from the last reserve, because others wait for it to get memory.
//!
//! Locks: see [`super`].

use super::BackingDevice;
use super::limits::{self, Thresholds, dirty_pages};
use crate::page_cache::WriteBackMode;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use machine::sync::WaitKind;
use machine::thread::AllocationScope;
use machine::time::now_ns;
use sched::SpawnOptions;

/// Pages of one file written before it is another one's turn.
const TURN: usize = 1024;
/// More pages than this are not given to a device at once.
const MOST_IN_FLIGHT: usize = 4096;
/// Caches that are looked at although they are too young.
const YOUNG_LOOKED_AT: usize = 128;
/// How long the flusher waits at most for a device that has so many, ns.
const DEVICE_TIME_NS: u64 = 1_000_000_000;

/// Threads can be started.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Allows flushers to be started: the scheduler runs.
pub(crate) fn enable() {
    ENABLED.store(true, Ordering::Release);
    super::devices().iter().for_each(|device| device.start_flusher());
}

impl BackingDevice {
    /// Starts the device's flusher if it has none and there can be one. Thread context.
    pub(crate) fn start_flusher(self: &Arc<Self>) {
        if self.flusher.get().is_some()
            || !ENABLED.load(Ordering::Acquire)
            || self.starting.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let device = Arc::downgrade(self);
        match sched::spawn(&format!("flush-{}", self.name()), SpawnOptions::default(), move || run(&device)) {
            Ok(thread) => drop(self.flusher.set(thread)),
            // The next cache tries again.
            Err(_) => self.starting.store(false, Ordering::Release),
        }
    }

    /// Makes the flusher look now. Any context.
    pub(crate) fn wake_flusher(&self) {
        if let Some(flusher) = self.flusher.get() {
            flusher.wake();
        }
    }

    /// Memory is short: whatever is dirty is to be written now.
    pub(crate) fn hurry(&self) {
        if self.dirty_pages() > self.pages_in_flight() {
            self.hurry.store(true, Ordering::Relaxed);
            self.wake_flusher();
        }
    }

    /// One look: writes what is due.
    pub(crate) fn flush_due(&self) {
        let hurry = self.hurry.swap(false, Ordering::Relaxed);
        let now = now_ns();
        let end = self.end_of_list();
        let (mut from, mut young) = (0, 0);
        while let Some((place, cache)) = self.cache_after(from).filter(|(place, _)| *place < end) {
            from = place + 1;
            let is_old = cache.dirtied_ns().saturating_add(limits::expire_ns()) <= now;
            if !is_old && !hurry && dirty_pages() <= Thresholds::now().background {
                // The others are younger still; but some are clean perhaps, and need not be kept.
                self.drop_if_clean(place, &cache);
                young += 1;
                if young > YOUNG_LOOKED_AT {
                    return;
                }
                continue;
            }
            self.flush_cache(place, &cache, now);
        }
    }

    /// Writes all of a cache that is dirty, a turn at a time.
    fn flush_cache(&self, place: u64, cache: &Arc<crate::PageCache>, now: u64) {
        let mut from = 0;
        loop {
            self.wait_for_room();
            match cache.write_some(from..u64::MAX, WriteBackMode::Background, TURN) {
                Ok((0, _)) | Err(_) => break,
                Ok((_, next)) => from = next,
            }
        }
        if cache.delist_if_clean() {
            let removed = self.by_age.lock().caches.remove(&place);
            drop(removed);
        } else {
            self.move_to_end(place, now);
        }
    }

    fn wait_for_room(&self) {
        let deadline = now_ns().saturating_add(DEVICE_TIME_NS);
        let _ = self.progress.wait_until(WaitKind::Uninterruptible, Some(deadline), || {
            (self.pages_in_flight() < MOST_IN_FLIGHT).then_some(())
        });
    }

    /// Whether anything is listed.
    fn has_listed(&self) -> bool {
        self.fresh.lock().is_some() || !self.by_age.lock().caches.is_empty()
    }
}

fn run(device: &Weak<BackingDevice>) {
    let _scope = AllocationScope::freeing();
    loop {
        let Some(live) = device.upgrade() else { return };
        live.flush_due();
        let busy = live.has_listed();
        drop(live);
        let deadline =
            if busy { limits::interval_ns().map(|interval| now_ns().saturating_add(interval)) } else { None };
        sched::park(deadline, WaitKind::Uninterruptible);
    }
}
