//! Devices that dirty pages go to, and what is known of each.
//!
//! Key types: [`BackingDevice`]. Neighbours: [`crate::page_cache`], whose pagers name the device. Locks: none yet.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use machine::PAGE_SIZE;
use machine::sync::{Once, WaitQueue};

/// `read_ahead_kb` of a new device, as on Linux.
const DEFAULT_READ_AHEAD_KB: u32 = 128;

/// A device that caches are read from and written back to.
pub struct BackingDevice {
    name: String,
    read_ahead_kb: AtomicU32,
    /// Pages being written.
    in_flight: AtomicUsize,
    /// Woken as they are done.
    progress: WaitQueue,
}

impl BackingDevice {
    /// A device; `name` is its number as `/proc` tells it (`254:0`), which its flusher thread is called after.
    pub fn new(name: &str) -> Arc<BackingDevice> {
        Arc::new(BackingDevice {
            name: String::from(name),
            read_ahead_kb: AtomicU32::new(DEFAULT_READ_AHEAD_KB),
            in_flight: AtomicUsize::new(0),
            progress: WaitQueue::new(),
        })
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

    pub(crate) fn note_started(&self, pages: usize) {
        self.in_flight.fetch_add(pages, Ordering::Relaxed);
    }

    /// Any context.
    pub(crate) fn note_written(&self, pages: usize) {
        self.in_flight.fetch_sub(pages, Ordering::AcqRel);
        self.progress.wake_all();
    }
}
